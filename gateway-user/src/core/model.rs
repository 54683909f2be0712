//! The configuration as it is meant: validated objects, defaults filled in, references still by name.
//!
//! Owns the vocabulary that sources produce and `compile` consumes. Must not know how an object was written (YAML,
//! dialect, API server). What a source saw but nobody implements is carried along as a [`Refusal`], so that nothing
//! is ever ignored.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use gateway_ebpf::abi::Affinity;

use super::headers::HeaderFilters;
use super::redirect::Redirect;
use super::tls::{CertificateRef, Secret};
use super::transport::Transport;

mod parameters;
mod selector;
mod shared;

pub use self::parameters::{
    AddressMode, CONTROLLER, GatewayAddress, GatewayClass, Infrastructure, OWN_GROUP, PARAMETERS, Parameters,
    ParametersRef,
};
pub use self::selector::{LabelSelector, Operator, Requirement};
pub use self::shared::Shared;

/// Namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// Namespace; empty for a kind without one.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl ObjectName {
    /// A name in a namespace.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// What every object carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Namespace and name.
    pub name: ObjectName,
    /// Counts changes of the spec; goes into every condition's observedGeneration.
    pub generation: i64,
    /// creationTimestamp in nanoseconds since the epoch; `None` sorts after every time that was written.
    pub created: Option<i128>,
}

/// Something that an object asks for and Sluice does not do. What carries it never serves as if it were not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Path of the field within the object, `spec.rules[0].filters[1]`.
    pub field: String,
    /// What is refused and what to do, for a person.
    pub message: String,
}

/// Everything that a source holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    /// GatewayClasses. If there is none, Gateways of any class are ours (file mode).
    pub classes: Shared<Arc<str>, GatewayClass>,
    /// SluiceParameters.
    pub parameters: Shared<ObjectName, Parameters>,
    /// Gateways.
    pub gateways: Shared<ObjectName, Gateway>,
    /// HTTPRoutes, shared with the source that keeps them: there may be thousands.
    pub http_routes: Shared<ObjectName, Arc<HttpRoute>>,
    /// TCPRoutes and UDPRoutes.
    pub l4_routes: Shared<(Transport, ObjectName), L4Route>,
    /// Routes of kinds that are not built yet, by kind and name.
    pub unbuilt_routes: Shared<(&'static str, ObjectName), UnbuiltRoute>,
    /// ListenerSets: not built yet.
    pub listener_sets: Shared<ObjectName, UnbuiltObject>,
    /// BackendTLSPolicies: not built yet, so that what they target must not be reached without TLS.
    pub backend_tls: Shared<ObjectName, BackendTlsPolicy>,
    /// ReferenceGrants.
    pub grants: Shared<ObjectName, ReferenceGrant>,
    /// Services.
    pub services: Shared<ObjectName, Service>,
    /// Secrets.
    pub secrets: Shared<ObjectName, Secret>,
    /// EndpointSlices.
    pub slices: Shared<ObjectName, EndpointSlice>,
    /// Labels of namespaces that were written down. Others exist with `kubernetes.io/metadata.name` alone.
    pub namespaces: Shared<Arc<str>, BTreeMap<String, String>>,
}

/// Gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Metadata.
    pub meta: Meta,
    /// spec.gatewayClassName.
    pub class: String,
    /// spec.addresses.
    pub addresses: Vec<GatewayAddress>,
    /// spec.infrastructure.parametersRef.
    pub parameters: Option<ParametersRef>,
    /// What else spec.infrastructure says.
    pub infrastructure: Infrastructure,
    /// The addresses that its status names: what it has in a cluster. In files nothing.
    pub had: Vec<IpAddr>,
    /// spec.listeners.
    pub listeners: Vec<Listener>,
    /// What it asks for that is not built, for the whole Gateway.
    pub refusals: Vec<Refusal>,
}

/// A listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its name, unique in the Gateway.
    pub name: Arc<str>,
    /// Its hostname, lower case, `*.` in front for a wildcard; `None` for all.
    pub hostname: Option<Arc<str>>,
    /// Port, 1–65535.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// tls.certificateRefs.
    pub certificates: Vec<CertificateRef>,
    /// Which routes may attach.
    pub allowed: AllowedRoutes,
    /// What it asks for that is not built (tls.options and the like).
    pub refusals: Vec<Refusal>,
}

