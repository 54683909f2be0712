//! Checked trees into the model's objects, kind by kind.
//!
//! Owns the meaning of each field. What a tree is checked for is taken as given: a part that is missing all the same
//! is left out. Must not know files, nor what the objects do to one another.

mod core;
mod filter;
mod parameters;
mod route;
mod secret;

use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) use self::core::SERVICE_NAME;
pub(super) use self::secret::CERTIFICATE;
use super::check::Findings;
use super::coverage::Level;
use super::kind::Kind;
use super::node::Node;
use super::object::Metadata;
use crate::core::model::{
    AllowedRoutes, BackendTlsPolicy, EndpointSlice, FromNamespaces, Gateway, GatewayClass, GroupKind,
    HttpRoute, L4Route, LabelSelector, Listener, Meta, Operator, Parameters, PolicyTarget, Protocol,
    ReferenceGrant, Refusal, Requirement, Service, UnbuiltObject, UnbuiltRoute,
};
use crate::core::tls::{CertificateRef, Secret};
use crate::core::transport::Transport;

/// What an object is, of the kinds that the model knows.
#[derive(Clone, Debug)]
pub(super) enum Body {
    Class(GatewayClass),
    Parameters(Parameters),
    Gateway(Gateway),
    Http(Arc<HttpRoute>),
    L4(L4Route),
    Unbuilt(UnbuiltRoute),
    ListenerSet(UnbuiltObject),
    BackendTls(BackendTlsPolicy),
    Grant(ReferenceGrant),
    Service(Service),
    Slice(EndpointSlice),
    Secret(Secret),
    /// A Namespace: its labels are all that counts.
    Namespace,
    /// A kind that nothing built refers to.
    Unused,
}

/// Translates an object; `None` if it says nothing, which a warning then explains.
pub(super) fn body(
    kind: Kind,
    root: &Node,
    Metadata { meta, labels, annotations }: &Metadata,
    findings: &mut Findings,
) -> Option<Body> {
    let (meta, annotations) = (meta.clone(), *annotations);
    let mut refusals = Refusals(std::mem::take(&mut findings.refusals));
    let body = match kind {
        Kind::GatewayClass => Body::Class(GatewayClass {
            meta,
            controller: root.str("spec.controllerName").unwrap_or_default().to_owned(),
            parameters: root.find("spec.parametersRef").map(parameters::reference),
            refusals: refusals.of(Level::Class, ""),
        }),
        Kind::Parameters => Body::Parameters(parameters::parameters(root, meta, &mut refusals, findings)),
        Kind::Gateway => Body::Gateway(gateway(root, meta, &mut refusals, findings)),
        Kind::HttpRoute => Body::Http(route::http(root, meta, &mut refusals, &mut findings.warnings).into()),
        Kind::TcpRoute => Body::L4(route::l4(Transport::Tcp, root, meta, annotations, &mut refusals)),
        Kind::UdpRoute => Body::L4(route::l4(Transport::Udp, root, meta, annotations, &mut refusals)),
        Kind::GrpcRoute | Kind::TlsRoute => {
            Body::Unbuilt(UnbuiltRoute { meta, parents: route::parents(root) })
        }
        Kind::ListenerSet => Body::ListenerSet(UnbuiltObject { meta }),
        Kind::BackendTlsPolicy => Body::BackendTls(BackendTlsPolicy {
            meta,
            targets: root.list("spec.targetRefs").iter().map(policy_target).collect(),
        }),
        Kind::ReferenceGrant => Body::Grant(grant(root, meta)),
        Kind::Service => Body::Service(core::service(root, meta)),
        Kind::EndpointSlice => Body::Slice(core::slice(root, meta, labels, findings)?),
        Kind::Namespace => Body::Namespace,
        Kind::Secret => Body::Secret(secret::secret(root, meta)),
        Kind::ConfigMap => Body::Unused,
    };
    debug_assert!(refusals.0.is_empty(), "a refusal that nothing carries: {refusals:?}");
    Some(body)
}

/// What is refused of an object, to be handed to the parts that carry it.
#[derive(Debug)]
struct Refusals(Vec<(Level, Refusal)>);

impl Refusals {
    /// Takes those of a level within a path.
    fn of(&mut self, level: Level, path: &str) -> Vec<Refusal> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let within = |refusal: &Refusal| {
            let rest = refusal.field.strip_prefix(path);
            rest.is_some_and(|rest| path.is_empty() || rest.is_empty() || rest.starts_with(['.', '[']))
        };
        self.0
            .extract_if(.., |(l, refusal)| *l == level && within(refusal))
            .map(|(_, refusal)| refusal)
            .collect()
    }
}

fn gateway(root: &Node, meta: Meta, refusals: &mut Refusals, findings: &mut Findings) -> Gateway {
    Gateway {
        meta,
        class: root.str("spec.gatewayClassName").unwrap_or_default().to_owned(),
        addresses: root.list("spec.addresses").iter().map(parameters::address).collect(),
        parameters: root.find("spec.infrastructure.parametersRef").map(parameters::reference),
        infrastructure: parameters::infrastructure(root),
        had: Vec::new(),
        listeners: (root.list("spec.listeners").iter().enumerate())
            .filter_map(|(i, node)| {
                let path = format!("spec.listeners[{i}]");
                if let Some(selector) = node.find("allowedRoutes.namespaces.selector") {
                    let path = format!("{path}.allowedRoutes.namespaces.selector");
                    findings.errors.extend(selector_problems(selector, &path));
                }
                listener(node, refusals.of(Level::Listener, &path))
            })
            .collect(),
        refusals: refusals.of(Level::Gateway, ""),
    }
}

