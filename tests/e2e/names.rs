//! ExternalName: traffic goes where a name server says, and what happens when it says nothing or the wrong thing.

use std::{
    fmt::Write as _,
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use gateway_tests::{
    agent::Agent,
    client::{self, Http},
    lab::{BACKEND4, BACKEND6, GATEWAY4, GATEWAY6, Lab},
    objects::{gateway, service},
    peers::{echo, server::Server},
};
use serde_json::Value;

use super::dns::{Dns, Mood};
use super::{FAMILIES, at};

/// Further addresses of the backend's namespace.
const OTHER4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 2, 3));
const OTHER6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd09, 2, 0, 0, 0, 0, 0, 3));
const HTTP: u16 = 8001;
const TCP: u16 = 9001;

/// Services of type ExternalName, each with an HTTPRoute for the host of its own name and port 8001, and a TCPRoute
/// on a port of its own, from 5001 on, for port 9001. Services must be named `a`, `b`, … in order.
fn objects(names: &[(&str, &str)]) -> String {
    let listeners = names.iter().zip(5001..).map(|((service, _), port)| format!("{service} TCP {port}"));
    let mut yaml = gateway("out", None, std::iter::once("http HTTP 80".to_owned()).chain(listeners));
    for (service, name) in names {
        let text = format!(
            "---
apiVersion: v1
kind: Service
metadata: {{name: {service}}}
spec: {{type: ExternalName, externalName: {name}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {service}}}
spec:
  parentRefs: [{{name: out, sectionName: http}}]
  hostnames: [{service}.test]
  rules: [{{backendRefs: [{{name: {service}, port: {HTTP}}}]}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {{name: {service}}}
spec:
  parentRefs: [{{name: out, sectionName: {service}}}]
  rules: [{{backendRefs: [{{name: {service}, port: {TCP}}}]}}]
"
        );
        yaml.write_str(&text).expect("a string takes all");
    }
    yaml
}

/// The lab with peers on every address of the backend, HTTP and TCP, named by their address.
fn lab(name: &str) -> (Lab, Vec<Server>) {
    let lab = Lab::new(name);
    lab.backend.address("eth0", OTHER4, 24);
    lab.backend.address("eth0", OTHER6, 64);
    let peers = [BACKEND4, BACKEND6, OTHER4, OTHER6].into_iter().flat_map(|ip| {
        let name = ip.to_string();
        [echo::http(&lab.backend, at(ip, HTTP), &name), echo::tcp(&lab.backend, at(ip, TCP), &name)]
    });
    let peers = peers.collect();
    (lab, peers)
}

fn start<'l>(lab: &'l Lab, yaml: &str, server: SocketAddr, args: &[&str]) -> Agent<'l> {
    let server = server.to_string();
    Agent::start(&lab.gateway, yaml, &[&["--workers", "2", "--resolver", &server], args].concat())
}

/// The status, and who answered if it is 200.
fn http(lab: &Lab, ip: IpAddr, service: &str) -> (u16, String) {
    let host = format!("{service}.test");
    let answer = client::get(&lab.client, at(ip, 80), &host, "/").expect("an answer");
    if answer.status == 200 {
        assert_eq!(answer.echo().headers["host"], host, "the Host header is the client's");
    }
    (answer.status, answer.backend().to_owned())
}

/// Who answered, or that the connection was refused or reset.
fn tcp(lab: &Lab, ip: IpAddr, port: u16) -> String {
    match client::tcp(&lab.client, at(ip, port), 100) {
        Ok(name) => name,
        Err(e) if matches!(e.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset) => {
            "refused".to_owned()
        }
        Err(e) => panic!("{ip}:{port}: {e}"),
    }
}

/// What `status` says of a Service's name: addresses, problem, addresses that are left out.
fn said(agent: &Agent<'_>, service: &str) -> (Vec<String>, String, String) {
    let status = agent.ask("status");
    let names = status["externalNames"].as_array().expect("names").clone();
    let name = names.iter().find(|name| name["name"] == service).unwrap_or(&Value::Null);
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    (
        list(&name["addresses"]).iter().map(|ip| ip.as_str().expect("text").to_owned()).collect(),
        name["problem"].as_str().unwrap_or_default().to_owned(),
        list(&name["leftOut"]).iter().map(|left| format!("{} {}", left["address"], left["reason"])).collect(),
    )
}

/// `status` of a condition of a Service's HTTPRoute, with its reason.
fn resolved_refs(agent: &Agent<'_>, service: &str) -> String {
    let status = agent.ask("status");
    let routes = status["routes"].as_array().expect("routes").clone();
    let route = routes.iter().find(|r| r["kind"] == "HTTPRoute" && r["name"] == service).expect("a route");
    let conditions = route["parents"][0]["conditions"].as_array().expect("conditions").clone();
    let condition = conditions.iter().find(|c| c["type"] == "ResolvedRefs").expect("ResolvedRefs");
    let text = |key: &str| condition[key].as_str().expect("text").to_owned();
    format!("{} {} {}", text("status"), text("reason"), text("message"))
}

