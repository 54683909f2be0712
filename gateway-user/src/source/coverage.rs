//! What becomes of each field of each kind: the one place that says what is implemented.
//!
//! Owns the table. A field that is not implemented is refused where it is written, never passed over; a test holds
//! the table against every field of the schemas. Must not know how a tree is walked.

use super::kind::Kind;
use super::schema::Schema;

/// What becomes of a field and all that is in it, unless a longer path says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cover {
    /// It works.
    Works,
    /// The whole kind is not built, and its objects' status says so.
    Unbuilt,
    /// It is checked, and is nothing for a gateway to act upon.
    Aside,
    /// It has no effect here, which a warning explains.
    Noted(&'static str),
    /// It is refused unless it has its default or the value `unless`.
    Refused {
        /// What does not serve because of it.
        level: Level,
        /// The value that asks for nothing.
        unless: &'static str,
        /// What is refused.
        message: &'static str,
    },
}

/// What a refused field takes out of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Class,
    /// Whoever refers to these parameters.
    Parameters,
    Gateway,
    Listener,
    Route,
    Rule,
    Backend,
}

type Row = (&'static [Kind], &'static str, Cover);

const fn refused(level: Level, message: &'static str) -> Cover {
    Cover::Refused { level, unless: "", message }
}

const ROUTES: &[Kind] = &[Kind::HttpRoute, Kind::GrpcRoute, Kind::TlsRoute, Kind::TcpRoute, Kind::UdpRoute];
/// Those of which rules and backendRefs work.
const BUILT: &[Kind] = &[Kind::HttpRoute, Kind::TcpRoute, Kind::UdpRoute];
const UNBUILT: &[Kind] = &[Kind::GrpcRoute, Kind::TlsRoute, Kind::BackendTlsPolicy, Kind::ListenerSet];
const REWRITE: &str = "rewrites are not built; remove the filter";
const MIRROR: &str = "mirrors are not built; remove the filter";
const CORS: &str = "CORS is not built; remove the filter";
const AUTH: &str = "external authorization is not built; remove the filter";
const EXTENSION: &str = "filters of other groups are not built; remove the filter";
const DEFAULT_GATEWAYS: &str = "default Gateways are not built; name the Gateway in parentRefs";

