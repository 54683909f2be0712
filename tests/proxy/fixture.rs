//! A gateway of workers alone, backends of plain threads, and a client that reads HTTP without helping it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use gateway_tests::objects;
use gateway_user::core::compile::compile;
use gateway_user::core::host::Host;
use gateway_user::core::load::Loads;
use gateway_user::core::snapshot::{Ids, Snapshot};
use gateway_user::core::transport::Transport;
use gateway_user::proxy::{CloseReason, Config, Counters, Proxy, Running, Totals};
use gateway_user::source::FileSource;

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Both families.
pub(crate) const FAMILIES: [bool; 2] = [false, true];

/// Workers with a configuration.
pub(crate) struct Gateway {
    running: Option<Running>,
    pub(crate) counters: Counters,
    pub(crate) loads: Arc<Vec<[AtomicU64; 3]>>,
    at: [SocketAddr; 2],
    protocol: &'static str,
    /// Of HTTPS: hostname (empty: none) and Secrets of each listener, in both families.
    secured: Vec<(String, Vec<String>)>,
    ids: Ids,
    generation: u64,
}

impl Gateway {
    /// An HTTP gateway `gw` with these further objects.
    pub(crate) fn http(config: Config, yaml: &str) -> Self {
        Self::start(config, "HTTP", &[], yaml)
    }

    /// A TCP gateway `gw` with these further objects.
    pub(crate) fn tcp(config: Config, yaml: &str) -> Self {
        Self::start(config, "TCP", &[], yaml)
    }

    /// A UDP gateway `gw` with these further objects.
    pub(crate) fn udp(config: Config, yaml: &str) -> Self {
        Self::start(config, "UDP", &[], yaml)
    }

    /// An HTTPS gateway `gw` with these listeners, hostname (empty: none) and Secrets, and these further objects.
    pub(crate) fn https(config: Config, listeners: &[(&str, &[&str])], yaml: &str) -> Self {
        Self::start(config, "HTTPS", listeners, yaml)
    }

    /// Replaces the listeners, too.
    pub(crate) fn relisten(&mut self, listeners: &[(&str, &[&str])], yaml: &str) {
        self.secured = secured(listeners);
        self.publish(yaml);
    }

    /// Replaces the listeners by such of another protocol.
    pub(crate) fn respeak(&mut self, protocol: &'static str, yaml: &str) {
        self.protocol = protocol;
        self.publish(yaml);
    }

    fn start(config: Config, protocol: &'static str, listeners: &[(&str, &[&str])], yaml: &str) -> Self {
        let workers = config.workers;
        let proxy = Proxy::bind(config).unwrap();
        let transport = if protocol == "UDP" { Transport::Udp } else { Transport::Tcp };
        let at = FAMILIES.map(|v6| proxy.address(transport, v6).expect("tests need IPv6 on loopback"));
        let loads: Arc<Vec<_>> = Arc::new((0..workers).map(|_| [9, 0, 0].map(AtomicU64::new)).collect());
        let running = proxy.start(loads.clone()).unwrap();
        let counters = running.counters();
        let mut gateway = Self {
            running: Some(running),
            counters,
            loads,
            at,
            protocol,
            secured: secured(listeners),
            ids: Ids::default(),
            generation: 0,
        };
        gateway.publish(yaml);
        gateway
    }

    /// Replaces the configuration.
    pub(crate) fn publish(&mut self, yaml: &str) {
        let listeners = [("four", 0), ("six", 1)]
            .map(|(name, family)| format!("{name} {} {}", self.protocol, self.at[family].port()));
        let text = match self.protocol {
            "HTTPS" => self.with_tls(),
            _ => objects::gateway("gw", None, listeners),
        };
        let text = text + yaml;
        let file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
        std::fs::write(file.path(), text).unwrap();
        let loaded = FileSource::new(vec![file.path().to_owned()], Vec::new()).load();
        let model = loaded.unwrap_or_else(|errors| panic!("{errors:?}")).model;
        self.generation += 1;
        let snapshot = compile(&model, &Host::default(), &self.ids, self.generation);
        self.ids = snapshot.ids.clone();
        self.running.as_ref().unwrap().publish(&snapshot);
    }

