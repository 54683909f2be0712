//! A real Kubernetes API server, and around it what a controller and its tests need, in network namespaces of their own.
//!
//! Owns the life of the cluster: etcd, kube-apiserver, some controllers of kube-controller-manager, and `podrunner`
//! (`tests/cluster/`), which runs pods as processes. Nothing of it has a name on the machine, so that several live side by
//! side; it ends with its owner, killed or not. Must not know `sluice`: who is to be tested gets a namespace on the LAN
//! ([`Cluster::site`]), or the node's own, and a kubeconfig.

mod api;
mod component;
mod history;
mod kubectl;
mod network;
mod programs;
mod tether;

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::netns::NetNs;

pub use self::{
    api::{Api, Watch},
    component::Component,
    programs::{MODULES, Module, Programs, digest, folder, sources},
    tether::Tethered,
};

/// The node's IPv4 address on the pods' bridge, and the API server's.
pub const NODE4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 244, 0, 1));
/// The node's IPv6 address on the pods' bridge.
pub const NODE6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, 0, 1));
/// Addresses of the LAN that nobody has: for Gateways.
pub const GATEWAYS4: &str = "10.245.254.0/24";
/// The same of IPv6.
pub const GATEWAYS6: &str = "fd00:10:245::fe00/120";

/// How long the cluster may take for anything. A machine that is busy with other tests is slow.
const PATIENCE: Duration = Duration::from_secs(90);

/// What a cluster is to have.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Which of the Gateway API's CRDs.
    pub channel: Channel,
    /// Programs that pods may run, besides the suite's.
    pub images: Vec<Image>,
    /// Users whose requests the API server writes down, in [`Cluster::audit`].
    pub audited: Vec<String>,
}

/// The Gateway API's channels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Channel {
    /// What is stable.
    Standard,
    /// All of it.
    #[default]
    Experimental,
}

impl Channel {
    /// Its name in the Gateway API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Experimental => "experimental",
        }
    }
}

/// What stands for an image: a program of this machine.
#[derive(Debug, Clone)]
pub struct Image {
    /// A part of the image's name.
    pub name: String,
    /// The program that its containers run.
    pub program: PathBuf,
    /// Its arguments instead of the container's, if there are any.
    pub args: Vec<String>,
    /// Whether it needs the machine's libraries: it sees the machine's files, and keeps what it writes to itself.
    pub host: bool,
}

/// A running cluster; dropping it ends every process and removes all it left.
#[derive(Debug)]
pub struct Cluster {
    /// The node's namespace: it routes between pods and LAN, and the API server is in it.
    pub node: NetNs,
    programs: Programs,
    dir: TempDir,
    running: Vec<(Component, Tethered)>,
}