/// Paths as in the schema, `[]` for a list's items.
pub(super) const TABLE: &[Row] = &[
    (&[Kind::GatewayClass], "spec.controllerName", Cover::Works),
    (&[Kind::GatewayClass], "spec.description", Cover::Works),
    (&[Kind::GatewayClass], "spec.parametersRef", Cover::Works),
    (&[Kind::Gateway], "spec.gatewayClassName", Cover::Works),
    (&[Kind::Gateway], "spec.addresses", Cover::Works),
    (&[Kind::Gateway], "spec.listeners[].name", Cover::Works),
    (&[Kind::Gateway], "spec.listeners[].hostname", Cover::Works),
    (&[Kind::Gateway], "spec.listeners[].port", Cover::Works),
    (&[Kind::Gateway], "spec.listeners[].protocol", Cover::Works),
    (&[Kind::Gateway], "spec.listeners[].allowedRoutes", Cover::Works),
    (&[Kind::Gateway], "spec.listeners[].tls.mode", Cover::Works),
    (&[Kind::Gateway], "spec.listeners[].tls.certificateRefs", Cover::Works),
    (
        &[Kind::Gateway],
        "spec.listeners[].tls.options",
        refused(Level::Listener, "options of TLS are not built; remove them"),
    ),
    (
        &[Kind::Gateway],
        "spec.tls",
        refused(
            Level::Gateway,
            "client certificates of and towards the Gateway are not built; remove spec.tls",
        ),
    ),
    (
        &[Kind::Gateway],
        "spec.allowedListeners",
        // The Gateway's own listeners do not depend on it; each ListenerSet is refused by itself.
        Cover::Noted("ListenerSets are not built: none is attached"),
    ),
    (
        &[Kind::Gateway],
        "spec.defaultScope",
        Cover::Refused {
            level: Level::Gateway,
            unless: "None",
            message: "default Gateways are not built; remove it, or write None",
        },
    ),
    // "Labels that SHOULD be applied to any resources created in response to this Gateway": in files none is, which
    // compilation notes.
    (&[Kind::Gateway], "spec.infrastructure", Cover::Works),
    (&[Kind::Parameters], "spec.addressMode", Cover::Works),
    (&[Kind::Parameters], "spec.addressPools[].addresses", Cover::Works),
    (&[Kind::Parameters], "spec.addressPools[].name", Cover::Aside),
    (&[Kind::Parameters], "spec.interfaces", Cover::Works),
    (&[Kind::Parameters], "spec.trustedProxies", Cover::Works),
    (&[Kind::Parameters], "spec.limits", refused(Level::Parameters, "limits are not built; remove it")),
    (ROUTES, "spec.parentRefs", Cover::Works),
    (
        BUILT,
        "spec.useDefaultGateways",
        Cover::Refused { level: Level::Route, unless: "None", message: DEFAULT_GATEWAYS },
    ),
    (&[Kind::HttpRoute], "spec.hostnames", Cover::Works),
    (BUILT, "spec.rules[].name", Cover::Works),
    (&[Kind::HttpRoute], "spec.rules[].matches", Cover::Works),
    (&[Kind::HttpRoute], "spec.rules[].timeouts", Cover::Works),
    (&[Kind::HttpRoute], "spec.rules[].filters[].type", Cover::Works),
    (&[Kind::HttpRoute], "spec.rules[].filters[].requestHeaderModifier", Cover::Works),
    (&[Kind::HttpRoute], "spec.rules[].filters[].responseHeaderModifier", Cover::Works),
    (&[Kind::HttpRoute], "spec.rules[].filters[].requestRedirect", Cover::Works),
    (&[Kind::HttpRoute], "spec.rules[].filters[].urlRewrite", refused(Level::Rule, REWRITE)),
    (&[Kind::HttpRoute], "spec.rules[].filters[].requestMirror", refused(Level::Rule, MIRROR)),
    (&[Kind::HttpRoute], "spec.rules[].filters[].cors", refused(Level::Rule, CORS)),
    (&[Kind::HttpRoute], "spec.rules[].filters[].externalAuth", refused(Level::Rule, AUTH)),
    (&[Kind::HttpRoute], "spec.rules[].filters[].extensionRef", refused(Level::Rule, EXTENSION)),
    (&[Kind::HttpRoute], "spec.rules[].retry", refused(Level::Rule, "retries are not built; remove them")),
    (
        &[Kind::HttpRoute],
        "spec.rules[].sessionPersistence",
        refused(Level::Rule, "session persistence is not built; remove it"),
    ),
    (BUILT, "spec.rules[].backendRefs[].group", Cover::Works),
    (BUILT, "spec.rules[].backendRefs[].kind", Cover::Works),
    (BUILT, "spec.rules[].backendRefs[].name", Cover::Works),
    (BUILT, "spec.rules[].backendRefs[].namespace", Cover::Works),
    (BUILT, "spec.rules[].backendRefs[].port", Cover::Works),
    (BUILT, "spec.rules[].backendRefs[].weight", Cover::Works),
    (&[Kind::HttpRoute], "spec.rules[].backendRefs[].filters[].type", Cover::Works),
    (&[Kind::HttpRoute], "spec.rules[].backendRefs[].filters[].requestHeaderModifier", Cover::Works),
    (&[Kind::HttpRoute], "spec.rules[].backendRefs[].filters[].responseHeaderModifier", Cover::Works),
    (
        &[Kind::HttpRoute],
        "spec.rules[].backendRefs[].filters[].requestRedirect",
        refused(Level::Backend, "a backend's redirect is not built; redirect in a rule of its own"),
    ),
    (&[Kind::HttpRoute], "spec.rules[].backendRefs[].filters[].urlRewrite", refused(Level::Backend, REWRITE)),
    (
        &[Kind::HttpRoute],
        "spec.rules[].backendRefs[].filters[].requestMirror",
        refused(Level::Backend, MIRROR),
    ),
    (&[Kind::HttpRoute], "spec.rules[].backendRefs[].filters[].cors", refused(Level::Backend, CORS)),
    (&[Kind::HttpRoute], "spec.rules[].backendRefs[].filters[].externalAuth", refused(Level::Backend, AUTH)),
    (
        &[Kind::HttpRoute],
        "spec.rules[].backendRefs[].filters[].extensionRef",
        refused(Level::Backend, EXTENSION),
    ),
    (UNBUILT, "spec", Cover::Unbuilt),
    (&[Kind::BackendTlsPolicy], "spec.targetRefs", Cover::Works),
    (&[Kind::ReferenceGrant], "spec", Cover::Works),
    // A gateway goes to the endpoints itself: how a node or a cloud would reach a Service is not its business.
    (&[Kind::Service], "spec", Cover::Aside),
    (&[Kind::Service], "spec.type", Cover::Works),
    (&[Kind::Service], "spec.externalName", Cover::Works),
    (&[Kind::Service], "spec.ports", Cover::Works),
    // For TCPRoutes and UDPRoutes; `assemble` notes where an HTTPRoute refers to one that has it.
    (&[Kind::Service], "spec.sessionAffinity", Cover::Works),
    (
        &[Kind::Service],
        "spec.selector",
        Cover::Noted("there are no pods to select here: endpoints come from EndpointSlices or `--endpoint`"),
    ),
    (
        &[Kind::Service],
        "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
        Cover::Noted(
            "it has no effect: a client's address leads to the same endpoint at any time, while the endpoints stay",
        ),
    ),
    (&[Kind::EndpointSlice], "addressType", Cover::Works),
    (&[Kind::EndpointSlice], "endpoints", Cover::Works),
    (&[Kind::EndpointSlice], "ports", Cover::Works),
    (&[Kind::Secret], "data", Cover::Works),
    (&[Kind::Secret], "stringData", Cover::Works),
    (&[Kind::Secret], "type", Cover::Works),
    (&[Kind::Secret], "immutable", Cover::Aside),
    // Nothing that is built refers to what these hold.
    (&[Kind::ConfigMap], "data", Cover::Aside),
    (&[Kind::ConfigMap], "binaryData", Cover::Aside),
    (&[Kind::ConfigMap], "immutable", Cover::Aside),
    (&[Kind::Namespace], "spec", Cover::Aside),
];

