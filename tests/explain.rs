//! `sluice explain` against what really happens: random configurations in a running agent, random requests and
//! connections through the kernel and the workers, and for each the explanation that the agent gives.
//!
//! What happened is told by the access log (listener, route, rule, backend, endpoint, status) and by the peers, which
//! say their names. Run with `EXPLAIN_SEED=N` to see a failure again.

#[path = "explain/cases.rs"]
mod cases;
#[path = "explain/world.rs"]
mod world;

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fastrand::Rng;
use gateway_tests::agent::Agent;
use gateway_tests::lab::{CLIENT4, GATEWAY4, Lab};
use gateway_tests::netns::NetNs;
use gateway_tests::objects;
use gateway_tests::peers::echo;
use gateway_user::admin::view::{AnswerView, EndsView, ExplainView, HeaderView, QuestionView};
use serde_json::Value;

use cases::{Case, random_case};
use world::{HTTP_PORTS, TCP_PORTS, World};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);
const CONFIGURATIONS: usize = 50;
const REQUESTS: usize = 200;
const CONNECTIONS: usize = 30;

fn socket(agent: &Agent<'_>) -> PathBuf {
    let places = agent.places();
    let at = places.iter().position(|flag| flag == "--admin-socket").expect("the flag");
    PathBuf::from(&places[at + 1])
}

/// The admin socket, asked over one connection.
struct Admin(BufReader<UnixStream>);

impl Admin {
    fn explain(&mut self, question: &QuestionView) -> AnswerView {
        let body = serde_json::to_string(question).expect("a question is plain data");
        let length = body.len();
        let request =
            format!("POST /explain HTTP/1.1\r\nhost: agent\r\ncontent-length: {length}\r\n\r\n{body}");
        let (came, _) = exchange(&mut self.0, &request).expect("an answer");
        assert_eq!(came.status, 200, "{}", String::from_utf8_lossy(&came.body));
        let view: ExplainView = serde_json::from_slice(&came.body).expect("an explanation");
        let [answer] = <[AnswerView; 1]>::try_from(view.answers).expect("an address has one answer");
        assert_eq!(view.served, answer.served);
        answer
    }
}

/// A connection that requests go over as they are written.
struct Raw {
    to: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
}

/// What came back: status, Location and body.
struct Came {
    status: u16,
    location: Option<String>,
    body: Vec<u8>,
}

impl Raw {
    fn ask(&mut self, ns: &NetNs, header: &str) -> io::Result<Came> {
        let mut reader = match self.stream.take() {
            Some(reader) => reader,
            None => {
                let stream = ns.enter(|| TcpStream::connect(self.to))?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                BufReader::new(stream)
            }
        };
        let (came, close) = exchange(&mut reader, header)?;
        self.stream = (!close).then_some(reader);
        Ok(came)
    }
}

/// Sends a request and reads the answer, and whether it ends the connection.
fn exchange<S: Read + Write>(reader: &mut BufReader<S>, request: &str) -> io::Result<(Came, bool)> {
    reader.get_mut().write_all(request.as_bytes())?;
    let (mut status, mut location, mut length, mut close) = (0, None, 0, false);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let written = line.trim_end();
        let line = written.to_ascii_lowercase();
        if let Some(rest) = line.strip_prefix("http/1.1 ") {
            status = rest[..3].parse().map_err(io::Error::other)?;
        } else if let Some(rest) = line.strip_prefix("content-length: ") {
            length = rest.parse().map_err(io::Error::other)?;
        } else if line.starts_with("location: ") {
            location = Some(written["location: ".len()..].to_owned());
        } else if line == "connection: close" {
            close = true;
        } else if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok((Came { status, location, body }, close))
}

/// The lines of the access log for these requests, by the number that each bears as its user agent.
fn logged(agent: &Agent<'_>, path: &Path, count: usize) -> HashMap<String, Value> {
    let mut lines = HashMap::new();
    agent.wait("the access log", || {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        lines = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter_map(|line| Some((line["user_agent"].as_str()?.to_owned(), line)))
            .collect();
        lines.len() >= count
    });
    std::fs::write(path, "").expect("the access log can be emptied");
    lines
}