#[test]
fn a_name_is_reached_over_both_families_from_the_first_request_on() {
    let (lab, _peers) = lab("names");
    for server in [BACKEND4, BACKEND6] {
        let dns = Dns::start(&lab.backend, at(server, 53), 60);
        dns.set("four.example.org", &[BACKEND4]);
        dns.set("six.example.org", &[BACKEND6]);
        dns.set("both.example.org", &[BACKEND4, BACKEND6]);
        let yaml =
            objects(&[("a", "four.example.org"), ("b", "six.example.org"), ("c", "both.example.org.")]);
        let agent = start(&lab, &yaml, dns.address, &[]);
        for (ip, _) in FAMILIES {
            assert_eq!(http(&lab, ip, "a"), (200, BACKEND4.to_string()), "{ip}");
            assert_eq!(http(&lab, ip, "b"), (200, BACKEND6.to_string()), "{ip}");
            assert_eq!(tcp(&lab, ip, 5001), BACKEND4.to_string(), "{ip}");
            assert_eq!(tcp(&lab, ip, 5002), BACKEND6.to_string(), "{ip}");
            let mut seen: Vec<String> =
                (0..40).flat_map(|_| [http(&lab, ip, "c").1, tcp(&lab, ip, 5003)]).collect();
            seen.sort();
            seen.dedup();
            assert_eq!(seen, [BACKEND4.to_string(), BACKEND6.to_string()], "{ip}");
        }
        let both = (vec![BACKEND4.to_string(), BACKEND6.to_string()], String::new(), String::new());
        assert_eq!(said(&agent, "c"), both);
        let table = String::from_utf8(agent.sluice(&["status", "--admin-socket", &agent.places()[3]]).stdout)
            .expect("text");
        assert!(table.contains("both.example.org"), "{table}");
        // The TTL is honoured: three names, two questions each, asked once.
        assert_eq!(dns.asked(), 6, "{server}");
    }
}

#[test]
fn another_answer_moves_traffic_and_fails_no_request() {
    let (lab, _peers) = lab("moves");
    let dns = Dns::start(&lab.backend, at(BACKEND4, 53), 1);
    dns.set("a.example.org", &[BACKEND4, BACKEND6]);
    let agent = start(&lab, &objects(&[("a", "a.example.org")]), dns.address, &[]);
    for (addresses, ip) in
        [(vec![OTHER4], GATEWAY4), (vec![OTHER6], GATEWAY6), (vec![OTHER6, OTHER4, BACKEND4], GATEWAY4)]
    {
        let wanted: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        dns.set("a.example.org", &addresses);
        let begin = Instant::now();
        let mut connection = Http::connect(&lab.client, at(ip, 80)).expect("a connection");
        let mut requests = 0;
        let moved = loop {
            let answer = connection.get("a.test", "/").expect("an answer");
            assert_eq!(answer.status, 200);
            requests += 1;
            let all = said(&agent, "a").0.len() == wanted.len();
            if all && wanted.iter().any(|name| name == answer.backend()) {
                break begin.elapsed();
            }
            assert!(begin.elapsed() < Duration::from_secs(10), "{requests} requests: {}", agent.log());
        };
        println!("moved to {wanted:?} after {} ms and {requests} requests", moved.as_millis());
        for _ in 0..20 {
            assert!(wanted.contains(&http(&lab, ip, "a").1));
            assert!(wanted.contains(&tcp(&lab, ip, 5001)));
        }
    }
    // The same addresses in another order are no change.
    let applied = || agent.log().matches("configuration applied").count();
    let before = applied();
    dns.set("a.example.org", &[BACKEND4, OTHER6, OTHER4]);
    let asked = dns.asked();
    agent.wait("the name to be asked for again, twice", || dns.asked() >= asked + 4);
    assert_eq!(applied(), before, "{}", agent.log());
}

