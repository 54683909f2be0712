//! What stands in for systemd: it starts, reloads and stops one unit as its file says, with the unit's folders,
//! environment and capabilities, and listens on a notify socket. A `systemctl` in place of systemd's own reaches it
//! over two named pipes; what is about files alone (enable, preset, mask) it leaves to systemd's own.
//!
//! Of the unit's sandbox only UMask, capabilities and NoNewPrivileges are applied.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use gateway_tests::netns::NetNs;
use nix::{
    sys::{
        signal::{Signal, kill},
        stat::Mode,
    },
    unistd::{Pid, mkfifo},
};

use super::root::Root;
use crate::{
    deb::{below, said, unit::Unit},
    sh,
};

const UNIT: &str = "usr/lib/systemd/system/sluice.service";
const SYSTEMCTL: &str = "usr/bin/systemctl";
const SYSTEMDS_OWN: &str = "usr/bin/systemctl.own";
const PIPES: &str = "run/trial";
const NOTIFY: &str = "run/systemd/notify";
const PATIENCE: Duration = Duration::from_secs(30);
/// What ends [`Manager::serve`], and nobody else says.
const END: &str = "end of the trial";

/// Asks, and ends as the answer says: its first line is the exit code.
const SCRIPT: &str = r#"#!/bin/sh
case " $* " in
*" start "* | *" stop "* | *" restart "* | *" reload "* | *" is-active "* | *" status "* | *" daemon-reload "*) ;;
*) SYSTEMD_OFFLINE=1 exec /usr/bin/systemctl.own "$@" ;;
esac
exec 9>/run/trial/lock
flock 9
echo "$*" >/run/trial/ask
{ read -r code; cat; } </run/trial/answer
exit "$code"
"#;

/// The stand-in.
pub(super) struct Manager<'a> {
    root: &'a Root,
    ns: &'a NetNs,
    socket: UnixDatagram,
    told: Mutex<Told>,
}

/// What the unit has told.
#[derive(Default)]
struct Told {
    /// How often it was ready: after its start, and after each reload.
    ready: u32,
    watchdogs: u32,
    status: String,
    ended: bool,
}

impl<'a> Manager<'a> {
    pub(super) fn new(root: &'a Root, ns: &'a NetNs) -> Result<Self> {
        let at = |path| root.path().join(path);
        fs::create_dir_all(at(PIPES))?;
        for pipe in ["ask", "answer"] {
            mkfifo(&at(PIPES).join(pipe), Mode::S_IRUSR | Mode::S_IWUSR)?;
        }
        let socket = UnixDatagram::bind(at(NOTIFY)).context("cannot make the notify socket")?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        fs::rename(at(SYSTEMCTL), at(SYSTEMDS_OWN)).context("the fresh Debian has no systemctl")?;
        fs::write(at(SYSTEMCTL), SCRIPT)?;
        fs::set_permissions(at(SYSTEMCTL), fs::Permissions::from_mode(0o755))?;
        Ok(Self { root, ns, socket, told: Mutex::default() })
    }