impl Cluster {
    /// Starts a cluster and waits until it takes objects of the Gateway API. `name` serves messages.
    ///
    /// # Panics
    /// Without root, without the programs (`cargo xtask setup` builds them), or if something does not come up; the logs
    /// are shown then.
    pub fn start(name: &str, config: &Config) -> Self {
        let programs = Programs::find().unwrap_or_else(|e| panic!("{e}"));
        let dir = tempfile::Builder::new().prefix("sluice-cluster-").tempdir().expect("a folder can be made");
        let node = network::node(&format!("{name}-node"));
        let mut cluster = Self { node, programs, dir, running: Vec::new() };
        cluster.prepare(config);
        cluster.launch(Component::Etcd);
        cluster.launch(Component::ApiServer);
        cluster.wait_ready();
        cluster.launch(Component::ControllerManager);
        cluster.launch(Component::PodRunner);
        let crds = cluster.programs.crds(config.channel.name()).display().to_string();
        cluster.kubectl(&["apply", "--server-side", "--filename", &crds]);
        cluster.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "--all", "crd"]);
        cluster.wait("the node to be ready", |cluster| {
            cluster.try_kubectl(&["get", "node", "node"]).is_ok_and(|text| text.contains(" Ready "))
        });
        cluster
    }

    /// A new namespace on the LAN: its `eth0` has the addresses `10.245.0.host` and `fd00:10:245::host`, and may get more
    /// of [`GATEWAYS4`] and [`GATEWAYS6`]. Pods and API server are reached through the node.
    pub fn site(&self, name: &str, host: u8) -> NetNs {
        network::site(&self.node, name, host)
    }

    /// A kubeconfig of the cluster's administrator; it works in every namespace of the cluster.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    /// The programs that the cluster consists of.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// Starts a program in one of the cluster's namespaces that ends with the cluster's owner. Its output goes to `log`.
    pub fn spawn(&self, ns: &NetNs, command: &Command, log: &File) -> Tethered {
        Tethered::start(ns, &self.programs.podrunner, command, log)
    }

    /// A connection to the API server as administrator, for what kubectl is too slow for.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn api(&self) -> io::Result<Api> {
        Api::connect(&self.node, &self.dir.path().join("pki"))
    }

    /// The requests of the users that are to be audited: lines of JSON, written before each is answered.
    pub fn audit(&self) -> PathBuf {
        self.dir.path().join(component::AUDIT_LOG)
    }

    /// Runs kubectl as administrator and returns what it wrote.
    ///
    /// # Panics
    /// If it fails; the message holds its errors.
    pub fn kubectl(&self, args: &[&str]) -> String {
        self.try_kubectl(args).unwrap_or_else(|e| panic!("{e}"))
    }

    /// The same, with its errors.
    ///
    /// # Errors
    /// What it wrote.
    pub fn try_kubectl(&self, args: &[&str]) -> Result<String, String> {
        kubectl::run(&self.node, &self.programs.kubectl, &self.kubeconfig(), args, "")
    }

    /// Applies objects, with the conflicts decided for these.
    ///
    /// # Panics
    /// If the API server refuses one.
    pub fn apply(&self, yaml: &str) {
        let args = ["apply", "--server-side", "--force-conflicts", "--filename", "-"];
        kubectl::run(&self.node, &self.programs.kubectl, &self.kubeconfig(), &args, yaml)
            .unwrap_or_else(|e| panic!("{e}"));
    }

    /// One object or a list, such as `["pods", "--namespace", "a"]`.
    ///
    /// # Panics
    /// If there is none.
    pub fn get(&self, what: &[&str]) -> Value {
        let text = self.kubectl(&[&["get", "--output", "json"], what].concat());
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("kubectl get {what:?}: {e}: {text}"))
    }

    /// Makes a Kubernetes namespace that pods can be made in.
    pub fn namespace(&self, name: &str) {
        self.kubectl(&["create", "namespace", name]);
        self.wait("the namespace's service account", |cluster| {
            cluster.try_kubectl(&["get", "serviceaccount", "default", "--namespace", name]).is_ok()
        });
    }

    /// Starts a component that does not run.
    pub fn launch(&mut self, component: Component) {
        assert!(!self.running.iter().any(|(c, _)| *c == component), "{component:?} runs already");
        let log = File::options().create(true).append(true).open(self.log(component)).expect("a log file");
        let command = component.command(&self.programs, self.dir.path());
        let process = self.spawn(&self.node, &command, &log);
        self.running.push((component, process));
    }

    /// Kills a component as `kill -9` does, and waits until it is gone. With `PodRunner` go all pods' processes.
    pub fn kill(&mut self, component: Component) {
        let at = self.running.iter().position(|(c, _)| *c == component);
        let (_, process) = self.running.remove(at.unwrap_or_else(|| panic!("{component:?} does not run")));
        process.end();
    }

    /// Waits until the API server says that it is ready.
    ///
    /// # Panics
    /// If it does not get ready, or it or etcd ends.
    pub fn wait_ready(&mut self) {
        let start = Instant::now();
        while self.try_kubectl(&["get", "--raw", "/readyz"]).is_err() {
            for (component, process) in &mut self.running {
                if let Some(status) = process.exited() {
                    panic!("{component:?} ended ({status})");
                }
            }
            assert!(start.elapsed() < PATIENCE, "the API server is not ready after {PATIENCE:?}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits for a condition.
    ///
    /// # Panics
    /// If it does not come.
    pub fn wait(&self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let start = Instant::now();
        while !condition(self) {
            assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// What a component wrote.
    pub fn log(&self, component: Component) -> PathBuf {
        self.dir.path().join(format!("{}.log", component.name()))
    }

    /// Keys, certificates, kubeconfig and the list of images.
    fn prepare(&self, config: &Config) {
        let dir = self.dir.path();
        let names = "127.0.0.1,10.96.0.1,kubernetes,kubernetes.default,kubernetes.default.svc,localhost";
        let made = Command::new(&self.programs.podrunner)
            .args(["pki", "--dir"])
            .arg(dir.join("pki"))
            .args([
                "--server",
                &format!("https://{NODE4}:6443"),
                "--sans",
                &format!("{NODE4},{NODE6},{names}"),
            ])
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .output()
            .expect("podrunner can be started");
        assert!(made.status.success(), "podrunner pki: {}", String::from_utf8_lossy(&made.stderr));
        let mut images = vec![
            json!({ "match": "echo-basic", "binary": self.programs.echo }),
            json!({ "match": "coredns", "binary": self.programs.podrunner, "args": ["dns"] }),
        ];
        for Image { name, program, args, host } in &config.images {
            images.push(json!({ "match": name, "binary": program, "args": args, "host": host }));
        }
        fs::write(dir.join("images.json"), Value::from(images).to_string()).expect("a file can be written");
        if !config.audited.is_empty() {
            let rules = [
                json!({ "level": "Metadata", "users": config.audited, "omitStages": ["RequestReceived"] }),
                json!({ "level": "None" }),
            ];
            let policy = json!({ "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules });
            fs::write(dir.join(component::AUDIT_POLICY), policy.to_string()).expect("a file can be written");
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if thread::panicking() {
            for (component, _) in &self.running {
                eprintln!("--- the end of {component:?}'s log ---\n{}", tail(&self.log(*component)));
            }
        }
        // All are told before one is waited for; what they hold is thrown away, so nobody has to end in order.
        self.running.iter_mut().for_each(|(_, process)| process.let_go());
        self.running.clear();
    }
}

/// Waits until no namespace of the suite is being terminated in a cluster: the suite does not wait for its own cleanup.
///
/// # Errors
/// If the API server does not answer, or they do not go.
pub fn settle(ns: &NetNs, programs: &Programs, kubeconfig: &Path) -> Result<(), String> {
    let start = Instant::now();
    let args = ["get", "namespaces", "--output", "json"];
    loop {
        let text = kubectl::run(ns, &programs.kubectl, kubeconfig, &args, "")?;
        let all: Value = serde_json::from_str(&text).map_err(|e| format!("kubectl get namespaces: {e}"))?;
        let ending = |item: &Value| {
            let name = item["metadata"]["name"].as_str().unwrap_or_default();
            item["status"]["phase"] == "Terminating" && name.starts_with("gateway-")
        };
        if !all["items"].as_array().is_some_and(|items| items.iter().any(ending)) {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            return Err(format!(
                "namespaces of an earlier run are still being terminated after {PATIENCE:?}"
            ));
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// The features that a GatewayClass claims, once it does.
///
/// # Errors
/// If kubectl fails, or the class claims none for too long.
pub fn claimed(
    ns: &NetNs,
    programs: &Programs,
    kubeconfig: &Path,
    class: &str,
) -> Result<BTreeSet<String>, String> {
    let start = Instant::now();
    let args = ["get", "gatewayclass", class, "--output", "json"];
    loop {
        let text = kubectl::run(ns, &programs.kubectl, kubeconfig, &args, "")?;
        let found: Value =
            serde_json::from_str(&text).map_err(|e| format!("kubectl get gatewayclass: {e}"))?;
        let features = found["status"]["supportedFeatures"].as_array().into_iter().flatten();
        let names: BTreeSet<_> =
            features.filter_map(|feature| Some(feature["name"].as_str()?.to_owned())).collect();
        if !names.is_empty() {
            return Ok(names);
        }
        if start.elapsed() > PATIENCE {
            return Err(format!("GatewayClass {class} claims no feature after {PATIENCE:?}"));
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// A Deployment `echo` of the suite's echo server and its Service, port 80, in a Kubernetes namespace.
pub fn echo(namespace: &str) -> String {
    format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: echo, namespace: {namespace} }}
spec:
  selector: {{ matchLabels: {{ app: echo }} }}
  template:
    metadata: {{ labels: {{ app: echo }} }}
    spec:
      containers:
      - name: echo
        image: echo-basic:v1.5.1
        env:
        - {{ name: POD_NAME, valueFrom: {{ fieldRef: {{ fieldPath: metadata.name }} }} }}
        - {{ name: NAMESPACE, valueFrom: {{ fieldRef: {{ fieldPath: metadata.namespace }} }} }}
---
apiVersion: v1
kind: Service
metadata: {{ name: echo, namespace: {namespace} }}
spec:
  ipFamilyPolicy: RequireDualStack
  selector: {{ app: echo }}
  ports: [{{ port: 80, targetPort: 3000 }}]
"
    )
}

/// The last lines of a file.
fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
