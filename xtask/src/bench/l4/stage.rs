//! The lab of one contender: nobody else's hooks, rules and sysctls are in its way, and it need not be stopped for
//! the others' turns. Owns the namespaces, both ends and their offloads; knows no contender.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use gateway_tests::{
    lab::{BACKEND4, Lab},
    netns::NetNs,
};

use super::super::peer::{self, Process};
use crate::load::{ANSWER, Outcome, REQUEST, WHO};

/// Where both ends of the load talk; a gateway listens on the same port.
pub(super) const ECHO: u16 = 7001;
/// Where iperf3 listens, and a gateway before it.
pub(super) const IPERF: u16 = 5201;
/// The backend again, behind a next hop, so that it is not on a link of the gateway's.
pub(super) const REMOTE4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 3, 2));
/// The client's further addresses: so many, from this one on.
pub(super) const SOURCES: u8 = 64;
const FIRST_SOURCE: Ipv4Addr = Ipv4Addr::new(10, 9, 1, 128);

/// Client, gateway and backend, and the backend's two servers.
pub(super) struct Stage {
    pub(super) lab: Lab,
    pub(super) run: tempfile::TempDir,
    pub(super) threads: u8,
    _servers: [Process; 2],
}

/// A load of requests.
#[derive(Clone, Copy)]
pub(super) struct Load {
    pub(super) to: SocketAddr,
    pub(super) sources: u8,
    pub(super) connections: usize,
    pub(super) time: Duration,
    pub(super) kind: Kind,
}

/// Over what.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// TCP, as fast as it goes, a new connection after so many requests.
    Tcp(u32),
    /// TCP, so many requests a second.
    Paced(u32),
    /// UDP, as fast as it goes.
    Udp,
}

impl Stage {
    pub(super) fn new(name: &str, threads: u8, router: bool) -> Result<Self> {
        let lab = Lab::new(name);
        // Of what every kernel has and lets a namespace have. One that paces, as BBR does, which some hosts prefer, would be
        // measured rather than what is between its ends: its timers cost more than many a packet.
        for ns in [&lab.client, &lab.gateway, &lab.backend] {
            ns.sysctl("ipv4/tcp_congestion_control", "reno");
        }
        lab.client.run("ip route add local 10.9.1.128/26 dev lo");
        lab.backend.run(&format!("ip address add {REMOTE4}/32 dev lo"));
        lab.gateway.run(&format!("ip route add {REMOTE4}/32 via {BACKEND4}"));
        if router {
            lab.gateway.sysctl("ipv4/ip_forward", "1");
        }
        let run = tempfile::Builder::new().prefix("sluice-bench-").tempdir()?;
        let echo = Process::start(
            &lab.backend,
            own()?.args(["serve", "--port", &ECHO.to_string()]).args(["--threads", &threads.to_string()]),
        );
        let iperf =
            Process::start(&lab.backend, Command::new("iperf3").args(["-s", "-p", &IPERF.to_string()]));
        for port in [ECHO, IPERF] {
            peer::wait_for(&lab.backend, (BACKEND4, port).into())?;
        }
        Ok(Self { lab, run, threads, _servers: [echo, iperf] })
    }

    /// Runs a load from the client.
    pub(super) fn load(&self, load: Load) -> Result<Outcome> {
        let mut command = own()?;
        command.arg("run").args(["--to", &load.to.to_string()]).args(sources(load.sources));
        command.args(["--connections", &load.connections.to_string()]);
        command.args(["--milliseconds", &load.time.as_millis().to_string()]);
        command.args(["--threads", &self.threads.to_string()]);
        match load.kind {
            Kind::Tcp(renew) => command.args(["--renew", &renew.to_string()]),
            Kind::Paced(rate) => command.args(["--rate", &rate.to_string()]),
            Kind::Udp => command.arg("--udp"),
        };
        let out = self.lab.client.enter(|| command.output()).context("cannot start the load")?;
        if !out.status.success() {
            bail!("the load on {}: {}", load.to, String::from_utf8_lossy(&out.stderr).trim());
        }
        serde_json::from_slice(&out.stdout).context("the load's outcome")
    }

    /// Opens idle connections from the client; they end as the process is dropped.
    pub(super) fn idle(&self, to: SocketAddr, count: u8, connections: usize) -> Result<Process> {
        let mut command = own()?;
        command.arg("idle").args(["--to", &to.to_string()]).args(sources(count));
        command.args(["--connections", &connections.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut process = Process::from(self.lab.client.spawn(&mut command));
        let output = process.output().context("its output is piped")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        ensure!(line.trim() == "open", "{connections} connections to {to} could not be opened");
        Ok(process)
    }

    /// The client's address as the backend sees it, over TCP.
    pub(super) fn seen(&self, to: SocketAddr) -> Result<IpAddr> {
        let answer = self.lab.client.enter(|| -> std::io::Result<[u8; ANSWER]> {
            let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(&[WHO; REQUEST])?;
            let mut answer = [0; ANSWER];
            stream.read_exact(&mut answer)?;
            Ok(answer)
        });
        address(&answer.with_context(|| format!("no answer over TCP from {to}"))?)
    }

    /// The same over UDP; nobody need answer there.
    pub(super) fn seen_udp(&self, to: SocketAddr) -> Result<IpAddr> {
        let answer = self.lab.client.enter(|| -> std::io::Result<[u8; ANSWER]> {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.connect(to)?;
            socket.set_read_timeout(Some(Duration::from_millis(300)))?;
            let mut answer = [0; ANSWER];
            let start = Instant::now();
            loop {
                // A gateway that refuses says so by ICMP, at once.
                let heard = socket.send(&[WHO; REQUEST]).and_then(|_| socket.recv(&mut answer));
                match heard {
                    Err(e) if start.elapsed() > Duration::from_secs(1) => return Err(e),
                    Err(_) => std::thread::sleep(Duration::from_millis(50)),
                    Ok(_) => return Ok(answer),
                }
            }
        });
        address(&answer.with_context(|| format!("no answer over UDP from {to}"))?)
    }

    /// Switches segmentation and its reverse on or off, on every link.
    pub(super) fn offloads(&self, on: bool) {
        let on = if on { "on" } else { "off" };
        for (ns, device) in self.links() {
            ns.run(&format!("ethtool -K {device} tso {on} gso {on} gro {on}"));
        }
    }

    fn links(&self) -> [(&NetNs, &'static str); 4] {
        let lab = &self.lab;
        [(&lab.client, "eth0"), (&lab.gateway, "client"), (&lab.gateway, "backend"), (&lab.backend, "eth0")]
    }
}

/// This program as an end of the load.
fn own() -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("load");
    Ok(command)
}

fn sources(count: u8) -> Vec<String> {
    if count == 1 {
        return Vec::new();
    }
    ["--from", &FIRST_SOURCE.to_string(), "--sources", &count.to_string()].map(str::to_owned).to_vec()
}

fn address(answer: &[u8]) -> Result<IpAddr> {
    let text = std::str::from_utf8(answer)?.trim();
    let at: SocketAddr = text.parse().with_context(|| format!("the backend said {text:?}"))?;
    Ok(at.ip())
}
