//! An agent on a real API server: what it may do, what it says, and what happens to traffic when the API server goes away.

#[path = "kube/agents.rs"]
mod agents;
#[path = "kube/handover.rs"]
mod handover;
#[path = "kube/history.rs"]
mod history;
#[path = "kube/look.rs"]
mod look;
#[path = "kube/namespaces.rs"]
mod namespaces;
#[path = "kube/page.rs"]
mod page;
#[path = "kube/policies.rs"]
mod policies;
#[path = "kube/rights.rs"]
mod rights;
#[path = "kube/traffic.rs"]
mod traffic;

use std::{
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use gateway_tests::{
    agent::Agent,
    cluster::{self, Cluster, Component, Config, GATEWAYS4},
    installed::{self, manifest},
    netns::NetNs,
};
use serde_json::{Value, json};

use self::traffic::Traffic;

/// What is served.
const GATEWAY: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: web, namespace: shop }
spec:
  gatewayClassName: sluice
  infrastructure: { labels: { team: shop }, annotations: { example.com/note: kept } }
  listeners: [{ name: http, protocol: HTTP, port: 80 }, { name: raw, protocol: TCP, port: 9000 }]
";

/// The API's own kinds, one that is not ours: nothing of it may be touched.
const FOREIGN: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: { name: other }
spec: { controllerName: example.com/other }
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: other, namespace: shop }
spec:
  gatewayClassName: other
  listeners: [{ name: http, protocol: HTTP, port: 80 }]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: other, namespace: shop }
spec:
  parentRefs: [{ name: other }]
  rules: [{ backendRefs: [{ name: echo, port: 80 }] }]
";

fn http_route(name: &str, path: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{ name: {name}, namespace: shop }}
spec:
  parentRefs: [{{ name: web, sectionName: http }}]
  rules: [{{ matches: [{{ path: {{ value: {path} }} }}], backendRefs: [{{ name: echo, port: 80 }}] }}]
"
    )
}

const TCP_ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: { name: raw, namespace: shop }
spec:
  parentRefs: [{ name: web, sectionName: raw }]
  rules: [{ backendRefs: [{ name: echo, port: 80 }] }]
";

/// A cluster with our manifests, a client on its LAN, and what is to be served.
struct Bed {
    cluster: Cluster,
    client: NetNs,
}

impl Bed {
    fn new(name: &str) -> Self {
        Self::with_pool(name, GATEWAYS4)
    }

    /// With these IPv4 addresses for Gateways.
    fn with_pool(name: &str, pool: &str) -> Self {
        let cluster = Cluster::start(name, &Config::default());
        installed::install(&cluster, pool);
        cluster.namespace("shop");
        cluster.apply(&cluster::echo("shop"));
        cluster.apply(GATEWAY);
        let client = cluster.site("client", 250);
        Self { cluster, client }
    }

    /// Starts an agent, and waits until it is ready.
    fn agent<'ns>(&self, ns: &'ns NetNs, node: &str) -> Agent<'ns> {
        installed::agent(&self.cluster, ns, node)
    }

    /// The status of an object in `shop`.
    fn status(&self, kind: &str, name: &str) -> Value {
        self.cluster.get(&[kind, name, "--namespace", "shop"])["status"].take()
    }

    /// Waits until the Gateway is programmed, and returns its address.
    fn address(&self) -> IpAddr {
        self.cluster.wait("the Gateway to be programmed", |_| {
            condition(&self.status("gateway", "web")["conditions"], "Programmed").as_deref() == Some("True")
        });
        let address = self.status("gateway", "web")["addresses"][0]["value"].take();
        address.as_str().expect("an address").parse().expect("an IP address")
    }

    /// What the client gets for a path.
    fn answer(&self, at: IpAddr, path: &str) -> Option<u16> {
        Self::asks(&self.client, at, path)
    }

    fn wait_for(&self, at: IpAddr, path: &str, status: u16) {
        let what = format!("{status} for {path}");
        self.cluster.wait(&what, |_| self.answer(at, path) == Some(status));
    }
}