    fn with_tls(&self) -> String {
        let mut yaml = objects::gateway("gw", None, [""; 0]);
        for (family, at) in ["four", "six"].iter().zip(self.at) {
            for (n, (hostname, secrets)) in self.secured.iter().enumerate() {
                let refs: Vec<_> = secrets.iter().map(|secret| format!("{{name: {secret}}}")).collect();
                let hostname =
                    if hostname.is_empty() { String::new() } else { format!("hostname: {hostname:?}, ") };
                yaml += &format!(
                    "  - {{name: {family}-{n}, protocol: HTTPS, port: {}, {hostname}tls: {{certificateRefs: [{}]}}}}\n",
                    at.port(),
                    refs.join(", ")
                );
            }
        }
        yaml
    }

    /// Withdraws everything, the listeners too.
    pub(crate) fn publish_nothing(&mut self) {
        self.running.as_ref().unwrap().publish(&Snapshot::default());
    }

    pub(crate) fn at(&self, v6: bool) -> SocketAddr {
        self.at[usize::from(v6)]
    }

    pub(crate) fn totals(&self) -> Totals {
        self.counters.read()
    }

    /// Connections that ended so.
    pub(crate) fn closed(&self, reason: CloseReason) -> u64 {
        self.totals().closed.iter().find(|(r, _)| *r == reason).unwrap().1
    }

    /// Waits for a condition on the counters.
    pub(crate) fn wait(&self, what: &str, condition: impl Fn(&Totals) -> bool) {
        let start = Instant::now();
        while !condition(&self.totals()) {
            assert!(start.elapsed() < PATIENCE, "waited in vain for {what}: {:#?}", self.totals());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Drains on a thread of its own.
    pub(crate) fn drain(&mut self, deadline: Duration) -> thread::JoinHandle<u64> {
        let running = self.running.take().unwrap();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(running.drain(deadline))
        })
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            drop(running);
            if !thread::panicking() {
                // Every connection ends in the counters, and the loads fall back to nothing.
                let open = |t: &Totals| t.open.iter().chain(&t.udp.open).sum::<u64>();
                self.wait("the workers to end", |t| open(t) == 0);
                assert!(
                    (0..self.loads.len()).all(|w| self.loads.worker(w).open.load(Ordering::Relaxed) == 0)
                );
            }
        }
    }
}

fn secured(listeners: &[(&str, &[&str])]) -> Vec<(String, Vec<String>)> {
    let own = |secrets: &[&str]| secrets.iter().map(|secret| (*secret).to_owned()).collect();
    listeners.iter().map(|(hostname, secrets)| ((*hostname).to_owned(), own(secrets))).collect()
}

/// Quick limits for tests.
pub(crate) fn config() -> Config {
    Config { workers: 2, ..Config::default() }
}

/// One worker: what is counted does not depend on who accepted.
pub(crate) fn single() -> Config {
    Config { workers: 1, ..Config::default() }
}

/// A backend that gives each connection, numbered from 0, to a closure on a thread of its own.
pub(crate) struct Backend {
    pub(crate) at: SocketAddr,
    connections: Arc<AtomicU64>,
    stop: Arc<AtomicU64>,
}

impl Backend {
    pub(crate) fn new(v6: bool, serve: impl Fn(u64, TcpStream) + Send + Sync + 'static) -> Self {
        let any: SocketAddr = match v6 {
            true => (Ipv6Addr::LOCALHOST, 0).into(),
            false => (Ipv4Addr::LOCALHOST, 0).into(),
        };
        let listener = TcpListener::bind(any).unwrap();
        let (connections, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let backend =
            Self { at: listener.local_addr().unwrap(), connections: connections.clone(), stop: stop.clone() };
        let serve = Arc::new(serve);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Relaxed) > 0 {
                    return;
                }
                let Ok(stream) = stream else { continue };
                stream.set_nodelay(true).unwrap();
                let number = connections.fetch_add(1, Ordering::Relaxed);
                let serve = serve.clone();
                thread::spawn(move || serve(number, stream));
            }
        });
        backend
    }

    /// An HTTP backend that keeps connections alive and answers with its name and the request it saw.
    pub(crate) fn echo(v6: bool, name: &'static str) -> Self {
        Self::new(v6, move |_, stream| {
            let mut peer = Peer::new(stream);
            while let Some(request) = peer.message(true) {
                let body = format!("{name}\n{}{}", request.head, String::from_utf8_lossy(&request.body));
                peer.send(&format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
            }
        })
    }

    /// A backend that reads a request and says this, again and again.
    pub(crate) fn says(v6: bool, answer: &'static str) -> Self {
        Self::new(v6, move |_, stream| {
            let mut peer = Peer::new(stream);
            while peer.message(true).is_some() {
                peer.send(answer);
            }
        })
    }

    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop.store(1, Ordering::Relaxed);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.at));
    }
}

