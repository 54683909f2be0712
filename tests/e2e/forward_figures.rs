//! What is shown of flows that are forwarded in the kernel: `sluice flows`, the access log and the metrics say what was
//! sent, to the connection and to the packet.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    ops::RangeInclusive,
    path::Path,
    process::Stdio,
    time::Duration,
};

use gateway_tests::{
    agent::Agent,
    client,
    lab::{BACKEND4, BACKEND6, CLIENT4, CLIENT6, GATEWAY4, GATEWAY6, Lab},
    netns::NetNs,
    objects::{gateway, service, tcp_route, udp_route, udp_service},
    peers::echo,
    uninterrupted,
};
use serde_json::Value;

use super::{WORKERS, at};

/// Families: the gateway's address, the backend's, the client's; bytes of IP and TCP header with timestamps.
const FAMILIES: [(IpAddr, IpAddr, IpAddr, u64); 2] =
    [(GATEWAY4, BACKEND4, CLIENT4, 52), (GATEWAY6, BACKEND6, CLIENT6, 72)];
/// What the options of a SYN take more than a timestamp alone.
const SYN_OPTIONS: u64 = 8;
/// The longest packet.
const MTU: u64 = 1500;
/// The echo's name, `one`, and the end of its line.
const NAME: u64 = 4;
/// What the clients send, and the echo answers after its name.
const SIZES: [usize; 6] = [0, 1, 1000, 100_000, 3_000_000, 20_000_000];

/// Segments that a namespace has sent by TCP (large ones that are cut up later count for what they are made of), and how
/// many of them were sent again.
fn segments(ns: &NetNs) -> (u64, u64) {
    let snmp = ns.enter(|| std::fs::read_to_string("/proc/thread-self/net/snmp")).expect("counters");
    let mut lines = snmp.lines().filter(|line| line.starts_with("Tcp:")).map(str::split_whitespace);
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let counters: BTreeMap<&str, &str> = names.zip(values).collect();
    let of = |name: &str| counters[name].parse::<u64>().expect("a number");
    // What is sent for the first time (RFC 1213), and the others.
    (of("OutSegs") + of("RetransSegs"), of("RetransSegs"))
}

/// What a namespace has sent since.
struct Sent<'a> {
    ns: &'a NetNs,
    before: u64,
}

impl<'a> Sent<'a> {
    /// From here on every segment is as long as the next of its kind: without SACK, acknowledgements have no list; without
    /// probes, nothing is sent again unless it is lost, or late on a busy machine.
    fn new(ns: &'a NetNs) -> Self {
        for key in ["ipv4/tcp_sack", "ipv4/tcp_dsack", "ipv4/tcp_early_retrans"] {
            ns.sysctl(key, "0");
        }
        Self { ns, before: segments(ns).0 }
    }

    fn packets(&self) -> u64 {
        segments(self.ns).0 - self.before
    }

    /// Bytes that so many packets must have had, in so many connections: at the least and at the most, the same if
    /// nothing was sent again.
    fn bytes(&self, packets: u64, header: u64, connections: u64, payload: u64) -> RangeInclusive<u64> {
        let least = packets * header + connections * SYN_OPTIONS + payload;
        least..=least + segments(self.ns).1 * MTU
    }
}

fn log_lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

fn sum(values: &[Value], field: &str) -> u64 {
    values.iter().map(|value| value[field].as_u64().unwrap_or_else(|| panic!("{field}: {value}"))).sum()
}

/// Connections; packets and bytes, received and sent.
pub(crate) fn metrics(agent: &Agent<'_>) -> (u64, [u64; 4]) {
    let text = agent.metrics();
    let of = |name: &str, labels: &[&str]| gateway_tests::agent::sum(&text, name, labels) as u64;
    let [received, sent] = ["direction=\"received\"", "direction=\"sent\""];
    let (packets, bytes) = ("sluice_forward_packets_total", "sluice_forward_bytes_total");
    let carried = [(packets, received), (packets, sent), (bytes, received), (bytes, sent)];
    (of("sluice_forward_connections_total", &[]), carried.map(|(name, direction)| of(name, &[direction])))
}

fn flows(agent: &Agent<'_>, filter: &[&str]) -> Vec<Value> {
    let out = agent.sluice(&[&["flows", "-o", "json"], filter].concat());
    assert!(out.status.success(), "{filter:?}: {}", String::from_utf8_lossy(&out.stderr));
    let view: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    assert_eq!(view["forwarding"], true);
    view["flows"].as_array().expect("flows").clone()
}