/// A listener's protocol.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// HTTP.
    Http,
    /// HTTPS.
    Https,
    /// TLS.
    Tls,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// A domain-prefixed one.
    Other(String),
}

impl Protocol {
    /// Whether HTTPRoutes may attach: HTTP in clear or in TLS.
    #[must_use]
    pub fn is_http(&self) -> bool {
        matches!(self, Self::Http | Self::Https)
    }
}

/// A listener's allowedRoutes, defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedRoutes {
    /// Namespaces.
    pub namespaces: FromNamespaces,
    /// Group and kind of routes; empty: whatever the protocol supports.
    pub kinds: Vec<GroupKind>,
    /// The old dialect's `routes` that names routes: only these, in whatever namespace (it stands beside
    /// `namespaces`, which is All then).
    pub named: Option<Vec<NamedRoute>>,
}

/// A route named by a listener in the old dialect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedRoute {
    /// Kind, `HTTPRoute`.
    pub kind: String,
    /// Name; `None`: every route of the kind.
    pub name: Option<String>,
    /// Namespace, if it was written.
    pub namespace: Option<String>,
}

/// Namespaces from which routes may attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromNamespaces {
    /// The Gateway's own.
    Same,
    /// All.
    All,
    /// None.
    None,
    /// Those whose labels fit.
    Selector(LabelSelector),
}

/// API group and kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKind {
    /// Group; empty for core.
    pub group: String,
    /// Kind.
    pub kind: String,
}

/// The group of the Gateway API.
pub const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";

/// A route's parentRef, defaults filled in but for the namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ParentRef {
    /// Group and kind.
    pub kind: GroupKind,
    /// Namespace as written; `None`: the route's.
    pub namespace: Option<Arc<str>>,
    /// Name.
    pub name: Arc<str>,
    /// sectionName.
    pub section: Option<Arc<str>>,
    /// port.
    pub port: Option<u16>,
}

/// HTTPRoute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRoute {
    /// Metadata.
    pub meta: Meta,
    /// spec.parentRefs.
    pub parents: Vec<ParentRef>,
    /// spec.hostnames, lower case; empty: whatever the listener has.
    pub hostnames: Vec<Arc<str>>,
    /// spec.rules, at least one (the CRD's default fills it in).
    pub rules: Vec<HttpRule>,
    /// What it asks for that is not built, for the whole route.
    pub refusals: Vec<Refusal>,
}

/// A rule of an HTTPRoute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRule {
    /// Its name.
    pub name: Option<Arc<str>>,
    /// Its matches, at least one (default: every path).
    pub matches: Vec<HttpMatch>,
    /// Its backendRefs.
    pub backends: Vec<BackendRef>,
    /// timeouts.request; zero means none.
    pub request_timeout: Option<Duration>,
    /// timeouts.backendRequest; zero means none.
    pub backend_timeout: Option<Duration>,
    /// Its filter RequestRedirect: then no backend gets what it matches.
    pub redirect: Option<Arc<Redirect>>,
    /// Its filters RequestHeaderModifier and ResponseHeaderModifier; `None`: it has neither.
    pub headers: Option<Arc<HeaderFilters>>,
    /// What it asks for that is not built (other filters, retry, …) or cannot be: 500 for whatever it matches.
    pub refusals: Vec<Refusal>,
}

/// One of a rule's matches: all of its parts must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpMatch {
    /// Path.
    pub path: PathMatch,
    /// Method, upper case as written.
    pub method: Option<Arc<str>>,
    /// Headers; names in lower case, the first of equal names kept.
    pub headers: Vec<ValueMatch>,
    /// Query parameters; the first of equal names kept.
    pub query: Vec<ValueMatch>,
}

/// How the path is matched.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PathMatch {
    /// Exactly this.
    Exact(Arc<str>),
    /// This, by elements: `/a` fits `/a`, `/a/` and `/a/b`, not `/ab`.
    Prefix(Arc<str>),
    /// A regular expression that must fit in full.
    Regex(Arc<str>),
}

