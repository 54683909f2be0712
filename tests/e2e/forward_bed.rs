//! Where forwarding is tested: endpoints on the node and behind a router, each over IPv4 and IPv6, and traffic that must
//! not fail.

use std::{
    collections::BTreeMap,
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use gateway_ebpf::{flow::Reason, names};
use gateway_tests::{
    agent::Agent,
    client,
    lab::{BACKEND4, BACKEND6, CLIENT4, CLIENT6, GATEWAY4, GATEWAY6, Lab},
    netns::NetNs,
    objects::{gateway, service, tcp_route},
    peers::{echo, server::Server},
};

use serde_json::Value;

use super::{WORKERS, at};

/// The source ports that the tests' agents use towards endpoints behind a router.
pub(crate) const PORTS: std::ops::RangeInclusive<u16> = 30_000..=59_999;

/// The address of the endpoint behind the router, and the router's towards it.
pub(crate) const BEHIND4: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(10, 9, 3, 2)), IpAddr::V4(Ipv4Addr::new(10, 9, 3, 1))];
/// The same of IPv6.
pub(crate) const BEHIND6: [IpAddr; 2] = [
    IpAddr::V6(Ipv6Addr::new(0xfd09, 3, 0, 0, 0, 0, 0, 2)),
    IpAddr::V6(Ipv6Addr::new(0xfd09, 3, 0, 0, 0, 0, 0, 1)),
];

/// A way through the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    /// Its listener's, route's, service's and echo's name.
    pub(crate) name: &'static str,
    /// The gateway's address that the client asks.
    pub(crate) own: IpAddr,
    /// The listener's port.
    pub(crate) port: u16,
    /// The endpoint's address.
    pub(crate) endpoint: IpAddr,
    /// The client's address.
    pub(crate) client: IpAddr,
    /// Whether the endpoint is on the node, and so sees the client.
    pub(crate) local: bool,
}

impl Case {
    /// What the client connects to.
    pub(crate) fn asked(&self) -> SocketAddr {
        at(self.own, self.port)
    }

    /// Whether an endpoint should have seen this client.
    pub(crate) fn fits(&self, seen: SocketAddr, client: SocketAddr) -> bool {
        if self.local { seen == client } else { seen.ip() != client.ip() && PORTS.contains(&seen.port()) }
    }
}

const fn case(name: &'static str, port: u16, own: IpAddr, endpoint: IpAddr, local: bool) -> Case {
    let client = if own.is_ipv6() { CLIENT6 } else { CLIENT4 };
    Case { name, own, port, endpoint, client, local }
}

/// Both families, and endpoints of both kinds.
pub(crate) const CASES: [Case; 4] = [
    case("local4", 5001, GATEWAY4, BACKEND4, true),
    case("local6", 5002, GATEWAY6, BACKEND6, true),
    case("remote4", 5003, GATEWAY4, BEHIND4[0], false),
    case("remote6", 5004, GATEWAY6, BEHIND6[0], false),
];

/// The port that endpoints listen on.
pub(crate) const PORT: u16 = 8001;

/// A lab whose backend is a router, too.
pub(crate) struct Bed {
    pub(crate) lab: Lab,
    /// Behind the backend.
    pub(crate) behind: NetNs,
}

impl Bed {
    pub(crate) fn new(name: &str) -> Self {
        let lab = Lab::new(name);
        let behind = NetNs::new(&format!("{name}-behind"));
        lab.backend.veth("behind", &behind, "eth0");
        lab.backend.sysctl("ipv4/ip_forward", "1");
        lab.backend.sysctl("ipv6/conf/all/forwarding", "1");
        for ([far, near], length, family, network, router) in
            [(BEHIND4, 24, 4, "10.9.3.0/24", BACKEND4), (BEHIND6, 64, 6, "fd09:3::/64", BACKEND6)]
        {
            lab.backend.address("behind", near, length);
            behind.address("eth0", far, length);
            behind.default_route(near);
            lab.gateway.run(&format!("ip -{family} route add {network} via {router}"));
        }
        // Clients come and go by the thousand; nobody shall run out of ports.
        lab.client.sysctl("ipv4/ip_local_port_range", "1024 65000");
        Self { lab, behind }
    }

    /// Where the endpoint of a case is.
    pub(crate) fn ns(&self, case: &Case) -> &NetNs {
        if case.local { &self.lab.backend } else { &self.behind }
    }

    /// An echo for each case.
    pub(crate) fn echoes(&self) -> [Server; 4] {
        CASES.map(|case| echo::tcp(self.ns(&case), at(case.endpoint, PORT), case.name))
    }

    /// A listener for each case.
    pub(crate) fn listeners(&self) -> [TcpListener; 4] {
        CASES.map(|case| self.listener(&case, PORT))
    }

