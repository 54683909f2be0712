//! The cluster that is measured: Gateways, HTTPRoutes and their backend, and who stands where.
//!
//! A route belongs to one Gateway, the next one's to the next, so that all Gateways have as many, and the first routes are
//! one of each.

use std::{
    net::{IpAddr, SocketAddr},
    ops::Range,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, ensure};
use gateway_tests::{
    client,
    cluster::{self, Cluster, Config, GATEWAYS4},
    installed,
    netns::NetNs,
};
use serde_json::{Value, json};

/// Each has an address of its own, out of a pool.
pub(super) const GATEWAYS: u32 = 50;
/// The name that clients ask for.
pub(super) const HOST: &str = "bench.example";

const NAMESPACE: &str = "bench";
const GROUP: &str = "/apis/gateway.networking.k8s.io/v1";
/// Connections by which routes are made.
const AT_ONCE: u32 = 8;

/// The cluster, and namespaces for agent and clients.
pub(super) struct Bed {
    pub(super) cluster: Cluster,
    pub(super) gateway: NetNs,
    pub(super) client: NetNs,
}

impl Bed {
    /// Everything but the routes and the agent.
    pub(super) fn new() -> Result<Self> {
        let config = Config { audited: vec![installed::USER.to_owned()], ..Config::default() };
        let cluster = Cluster::start("bench", &config);
        installed::install(&cluster, GATEWAYS4);
        cluster.namespace(NAMESPACE);
        cluster.apply(&cluster::echo(NAMESPACE));
        let mut api = cluster.api()?;
        for n in 0..GATEWAYS {
            api.create(&gateways(), &gateway(n))?;
        }
        let (gateway, client) = (cluster.site("gateway", 2), cluster.site("client", 250));
        Ok(Self { cluster, gateway, client })
    }

    /// Makes routes as fast as the API server takes them, and returns how long that took.
    pub(super) fn add(&self, routes: Range<u32>) -> Result<Duration> {
        let mut connections = (0..AT_ONCE).map(|_| Ok(self.cluster.api()?)).collect::<Result<Vec<_>>>()?;
        let begin = Instant::now();
        thread::scope(|scope| {
            let threads: Vec<_> = (0..AT_ONCE)
                .zip(&mut connections)
                .map(|(first, api)| {
                    let mine = routes.clone().skip(first as usize).step_by(AT_ONCE as usize);
                    scope.spawn(move || -> Result<()> {
                        for n in mine {
                            api.create(&routes_path(), &route(n))?;
                        }
                        Ok(())
                    })
                })
                .collect();
            threads.into_iter().try_for_each(|thread| {
                thread.join().map_err(|_| anyhow!("a thread that makes routes has panicked"))?
            })
        })?;
        Ok(begin.elapsed())
    }

    /// Where the Gateways serve, in order, once all of them are programmed.
    pub(super) fn addresses(&self, limit: Duration) -> Result<Vec<SocketAddr>> {
        let start = Instant::now();
        let mut api = self.cluster.api()?;
        loop {
            let list = api.get(&gateways())?;
            let found: Vec<_> = (0..GATEWAYS).filter_map(|n| address(&list, n)).collect();
            if found.len() == GATEWAYS as usize {
                return Ok(found);
            }
            ensure!(start.elapsed() < limit, "only {} of {GATEWAYS} Gateways are programmed", found.len());
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until the first route's backend answers.
    pub(super) fn wait_served(&self, at: SocketAddr, limit: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            match client::get(&self.client, at, HOST, &prefix(0)) {
                Ok(answer) if answer.status == 200 => return Ok(()),
                other => ensure!(start.elapsed() < limit, "the first route does not serve: {other:?}"),
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

fn gateways() -> String {
    format!("{GROUP}/namespaces/{NAMESPACE}/gateways")
}

/// Where the API has all routes.
pub(super) fn routes_path() -> String {
    format!("{GROUP}/namespaces/{NAMESPACE}/httproutes")
}

/// Where the API has a route.
pub(super) fn path(route: u32) -> String {
    format!("{}/{}", routes_path(), name(route))
}

/// What a route is called.
pub(super) fn name(route: u32) -> String {
    format!("route-{route}")
}

/// The path that a route serves, and all below it.
pub(super) fn prefix(route: u32) -> String {
    format!("/route-{route}")
}

fn gateway(n: u32) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": { "name": format!("gateway-{n}"), "namespace": NAMESPACE },
        "spec": {
            "gatewayClassName": "sluice",
            "listeners": [{ "name": "http", "protocol": "HTTP", "port": 80 }],
        },
    })
}

fn route(n: u32) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": { "name": name(n), "namespace": NAMESPACE },
        "spec": { "parentRefs": [{ "name": format!("gateway-{}", n % GATEWAYS) }], "rules": rules(n, None) },
    })
}

/// The rules of a route, which may serve one path more.
pub(super) fn rules(route: u32, more: Option<&str>) -> Value {
    let backends = json!([{ "name": "echo", "port": 80 }]);
    let matches = json!([
        { "path": { "type": "PathPrefix", "value": prefix(route) } },
        { "path": { "type": "Exact", "value": format!("/exact-{route}") }, "method": "GET" },
    ]);
    let mut rules = vec![json!({ "matches": matches, "backendRefs": backends })];
    rules.extend(more.map(|path| {
        json!({ "matches": [{ "path": { "type": "Exact", "value": path } }], "backendRefs": backends })
    }));
    rules.into()
}

/// The IPv4 address of a Gateway that is programmed.
fn address(list: &Value, n: u32) -> Option<SocketAddr> {
    let items = list["items"].as_array()?;
    let status = &items.iter().find(|item| item["metadata"]["name"] == format!("gateway-{n}"))?["status"];
    let programmed = |condition: &Value| condition["type"] == "Programmed" && condition["status"] == "True";
    status["conditions"].as_array()?.iter().find(|condition| programmed(condition))?;
    let addresses = status["addresses"].as_array()?.iter().filter_map(|a| a["value"].as_str()?.parse().ok());
    let address = addresses.into_iter().find(IpAddr::is_ipv4)?;
    Some(SocketAddr::new(address, 80))
}