/// A header or query parameter that must have a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueMatch {
    /// Name.
    pub name: Arc<str>,
    /// Value, or a regular expression that must fit in full.
    pub value: Arc<str>,
    /// Whether `value` is a regular expression.
    pub regex: bool,
}

/// A backendRef.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendRef {
    /// Group and kind.
    pub kind: GroupKind,
    /// Namespace as written; `None`: the route's.
    pub namespace: Option<Arc<str>>,
    /// Name.
    pub name: Arc<str>,
    /// Port of the Service.
    pub port: Option<u16>,
    /// Weight, 0–1,000,000.
    pub weight: u32,
    /// Its filters RequestHeaderModifier and ResponseHeaderModifier, of an HTTPRoute; `None`: it has neither.
    pub headers: Option<Arc<HeaderFilters>>,
    /// What it asks for that is not built (other filters) or cannot be.
    pub refusals: Vec<Refusal>,
}

/// TCPRoute or UDPRoute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct L4Route {
    /// Which of the two.
    pub transport: Transport,
    /// Metadata.
    pub meta: Meta,
    /// spec.parentRefs.
    pub parents: Vec<ParentRef>,
    /// spec.rules: exactly one in v1.
    pub rules: Vec<L4Rule>,
    /// Seconds that an established flow may go without a packet; `None`: as the agent is set.
    pub idle: Option<NonZeroU32>,
    /// What it asks for that is not built, for the whole route.
    pub refusals: Vec<Refusal>,
}

/// A rule of an [`L4Route`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct L4Rule {
    /// Its name.
    pub name: Option<Arc<str>>,
    /// Its backendRefs.
    pub backends: Vec<BackendRef>,
    /// What it asks for that is not built.
    pub refusals: Vec<Refusal>,
}

/// A route of a kind that is not built: GRPCRoute, TLSRoute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnbuiltRoute {
    /// Metadata.
    pub meta: Meta,
    /// spec.parentRefs: each gets Accepted=False.
    pub parents: Vec<ParentRef>,
}

/// An object of a kind that is not built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnbuiltObject {
    /// Metadata.
    pub meta: Meta,
}

/// BackendTLSPolicy, as far as it must be known not to be passed by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendTlsPolicy {
    /// Metadata.
    pub meta: Meta,
    /// Its targets, in its own namespace.
    pub targets: Vec<PolicyTarget>,
}

/// What a policy is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyTarget {
    /// Group and kind.
    pub kind: GroupKind,
    /// Name.
    pub name: Arc<str>,
    /// Name of a port; `None`: all of it.
    pub section: Option<Arc<str>>,
}

/// ReferenceGrant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceGrant {
    /// Metadata; its namespace is where it grants.
    pub meta: Meta,
    /// From which group, kind and namespace.
    pub from: Vec<(GroupKind, Arc<str>)>,
    /// To which group and kind; `None`: any name.
    pub to: Vec<(GroupKind, Option<Arc<str>>)>,
}

/// Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Metadata.
    pub meta: Meta,
    /// ExternalName's name, if it is of that type: in lower case and without a dot at its end.
    pub external_name: Option<Arc<str>>,
    /// spec.sessionAffinity.
    pub affinity: Affinity,
    /// Its ports.
    pub ports: Vec<ServicePort>,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name; empty if it has none. EndpointSlices name their ports so.
    pub name: Arc<str>,
    /// The port that a backendRef names.
    pub port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: Arc<str>,
    /// appProtocol, if written.
    pub app_protocol: Option<Arc<str>>,
}

/// EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Metadata.
    pub meta: Meta,
    /// The Service it belongs to, by label `kubernetes.io/service-name`, in its own namespace.
    pub service: Arc<str>,
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
    /// Its ports: name, number (`None`: no restriction, not usable), protocol.
    pub ports: Vec<(Arc<str>, Option<u16>, Arc<str>)>,
}

/// An endpoint of a slice. A missing `ready` counts as ready (discovery/v1), a missing `serving` as `ready`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address (the first one: discovery/v1 says that all are the same endpoint).
    pub address: IpAddr,
    /// conditions.ready.
    pub ready: bool,
    /// conditions.serving.
    pub serving: bool,
    /// conditions.terminating.
    pub terminating: bool,
}