    /// A listener of the endpoint of a case.
    pub(crate) fn listener(&self, case: &Case, port: u16) -> TcpListener {
        let at = at(case.endpoint, port);
        self.ns(case).enter(|| TcpListener::bind(at)).unwrap_or_else(|e| panic!("cannot listen on {at}: {e}"))
    }

    /// An agent with a listener for each case that leads to its endpoint.
    pub(crate) fn agent(&self, args: &[&str]) -> Agent<'_> {
        self.agent_on(&objects(|case| vec![at(case.endpoint, PORT)]), args)
    }

    /// An agent that knows the way to its endpoints.
    pub(crate) fn agent_on(&self, yaml: &str, args: &[&str]) -> Agent<'_> {
        let agent = start(&self.lab.gateway, yaml, args);
        ways(&agent);
        agent
    }

    /// All namespaces.
    pub(crate) fn all(&self) -> [&NetNs; 4] {
        [&self.lab.client, &self.lab.gateway, &self.lab.backend, &self.behind]
    }

    /// Turns something off or on for every device there is.
    pub(crate) fn offload(&self, features: &str) {
        for ns in self.all() {
            for device in devices(ns) {
                ns.run(&format!("ethtool -K {device} {features}"));
            }
        }
    }
}

/// An agent with the tests' source ports, unless there are others.
pub(crate) fn start<'ns>(ns: &'ns NetNs, yaml: &str, args: &[&str]) -> Agent<'ns> {
    let ports = format!("{}-{}", PORTS.start(), PORTS.end());
    let ports = ["--snat-ports", &ports];
    let ports = if args.contains(&ports[0]) { &[][..] } else { &ports };
    Agent::start(ns, yaml, &[WORKERS, ports, args].concat())
}

/// Every device but loopback.
pub(crate) fn devices(ns: &NetNs) -> Vec<String> {
    let name = |line: &str| {
        let name = line.split(": ").nth(1)?.split('@').next()?;
        (name != "lo").then(|| name.to_owned())
    };
    ns.run("ip -o link").lines().filter_map(name).collect()
}

/// A listener for each case, all of one Gateway, each leading to the endpoints that `endpoints` says.
pub(crate) fn objects(endpoints: impl Fn(&Case) -> Vec<SocketAddr>) -> String {
    let listeners = CASES.map(|case| format!("{} TCP {}", case.name, case.port));
    let mut yaml = gateway("db", None, listeners);
    for case in &CASES {
        yaml += &service(case.name, &endpoints(case));
        yaml += &tcp_route(case.name, &[&format!("db/{}", case.name)], &[case.name]);
    }
    yaml
}

/// Address of each backend → the way to it, as the status has it.
pub(crate) fn paths(agent: &Agent<'_>) -> BTreeMap<String, String> {
    let status = agent.ask("status");
    let backends = status["agent"]["forwarding"]["backends"].as_array().cloned().unwrap_or_default();
    let text = |backend: &Value, key: &str| backend[key].as_str().unwrap_or_default().to_owned();
    backends.iter().map(|backend| (text(backend, "address"), text(backend, "path"))).collect()
}

/// Waits until forwarding knows a way to every backend.
pub(crate) fn ways(agent: &Agent<'_>) {
    agent.wait("a way to every backend", || paths(agent).values().all(|path| path != "relay"));
}

/// Nothing came to a worker.
pub(crate) fn all_forwarded(agent: &Agent<'_>) {
    let relayed = agent.metric("sluice_connections_total");
    let counts: Vec<_> = Reason::ALL.map(|reason| (reason.name(), count(agent, reason))).into();
    assert!(relayed == 0.0, "{relayed} connections came to a worker: {counts:?}");
}

/// How often something happened, as the kernel counted.
pub(crate) fn count(agent: &Agent<'_>, reason: Reason) -> u64 {
    let key = (reason as u32).to_le_bytes().map(|byte| byte.to_string());
    let found =
        map(agent, "lookup", names::REASONS, &[&["key"], &key.each_ref().map(String::as_str)[..]].concat());
    let value = |cpu: &Value| {
        let bytes = cpu["value"].as_array().expect("bytes").iter().map(|byte| {
            let byte = byte.as_str().and_then(|hex| hex.strip_prefix("0x")).expect("0x…");
            u8::from_str_radix(byte, 16).expect("a byte")
        });
        u64::from_le_bytes(bytes.collect::<Vec<_>>().try_into().expect("eight of them"))
    };
    found["values"].as_array().expect("a value for each CPU").iter().map(value).sum()
}

/// How many flows have tuples.
pub(crate) fn flows(agent: &Agent<'_>) -> usize {
    map(agent, "dump", names::TUPLES, &[]).as_array().expect("a list").len() / 2
}