/// A connection over which five bytes went there and came back, and nothing else is under way.
fn open(client: &NetNs, own: IpAddr) -> TcpStream {
    let mut stream = client.enter(|| TcpStream::connect(at(own, 5001))).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout can be set");
    stream.write_all(b"hello").expect("it is sent");
    let mut answer = [0; 9];
    stream.read_exact(&mut answer).expect("it comes back");
    assert_eq!(&answer, b"one\nhello");
    stream
}

fn objects(endpoint: SocketAddr) -> String {
    [
        gateway("db", None, ["tcp TCP 5001"]),
        service("one", &[endpoint]),
        tcp_route("one", &["db/tcp"], &["one"]),
    ]
    .concat()
}

#[test]
fn flows_log_and_metrics_say_what_was_sent_to_the_packet() {
    for (own, backend, near, header) in FAMILIES {
        let lab = Lab::new("figures");
        let server = echo::tcp(&lab.backend, at(backend, 8001), "one");
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("access.log");
        let args = [WORKERS, &["--access-log", log.to_str().expect("a path")]].concat();
        let agent = Agent::start(&lab.gateway, &objects(server.address), &args);
        assert_eq!(metrics(&agent), (0, [0; 4]));
        let (client_sent, backend_sent) = (Sent::new(&lab.client), Sent::new(&lab.backend));
        for size in SIZES {
            assert_eq!(client::tcp(&lab.client, at(own, 5001), size).expect("an echo"), "one");
        }
        // Two that stay open, and say nothing more once this has come back.
        let open = [0; 2].map(|_| open(&lab.client, own));
        let count = SIZES.len() as u64 + 2;
        let sent = || (client_sent.packets(), backend_sent.packets());
        let payload = SIZES.iter().sum::<usize>() as u64 + 2 * 5;
        // Packets are those that were sent, and bytes what they must have had.
        let agree = |[received, answered, received_bytes, answered_bytes]: [u64; 4]| {
            assert_eq!((received, answered), sent());
            let bytes = client_sent.bytes(received, header, count, payload);
            assert!(bytes.contains(&received_bytes), "{received_bytes} is not in {bytes:?}");
            let bytes = backend_sent.bytes(answered, header, count, payload + count * NAME);
            assert!(bytes.contains(&answered_bytes), "{answered_bytes} is not in {bytes:?}");
        };
        // An acknowledgement that waits for more (40 ms) may still be to come.
        agent.wait("packets to be counted", || {
            let before = sent();
            std::thread::sleep(Duration::from_millis(300));
            let (_, [received, answered, ..]) = metrics(&agent);
            (received, answered) == before && before == sent()
        });
        let (connections, carried) = metrics(&agent);
        assert_eq!(connections, count);
        agree(carried);
        assert!(carried[1] > payload / MTU, "large packets count for what they are made of");
        let labels = [
            "binding=\"*:5001/tcp\"",
            "listener=\"default/db/tcp\"",
            "route=\"default/one\"",
            "service=\"default/one:80\"",
            &format!("backend=\"{}\"", server.address),
        ];
        assert_eq!(agent.metric_with("sluice_forward_connections_total", &labels), count as f64);
        assert_eq!(agent.metric("sluice_tcp_connections_total"), 0.0, "nothing took the relay");
        assert_eq!(agent.metric("sluice_forward_fallbacks_total"), 0.0);

        let all = flows(&agent, &[]);
        let logged = log_lines(&log);
        assert_eq!((all.len() + logged.len()) as u64, count, "each lives or is over: {all:?} {logged:?}");
        let established = flows(&agent, &["--state", "established", "--client", &near.to_string()]);
        assert_eq!(established.len(), 2, "{all:?}");
        for (flow, stream) in open.iter().map(|stream| {
            let local = stream.local_addr().expect("an address").to_string();
            (established.iter().find(|flow| flow["client"] == local).expect("it is shown"), stream)
        }) {
            assert_eq!(flow["address"], stream.peer_addr().expect("an address").to_string());
            assert_eq!((&flow["protocol"], &flow["path"]), (&"TCP".into(), &"local".into()), "{flow}");
            assert_eq!(flow["backend"], server.address.to_string());
            assert_eq!(
                (&flow["listener"], &flow["route"]),
                (&"default/db/tcp".into(), &"default/one".into())
            );
        }
        let state = |state: &str| agent.metric_with("sluice_forward_flows", &[&format!("state=\"{state}\"")]);
        assert_eq!(state("established"), 2.0);
        assert_eq!(agent.metric_with("sluice_map_entries", &["map=\"FLOWS\""]), all.len() as f64);

        drop(open);
        // What has ended waits five seconds for what is late.
        agent.wait("every flow to be over", || flows(&agent, &[]).is_empty());
        agent.wait("every line", || log_lines(&log).len() as u64 == count);
        let (connections, carried) = metrics(&agent);
        assert_eq!(connections, count, "the same, now that they have ended");
        agree(carried);
        let logged = log_lines(&log);
        let fields = ["packets_in", "packets_out", "bytes_in", "bytes_out"];
        assert_eq!(fields.map(|field| sum(&logged, field)), carried);
        for line in &logged {
            assert_eq!((&line["kind"], &line["close"]), (&"forward".into(), &"closed".into()), "{line}");
            assert_eq!(
                (&line["listener"], &line["route"]),
                (&"default/db/tcp".into(), &"default/one".into())
            );
            assert_eq!(
                (&line["backend"], &line["endpoint"]),
                (&"default/one:80".into(), &server.address.to_string().into())
            );
            assert_eq!(line["at"], at(own, 5001).to_string());
        }
        assert_eq!(agent.metric_with("sluice_forward_notes_total", &["reason=\"event_lost\""]), 0.0);
        assert_eq!(agent.metric("sluice_forward_flows"), 0.0);
    }
}

