//! Contenders and clients: what runs in the lab's namespaces, what it costs, and what the clients measured.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use gateway_tests::netns::NetNs;
use nix::{time::clock_getcpuclockid, unistd::Pid};
use serde_json::Value;

/// A process that ends, with all of its children, when this is dropped.
pub(super) struct Process(Child);

impl Process {
    /// Starts a program in a namespace; its output is thrown away (its configuration names an error log).
    pub(super) fn start(ns: &NetNs, command: &mut Command) -> Self {
        Self(ns.spawn(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())))
    }

    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// What it writes, if that is piped; once.
    pub(super) fn output(&mut self) -> Option<ChildStdout> {
        self.0.stdout.take()
    }
}

impl From<Child> for Process {
    fn from(child: Child) -> Self {
        Self(child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut all = vec![self.pid()];
        all.extend(children(self.pid()));
        for pid in all {
            let pid = Pid::from_raw(i32::try_from(pid).expect("a process id fits"));
            if let Err(e) = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM) {
                eprintln!("cannot end process {pid}: {e}");
            }
        }
        drop(self.0.wait());
    }
}

/// CPU time that a process, all threads it ever had and its children have used, in seconds. Children must live on from
/// one reading to the next.
pub(super) fn cpu(pid: u32) -> Result<f64> {
    let mut time = Duration::ZERO;
    for pid in std::iter::once(pid).chain(children(pid)) {
        let clock = clock_getcpuclockid(Pid::from_raw(i32::try_from(pid)?))?;
        time += Duration::from(clock.now()?);
    }
    Ok(time.as_secs_f64())
}

/// Memory of a process and its children, in bytes; what some of them share counts once.
pub(super) fn resident(pid: u32) -> Result<u64> {
    rollup(pid, "Pss:")
}

/// The part of it that is no file: heap and stacks.
pub(super) fn anonymous(pid: u32) -> Result<u64> {
    rollup(pid, "Pss_Anon:")
}

fn rollup(pid: u32, name: &str) -> Result<u64> {
    let mut total = 0;
    for pid in std::iter::once(pid).chain(children(pid)) {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let line = text.lines().find(|l| l.starts_with(name)).with_context(|| format!("no {name}"))?;
        let kib = line.split_whitespace().nth(1).with_context(|| format!("{name} without a number"))?;
        total += kib.parse::<u64>()? * 1024;
    }
    Ok(total)
}

/// The processes that a process has started and that still run.
pub(super) fn children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().filter_map(|p| p.parse().ok()).collect()
}

/// A configuration of the repository with its places filled in.
pub(super) fn configure(name: &str, places: &[(&str, &str)]) -> Result<String> {
    let path = crate::sh::root().join("config/bench").join(name);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(places.iter().fold(text, |text, (place, value)| text.replace(place, value)))
}

/// Waits until something accepts connections.
pub(super) fn wait_for(ns: &NetNs, at: SocketAddr) -> Result<()> {
    let start = Instant::now();
    while ns.enter(|| TcpStream::connect_timeout(&at, Duration::from_secs(1))).is_err() {
        ensure!(start.elapsed() < Duration::from_secs(10), "nothing accepts connections at {at}");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Requests a second by wrk; an error if an answer was not 2xx or 3xx or a connection failed.
pub(super) fn wrk(
    ns: &NetNs,
    at: SocketAddr,
    connections: u32,
    time: Duration,
    close: bool,
) -> Result<(f64, u64)> {
    let mut command = Command::new("wrk");
    // Two threads: one takes 53 µs for a new connection, and would be what is measured.
    command.arg("-t2").arg(format!("-c{connections}")).arg(format!("-d{}s", time.as_secs()));
    if close {
        command.args(["-H", "Connection: close"]);
    }
    command.arg(format!("http://{at}/"));
    let out = ns.enter(|| command.output()).context("cannot start wrk")?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    ensure!(out.status.success(), "wrk failed: {text}{}", String::from_utf8_lossy(&out.stderr));
    if text.contains("Non-2xx") || (text.contains("Socket errors") && !close) {
        bail!("wrong answers from {at}:\n{text}");
    }
    let number = |label: &str, at: usize| -> Option<f64> {
        text.lines().find(|l| l.contains(label))?.split_whitespace().nth(at)?.parse().ok()
    };
    let rate = number("Requests/sec:", 1).with_context(|| format!("wrk did not say a rate: {text}"))?;
    let requests = number(" requests in ", 0).with_context(|| format!("wrk did not say a number: {text}"))?;
    Ok((rate, requests as u64))
}

/// Throughput in bits a second by iperf3, one stream, to the server or from it, at some rate or as fast as it goes. Then
/// its ends stay on the first and the last CPU: where the scheduler puts them for a second or two would decide more than who
/// is between.
pub(super) fn iperf(
    ns: &NetNs,
    at: SocketAddr,
    time: Duration,
    reverse: bool,
    rate: Option<f64>,
) -> Result<f64> {
    let mut command = Command::new("iperf3");
    command.args(["-J", "-c", &at.ip().to_string(), "-p", &at.port().to_string()]);
    command.args(["-t", &time.as_secs().to_string()]);
    if reverse {
        command.arg("-R");
    }
    match rate {
        Some(rate) => command.args(["-b", &format!("{rate:.0}")]),
        None => command.args(["-A", &format!("0,{}", thread::available_parallelism()?.get() - 1)]),
    };
    let start = Instant::now();
    loop {
        let out = ns.enter(|| command.output()).context("cannot start iperf3")?;
        let answer: Value = serde_json::from_slice(&out.stdout)
            .with_context(|| format!("iperf3: {}", String::from_utf8_lossy(&out.stdout)))?;
        match answer["error"].as_str() {
            // It takes one at a time, and may not have seen the end of the last one yet.
            Some(error) if error.contains("busy") && start.elapsed() < Duration::from_secs(5) => {
                thread::sleep(Duration::from_millis(50));
            }
            Some(error) => bail!("iperf3 through {at}: {error}"),
            None => {
                let rate = &answer["end"]["sum_received"]["bits_per_second"];
                return rate.as_f64().context("iperf3 did not say a throughput");
            }
        }
    }
}
