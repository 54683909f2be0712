//! How compilation and matching scale: medians over rounds of this thread's time on a CPU, so that a busy machine
//! does not count.
//!
//! Owns nothing but the measuring. `cargo bench -p gateway-user --bench scale`.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use gateway_ebpf::abi::{Affinity, BindingKey, TCP};
use gateway_user::core::compile::{Kept, compile, compile_after};
use gateway_user::core::host::Host;
use gateway_user::core::model::{
    AllowedRoutes, BackendRef, Endpoint, EndpointSlice, FromNamespaces, GATEWAY_GROUP, Gateway,
    GatewayAddress, GroupKind, HttpMatch, HttpRoute, HttpRule, Infrastructure, L4Route, L4Rule, Listener,
    Meta, Model, ObjectName, ParentRef, PathMatch, Protocol, Service, ServicePort,
};
use gateway_user::core::plan::{Have, plan};
use gateway_user::core::route::{HttpTable, RequestView};
use gateway_user::core::snapshot::{BoundService, Ids, Snapshot};
use gateway_user::core::transport::Transport;
use nix::time::{ClockId, clock_gettime};

/// The one that the agent has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 21;

fn main() {
    // `cargo test --benches` runs this too: one round shows that it works.
    let rounds = if std::env::args().any(|a| a == "--bench") { ROUNDS } else { 1 };
    let before = resident();
    let model = http_model(50, 5_000);
    let host = Host::default();
    println!("model of 5,000 HTTPRoutes, 50 Gateways: {:.1} MB", resident() - before);
    let before = resident();
    let (snapshot, kept) = compile_after(&Kept::default(), &model, &host, &Ids::default(), 1);
    let series: usize = snapshot.series.iter().map(|block| block.len()).sum();
    println!("its snapshot: {:.1} MB, {series} series", resident() - before);
    assert_eq!(snapshot.bindings.len(), 50);
    row("compile it", rounds, || black_box(compile(&model, &host, &Ids::default(), 1)));
    let mut changed = model.clone();
    if let Some(route) = changed.http_routes.values_mut().next().map(Arc::make_mut) {
        route.rules[0].matches[0].path = PathMatch::Exact("/changed".into());
    }
    row("compile it with one changed route", rounds, || {
        black_box(compile_after(&kept, &changed, &host, &snapshot.ids, 2))
    });

    let regexes = regex_model(1_000);
    let (first, kept) = compile_after(&Kept::default(), &regexes, &host, &Ids::default(), 1);
    row("compile 1,000 regular expressions", rounds, || {
        black_box(compile(&regexes, &host, &Ids::default(), 1))
    });
    let mut grown = regexes.clone();
    grown.gateways.values_mut().for_each(|gateway| gateway.meta.generation += 1);
    row("compile them again, all routes with them", rounds, || {
        black_box(compile_after(&kept, &grown, &host, &first.ids, 2))
    });

    let tcp = tcp_model(1_000);
    let snapshot = compile(&tcp, &host, &Ids::default(), 1);
    row("compile 1,000 TCPRoutes with 3 endpoints", rounds, || {
        black_box(compile(&tcp, &host, &snapshot.ids, 2))
    });
    let have = Have::default();
    row("plan them", rounds, || black_box(plan(&have, &snapshot.image)));

    let hosts = compile(&http_model(1, 10_000), &host, &Ids::default(), 1);
    matching("match, 10,000 hostnames", rounds, &hosts, |n| {
        (format!("h{n}.example.com"), "/api/v1/items".into())
    });
    let mut one_host = http_model(1, 10_000);
    for (n, route) in one_host.http_routes.values_mut().map(Arc::make_mut).enumerate() {
        route.hostnames.clear();
        route.rules[0].matches[0].path = PathMatch::Prefix(format!("/team{}/service{n}", n % 100).into());
        route.rules[1].matches[0].path = PathMatch::Exact(format!("/exact/{n}").into());
    }
    let paths = compile(&one_host, &host, &Ids::default(), 1);
    matching("match, 20,000 paths of one host", rounds, &paths, |n| {
        ("any.example.com".into(), format!("/team{}/service{n}/a/b/c", n % 100))
    });
    let hostile = "/".repeat(60_000);
    matching("match, a path of 60,000 slashes", rounds, &paths, |_| {
        ("any.example.com".into(), hostile.clone())
    });
}

/// Time that this thread has had on a CPU.
fn on_cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("every thread has this clock").into()
}

fn median(rounds: usize, mut round: impl FnMut() -> Duration) -> Duration {
    let mut times: Vec<Duration> = (0..rounds).map(|_| round()).collect();
    times.sort_unstable();
    times[rounds / 2]
}

fn row<T>(what: &str, rounds: usize, mut run: impl FnMut() -> T) {
    let time = median(rounds, || {
        let start = on_cpu();
        let result = run();
        let time = on_cpu().saturating_sub(start);
        drop(result);
        time
    });
    println!("{what}: {time:.2?} (median of {rounds})");
}

/// Times many different requests a round, so that caches see what they would see in a worker.
fn matching(what: &str, rounds: usize, snapshot: &Snapshot, request: impl Fn(usize) -> (String, String)) {
    const REQUESTS: usize = 10_000;
    let requests: Vec<_> = (0..REQUESTS).map(|n| request((n * 7_919) % REQUESTS)).collect();
    let table = table(snapshot);
    let headers = http::HeaderMap::new();
    let time = median(rounds, || {
        let start = on_cpu();
        for (host, path) in &requests {
            let view = RequestView { host, path, query: None, method: "GET", headers: &headers };
            black_box(table.find(black_box(&view)));
        }
        on_cpu().saturating_sub(start)
    });
    println!("{what}: {} ns each (median of {rounds})", time.as_nanos() / REQUESTS as u128);
}