#[test]
fn a_name_that_does_not_exist_is_503_until_it_does() {
    let (lab, _peers) = lab("nxdomain");
    let dns = Dns::start(&lab.backend, at(BACKEND4, 53), 1);
    dns.set("b.example.org", &[BACKEND4]);
    dns.set("c.example.org", &[]);
    let yaml = objects(&[("a", "a.example.org"), ("b", "b.example.org"), ("c", "c.example.org")]);
    let agent = start(&lab, &yaml, dns.address, &[]);
    for (ip, _) in FAMILIES {
        assert_eq!(http(&lab, ip, "a").0, 503, "{ip}");
        assert_eq!(tcp(&lab, ip, 5001), "refused", "{ip}");
        assert_eq!(http(&lab, ip, "c").0, 503, "{ip}");
        assert_eq!(http(&lab, ip, "b"), (200, BACKEND4.to_string()), "{ip}");
    }
    assert!(said(&agent, "a").1.contains("NXDOMAIN"), "{:?}", said(&agent, "a"));
    assert!(said(&agent, "c").1.contains("neither A nor AAAA"), "{:?}", said(&agent, "c"));
    assert!(resolved_refs(&agent, "a").starts_with("True "), "{}", resolved_refs(&agent, "a"));
    assert!(agent.log().contains("externalName \"a.example.org\": there is no such name"), "{}", agent.log());
    // A name that goes is a name that was taken away: nothing is served to where it led.
    dns.set("a.example.org", &[BACKEND6]);
    dns.set("b.example.org", &[]);
    agent.wait("the names to be told apart", || {
        http(&lab, GATEWAY4, "a").0 == 200 && http(&lab, GATEWAY4, "b").0 == 503
    });
    assert_eq!(tcp(&lab, GATEWAY6, 5001), BACKEND6.to_string());
    assert_eq!(tcp(&lab, GATEWAY6, 5002), "refused");
}

#[test]
fn a_resolver_that_hangs_holds_up_nothing() {
    let (lab, peers) = lab("hangs");
    let dns = Dns::start(&lab.backend, at(BACKEND4, 53), 1);
    dns.set("a.example.org", &[BACKEND4]);
    dns.mood(Mood::Hangs);
    let plain = [
        service("plain", &[peers[0].address]),
        gateway_tests::objects::http_route(
            "plain",
            &["out/http"],
            &["plain.test"],
            &[gateway_tests::objects::prefix("/", &["plain"])],
        ),
    ]
    .concat();
    let yaml = objects(&[("a", "a.example.org")]) + &plain;
    let begin = Instant::now();
    let agent = start(&lab, &yaml, dns.address, &[]);
    let ready = begin.elapsed();
    println!("ready after {} ms with a resolver that hangs", ready.as_millis());
    assert!(ready > Duration::from_secs(2), "the first snapshot waits for names: {ready:?}");
    for (ip, _) in FAMILIES {
        assert_eq!(http(&lab, ip, "plain").0, 200, "{ip}");
        assert_eq!(http(&lab, ip, "a").0, 503, "{ip}");
        assert_eq!(tcp(&lab, ip, 5001), "refused", "{ip}");
    }
    agent.wait("the problem to be shown", || said(&agent, "a").1.contains("did not answer in time"));
    // Changes go on being taken, and what they bring that does not resolve holds them up for a moment at most.
    let begin = Instant::now();
    agent.change(&(objects(&[("a", "a.example.org"), ("b", "b.example.org")]) + &plain));
    println!("a change with a name that hangs took {} ms", begin.elapsed().as_millis());
    assert_eq!(http(&lab, GATEWAY4, "plain").0, 200);
    dns.mood(Mood::Answers);
    agent.wait("the name to be resolved", || http(&lab, GATEWAY6, "a").0 == 200);
}

#[test]
fn the_last_good_answer_outlives_the_name_server() {
    let (lab, _peers) = lab("outlives");
    let dns = Dns::start(&lab.backend, at(BACKEND4, 53), 1);
    dns.set("a.example.org", &[BACKEND4]);
    let server = dns.address;
    let agent = start(&lab, &objects(&[("a", "a.example.org")]), server, &[]);
    let serves_on = |problem: &str| {
        agent.wait("the failure to be shown", || {
            let (addresses, said, _) = said(&agent, "a");
            addresses == [BACKEND4.to_string()]
                && said.contains(&server.to_string())
                && said.contains(problem)
        });
        for (ip, _) in FAMILIES {
            assert_eq!(http(&lab, ip, "a"), (200, BACKEND4.to_string()), "{problem}: {ip}");
            assert_eq!(tcp(&lab, ip, 5001), BACKEND4.to_string(), "{problem}: {ip}");
        }
    };
    let over = || agent.wait("the failure to be over", || said(&agent, "a").1.is_empty());
    for (mood, problem) in
        [(Mood::Fails, "answered \"Server Failure\""), (Mood::Hangs, "did not answer in time")]
    {
        dns.mood(mood);
        serves_on(problem);
        dns.mood(Mood::Answers);
        over();
    }
    // Nobody listens any more.
    drop(dns);
    serves_on("did not answer in time");
    let dns = Dns::start(&lab.backend, server, 1);
    dns.set("a.example.org", &[OTHER6]);
    over();
    assert!(agent.log().contains("the last good answer goes on serving"), "{}", agent.log());
    assert_eq!(
        http(&lab, GATEWAY4, "a"),
        (200, OTHER6.to_string()),
        "the name server is back and says another"
    );
}

