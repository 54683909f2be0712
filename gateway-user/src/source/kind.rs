//! The kinds that a file may hold.
//!
//! Owns their names, groups and schemas. Must not know what their fields mean.

use std::str::FromStr;
use std::sync::OnceLock;

use serde::Deserialize;

use super::coverage;
use super::schema::Schema;
use super::suggest;
use crate::core::model::{GATEWAY_GROUP, OWN_GROUP, ObjectName, PARAMETERS};

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    GatewayClass,
    Gateway,
    HttpRoute,
    GrpcRoute,
    TlsRoute,
    TcpRoute,
    UdpRoute,
    ReferenceGrant,
    BackendTlsPolicy,
    ListenerSet,
    Parameters,
    Service,
    Secret,
    ConfigMap,
    Namespace,
    EndpointSlice,
}

/// A kind's schema file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default, rename = "generated")]
    _generated: String,
    #[serde(rename = "kind")]
    _kind: String,
    /// Whether objects of the kind live in a namespace.
    pub(super) namespaced: bool,
    /// Versions of the API besides v1 that its CRD knows.
    #[serde(default)]
    #[cfg_attr(not(test), expect(dead_code, reason = "a test holds the dialects against it"))]
    pub(super) old: Vec<String>,
    /// What stands beside apiVersion, kind, metadata and status.
    pub(super) root: Schema,
}

const EMBEDDED: &str = "the committed schemas are read by a test";

macro_rules! kinds {
    ($($kind:ident $name:tt $group:ident $file:literal;)*) => {
        impl Kind {
            /// Every kind.
            pub(super) const ALL: &[Self] = &[$(Self::$kind),*];

            /// Its name, as in `kind:`.
            pub(super) fn name(self) -> &'static str {
                match self { $(Self::$kind => $name),* }
            }

            /// Its API group; empty for core.
            pub(super) fn group(self) -> &'static str {
                match self { $(Self::$kind => $group),* }
            }

            fn text(self) -> &'static str {
                match self { $(Self::$kind => include_str!(concat!("schema/", $file, ".json"))),* }
            }
        }
    };
}

const CORE: &str = "";
const DISCOVERY: &str = "discovery.k8s.io";

kinds! {
    GatewayClass "GatewayClass" GATEWAY_GROUP "gatewayclass";
    Gateway "Gateway" GATEWAY_GROUP "gateway";
    HttpRoute "HTTPRoute" GATEWAY_GROUP "httproute";
    GrpcRoute "GRPCRoute" GATEWAY_GROUP "grpcroute";
    TlsRoute "TLSRoute" GATEWAY_GROUP "tlsroute";
    TcpRoute "TCPRoute" GATEWAY_GROUP "tcproute";
    UdpRoute "UDPRoute" GATEWAY_GROUP "udproute";
    ReferenceGrant "ReferenceGrant" GATEWAY_GROUP "referencegrant";
    BackendTlsPolicy "BackendTLSPolicy" GATEWAY_GROUP "backendtlspolicy";
    ListenerSet "ListenerSet" GATEWAY_GROUP "listenerset";
    Parameters PARAMETERS OWN_GROUP "sluiceparameters";
    Service "Service" CORE "core/service";
    Secret "Secret" CORE "core/secret";
    ConfigMap "ConfigMap" CORE "core/configmap";
    Namespace "Namespace" CORE "core/namespace";
    EndpointSlice "EndpointSlice" DISCOVERY "core/endpointslice";
}

/// A kind as a person names it on the command line: `httproute`, `HTTPRoutes`, `gtw`, `svc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectKind(pub(super) Kind);

/// What is no kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no kind `{name}`; {remedy}")]
pub struct ObjectKindError {
    name: String,
    remedy: String,
}

/// The short names of kubectl.
const SHORT: [(&str, Kind); 11] = [
    ("gc", Kind::GatewayClass),
    ("gtw", Kind::Gateway),
    ("gw", Kind::Gateway),
    ("refgrant", Kind::ReferenceGrant),
    ("btlspolicy", Kind::BackendTlsPolicy),
    ("lset", Kind::ListenerSet),
    ("sluiceparams", Kind::Parameters),
    ("svc", Kind::Service),
    ("cm", Kind::ConfigMap),
    ("ns", Kind::Namespace),
    ("eps", Kind::EndpointSlice),
];

impl ObjectKind {
    /// Its name, `HTTPRoute`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// Whether its objects live in a namespace.
    #[must_use]
    pub fn namespaced(self) -> bool {
        self.0.file().namespaced
    }

    /// An object of the kind; the namespace does not matter to a kind without one.
    pub(super) fn key(self, namespace: Option<&str>, name: &str) -> (Kind, ObjectName) {
        let namespace =
            if self.namespaced() { namespace.unwrap_or(super::object::DEFAULT_NAMESPACE) } else { "" };
        (self.0, ObjectName::new(namespace, name))
    }
}

impl FromStr for ObjectKind {
    type Err = ObjectKindError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // `httproutes.gateway.networking.k8s.io`, too.
        let name = text.split('.').next().unwrap_or_default().to_lowercase();
        let plural = |kind: &Kind| match kind.name().to_lowercase() {
            kind if kind.ends_with("cy") => format!("{}ies", kind.trim_end_matches('y')),
            kind if kind.ends_with('s') => format!("{kind}es"),
            kind => format!("{kind}s"),
        };
        let long = Kind::ALL.iter().find(|kind| kind.name().to_lowercase() == name || plural(kind) == name);
        let short = SHORT.iter().find(|(short, _)| name == *short);
        long.copied().or(short.map(|(_, kind)| *kind)).map(Self).ok_or_else(|| {
            let names: Vec<_> = Kind::ALL.iter().map(|kind| kind.name().to_lowercase()).collect();
            let remedy = suggest::field(&name, names.iter().map(String::as_str));
            ObjectKindError { name: text.to_owned(), remedy }
        })
    }
}

impl Kind {
    /// The kind of that name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// Today's apiVersion.
    pub(super) fn api_version(self) -> String {
        if self.group().is_empty() { "v1".to_owned() } else { format!("{}/v1", self.group()) }
    }

    /// Whether a gateway writes the status of its objects.
    pub(super) fn has_status(self) -> bool {
        self.group() == GATEWAY_GROUP && self != Self::ReferenceGrant
    }

    /// Whether it is defined by a CRD, and not Kubernetes' own.
    pub(super) fn custom(self) -> bool {
        [GATEWAY_GROUP, OWN_GROUP].contains(&self.group())
    }

    /// Its schema, with what is implemented of it.
    pub(super) fn file(self) -> &'static File {
        static FILES: [OnceLock<File>; Kind::ALL.len()] = [const { OnceLock::new() }; Kind::ALL.len()];
        FILES[self as usize].get_or_init(|| {
            let mut file: File = serde_json::from_str(self.text()).expect(EMBEDDED);
            coverage::mark(self, &mut file.root);
            file
        })
    }

    /// The schema of metadata, the same for all kinds.
    pub(super) fn metadata() -> &'static Schema {
        static METADATA: OnceLock<Schema> = OnceLock::new();
        METADATA
            .get_or_init(|| serde_json::from_str(include_str!("schema/core/metadata.json")).expect(EMBEDDED))
    }
}