/// The status of a condition.
fn condition(conditions: &Value, kind: &str) -> Option<String> {
    let found = conditions.as_array()?.iter().find(|condition| condition["type"] == kind)?;
    found["status"].as_str().map(str::to_owned)
}

#[test]
fn the_manifests_are_enough_for_an_agent_that_serves_and_touches_nothing_of_others() {
    let bed = Bed::new("manifests");
    bed.cluster.apply(FOREIGN);
    let foreign = || {
        let of = |what: &[&str]| bed.cluster.get(what).to_string();
        let shop = ["--namespace", "shop"];
        [
            of(&["gatewayclass", "other"]),
            of(&[&["gateway", "other"], &shop[..]].concat()),
            of(&[&["httproute", "other"], &shop[..]].concat()),
        ]
    };
    let before = foreign();
    let ns = bed.cluster.site("gateway", 2);
    let mut agent = bed.agent(&ns, "one");
    let address = bed.address();
    bed.cluster.apply(&http_route("all", "/"));
    bed.cluster.apply(TCP_ROUTE);
    bed.wait_for(address, "/", 200);
    bed.wait_accepted("httproute", "all");
    bed.wait_accepted("tcproute", "raw");

    let service = bed.cluster.get(&["service", "sluice-web", "--namespace", "shop"]);
    assert_eq!(service["spec"]["clusterIP"], "None");
    let labels = &service["metadata"]["labels"];
    assert_eq!(
        (&labels["team"], &labels["gateway.networking.k8s.io/gateway-name"]),
        (&json!("shop"), &json!("web"))
    );
    assert_eq!(service["metadata"]["annotations"]["example.com/note"], "kept");
    let slice = bed.cluster.get(&["endpointslice", "sluice-web-ipv4", "--namespace", "shop"]);
    assert_eq!(slice["endpoints"][0]["addresses"][0], address.to_string());

    let class = bed.cluster.get(&["gatewayclass", "sluice"])["status"].take();
    assert_eq!(condition(&class["conditions"], "SupportedVersion").as_deref(), Some("True"));
    assert_eq!(foreign(), before, "byte for byte");

    // A restart moves no address.
    agent.stop();
    agent.launch();
    agent.wait_ready();
    bed.wait_for(address, "/", 200);
    assert_eq!(bed.address(), address);
    // What is made for a Gateway goes with it.
    bed.cluster.kubectl(&["delete", "gateway", "web", "--namespace", "shop"]);
    bed.cluster.wait("the Service to go", |cluster| {
        cluster.try_kubectl(&["get", "service", "sluice-web", "--namespace", "shop"]).is_err()
    });
}

#[test]
fn an_api_server_that_goes_away_takes_nothing_and_what_changed_meanwhile_is_obeyed() {
    let mut bed = Bed::new("outage");
    let ns = bed.cluster.site("gateway", 2);
    let _agent = bed.agent(&ns, "one");
    let address = bed.address();
    bed.cluster.apply(&http_route("all", "/"));
    bed.wait_for(address, "/", 200);

    let requests = Traffic::start(&bed.client, address, "/");
    for _ in 0..2 {
        bed.cluster.kill(Component::ApiServer);
        thread::sleep(Duration::from_secs(3));
        bed.cluster.launch(Component::ApiServer);
        bed.cluster.wait_ready();
        thread::sleep(Duration::from_secs(1));
    }
    requests.none_failed();
    bed.cluster.apply(&http_route("more", "/more"));
    bed.wait_accepted("httproute", "more");
    // All are gone: an empty list is obeyed, too.
    bed.cluster.kubectl(&["delete", "httproute", "--all", "--namespace", "shop"]);
    bed.wait_for(address, "/", 404);
}

