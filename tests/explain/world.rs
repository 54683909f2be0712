//! Random configurations: few hostnames, paths and conditions, so that much of it collides, and much that is not
//! attached, not built, without endpoints, or not there.

use std::fmt::Write;
use std::net::SocketAddr;

use fastrand::Rng;
use gateway_tests::lab::{BACKEND4, GATEWAY4};

use super::cases::pick;

/// A configuration.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) yaml: String,
}

/// Ports that may have HTTP listeners.
pub(crate) const HTTP_PORTS: &[u16] = &[80, 80, 80, 81];
/// Ports that may have TCP listeners.
pub(crate) const TCP_PORTS: &[u16] = &[90, 91];

pub(crate) fn http(number: u16) -> SocketAddr {
    SocketAddr::new(BACKEND4, 8000 + number)
}

pub(crate) fn tcp(number: u16) -> SocketAddr {
    SocketAddr::new(BACKEND4, 9000 + number)
}

const LISTENERS: &[(&str, &str)] =
    &[("any", ""), ("wild", "*.example.com"), ("one", "a.example.com"), ("deep", "*.a.example.com")];
const HOSTS: &[&str] =
    &["a.example.com", "*.example.com", "*.com", "b.example.com", "*.a.example.com", "a.org"];
const PATHS: &[(&str, &str)] = &[
    ("Exact", "/a"),
    ("Exact", "/a/b"),
    ("PathPrefix", "/"),
    ("PathPrefix", "/"),
    ("PathPrefix", "/a"),
    ("PathPrefix", "/a/"),
    ("PathPrefix", "/a/b"),
    ("RegularExpression", "/a.*"),
    ("RegularExpression", "/.*"),
    ("RegularExpression", "/(a|b)"),
];
/// Services: name, and the numbers of its endpoints.
const HTTP_SERVICES: &[(&str, &[u16])] =
    &[("s0", &[0]), ("s1", &[1, 2]), ("s2", &[3]), ("s3", &[4]), ("late", &[])];
const TCP_SERVICES: &[(&str, &[u16])] = &[("d0", &[0]), ("d1", &[1, 2]), ("d2", &[3]), ("dlate", &[])];

impl World {
    pub(crate) fn random(rng: &mut Rng) -> Self {
        let mut yaml = String::new();
        gateway(&mut yaml, rng, "gw", None);
        if rng.u8(..3) == 0 {
            gateway(&mut yaml, rng, "exact", Some(&GATEWAY4.to_string()));
        }
        for (name, endpoints) in HTTP_SERVICES {
            service(&mut yaml, name, "None", endpoints, http);
        }
        for (name, endpoints) in TCP_SERVICES {
            service(&mut yaml, name, pick(rng, &["None", "None", "ClientIP"]), endpoints, tcp);
        }
        for number in 0..rng.usize(3..10) {
            http_route(&mut yaml, rng, number);
        }
        for number in 0..rng.usize(1..5) {
            let section = pick(rng, &["t0", "t0", "t1"]);
            let backends = backends(rng, &["d0", "d1", "d2", "d0", "d1", "dlate", "nobody"], 1);
            meta(&mut yaml, rng, "TCPRoute", &format!("t{number}"));
            line(
                &mut yaml,
                &format!("  parentRefs: [{{name: gw, namespace: default, sectionName: {section}}}]"),
            );
            line(&mut yaml, &format!("  rules: [{{backendRefs: [{backends}]}}]"));
        }
        Self { yaml }
    }
}

fn line(yaml: &mut String, text: &str) {
    writeln!(yaml, "{text}").expect("a string takes all");
}

fn gateway(yaml: &mut String, rng: &mut Rng, name: &str, address: Option<&str>) {
    line(yaml, "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway");
    line(yaml, &format!("metadata: {{name: {name}}}\nspec:\n  gatewayClassName: sluice"));
    if let Some(address) = address {
        line(yaml, &format!("  addresses: [{{type: IPAddress, value: \"{address}\"}}]"));
    }
    line(yaml, "  listeners:");
    let mut any = false;
    for (listener, hostname) in LISTENERS {
        if rng.u8(..3) == 0 && (any || *listener != "deep") {
            continue;
        }
        any = true;
        let from = pick(rng, &["All", "Same"]);
        let hostname =
            if hostname.is_empty() { String::new() } else { format!(", hostname: \"{hostname}\"") };
        line(
            yaml,
            &format!(
                "  - {{name: {listener}, protocol: HTTP, port: 80{hostname}, allowedRoutes: {{namespaces: {{from: {from}}}}}}}"
            ),
        );
    }
    if address.is_none() {
        line(yaml, "  - {name: other, protocol: HTTP, port: 81}");
        line(yaml, "  - {name: t0, protocol: TCP, port: 90, allowedRoutes: {namespaces: {from: All}}}");
        line(yaml, "  - {name: t1, protocol: TCP, port: 91}");
    }
}