#[test]
fn a_name_may_not_lead_home_unless_that_is_allowed() {
    let (lab, _peers) = lab("guard");
    let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
    let _home: Vec<_> = loopback
        .iter()
        .flat_map(|ip| {
            let at = |port| SocketAddr::new(*ip, port);
            [echo::http(&lab.gateway, at(HTTP), "home"), echo::tcp(&lab.gateway, at(TCP), "home")]
        })
        .collect();
    let dns = Dns::start(&lab.backend, at(BACKEND4, 53), 1);
    dns.set("a.example.org", &loopback);
    dns.set("b.example.org", &[GATEWAY4, GATEWAY6, "169.254.169.254".parse().expect("an address")]);
    dns.set("c.example.org", &[loopback[0], BACKEND4]);
    let yaml = objects(&[("a", "a.example.org"), ("b", "b.example.org"), ("c", "c.example.org")]);
    let mut agent = start(&lab, &yaml, dns.address, &[]);
    for (ip, _) in FAMILIES {
        for (service, port) in [("a", 5001), ("b", 5002)] {
            assert_eq!(http(&lab, ip, service).0, 500, "{ip}: {service}");
            assert_eq!(tcp(&lab, ip, port), "refused", "{ip}: {service}");
        }
        for _ in 0..10 {
            assert_eq!(http(&lab, ip, "c"), (200, BACKEND4.to_string()), "{ip}");
            assert_eq!(tcp(&lab, ip, 5003), BACKEND4.to_string(), "{ip}");
        }
    }
    let condition = resolved_refs(&agent, "a");
    assert!(condition.starts_with("False RefNotPermitted "), "{condition}");
    assert!(condition.contains("--allow-external-name 127.0.0.1/32"), "{condition}");
    assert!(said(&agent, "b").2.contains("a cloud's metadata address"), "{:?}", said(&agent, "b"));
    assert!(agent.stop().success());
    drop(agent);
    let allowed = ["--allow-external-name", "127.0.0.0/8", "--allow-external-name", "::1"];
    let _agent = start(&lab, &yaml, dns.address, &allowed);
    for (ip, _) in FAMILIES {
        assert_eq!(http(&lab, ip, "a"), (200, "home".to_owned()), "{ip}");
        assert_eq!(tcp(&lab, ip, 5001), "home", "{ip}");
        assert_eq!(http(&lab, ip, "b").0, 500, "{ip}");
    }
}

#[test]
fn a_route_that_changes_to_a_name_fails_no_request() {
    let (lab, peers) = lab("change");
    let dns = Dns::start(&lab.backend, at(BACKEND4, 53), 60);
    dns.set("a.example.org", &[OTHER4]);
    // The Service `a` first has endpoints of its own, then it is a name.
    let text = objects(&[("a", "a.example.org")]);
    let by_name = "spec: {type: ExternalName, externalName: a.example.org}";
    assert!(text.contains(by_name));
    let slice = format!(
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: a, labels: {{kubernetes.io/service-name: a}}}}\naddressType: IPv4\nports: [{{port: {HTTP}}}]\nendpoints: [{{addresses: [\"{}\"]}}]\n",
        peers[0].address.ip()
    );
    let endpoints = text.replace(by_name, &format!("spec: {{ports: [{{port: {HTTP}}}]}}")) + &slice;
    let agent = start(&lab, &endpoints, dns.address, &[]);
    assert_eq!(http(&lab, GATEWAY4, "a"), (200, BACKEND4.to_string()));
    assert_eq!(dns.asked(), 0, "nobody refers to a name");
    let seen = thread::scope(|scope| {
        let requests = scope.spawn(|| {
            let mut connection = Http::connect(&lab.client, at(GATEWAY4, 80)).expect("a connection");
            let mut seen = Vec::new();
            while seen.last().is_none_or(|last| *last != OTHER4.to_string()) {
                let answer = connection.get("a.test", "/").expect("an answer");
                assert_eq!(answer.status, 200, "{seen:?}");
                seen.push(answer.backend().to_owned());
            }
            seen
        });
        thread::sleep(Duration::from_millis(100));
        agent.change(&text);
        requests.join().expect("requests")
    });
    println!("{} requests while the route changed", seen.len());
    // A connection that begins now goes there, too.
    let stream = lab.client.enter(|| TcpStream::connect(at(GATEWAY6, 80)));
    assert!(stream.is_ok());
    assert_eq!(http(&lab, GATEWAY6, "a"), (200, OTHER4.to_string()));
}
