//! Kubernetes objects as YAML, as far as tests need them again and again.

use std::{
    fmt::{Display, Write},
    net::{IpAddr, SocketAddr},
};

/// A Gateway. Listeners are `NAME PROTOCOL PORT`; without an address it takes every local one.
pub fn gateway(
    name: &str,
    address: Option<IpAddr>,
    listeners: impl IntoIterator<Item = impl Display>,
) -> String {
    let mut yaml = format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}\n\
         spec:\n  gatewayClassName: sluice\n"
    );
    if let Some(address) = address {
        line(&mut yaml, &format!("  addresses: [{{type: IPAddress, value: \"{address}\"}}]"));
    }
    line(&mut yaml, "  listeners:");
    for listener in listeners {
        let listener = listener.to_string();
        let [name, protocol, port] = listener.split(' ').collect::<Vec<_>>()[..] else {
            panic!("a listener is NAME PROTOCOL PORT, not {listener:?}");
        };
        line(&mut yaml, &format!("  - {{name: {name}, protocol: {protocol}, port: {port}}}"));
    }
    yaml
}

/// A Service on port 80 with its endpoints, which may be of both families.
pub fn service(name: &str, endpoints: &[SocketAddr]) -> String {
    service_of("TCP", name, endpoints)
}

/// The same of UDP.
pub fn udp_service(name: &str, endpoints: &[SocketAddr]) -> String {
    service_of("UDP", name, endpoints)
}

fn service_of(protocol: &str, name: &str, endpoints: &[SocketAddr]) -> String {
    let mut yaml = format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
         spec: {{ports: [{{name: main, port: 80, targetPort: 80, protocol: {protocol}}}]}}\n"
    );
    for (i, endpoint) in endpoints.iter().enumerate() {
        let family = if endpoint.is_ipv6() { "IPv6" } else { "IPv4" };
        line(
            &mut yaml,
            &format!(
                "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
                 metadata: {{name: {name}-{i}, labels: {{kubernetes.io/service-name: {name}}}}}\n\
                 addressType: {family}\nports: [{{name: main, port: {}, protocol: {protocol}}}]\n\
                 endpoints: [{{addresses: [\"{}\"]}}]",
                endpoint.port(),
                endpoint.ip()
            ),
        );
    }
    yaml
}

/// An HTTPRoute that is attached to `parents` (`GATEWAY` or `GATEWAY/LISTENER`). `rules` are flow or block YAML, one
/// string for each rule.
pub fn http_route(name: &str, parents: &[&str], hosts: &[&str], rules: &[String]) -> String {
    route("HTTPRoute", name, parents, hosts, rules)
}

/// A TCPRoute with one rule that has these backends, `SERVICE` or `SERVICE WEIGHT`.
pub fn tcp_route(name: &str, parents: &[&str], backends: &[&str]) -> String {
    route("TCPRoute", name, parents, &[], &[format!("{{{}}}", refs(backends))])
}

/// A UDPRoute, as [`tcp_route`].
pub fn udp_route(name: &str, parents: &[&str], backends: &[&str]) -> String {
    route("UDPRoute", name, parents, &[], &[format!("{{{}}}", refs(backends))])
}

/// A rule: requests whose path starts with `prefix` go to these backends, `SERVICE` or `SERVICE WEIGHT`.
pub fn prefix(prefix: &str, backends: &[&str]) -> String {
    format!("{{matches: [{{path: {{type: PathPrefix, value: {prefix}}}}}], {}}}", refs(backends))
}

fn refs(backends: &[&str]) -> String {
    let refs: Vec<_> = backends
        .iter()
        .map(|backend| {
            let (name, weight) = backend.split_once(' ').unwrap_or((backend, "1"));
            format!("{{name: {name}, port: 80, weight: {weight}}}")
        })
        .collect();
    format!("backendRefs: [{}]", refs.join(", "))
}

fn route(kind: &str, name: &str, parents: &[&str], hosts: &[&str], rules: &[String]) -> String {
    let parents: Vec<_> = parents
        .iter()
        .map(|parent| match parent.split_once('/') {
            Some((gateway, section)) => format!("{{name: {gateway}, sectionName: {section}}}"),
            None => format!("{{name: {parent}}}"),
        })
        .collect();
    let mut yaml = format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {name}}}\n\
         spec:\n  parentRefs: [{}]\n",
        parents.join(", ")
    );
    if !hosts.is_empty() {
        line(
            &mut yaml,
            &format!(
                "  hostnames: [{}]",
                hosts.iter().map(|h| format!("{h:?}")).collect::<Vec<_>>().join(", ")
            ),
        );
    }
    line(&mut yaml, "  rules:");
    for rule in rules {
        line(&mut yaml, &format!("  - {rule}"));
    }
    yaml
}

fn line(yaml: &mut String, text: &str) {
    writeln!(yaml, "{text}").expect("a string takes all");
}
