//! The input that these tests use.

use std::net::SocketAddr;

/// A Gateway on every local address with an HTTP listener on port 80 and a TCP one on port 9000, and their routes.
pub(crate) fn web(http: SocketAddr, tcp: SocketAddr, path: &str) -> String {
    [gateway(""), http_route(path), tcp_route(), service("app", 80, http), service("db", 5432, tcp)].concat()
}

/// The Gateway; `spec` is put into its spec as it stands.
pub(crate) fn gateway(spec: &str) -> String {
    format!(
        "---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: web}}
spec:
  gatewayClassName: sluice
  {spec}
  listeners:
  - {{name: http, protocol: HTTP, port: 80}}
  - {{name: tcp, protocol: TCP, port: 9000}}
"
    )
}

/// An HTTPRoute with one prefix to the Service `app`.
pub(crate) fn http_route(path: &str) -> String {
    format!(
        "---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: app}}
spec:
  parentRefs: [{{name: web, sectionName: http}}]
  rules:
  - matches: [{{path: {{type: PathPrefix, value: {path}}}}}]
    backendRefs: [{{name: app, port: 80}}]
"
    )
}

/// A TCPRoute to the Service `db`.
pub(crate) fn tcp_route() -> String {
    "---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: db}
spec:
  parentRefs: [{name: web, sectionName: tcp}]
  rules:
  - backendRefs: [{name: db, port: 5432}]
"
    .to_owned()
}

/// A Service and its one endpoint.
pub(crate) fn service(name: &str, port: u16, endpoint: SocketAddr) -> String {
    let family = if endpoint.is_ipv6() { "IPv6" } else { "IPv4" };
    let (ip, target) = (endpoint.ip(), endpoint.port());
    format!(
        "---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{ports: [{{port: {port}}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-1, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: {family}
ports: [{{port: {target}}}]
endpoints: [{{addresses: [\"{ip}\"]}}]
"
    )
}