fn service(yaml: &mut String, name: &str, affinity: &str, endpoints: &[u16], at: fn(u16) -> SocketAddr) {
    line(yaml, &format!("---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}"));
    line(yaml, &format!("spec: {{ports: [{{name: main, port: 80}}], sessionAffinity: {affinity}}}"));
    for number in endpoints {
        let at = at(*number);
        line(yaml, "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice");
        line(
            yaml,
            &format!("metadata: {{name: {name}-{number}, labels: {{kubernetes.io/service-name: {name}}}}}"),
        );
        line(
            yaml,
            &format!(
                "addressType: IPv4\nports: [{{name: main, port: {}}}]\nendpoints: [{{addresses: [\"{}\"]}}]",
                at.port(),
                at.ip()
            ),
        );
    }
}

fn meta(yaml: &mut String, rng: &mut Rng, kind: &str, name: &str) {
    let namespace = pick(rng, &["default", "default", "default", "default", "alien"]);
    let created = match rng.u8(..4) {
        0 => String::new(),
        day => format!(", creationTimestamp: \"2026-01-0{day}T00:00:00Z\""),
    };
    line(yaml, &format!("---\napiVersion: gateway.networking.k8s.io/v1\nkind: {kind}"));
    line(yaml, &format!("metadata: {{name: {name}, namespace: {namespace}{created}}}\nspec:"));
}

fn backends(rng: &mut Rng, names: &[&str], least: usize) -> String {
    let refs: Vec<String> = (0..rng.usize(least..4).max(usize::from(rng.u8(..4) > 0)))
        .map(|_| {
            let weight = pick(rng, &[1, 1, 2, 5, 0]);
            format!("{{name: {}, namespace: default, port: 80, weight: {weight}}}", pick(rng, names))
        })
        .collect();
    refs.join(", ")
}

fn http_route(yaml: &mut String, rng: &mut Rng, number: usize) {
    meta(yaml, rng, "HTTPRoute", &format!("r{number}"));
    let more = pick(
        rng,
        &[
            "",
            "",
            "",
            ", sectionName: any",
            ", sectionName: wild",
            ", sectionName: one",
            ", port: 80",
            ", port: 81",
        ],
    );
    let gateway = pick(rng, &["gw", "gw", "gw", "gw", "gw", "gw", "exact", "exact", "nowhere"]);
    line(yaml, &format!("  parentRefs: [{{name: {gateway}, namespace: default{more}}}]"));
    let hosts: Vec<String> = HOSTS.iter().filter(|_| rng.u8(..5) == 0).map(|h| format!("{h:?}")).collect();
    if !hosts.is_empty() {
        line(yaml, &format!("  hostnames: [{}]", hosts.join(", ")));
    }
    line(yaml, "  rules:");
    for rule in 0..rng.usize(1..4) {
        let matches: Vec<String> = (0..rng.usize(1..3)).map(|_| one_match(rng)).collect();
        let name = if rng.u8(..3) == 0 { format!("name: n{rule}, ") } else { String::new() };
        let filters = filters(rng);
        let mut backends = backends(rng, &["s0", "s1", "s2", "s3", "late", "late", "nobody"], 0);
        if filters.contains("RequestRedirect") {
            backends.clear();
        }
        line(
            yaml,
            &format!("  - {{{name}{filters}matches: [{}], backendRefs: [{backends}]}}", matches.join(", ")),
        );
    }
}

fn filters(rng: &mut Rng) -> String {
    let filter = match rng.u8(..20) {
        0 => "{type: URLRewrite, urlRewrite: {hostname: a.example}}",
        1 => "{type: RequestRedirect, requestRedirect: {scheme: https, statusCode: 301}}",
        2 => {
            "{type: RequestRedirect, requestRedirect: {path: {type: ReplaceFullPath, replaceFullPath: /new}, port: 8443}}"
        }
        3 => {
            "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X, value: \"9\"}], remove: [y, te, forwarded]}}"
        }
        4 => {
            "{type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: x, value: \"9\"}], set: [{name: host, value: inside}, {name: x-forwarded-for, value: \"1\"}], remove: [Y]}}"
        }
        5 => {
            "{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-backend, value: nobody}]}}"
        }
        _ => return String::new(),
    };
    format!("filters: [{filter}], ")
}

fn one_match(rng: &mut Rng) -> String {
    let (kind, path) = pick(rng, PATHS);
    let mut parts = vec![format!("path: {{type: {kind}, value: \"{path}\"}}")];
    if rng.u8(..30) == 0 {
        parts[0] = "path: {type: RegularExpression, value: \"/(\"}".to_owned();
    }
    if rng.u8(..5) == 0 {
        parts.push(format!("method: {}", pick(rng, &["GET", "POST"])));
    }
    let value = |rng: &mut Rng, names: &[&str]| {
        let (kind, value) = pick(rng, &[("Exact", "1"), ("Exact", "2"), ("RegularExpression", "[12]")]);
        format!("[{{type: {kind}, name: {}, value: \"{value}\"}}]", pick(rng, names))
    };
    if rng.u8(..5) == 0 {
        parts.push(format!("headers: {}", value(rng, &["x", "y"])));
    }
    if rng.u8(..5) == 0 {
        parts.push(format!("queryParams: {}", value(rng, &["q", "p"])));
    }
    format!("{{{}}}", parts.join(", "))
}