    /// Everything that the unit wrote.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.root.path().join(PIPES).join("log")).unwrap_or_default()
    }

    /// Takes in what the unit tells, until the end.
    pub(super) fn listen(&self) {
        let mut buffer = [0; 4096];
        while !self.told().ended {
            let Ok(n) = self.socket.recv(&mut buffer) else { continue };
            let text = String::from_utf8_lossy(&buffer[..n]);
            let mut told = self.told();
            for line in text.lines() {
                match line.split_once('=') {
                    Some(("READY", _)) => told.ready += 1,
                    Some(("WATCHDOG", _)) => told.watchdogs += 1,
                    Some(("STATUS", words)) => words.clone_into(&mut told.status),
                    _ => {}
                }
            }
        }
    }

    /// Answers each `systemctl`, until the end; then the unit is stopped.
    pub(super) fn serve(&self) {
        let mut child = None;
        loop {
            let mut asked = String::new();
            // Opened anew each time: it ends when who asks closes it.
            let pipe = |name| self.root.path().join(PIPES).join(name);
            if let Err(e) = File::open(pipe("ask")).and_then(|mut ask| ask.read_to_string(&mut asked)) {
                eprintln!("systemctl cannot ask: {e}");
                break;
            }
            if asked.trim() == END {
                break;
            }
            let answer = match self.answer(asked.trim(), &mut child) {
                Ok((code, text)) => format!("{code}\n{text}"),
                Err(e) => format!("1\nsystemctl {}: {e:#}\n", asked.trim()),
            };
            let written = OpenOptions::new().write(true).open(pipe("answer"));
            if let Err(e) = written.and_then(|mut pipe| pipe.write_all(answer.as_bytes())) {
                eprintln!("systemctl gets no answer: {e}");
            }
        }
        if let Err(e) = self.stop(&mut child) {
            eprintln!("the unit cannot be stopped: {e:#}");
        }
        self.told().ended = true;
    }

    /// Ends [`Self::serve`] and [`Self::listen`], and takes `systemctl` away.
    pub(super) fn end(&self) {
        let at = |path| self.root.path().join(path);
        let ask = OpenOptions::new().write(true).open(at(PIPES).join("ask"));
        if let Err(e) = ask.and_then(|mut ask| ask.write_all(END.as_bytes())) {
            eprintln!("cannot end what stands in for systemd: {e}");
        }
        let begin = Instant::now();
        while !self.told().ended && begin.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(20));
        }
        let restored = fs::rename(at(SYSTEMDS_OWN), at(SYSTEMCTL));
        for gone in [fs::remove_dir_all(at(PIPES)), fs::remove_file(at(NOTIFY)), restored] {
            if let Err(e) = gone {
                eprintln!("cannot remove what stands in for systemd: {e}");
            }
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Exit code and output of one `systemctl`.
    fn answer(&self, asked: &str, child: &mut Option<Child>) -> Result<(i32, String)> {
        let mut words = asked.split_whitespace().filter(|word| !word.starts_with('-'));
        let verb = words.next().unwrap_or_default();
        let ours = words.next().is_none_or(|unit| unit == "sluice" || unit == "sluice.service");
        ensure!(ours && words.next().is_none(), "there is only sluice.service here");
        let runs = match child.as_mut() {
            Some(child) => child.try_wait()?.is_none(),
            None => false,
        };
        let state = |yes, word: &str| (if yes { 0 } else { 3 }, format!("{word}\n"));
        match verb {
            "daemon-reload" => {}
            "start" if runs => {}
            "start" => *child = Some(self.start()?),
            "stop" => self.stop(child)?,
            "restart" => {
                self.stop(child)?;
                *child = Some(self.start()?);
            }
            "reload" => self.reload(child.as_ref().filter(|_| runs).context("the unit does not run")?)?,
            "is-active" => return Ok(state(runs, if runs { "active" } else { "inactive" })),
            "status" => {
                let told = self.told();
                ensure!(!runs || told.watchdogs > 0 || told.ready > 0, "the unit tells nothing");
                let word = if runs { "active (running)" } else { "inactive (dead)" };
                return Ok(state(runs, &format!("Active: {word}\nStatus: \"{}\"", told.status)));
            }
            _ => bail!("this systemctl knows no `{verb}`"),
        }
        Ok((0, String::new()))
    }

    fn unit(&self) -> Result<(Unit, BTreeMap<String, String>)> {
        let path = self.root.path().join(UNIT);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let unit = Unit::parse(&text);
        let environment = unit.environment(self.root.path())?;
        Ok((unit, environment))
    }

    /// A shell that takes on the unit's umask, and becomes `words` with its rights.
    fn command(&self, unit: &Unit, words: &[String]) -> Result<Command> {
        let mut command = self.root.command("sh");
        let before = format!("umask {}; exec \"$@\"", unit.one("UMask")?);
        command.args(["-c", &before, "unit", "setpriv"]).args(unit.setpriv()?).arg("--").args(words);
        Ok(command)
    }

    fn start(&self) -> Result<Child> {
        let (unit, environment) = self.unit()?;
        ensure!(unit.one("Type")? == "notify", "the unit does not tell when it is ready");
        // As it is installed, in the fresh Debian's own words.
        let mut verify = self.root.command("systemd-analyze");
        let found = said(verify.args(["verify", "--man=no"]).arg(format!("/{UNIT}")))?;
        ensure!(found.is_empty(), "systemd-analyze verify: {found}");
        // What systemd-analyze itself leaves.
        drop(fs::remove_file(self.root.path().join("run/systemd/systemd-units-load")));
        for (folder, mode) in unit.folders()? {
            let folder = below(self.root.path(), &folder);
            fs::create_dir_all(&folder)?;
            fs::set_permissions(folder, fs::Permissions::from_mode(mode))?;
        }
        let log: PathBuf = self.root.path().join(PIPES).join("log");
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        let watchdog: u64 =
            unit.one("WatchdogSec")?.parse().context("WatchdogSec= is a number of seconds")?;
        let mut command = self.command(&unit, &unit.command("ExecStart", &environment)?)?;
        command
            .envs(&environment)
            .env("NOTIFY_SOCKET", format!("/{NOTIFY}"))
            .env("WATCHDOG_USEC", (watchdog * 1_000_000).to_string())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        *self.told() = Told::default();
        let mut child = self.ns.spawn(&mut command);
        let begin = Instant::now();
        while self.told().ready == 0 {
            if let Some(status) = child.try_wait()? {
                bail!("the unit ended before it was ready: {status}");
            }
            if begin.elapsed() > PATIENCE {
                child.kill()?;
                child.wait()?;
                bail!("the unit did not say READY=1 within {} s", PATIENCE.as_secs());
            }
            thread::sleep(Duration::from_millis(5));
        }
        println!("READY=1 after {} ms: {}", begin.elapsed().as_millis(), self.told().status);
        Ok(child)
    }

    fn reload(&self, child: &Child) -> Result<()> {
        let (unit, mut environment) = self.unit()?;
        environment.insert("MAINPID".to_owned(), child.id().to_string());
        let before = self.told().ready;
        let mut command = self.command(&unit, &unit.command("ExecReload", &environment)?)?;
        sh::read(&mut command)?;
        let begin = Instant::now();
        while self.told().ready == before {
            ensure!(begin.elapsed() < PATIENCE, "the unit did not say READY=1 after its reload");
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn stop(&self, child: &mut Option<Child>) -> Result<()> {
        let Some(mut running) = child.take() else { return Ok(()) };
        if running.try_wait()?.is_none() {
            kill(Pid::from_raw(i32::try_from(running.id())?), Signal::SIGTERM)?;
        }
        let begin = Instant::now();
        while running.try_wait()?.is_none() {
            if begin.elapsed() > PATIENCE {
                running.kill()?;
                running.wait()?;
                bail!("the unit did not stop within {} s", PATIENCE.as_secs());
            }
            thread::sleep(Duration::from_millis(10));
        }
        let (unit, _) = self.unit()?;
        for name in unit.all("RuntimeDirectory") {
            fs::remove_dir_all(self.root.path().join("run").join(name))?;
        }
        Ok(())
    }
}