#[test]
fn figures_and_names_outlive_the_agent_and_a_backend_that_goes() {
    let lab = Lab::new("figures-life");
    for (own, backend, ..) in FAMILIES {
        let (one, two) = (at(backend, 8001), at(backend, 8002));
        let listener = lab.backend.enter(|| TcpListener::bind(one)).expect("a listener");
        let _two = lab.backend.enter(|| TcpListener::bind(two)).expect("a listener");
        let mut agent = Agent::start(&lab.gateway, &objects(one), WORKERS);
        let near = lab.client.enter(|| TcpStream::connect(at(own, 5001))).expect("a connection");
        let (far, _) = listener.accept().expect("it arrives");
        let moved = |mut from: &TcpStream, mut to: &TcpStream| {
            from.write_all(b"x").expect("it is sent");
            to.read_exact(&mut [0]).expect("it arrives");
        };
        moved(&near, &far);
        agent.change(&objects(two));
        let labels = [format!("backend=\"{one}\""), "route=\"default/one\"".to_owned()];
        let labels: Vec<_> = labels.iter().map(String::as_str).collect();
        let packets = || agent.metric_with("sluice_forward_packets_total", &labels);
        let before = packets();
        assert!(before >= 5.0, "{before}");
        moved(&near, &far);
        agent.wait("what the removed backend's flow carries to be counted", || packets() > before);
        assert_eq!(flows(&agent, &["--backend", &one.to_string()])[0]["route"], "default/one");

        let before = packets();
        agent.kill();
        moved(&far, &near);
        agent.launch();
        agent.wait_ready();
        let flow = &flows(&agent, &["--backend", "default/one"])[0];
        assert_eq!(
            (&flow["listener"], &flow["service"]),
            (&"default/db/tcp".into(), &"default/one:80".into())
        );
        assert!(agent.metric_with("sluice_forward_packets_total", &labels) > before);
        assert_eq!(agent.metric_with("sluice_forward_connections_total", &labels), 1.0);
        assert!(agent.stop().success());
        drop((near, far));
        assert!(agent.sluice(&["uninstall"]).status.success());
    }
}