fn listener(node: &Node, refusals: Vec<Refusal>) -> Option<Listener> {
    Some(Listener {
        name: node.str("name")?.into(),
        hostname: node.str("hostname").filter(|hostname| !hostname.is_empty()).map(Arc::from),
        port: port(node, "port")?,
        protocol: match node.str("protocol")? {
            "HTTP" => Protocol::Http,
            "HTTPS" => Protocol::Https,
            "TLS" => Protocol::Tls,
            "TCP" => Protocol::Tcp,
            "UDP" => Protocol::Udp,
            other => Protocol::Other(other.to_owned()),
        },
        certificates: node.list("tls.certificateRefs").iter().map(certificate_ref).collect(),
        allowed: AllowedRoutes {
            namespaces: match node.str("allowedRoutes.namespaces.from") {
                Some("All") => FromNamespaces::All,
                Some("None") => FromNamespaces::None,
                Some("Selector") => {
                    let written = node.find("allowedRoutes.namespaces.selector");
                    // "This field is ignored for other values"; without it there is nothing that could fit.
                    written
                        .map_or(FromNamespaces::None, |written| FromNamespaces::Selector(selector(written)))
                }
                _ => FromNamespaces::Same,
            },
            kinds: node.list("allowedRoutes.kinds").iter().map(group_kind).collect(),
            named: None,
        },
        refusals,
    })
}

fn certificate_ref(node: &Node) -> CertificateRef {
    CertificateRef {
        kind: group_kind(node),
        namespace: node.str("namespace").map(Arc::from),
        name: node.str("name").unwrap_or_default().into(),
    }
}

/// Group and kind, defaults filled in.
fn group_kind(node: &Node) -> GroupKind {
    let text = |field| node.str(field).unwrap_or_default().to_owned();
    GroupKind { group: text("group"), kind: text("kind") }
}

fn port(node: &Node, field: &str) -> Option<u16> {
    node.int(field).and_then(|port| u16::try_from(port).ok())
}

/// A map of text to text.
pub(super) fn labels(node: &Node) -> BTreeMap<String, String> {
    let text = |(key, value): &(super::node::Key, Node)| Some((key.name.clone(), value.as_str()?.to_owned()));
    node.entries().iter().filter_map(text).collect()
}

/// A label selector; of an unknown operator, which [`selector_problems`] refuses, nothing is made.
pub(super) fn selector(node: &Node) -> LabelSelector {
    LabelSelector {
        labels: node.get("matchLabels").map(labels).unwrap_or_default(),
        expressions: (node.list("matchExpressions").iter())
            .filter_map(|node| {
                Some(Requirement {
                    key: node.str("key")?.to_owned(),
                    operator: operator(node.str("operator")?)?,
                    values: node.list("values").iter().filter_map(Node::as_str).map(str::to_owned).collect(),
                })
            })
            .collect(),
    }
}

fn operator(name: &str) -> Option<Operator> {
    match name {
        "In" => Some(Operator::In),
        "NotIn" => Some(Operator::NotIn),
        "Exists" => Some(Operator::Exists),
        "DoesNotExist" => Some(Operator::DoesNotExist),
        _ => None,
    }
}

/// What Kubernetes demands of a label selector beyond the CRD's schema.
pub(super) fn selector_problems(selector: &Node, path: &str) -> Vec<super::Diagnostic> {
    let mut problems = Vec::new();
    for (i, node) in selector.list("matchExpressions").iter().enumerate() {
        let values = node.list("values").len();
        let problem = match node.str("operator").and_then(operator) {
            None => "the operator must be In, NotIn, Exists or DoesNotExist",
            Some(Operator::In | Operator::NotIn) if values == 0 => "the operator needs values",
            Some(Operator::Exists | Operator::DoesNotExist) if values > 0 => "the operator takes no values",
            Some(_) => continue,
        };
        problems.push(super::Diagnostic {
            line: node.at.line,
            column: node.at.column,
            field: format!("{path}.matchExpressions[{i}]"),
            value: node.shown(),
            message: problem.to_owned(),
            ..super::Diagnostic::default()
        });
    }
    problems
}

fn policy_target(node: &Node) -> PolicyTarget {
    PolicyTarget {
        kind: group_kind(node),
        name: node.str("name").unwrap_or_default().into(),
        section: node.str("sectionName").map(Arc::from),
    }
}

fn grant(root: &Node, meta: Meta) -> ReferenceGrant {
    let text = |node: &Node, field| node.str(field).map(Arc::from);
    ReferenceGrant {
        meta,
        from: (root.list("spec.from").iter())
            .map(|node| (group_kind(node), text(node, "namespace").unwrap_or_default()))
            .collect(),
        to: root.list("spec.to").iter().map(|node| (group_kind(node), text(node, "name"))).collect(),
    }
}