fn table(snapshot: &Snapshot) -> Arc<HttpTable> {
    let key =
        BindingKey { address: gateway_ebpf::abi::mapped([10, 9, 0, 0]), port: 80, protocol: TCP, pad: 0 };
    match &snapshot.bindings[&key].service {
        BoundService::Http(table) => table.clone(),
        other => panic!("not HTTP: {other:?}"),
    }
}

/// Resident memory in megabytes.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: f64 = status.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0.0);
    pages * 4096.0 / 1e6
}

fn meta(name: &str) -> Meta {
    Meta { name: ObjectName::new("default", name), generation: 1, created: None }
}

fn gateway(n: usize, protocol: &Protocol, ports: impl Iterator<Item = u16>) -> Gateway {
    let listener = |port: u16| Listener {
        name: format!("l{port}").into(),
        hostname: None,
        port,
        protocol: protocol.clone(),
        certificates: Vec::new(),
        allowed: AllowedRoutes { namespaces: FromNamespaces::Same, kinds: Vec::new(), named: None },
        refusals: Vec::new(),
    };
    Gateway {
        meta: meta(&format!("gw{n}")),
        class: "sluice".into(),
        addresses: vec![GatewayAddress::Ip(IpAddr::V4(Ipv4Addr::new(10, 9, (n >> 8) as u8, n as u8)))],
        parameters: None,
        infrastructure: Infrastructure::default(),
        had: Vec::new(),
        listeners: ports.map(listener).collect(),
        refusals: Vec::new(),
    }
}

fn parent(gateway: usize, port: Option<u16>) -> ParentRef {
    ParentRef {
        kind: GroupKind { group: GATEWAY_GROUP.into(), kind: "Gateway".into() },
        namespace: None,
        name: format!("gw{gateway}").into(),
        section: None,
        port,
    }
}

fn backend(n: usize, weight: u32) -> BackendRef {
    BackendRef {
        kind: GroupKind { group: String::new(), kind: "Service".into() },
        namespace: None,
        name: format!("svc{n}").into(),
        port: Some(80),
        weight,
        headers: None,
        refusals: Vec::new(),
    }
}

fn services(model: &mut Model, count: usize, endpoints: u8) {
    for n in 0..count {
        let port = ServicePort { name: "".into(), port: 80, protocol: "TCP".into(), app_protocol: None };
        let service = Service {
            meta: meta(&format!("svc{n}")),
            external_name: None,
            affinity: Affinity::None,
            ports: vec![port],
        };
        let endpoint = |at: u8| Endpoint {
            address: IpAddr::V4(Ipv4Addr::new(10, at + 1, (n >> 8) as u8, n as u8)),
            ready: true,
            serving: true,
            terminating: false,
        };
        let slice = EndpointSlice {
            meta: service.meta.clone(),
            service: service.meta.name.name.clone(),
            endpoints: (0..endpoints).map(endpoint).collect(),
            ports: vec![("".into(), Some(8080), "TCP".into())],
        };
        model.slices.insert(slice.meta.name.clone(), slice);
        model.services.insert(service.meta.name.clone(), service);
    }
}

fn rule(path: PathMatch, backend: BackendRef) -> HttpRule {
    HttpRule {
        name: None,
        matches: vec![HttpMatch { path, method: None, headers: Vec::new(), query: Vec::new() }],
        backends: vec![backend],
        request_timeout: None,
        backend_timeout: None,
        redirect: None,
        headers: None,
        refusals: Vec::new(),
    }
}

/// Each route has a hostname of its own, two rules and a Service with two endpoints.
fn http_model(gateways: usize, routes: usize) -> Model {
    let mut model = Model::default();
    services(&mut model, routes, 2);
    for n in 0..gateways {
        let gateway = gateway(n, &Protocol::Http, 80..81);
        model.gateways.insert(gateway.meta.name.clone(), gateway);
    }
    for n in 0..routes {
        let route = HttpRoute {
            meta: meta(&format!("route{n}")),
            parents: vec![parent(n % gateways, None)],
            hostnames: vec![format!("h{n}.example.com").into()],
            rules: vec![
                rule(PathMatch::Prefix("/api".into()), backend(n, 1)),
                rule(PathMatch::Exact("/health".into()), backend(n, 1)),
            ],
            refusals: Vec::new(),
        };
        model.http_routes.insert(route.meta.name.clone(), route.into());
    }
    model
}

fn regex_model(routes: usize) -> Model {
    let mut model = http_model(1, routes);
    for (n, route) in model.http_routes.values_mut().map(Arc::make_mut).enumerate() {
        route.rules[0].matches[0].path = PathMatch::Regex(format!(r"/v[0-9]+/team{n}/\w+(/.*)?").into());
    }
    model
}

fn tcp_model(routes: usize) -> Model {
    let mut model = Model::default();
    services(&mut model, routes, 3);
    for n in 0..routes.div_ceil(50) {
        let gateway = gateway(n, &Protocol::Tcp, 9000..9050);
        model.gateways.insert(gateway.meta.name.clone(), gateway);
    }
    for n in 0..routes {
        let rule = L4Rule { name: None, backends: vec![backend(n, 1)], refusals: Vec::new() };
        let route = L4Route {
            transport: Transport::Tcp,
            meta: meta(&format!("tcp{n}")),
            parents: vec![parent(n / 50, Some(9000 + (n % 50) as u16))],
            rules: vec![rule],
            idle: None,
            refusals: Vec::new(),
        };
        model.l4_routes.insert((route.transport, route.meta.name.clone()), route);
    }
    model
}