/// Notes in a kind's schema what becomes of its fields.
pub(super) fn mark(kind: Kind, root: &mut Schema) {
    for (kinds, path, cover) in TABLE {
        if kinds.contains(&kind)
            && let Some(schema) = root.at_mut(path)
        {
            schema.cover = Some(*cover);
        }
    }
}

/// Whether a field works: what the longest path says that it is part of.
pub(super) fn works(kind: Kind, path: &str) -> bool {
    let rows = TABLE.iter().filter(|(kinds, row, _)| kinds.contains(&kind) && within(path, row));
    rows.max_by_key(|(_, row, _)| row.len()).is_some_and(|(_, _, cover)| *cover == Cover::Works)
}

fn within(path: &str, row: &str) -> bool {
    path.strip_prefix(row).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Paths of all fields, and of those that neither they nor anything around them says what becomes of.
    fn walk(schema: &Schema, path: &str, covered: bool, all: &mut Vec<String>, missing: &mut Vec<String>) {
        all.push(path.to_owned());
        let covered = covered || schema.cover.is_some();
        for (name, field) in &schema.properties {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            walk(field, &path, covered, all, missing);
        }
        if let Some(items) = &schema.items {
            walk(items, &format!("{path}[]"), covered, all, missing);
        } else if schema.properties.is_empty() && !covered {
            missing.push(path.to_owned());
        }
    }

    #[test]
    fn every_field_is_implemented_or_refused() {
        let (mut fields, mut missing, mut unknown) = (0, Vec::new(), Vec::new());
        for kind in Kind::ALL.iter().copied() {
            let (mut all, mut gaps) = (Vec::new(), Vec::new());
            walk(&kind.file().root, "", false, &mut all, &mut gaps);
            fields += all.len();
            missing.extend(gaps.iter().map(|path| format!("{} {path}", kind.name())));
            for (kinds, path, _) in TABLE {
                if kinds.contains(&kind) && !all.iter().any(|field| field == path) {
                    unknown.push(format!("{} {path}", kind.name()));
                }
            }
        }
        assert_eq!(missing, Vec::<String>::new(), "say in the table what becomes of these");
        assert_eq!(unknown, Vec::<String>::new(), "the table names fields that no schema has");
        assert!(fields > 500, "only {fields} fields were looked at");
    }
}