#[test]
fn an_agent_that_starts_while_the_api_server_is_away_serves_what_was_known() {
    let mut bed = Bed::new("restart");
    let ns = bed.cluster.site("gateway", 2);
    let mut agent = bed.agent(&ns, "one");
    let address = bed.address();
    bed.cluster.apply(&http_route("all", "/"));
    bed.cluster.apply(&http_route("more", "/more"));
    bed.wait_for(address, "/", 200);
    // It is remembered within a second.
    thread::sleep(Duration::from_secs(3));
    bed.cluster.kill(Component::ApiServer);
    agent.kill();
    let start = Instant::now();
    agent.launch();
    bed.wait_for(address, "/", 200);
    println!("served {:?} after the start", start.elapsed());
    assert!(agent.log().contains("what was known of the cluster serves"), "{}", agent.log());
    bed.cluster.launch(Component::ApiServer);
    bed.cluster.wait_ready();
    bed.cluster.kubectl(&["delete", "httproute", "all", "--namespace", "shop"]);
    bed.wait_for(address, "/", 404);
    bed.wait_for(address, "/more", 200);
    assert_eq!(bed.address(), address);
}

#[test]
fn a_crd_that_comes_late_is_served_and_one_that_goes_is_not() {
    let bed = Bed::new("late");
    bed.cluster.kubectl(&["delete", "crd", "tcproutes.gateway.networking.k8s.io"]);
    let ns = bed.cluster.site("gateway", 2);
    let _agent = bed.agent(&ns, "one");
    bed.address();
    let claims = |feature: &str| {
        let class = bed.cluster.get(&["gatewayclass", "sluice"]);
        let features = class["status"]["supportedFeatures"].as_array().cloned().unwrap_or_default();
        features.iter().any(|f| f["name"] == feature)
    };
    bed.cluster.wait("features", |_| claims("UDPRoute"));
    assert!(!claims("TCPRoute"), "its CRD is not installed");
    let crds = bed.cluster.programs().crds("experimental").join("gateway.networking.k8s.io_tcproutes.yaml");
    bed.cluster.kubectl(&["apply", "--server-side", "--filename", crds.to_str().expect("a path is text")]);
    bed.cluster.wait("TCPRoute to be claimed", |_| claims("TCPRoute"));
    bed.cluster.apply(TCP_ROUTE);
    bed.wait_accepted("tcproute", "raw");
    bed.cluster.kubectl(&["delete", "crd", "tcproutes.gateway.networking.k8s.io"]);
    bed.cluster.wait("TCPRoute not to be claimed", |_| !claims("TCPRoute"));
}

#[test]
fn another_agent_leads_when_the_leader_is_killed() {
    let bed = Bed::new("leader");
    let (one, two) = (bed.cluster.site("one", 2), bed.cluster.site("two", 3));
    let mut first = bed.agent(&one, "one");
    bed.address();
    assert!(bed.holder().starts_with("one-"), "{}", bed.holder());
    let mut second = bed.agent(&two, "two");
    first.kill();
    let start = Instant::now();
    bed.cluster.wait("the other to lead", |_| bed.holder().starts_with("two-"));
    assert!(start.elapsed() < Duration::from_secs(40), "{:?}", start.elapsed());
    bed.cluster.apply(&http_route("all", "/"));
    bed.wait_accepted("httproute", "all");
    // A leader that is stopped gives the Lease up at once.
    second.stop();
    assert_eq!(bed.holder(), "");
}

#[test]
fn a_missing_right_is_said_and_the_rest_works() {
    let bed = Bed::new("rights");
    let rights = manifest("rbac.yaml");
    let fewer = rights.replacen("  - tcproutes\n", "", 1);
    assert_ne!(rights, fewer);
    bed.cluster.apply(&fewer);
    let ns = bed.cluster.site("gateway", 2);
    let agent = bed.agent(&ns, "one");
    let address = bed.address();
    bed.cluster.apply(&http_route("all", "/"));
    bed.wait_for(address, "/", 200);
    let said = String::from_utf8_lossy(&agent.sluice(&["status"]).stdout).into_owned();
    assert!(said.contains("TCPRoute") && said.contains("tcproutes") && said.contains("forbidden"), "{said}");
    // It is given, and obeyed.
    bed.cluster.apply(&rights);
    bed.cluster.apply(TCP_ROUTE);
    bed.wait_accepted("tcproute", "raw");
}
