//! The real `sluice run` in a namespace, with every place it uses its own.

use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{bpffs::BpfFs, client, netns::NetNs};

/// How long the harness waits for anything before it gives up.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running agent; dropping it kills the process and removes all it left.
#[derive(Debug)]
pub struct Agent<'ns> {
    ns: &'ns NetNs,
    binary: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    tether: Option<PathBuf>,
    file: bool,
    dir: TempDir,
    pins: BpfFs,
    metrics: SocketAddr,
    child: Option<Child>,
}

impl<'ns> Agent<'ns> {
    /// Starts an agent on one file of YAML and waits until it is ready. `args` are added to `sluice run`.
    ///
    /// # Panics
    /// If it does not get ready; the message holds its log.
    pub fn start(ns: &'ns NetNs, yaml: &str, args: &[&str]) -> Self {
        let mut agent = Self::prepare(ns, yaml, args);
        agent.launch();
        agent.wait_ready();
        agent
    }

    /// Everything that [`Agent::start`] prepares, with no process yet.
    pub fn prepare(ns: &'ns NetNs, yaml: &str, args: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("sluice-agent-").tempdir().expect("a folder can be made");
        let agent = Self {
            ns,
            binary: binary().to_owned(),
            args: args.iter().map(|&a| a.to_owned()).collect(),
            env: Vec::new(),
            tether: None,
            file: true,
            dir,
            pins: BpfFs::new(),
            // A namespace has all ports to itself; the agents of one namespace pass `--metrics` themselves.
            metrics: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 19901),
            child: None,
        };
        agent.write(yaml);
        agent
    }

    /// Where the metrics are served, if not on the harness's usual port.
    pub fn metrics_at(mut self, address: SocketAddr) -> Self {
        self.metrics = address;
        self
    }

    /// Lets it run without the configuration file: on what is applied alone.
    pub fn without_file(mut self) -> Self {
        self.file = false;
        self
    }

    /// Other flags at the next launch.
    pub fn with_args(mut self, args: &[&str]) -> Self {
        self.set_args(args);
        self
    }

    /// The same, for an agent that has been launched.
    pub fn set_args(&mut self, args: &[&str]) {
        self.args = args.iter().map(|&a| a.to_owned()).collect();
    }

    /// Sets a variable in the process's environment.
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.env.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Lets it end with this process even if that is killed; see [`Tethered`](crate::cluster::Tethered).
    pub fn tethered(mut self, podrunner: &Path) -> Self {
        self.tether = Some(podrunner.to_owned());
        self
    }

    /// Another program at the next launch.
    pub fn replace(&mut self, binary: &Path) {
        self.binary = binary.to_owned();
    }

    /// Starts the process and does not wait.
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "the agent runs already");
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_path()).expect("a log file");
        let mut command = match &self.tether {
            Some(tether) => Command::new(tether),
            None => Command::new(&self.binary),
        };
        if self.tether.is_some() {
            command.args(["tether", "--"]).arg(&self.binary);
        }
        command
            .arg("run")
            .args(self.file.then(|| ["-f".into(), self.config()]).into_iter().flatten())
            .args(self.places())
            .args(["--metrics", &self.metrics.to_string()])
            .args(&self.args)
            .env("RUST_BACKTRACE", "1")
            .envs(self.env.iter().map(|(key, value)| (key, value)))
            .stdin(if self.tether.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(log.try_clone().expect("a descriptor can be duplicated"))
            .stderr(log);
        self.child = Some(self.ns.spawn(&mut command));
    }

    /// Waits until `/readyz` says yes.
    pub fn wait_ready(&mut self) {
        let start = Instant::now();
        while self.get("/readyz").is_none_or(|(status, _)| status != 200) {
            if let Some(status) =
                self.child.as_mut().and_then(|c| c.try_wait().expect("a child can be asked"))
            {
                panic!("the agent ended ({status}) before it was ready; its log:\n{}", self.log());
            }
            assert!(start.elapsed() < PATIENCE, "the agent did not get ready; its log:\n{}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("config.yaml")
    }

    /// Replaces the configuration by an atomic rename.
    pub fn write(&self, yaml: &str) {
        let new = self.dir.path().join("config.new");
        fs::write(&new, yaml).expect("the configuration can be written");
        fs::rename(new, self.config()).expect("the configuration can be renamed");
    }

    /// Replaces the configuration and waits until the agent has taken it or refused it.
    pub fn change(&self, yaml: &str) {
        let before = (self.metric("sluice_config_generation"), self.metric("sluice_config_errors_total"));
        self.write(yaml);
        let what = "the changed configuration to be taken";
        self.wait(what, || {
            (self.metric("sluice_config_generation"), self.metric("sluice_config_errors_total")) != before
        });
    }

    /// Waits for a condition.
    ///
    /// # Panics
    /// If it does not come; the message holds `what` and the log.
    pub fn wait(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < PATIENCE, "waited in vain for {what}; the log:\n{}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The flags that name this agent's places, as every subcommand understands them.
    pub fn places(&self) -> Vec<String> {
        let at = |name: &str| self.dir.path().join(name).display().to_string();
        vec![
            "--state-dir".to_owned(),
            at("state"),
            "--admin-socket".to_owned(),
            at("admin.sock"),
            "--pin-dir".to_owned(),
            self.pin_dir().display().to_string(),
        ]
    }

    /// Where this agent keeps what outlives it.
    pub fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// Where this agent pins.
    pub fn pin_dir(&self) -> PathBuf {
        self.pins.path().join("sluice")
    }

    /// The BPF filesystem of this agent.
    pub fn bpffs(&self) -> &BpfFs {
        &self.pins
    }

    /// Where the metrics are served.
    pub fn metrics_address(&self) -> SocketAddr {
        self.metrics
    }

    /// The agent's process id.
    pub fn pid(&self) -> i32 {
        let child = self.child.as_ref().expect("the agent runs");
        i32::try_from(child.id()).expect("a process id fits")
    }

    /// Runs another subcommand against this agent, whose places it gets by the environment.
    pub fn sluice(&self, args: &[&str]) -> Output {
        let mut command = self.command(args);
        self.ns.enter(|| command.env("NO_COLOR", "1").output()).expect("sluice can be started")
    }

    /// A subcommand to be run in the agent's namespace, with its places in the environment.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .args(args)
            .env("SLUICE_STATE_DIR", self.dir.path().join("state"))
            .env("SLUICE_ADMIN_SOCKET", self.dir.path().join("admin.sock"))
            .env("SLUICE_PIN_DIR", self.pin_dir())
            .stdin(Stdio::null());
        command
    }

    /// The namespace that the agent is in.
    pub fn ns(&self) -> &NetNs {
        self.ns
    }

    /// A subcommand that talks to the admin socket, its output as JSON.
    pub fn ask(&self, command: &str) -> Value {
        let socket = self.dir.path().join("admin.sock").display().to_string();
        let out = self.sluice(&[command, "-o", "json", "--admin-socket", &socket]);
        assert!(
            out.status.success(),
            "sluice {command}: {}: {}\n{}",
            out.status,
            String::from_utf8_lossy(&out.stderr),
            self.log()
        );
        serde_json::from_slice(&out.stdout).unwrap_or_else(|e| {
            panic!("sluice {command} -o json: {e}: {}", String::from_utf8_lossy(&out.stdout))
        })
    }

    /// The text of `/metrics`.
    pub fn metrics(&self) -> String {
        let (status, body) = self.get("/metrics").expect("the metrics are served");
        assert_eq!(status, 200, "{body}");
        body
    }

    /// The sum of all series of a metric whose labels include all of `labels` (`key="value"`).
    pub fn metric_with(&self, name: &str, labels: &[&str]) -> f64 {
        sum(&self.metrics(), name, labels)
    }

    /// The sum of all series of a metric.
    pub fn metric(&self, name: &str) -> f64 {
        self.metric_with(name, &[])
    }

    /// Everything the process wrote.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Ends the process at once, as `kill -9` does.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the agent runs");
        child.kill().expect("a child can be killed");
        child.wait().expect("a child can be waited for");
    }

    /// Asks the process to end and waits for it.
    pub fn stop(&mut self) -> ExitStatus {
        kill(Pid::from_raw(self.pid()), Signal::SIGTERM).expect("a child can be signalled");
        self.wait_exit()
    }

    /// Waits for the end of the process.
    pub fn wait_exit(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the agent runs");
        let start = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("a child can be asked") {
                return status;
            }
            if start.elapsed() > PATIENCE {
                child.kill().expect("a child can be killed");
                child.wait().expect("a child can be waited for");
                panic!("the agent did not end; its log:\n{}", self.log());
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn get(&self, path: &str) -> Option<(u16, String)> {
        get(self.ns, self.metrics, path)
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
        if thread::panicking() {
            eprintln!("--- the agent's log ---\n{}", self.log());
        }
    }
}

/// The `sluice` to test: `$SLUICE_BIN`, or the one beside this program, brought up to date first.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = env::var_os("SLUICE_BIN") {
            return path.into();
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace's folder");
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo)
            .args(["build", "--quiet", "--package", "gateway-user", "--bin", "sluice"])
            .current_dir(root)
            .status()
            .expect("cargo can be started");
        assert!(status.success(), "sluice does not build");
        root.join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into())).join("debug/sluice")
    })
}

/// The `sluice` whose flows are laid out differently: `$SLUICE_OTHER_LAYOUT`.
///
/// # Panics
/// If the variable is not set.
pub fn other_layout() -> PathBuf {
    let path = env::var_os("SLUICE_OTHER_LAYOUT");
    path.expect("$SLUICE_OTHER_LAYOUT must be a sluice built with --features other-layout, as `cargo xtask test` does it")
        .into()
}

/// The sum of the series of one metric in Prometheus' text format.
pub fn sum(text: &str, name: &str, labels: &[&str]) -> f64 {
    text.lines()
        .filter_map(|line| line.strip_prefix(name))
        .filter(|rest| rest.starts_with('{') || rest.starts_with(' '))
        .filter(|rest| labels.iter().all(|label| rest.contains(label)))
        .filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// A `GET` over a connection of its own, the host being the address: status and body; `None` if nobody answers.
pub fn get(ns: &NetNs, at: SocketAddr, path: &str) -> Option<(u16, String)> {
    let answer = client::get(ns, at, &at.to_string(), path).ok()?;
    Some((answer.status, String::from_utf8_lossy(&answer.body).into_owned()))
}