/// An address that refuses connections.
pub(crate) fn refusing(v6: bool) -> SocketAddr {
    let any: SocketAddr = match v6 {
        true => (Ipv6Addr::LOCALHOST, 0).into(),
        false => (Ipv4Addr::LOCALHOST, 0).into(),
    };
    TcpListener::bind(any).unwrap().local_addr().unwrap()
}

/// A Service `web` with these endpoints, and a route of all paths to it.
pub(crate) fn web(endpoints: &[SocketAddr]) -> String {
    let rules = [objects::prefix("/", &["web"])];
    objects::service("web", endpoints) + &objects::http_route("all", &["gw"], &[], &rules)
}

/// A Service `web` with these endpoints, and a TCPRoute to it.
pub(crate) fn tcp(endpoints: &[SocketAddr]) -> String {
    objects::service("web", endpoints) + &objects::tcp_route("all", &["gw"], &["web"])
}

/// One end of a connection that speaks HTTP by hand.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    reader: BufReader<TcpStream>,
}

/// A message as it was read.
#[derive(Debug)]
pub(crate) struct Message {
    /// First line and fields.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// Trailer fields, each with its line end.
    pub(crate) trailers: String,
}

impl Message {
    pub(crate) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0)
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (field, value) = line.split_once(": ")?;
            field.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Peer {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        Self { stream, reader }
    }

    pub(crate) fn connect(at: SocketAddr) -> Self {
        let stream = TcpStream::connect(at).unwrap();
        stream.set_nodelay(true).unwrap();
        Self::new(stream)
    }

    /// Writes; a peer that has gone is the reader's to find out.
    pub(crate) fn send(&mut self, text: &str) {
        let _gone = self.stream.write_all(text.as_bytes());
    }

    fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line).ok().filter(|n| *n > 0)?;
        Some(String::from_utf8_lossy(&line).into_owned())
    }

    pub(crate) fn lines(&mut self) -> Option<String> {
        let mut all = String::new();
        loop {
            match self.line()? {
                end if end == "\r\n" => return Some(all),
                line => all += &line,
            }
        }
    }

    /// Reads a message; `None` at the end. `has_body`: whether it has one without a length.
    pub(crate) fn message(&mut self, is_request: bool) -> Option<Message> {
        let head = self.lines()?;
        let mut message = Message { head, body: Vec::new(), trailers: String::new() };
        if message.field("transfer-encoding").is_some() {
            loop {
                let size = self.line()?;
                let size = usize::from_str_radix(size.trim_end().split(';').next()?, 16).ok()?;
                if size == 0 {
                    message.trailers = self.lines()?;
                    break;
                }
                let mut chunk = vec![0; size + 2];
                self.reader.read_exact(&mut chunk).ok()?;
                message.body.extend_from_slice(&chunk[..size]);
            }
        } else if let Some(length) = message.field("content-length") {
            message.body = vec![0; length.parse().ok()?];
            self.reader.read_exact(&mut message.body).ok()?;
        } else if !is_request && ![204, 304].contains(&message.status()) {
            self.reader.read_to_end(&mut message.body).ok()?;
        }
        Some(message)
    }

    /// Sends a request and reads the answer.
    pub(crate) fn ask(&mut self, request: &str) -> Message {
        self.send(request);
        self.message(false).unwrap_or_else(|| panic!("no answer to {request:?}"))
    }

    pub(crate) fn get(&mut self, path: &str) -> Message {
        self.ask(&format!("GET {path} HTTP/1.1\r\nhost: a.example\r\n\r\n"))
    }

    /// Whether the other side closes without a further byte.
    pub(crate) fn is_closed(&mut self) -> bool {
        matches!(self.reader.read(&mut [0]), Ok(0))
    }

    /// Everything until the end; an error if the connection is reset.
    pub(crate) fn rest(&mut self) -> std::io::Result<Vec<u8>> {
        let mut all = Vec::new();
        self.reader.read_to_end(&mut all).map(|_| all)
    }
}

/// A request on a connection of its own.
pub(crate) fn get(at: SocketAddr, path: &str) -> Message {
    Peer::connect(at).get(path)
}

/// Resident memory of this process, in bytes.
pub(crate) fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}