/// Asks for what a map holds.
fn map(agent: &Agent<'_>, what: &str, name: &str, args: &[&str]) -> Value {
    let mut command = Command::new("bpftool");
    command.args(["-j", "map", what, "pinned"]).arg(agent.pin_dir().join(name)).args(args);
    let output = command.output().expect("bpftool can be run");
    assert!(output.status.success(), "bpftool: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Connects, and says who the endpoint takes the client for; both ends.
pub(crate) fn connect(
    from: &NetNs,
    to: SocketAddr,
    listener: &TcpListener,
) -> (TcpStream, TcpStream, SocketAddr) {
    let near = from
        .enter(|| TcpStream::connect_timeout(&to, Duration::from_secs(10)))
        .unwrap_or_else(|e| panic!("no connection to {to}: {e}"));
    accepted(near, listener)
}

/// The other end of a connection that was just made, and who it takes the client for.
pub(crate) fn accepted(near: TcpStream, listener: &TcpListener) -> (TcpStream, TcpStream, SocketAddr) {
    let (far, seen) = listener.accept().expect("it arrives");
    for end in [&near, &far] {
        end.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout can be set");
    }
    (near, far, seen)
}

/// Bytes go through, both ways.
pub(crate) fn alive(near: &TcpStream, far: &TcpStream) {
    for (mut from, mut to) in [(near, far), (far, near)] {
        let mut got = [0; 5];
        from.write_all(b"hello").expect("it is written");
        to.read_exact(&mut got).expect("it arrives");
        assert_eq!(&got, b"hello");
    }
}

/// Closes a connection, the one end first, and waits until the other knows.
pub(crate) fn close(first: &TcpStream, second: &TcpStream) {
    first.shutdown(Shutdown::Write).expect("a half can be closed");
    assert_eq!(second.take(1).read_to_end(&mut Vec::new()).expect("the end arrives"), 0);
    second.shutdown(Shutdown::Write).expect("a half can be closed");
    assert_eq!(first.take(1).read_to_end(&mut Vec::new()).expect("the end arrives"), 0);
}

/// Towards each of some echoes: connections that are opened and closed one after the other, and one that carries bytes
/// all the while.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    made: Arc<Vec<AtomicU64>>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Load {
    pub(crate) fn start(ns: &NetNs, echoes: impl IntoIterator<Item = SocketAddr>) -> Self {
        let echoes: Vec<_> = echoes.into_iter().collect();
        let stop = Arc::new(AtomicBool::new(false));
        let made: Arc<Vec<_>> = Arc::new(echoes.iter().map(|_| AtomicU64::new(0)).collect());
        let mut threads = Vec::new();
        for (index, to) in echoes.into_iter().enumerate() {
            let (end, made) = (stop.clone(), made.clone());
            threads.push(ns.thread(move || {
                while !end.load(Ordering::Relaxed) {
                    short(to, index).map_err(|e| {
                        let made = made[index].load(Ordering::Relaxed);
                        io::Error::new(e.kind(), format!("{to}: after {made} connections: {e}"))
                    })?;
                    made[index].fetch_add(1, Ordering::Relaxed);
                    // Leaves the agent some of the machine: what is changed meanwhile is to take effect.
                    thread::sleep(Duration::from_millis(1));
                }
                Ok(())
            }));
            let end = stop.clone();
            threads.push(ns.thread(move || {
                let stream = TcpStream::connect(to)?;
                client::steady(stream, &end)
                    .map(drop)
                    .map_err(|e| io::Error::new(e.kind(), format!("{to}: transfer: {e}")))
            }));
        }
        Self { stop, made, threads }
    }

    /// Connections made and ended well, the fewest towards any echo.
    pub(crate) fn fewest(&self) -> u64 {
        self.made.iter().map(|made| made.load(Ordering::Relaxed)).min().unwrap_or(0)
    }

    /// Waits until so many more connections were made towards each echo.
    pub(crate) fn more(&self, count: u64) {
        let before: Vec<_> = self.made.iter().map(|made| made.load(Ordering::Relaxed)).collect();
        let enough = |made: &AtomicU64, before: &u64| made.load(Ordering::Relaxed) >= before + count;
        while !self.failed() && !self.made.iter().zip(&before).all(|(made, before)| enough(made, before)) {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether a client gave up.
    pub(crate) fn failed(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Ends it, and says how many connections were made.
    ///
    /// # Panics
    /// If one failed.
    pub(crate) fn finish(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a client does not panic").unwrap_or_else(|e| panic!("{e}"));
        }
        self.made.iter().map(|made| made.load(Ordering::Relaxed)).sum()
    }
}

/// A connection to an echo that says little.
fn short(to: SocketAddr, index: usize) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(20))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.set_nodelay(true)?;
    let text = format!("{index} says hello");
    stream.write_all(text.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut got = String::new();
    stream.read_to_string(&mut got)?;
    match got.split_once('\n') {
        Some((_, back)) if back == text => Ok(()),
        _ => Err(io::Error::other(format!("{text:?} came back as {got:?}"))),
    }
}