#[test]
fn what_opens_and_ends_is_followed() {
    let lab = Lab::new("figures-follow");
    let server = echo::tcp(&lab.backend, at(BACKEND4, 8001), "one");
    let agent = Agent::start(&lab.gateway, &objects(server.address), WORKERS);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("followed");
    let mut command = agent.command(&["flows", "--follow", "-o", "json", "--binding", "*:5001/tcp"]);
    command.stdout(std::fs::File::create(&path).expect("a file")).stderr(Stdio::inherit());
    let before = open(&lab.client, GATEWAY4);
    agent.wait("the flow", || flows(&agent, &[]).len() == 1);
    std::thread::sleep(Duration::from_millis(50));
    let mut follower = lab.gateway.spawn(&mut command);
    let of =
        |event: &str| log_lines(&path).into_iter().filter(|line| line["event"] == event).collect::<Vec<_>>();
    // Until it follows, what opens may be before its time.
    let mut streams = Vec::new();
    agent.wait("the follower", || {
        streams.push(open(&lab.client, GATEWAY4));
        std::thread::sleep(Duration::from_millis(300));
        !of("opened").is_empty()
    });
    assert_eq!(of("ended").len(), 0);
    drop(before);
    agent.wait("its end", || of("ended").len() == 1);
    let ended = of("ended").remove(0);
    assert_eq!((&ended["flow"]["close"], &ended["flow"]["route"]), (&"closed".into(), &"default/one".into()));
    let opened = of("opened");
    assert!(opened.iter().all(|line| line["flow"]["id"] != ended["flow"]["id"]), "it was open before");
    follower.kill().expect("a child can be killed");
    follower.wait().expect("a child can be waited for");
}

#[test]
fn datagrams_are_told_to_the_last_one() {
    for (own, backend, near, header) in FAMILIES {
        let lab = Lab::new("figures-udp");
        let endpoint = at(backend, 5353);
        let server = lab.backend.enter(|| UdpSocket::bind(endpoint)).expect("a socket");
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("access.log");
        let args =
            [WORKERS, &["--access-log", log.to_str().expect("a path"), "--udp-idle-timeout", "2s"]].concat();
        let yaml = [
            gateway("dns", None, ["udp UDP 53"]),
            udp_service("one", &[endpoint]),
            udp_route("one", &["dns/udp"], &["one"]),
        ]
        .concat();
        let agent = Agent::start(&lab.gateway, &yaml, &args);
        let clients: Vec<UdpSocket> =
            (0..10).map(|_| lab.client.enter(|| UdpSocket::bind(at(near, 0))).expect("a socket")).collect();
        for socket in clients.iter().chain([&server]) {
            socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout can be set");
        }
        // IP's header and UDP's; TCP's with timestamps is 24 bytes longer.
        let header = header - 24;
        let mut buffer = [0; 2048];
        let (mut want, rounds) = ([0u64; 4], 20u64);
        for round in 0..rounds {
            for (number, client) in (0u64..).zip(&clients) {
                let size = round * 60 + number;
                client.send_to(&buffer[..size as usize], at(own, 53)).expect("it is sent");
                let (got, from) = uninterrupted(|| server.recv_from(&mut buffer)).expect("it arrives");
                assert_eq!((got as u64, from), (size, client.local_addr().expect("an address")));
                // Every second one is answered twice.
                for _ in 0..=round % 2 {
                    server.send_to(&buffer[..got / 2], from).expect("it is sent");
                    let (got, by) = uninterrupted(|| client.recv_from(&mut buffer)).expect("it comes back");
                    assert_eq!((got as u64, by), (size / 2, at(own, 53)));
                    want = [want[0], want[1] + 1, want[2], want[3] + size / 2 + header];
                }
                want = [want[0] + 1, want[1], want[2] + size + header, want[3]];
            }
        }
        assert_eq!((want[0], want[1]), (200, 300));
        assert_eq!(metrics(&agent), (10, want));
        assert_eq!(agent.metric("sluice_udp_flows_total"), 0.0, "nothing took the relay");
        let shown = flows(&agent, &["--protocol", "udp", "--binding", "*:53/udp"]);
        assert_eq!(shown.len(), 10);
        let fields = ["packetsIn", "packetsOut", "bytesIn", "bytesOut"];
        assert_eq!(fields.map(|field| sum(&shown, field)), want);
        assert!(flows(&agent, &["--protocol", "tcp"]).is_empty());

        agent.wait("every line", || log_lines(&log).len() == 10);
        let logged = log_lines(&log);
        assert_eq!(["packets_in", "packets_out", "bytes_in", "bytes_out"].map(|f| sum(&logged, f)), want);
        for line in &logged {
            assert_eq!((&line["protocol"], &line["close"]), (&"udp".into(), &"idle".into()), "{line}");
            assert_eq!((&line["route"], &line["backend"]), (&"default/one".into(), &"default/one:80".into()));
        }
        assert_eq!(metrics(&agent), (10, want), "the same, now that they have ended");
        assert!(flows(&agent, &[]).is_empty());
    }
}