#[test]
fn explanations_agree_with_what_happens() {
    let seed =
        std::env::var("EXPLAIN_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    eprintln!("EXPLAIN_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let lab = Lab::new("explain");
    let web: Vec<_> = (0..5).map(|n| echo::http(&lab.backend, world::http(n), &format!("web{n}"))).collect();
    let db: Vec<_> = (0..4).map(|n| echo::tcp(&lab.backend, world::tcp(n), &format!("db{n}"))).collect();
    let names: BTreeMap<SocketAddr, String> =
        (web.iter().zip(0..).map(|(s, n)| (s.address, format!("web{n}"))))
            .chain(db.iter().zip(0..).map(|(s, n)| (s.address, format!("db{n}"))))
            .collect();
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("access.log");
    let log_flag = log.display().to_string();
    let first = World::random(&mut rng);
    let agent = Agent::start(
        &lab.gateway,
        &first.yaml,
        &["--workers", "2", "--access-log", &log_flag, "--forward", "off"],
    );
    let mut admin = Admin(BufReader::new(UnixStream::connect(socket(&agent)).expect("the admin socket")));
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let (mut tcp_served, mut by_address) = (0, 0);
    for round in 0..CONFIGURATIONS {
        let world = if round == 0 { first.clone() } else { World::random(&mut rng) };
        if round > 0 {
            agent.change(&world.yaml);
        }
        assert_eq!(agent.metric("sluice_config_errors_total"), 0.0, "{}\n{}", agent.log(), world.yaml);

        let mut open: BTreeMap<u16, Raw> = BTreeMap::new();
        let mut asked: Vec<(Case, AnswerView, Option<Came>)> = Vec::new();
        for number in 0..REQUESTS {
            let port = HTTP_PORTS[rng.usize(..HTTP_PORTS.len())];
            let mut case = random_case(&mut rng, port);
            case.headers.push(HeaderView { name: "user-agent".to_owned(), value: number.to_string() });
            let answer = admin.explain(&case.question(GATEWAY4, CLIENT4));
            let raw = open.entry(port).or_insert(Raw { to: SocketAddr::new(GATEWAY4, port), stream: None });
            let came = raw.ask(&lab.client, &case.written()).ok();
            asked.push((case, answer, came));
        }
        let lines = logged(&agent, &log, asked.iter().filter(|(.., came)| came.is_some()).count());
        for (number, (case, answer, came)) in asked.iter().enumerate() {
            let context = || format!("round {round}\n{}\n{}\n{answer:#?}", world.yaml, case.written());
            let line = lines.get(&number.to_string());
            *seen.entry(compare(answer, came.as_ref(), line, &names, &context)).or_default() += 1;
        }

        for _ in 0..CONNECTIONS {
            let to = SocketAddr::new(GATEWAY4, TCP_PORTS[rng.usize(..TCP_PORTS.len())]);
            let (from, name) = connect(&lab.client, to);
            // A port that refuses told nothing of where the client came from: one is taken for it.
            let from = from.unwrap_or(SocketAddr::new(CLIENT4, 40_000));
            let answer = admin.explain(&QuestionView::Tcp(EndsView { to, from }));
            let context = || format!("round {round}: {from} -> {to}\n{}\n{answer:#?}", world.yaml);
            match (name, answer.pick) {
                (Some(name), Some(pick)) => {
                    assert!(answer.served, "{}", context());
                    assert_eq!(names[&pick], name, "{}", context());
                    tcp_served += 1;
                    by_address += usize::from(answer.affinity.is_some());
                }
                (None, None) => assert!(!answer.served, "{}", context()),
                // Only the connections whose slot is refused are reset: of one that never was, the port is not known.
                (None, Some(_))
                    if from.port() == 40_000 && answer.backends.iter().any(|b| !b.message.is_empty()) => {}
                (name, _) => panic!("{name:?} answered: {}", context()),
            }
        }
    }
    eprintln!("{seen:?}, TCP connections served: {tcp_served}, of them by address: {by_address}");
    let total: usize = seen.values().sum();
    assert_eq!(total, CONFIGURATIONS * REQUESTS);
    // A test of one outcome alone would show little.
    for outcome in ["served", "redirected", "400", "404", "500", "503"] {
        assert!(seen.get(outcome).is_some_and(|n| *n > 20), "too few of {outcome}: {seen:?}");
    }
    assert!(tcp_served > 50 && by_address > 10, "{tcp_served} {by_address}");
}

/// Compares an explanation with what came; returns what that was.
fn compare(
    answer: &AnswerView,
    came: Option<&Came>,
    line: Option<&Value>,
    names: &BTreeMap<SocketAddr, String>,
    context: &dyn Fn() -> String,
) -> String {
    let Some(came) = came else {
        assert!(answer.binding.is_none() && !answer.served, "the connection was refused: {}", context());
        return "refused".to_owned();
    };
    let line = line.unwrap_or_else(|| panic!("no line in the access log: {}", context()));
    let place = answer.binding.as_ref().unwrap_or_else(|| panic!("no binding: {}", context()));
    let status = came.status;
    assert_eq!(line["status"], status, "{}", context());
    if status == 400 {
        assert_eq!((answer.status, answer.served), (Some(400), false), "{}", context());
        return "400".to_owned();
    }
    let listener = answer.listener.as_ref().map_or_else(|| place.listeners.join(","), |l| l.name.clone());
    assert_eq!(line["listener"], listener, "{}", context());
    let route = answer.route.as_ref().map(|route| format!("{}/{}", route.namespace, route.name));
    assert_eq!(line["route"].as_str(), route.as_deref(), "{}", context());
    assert_eq!(line["rule"].as_str(), answer.rule.as_deref(), "{}", context());
    let Some(backend) = line["backend"].as_str() else {
        assert_eq!(answer.status, Some(status), "{}", context());
        assert_eq!(answer.location, came.location, "{}", context());
        assert_eq!(answer.served, answer.location.is_some(), "{}", context());
        return if answer.served { "redirected".to_owned() } else { status.to_string() };
    };
    let mut pickable = answer.backends.iter().filter(|b| b.share > 0.0 && b.name == backend);
    let picked = pickable.find(|b| b.status.unwrap_or(200) == status);
    let picked = picked.unwrap_or_else(|| panic!("{backend} answered {status}: {}", context()));
    if status != 200 {
        assert!(
            !answer.served || answer.backends.iter().any(|b| b.share > 0.0 && b.status.is_none()),
            "{}",
            context()
        );
        if !answer.served {
            let all: Vec<_> =
                answer.backends.iter().filter(|b| b.share > 0.0).filter_map(|b| b.status).collect();
            assert!(all.contains(&answer.status.unwrap_or(0)), "{}", context());
        }
        return status.to_string();
    }
    assert!(answer.served && answer.status.is_none(), "{}", context());
    let endpoint = line["endpoint"].as_str().expect("an endpoint");
    assert!(picked.endpoints.iter().any(|e| e.address == endpoint), "{endpoint}: {}", context());
    let echo: echo::Echo = serde_json::from_slice(&came.body).expect("an echo");
    assert_eq!(names[&endpoint.parse().expect("an address")], echo.name, "{}", context());
    // The request as the backend got it.
    let mut fields: BTreeMap<String, String> = BTreeMap::new();
    for field in &answer.forwarded[1..] {
        let (name, value) = field.split_once(": ").expect("a field");
        let known = fields.entry(name.to_owned()).and_modify(|all| *all = format!("{all}, {value}"));
        known.or_insert_with(|| value.to_owned());
    }
    assert_eq!(fields, echo.headers, "{}", context());
    assert_eq!(answer.forwarded[0], format!("{} {} HTTP/1.1", echo.method, echo.path), "{}", context());
    "served".to_owned()
}

/// Connects and reads the name that a database says; the client's end, if there was a connection.
fn connect(ns: &NetNs, to: SocketAddr) -> (Option<SocketAddr>, Option<String>) {
    let Ok(stream) = ns.enter(|| TcpStream::connect(to)) else { return (None, None) };
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    let from = stream.local_addr().expect("a stream has an address");
    let mut name = String::new();
    let read = BufReader::new(stream).read_line(&mut name);
    (Some(from), read.ok().filter(|n| *n > 0).map(|_| name.trim_end().to_owned()))
}

/// What a worker found out about an endpoint is said: it leaves the one that refuses alone.
#[test]
fn endpoints_that_refuse_are_named_with_the_workers_that_leave_them_alone() {
    let lab = Lab::new("explain-health");
    let web = echo::http(&lab.backend, world::http(0), "web");
    let yaml = [
        objects::gateway("gw", None, ["http HTTP 80", "down HTTP 81"]),
        objects::service("web", &[web.address, world::http(1)]),
        objects::service("down", &[world::http(2)]),
        objects::http_route("web", &["gw/http"], &[], &[objects::prefix("/", &["web"])]),
        objects::http_route("down", &["gw/down"], &[], &[objects::prefix("/", &["down"])]),
    ]
    .concat();
    let agent = Agent::start(&lab.gateway, &yaml, &["--workers", "1"]);
    let mut admin = Admin(BufReader::new(UnixStream::connect(socket(&agent)).expect("the admin socket")));
    let mut ask = |port| {
        let headers = vec![HeaderView { name: "host".to_owned(), value: "a".to_owned() }];
        let case = Case { method: "GET".to_owned(), target: "/".to_owned(), headers, port };
        (admin.explain(&case.question(GATEWAY4, CLIENT4)), case.written())
    };
    for (port, served) in [(80, true), (81, false)] {
        let (before, request) = ask(port);
        assert!(before.served, "{before:#?}");
        let mut raw = Raw { to: SocketAddr::new(GATEWAY4, port), stream: None };
        for _ in 0..3 {
            let status = raw.ask(&lab.client, &request).expect("an answer").status;
            assert_eq!(status, if served { 200 } else { 503 });
        }
        let (after, _) = ask(port);
        assert_eq!(after.served, served, "{after:#?}");
        for endpoint in &after.backends[0].endpoints {
            let skipped: Vec<u32> = endpoint.skipped.iter().map(|skip| skip.worker).collect();
            assert_eq!(skipped.is_empty(), endpoint.address == web.address.to_string(), "{after:#?}");
        }
    }
}
