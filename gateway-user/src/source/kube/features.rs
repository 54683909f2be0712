//! Features of the Gateway API (v1.6.1, `SupportedFeature`) that a GatewayClass claims.
//!
//! Owns what each feature stands on: fields that must work here and be in the installed CRDs. Nothing is claimed by hand:
//! a field that `coverage` refuses takes its features along, and so does a CRD of a channel or release without it. Must not
//! know where the CRDs come from.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::coverage;
use super::super::kind::Kind;

/// A feature and the fields that it stands on, as paths of `coverage`; `=` and a value of an enumeration at the end.
/// Without any the feature is a behaviour that is not built.
type Row = (&'static str, &'static [(Kind, &'static str)]);

const FEATURES: &[Row] = &[
    ("BackendTLSPolicy", &[(Kind::BackendTlsPolicy, "spec.validation")]),
    ("BackendTLSPolicySANValidation", &[(Kind::BackendTlsPolicy, "spec.validation.subjectAltNames")]),
    ("GRPCRoute", &[(Kind::GrpcRoute, "spec.rules")]),
    ("GRPCRouteNamedRouteRule", &[(Kind::GrpcRoute, "spec.rules[].name")]),
    ("Gateway", &[(Kind::Gateway, "spec.listeners[].port"), (Kind::GatewayClass, "spec.controllerName")]),
    ("GatewayAddressEmpty", &[(Kind::Gateway, "spec.addresses[].value")]),
    ("GatewayBackendClientCertificate", &[(Kind::Gateway, "spec.tls.backend.clientCertificateRef")]),
    (
        "GatewayFrontendClientCertificateValidation",
        &[(Kind::Gateway, "spec.tls.frontend.default.validation")],
    ),
    (
        "GatewayFrontendClientCertificateValidationInsecureFallback",
        &[(Kind::Gateway, "spec.tls.frontend.default.validation.mode")],
    ),
    ("GatewayHTTPListenerIsolation", &[(Kind::Gateway, "spec.listeners[].hostname")]),
    ("GatewayHTTPSListenerDetectMisdirectedRequests", &[]),
    ("GatewayInfrastructurePropagation", &[(Kind::Gateway, "spec.infrastructure.labels")]),
    ("GatewayPort8080", &[(Kind::Gateway, "spec.listeners[].port")]),
    ("GatewayStaticAddresses", &[(Kind::Gateway, "spec.addresses[].value")]),
    ("HTTPRoute", &[(Kind::HttpRoute, "spec.rules[].matches[].path")]),
    (
        "HTTPRoute303RedirectStatusCode",
        &[(Kind::HttpRoute, "spec.rules[].filters[].requestRedirect.statusCode=303")],
    ),
    (
        "HTTPRoute307RedirectStatusCode",
        &[(Kind::HttpRoute, "spec.rules[].filters[].requestRedirect.statusCode=307")],
    ),
    (
        "HTTPRoute308RedirectStatusCode",
        &[(Kind::HttpRoute, "spec.rules[].filters[].requestRedirect.statusCode=308")],
    ),
    ("HTTPRouteBackendProtocolH2C", &[]),
    ("HTTPRouteBackendProtocolWebSocket", &[]),
    (
        "HTTPRouteBackendRequestHeaderModification",
        &[(Kind::HttpRoute, "spec.rules[].backendRefs[].filters[].requestHeaderModifier")],
    ),
    ("HTTPRouteBackendTimeout", &[(Kind::HttpRoute, "spec.rules[].timeouts.backendRequest")]),
    ("HTTPRouteCORS", &[(Kind::HttpRoute, "spec.rules[].filters[].cors")]),
    ("HTTPRouteDestinationPortMatching", &[(Kind::HttpRoute, "spec.parentRefs[].port")]),
    ("HTTPRouteHostRewrite", &[(Kind::HttpRoute, "spec.rules[].filters[].urlRewrite.hostname")]),
    ("HTTPRouteMethodMatching", &[(Kind::HttpRoute, "spec.rules[].matches[].method")]),
    ("HTTPRouteNamedRouteRule", &[(Kind::HttpRoute, "spec.rules[].name")]),
    ("HTTPRouteParentRefPort", &[(Kind::HttpRoute, "spec.parentRefs[].port")]),
    ("HTTPRoutePathRedirect", &[(Kind::HttpRoute, "spec.rules[].filters[].requestRedirect.path")]),
    ("HTTPRoutePathRewrite", &[(Kind::HttpRoute, "spec.rules[].filters[].urlRewrite.path")]),
    ("HTTPRoutePortRedirect", &[(Kind::HttpRoute, "spec.rules[].filters[].requestRedirect.port")]),
    ("HTTPRouteQueryParamMatching", &[(Kind::HttpRoute, "spec.rules[].matches[].queryParams")]),
    ("HTTPRouteRequestMirror", &[(Kind::HttpRoute, "spec.rules[].filters[].requestMirror")]),
    ("HTTPRouteRequestMultipleMirrors", &[(Kind::HttpRoute, "spec.rules[].filters[].requestMirror")]),
    (
        "HTTPRouteRequestPercentageMirror",
        &[(Kind::HttpRoute, "spec.rules[].filters[].requestMirror.percent")],
    ),
    ("HTTPRouteRequestTimeout", &[(Kind::HttpRoute, "spec.rules[].timeouts.request")]),
    (
        "HTTPRouteResponseHeaderModification",
        &[(Kind::HttpRoute, "spec.rules[].filters[].responseHeaderModifier")],
    ),
    ("HTTPRouteRetry", &[(Kind::HttpRoute, "spec.rules[].retry")]),
    ("HTTPRouteRetryBackendTimeout", &[(Kind::HttpRoute, "spec.rules[].retry")]),
    ("HTTPRouteRetryConnectionError", &[(Kind::HttpRoute, "spec.rules[].retry")]),
    ("HTTPRouteSchemeRedirect", &[(Kind::HttpRoute, "spec.rules[].filters[].requestRedirect.scheme")]),
    ("ListenerSet", &[(Kind::ListenerSet, "spec.listeners")]),
    ("ReferenceGrant", &[(Kind::ReferenceGrant, "spec.from"), (Kind::ReferenceGrant, "spec.to")]),
    ("TCPRoute", &[(Kind::TcpRoute, "spec.rules[].backendRefs[].name")]),
    ("TLSRoute", &[(Kind::TlsRoute, "spec.rules")]),
    ("TLSRouteModeMixed", &[(Kind::TlsRoute, "spec.rules")]),
    ("TLSRouteModeTerminate", &[(Kind::TlsRoute, "spec.rules")]),
    ("UDPRoute", &[(Kind::UdpRoute, "spec.rules[].backendRefs[].name")]),
];

/// The fields that features stand on and that a CRD's schema has, given as `openAPIV3Schema`.
pub(super) fn fields(kind: Kind, schema: &Value) -> BTreeSet<&'static str> {
    let wanted = FEATURES.iter().flat_map(|(_, needs)| *needs).filter(|(k, _)| *k == kind);
    wanted.map(|(_, field)| *field).filter(|field| has(schema, field)).collect()
}

fn has(schema: &Value, field: &str) -> bool {
    let (path, value) = field.split_once('=').map_or((field, None), |(path, value)| (path, Some(value)));
    let mut schema = schema;
    for segment in path.split('.') {
        let name = segment.trim_end_matches("[]");
        schema = &schema["properties"][name];
        if name.len() < segment.len() {
            schema = &schema["items"];
        }
    }
    match value {
        None => schema.is_object(),
        Some(value) => schema["enum"].as_array().is_some_and(|all| {
            all.iter().any(|one| one.as_i64().is_some_and(|one| value.parse() == Ok(one)))
        }),
    }
}

/// Features that work, sorted by name, where `installed` says whether a field is in the installed CRDs.
pub(super) fn supported(installed: impl Fn(Kind, &str) -> bool) -> Vec<&'static str> {
    let works = |(kind, field): &(Kind, &'static str)| {
        let path = field.split_once('=').map_or(*field, |(path, _)| path);
        coverage::works(*kind, path) && installed(*kind, field)
    };
    let row = |(name, needs): &Row| (!needs.is_empty() && needs.iter().all(works)).then_some(*name);
    FEATURES.iter().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn features_are_sorted_and_stand_on_fields_that_there_are() {
        assert!(FEATURES.is_sorted_by_key(|(name, _)| *name));
        for (name, needs) in FEATURES {
            for (kind, field) in *needs {
                let path = field.split_once('=').map_or(*field, |(path, _)| path);
                assert!(kind.file().root.at(path).is_some(), "{name}: {} has no {path}", kind.name());
            }
        }
    }

    #[test]
    fn what_does_not_work_or_is_not_installed_is_not_claimed() {
        let all = supported(|_, _| true);
        assert!(all.contains(&"TCPRoute") && all.contains(&"HTTPRouteMethodMatching"), "{all:?}");
        assert!(!all.contains(&"ListenerSet") && !all.contains(&"HTTPRouteBackendProtocolH2C"), "{all:?}");
        assert!(all.is_sorted() && all.len() <= 64, "more than GatewayClass.status takes");
        let without = supported(|kind, _| kind != Kind::TcpRoute);
        assert!(!without.contains(&"TCPRoute") && without.contains(&"UDPRoute"));
        assert_eq!(supported(|_, _| false), Vec::<&str>::new());
    }

    #[test]
    fn fields_are_looked_up_in_a_crd_s_schema() {
        let codes = json!({"type": "integer", "enum": [301, 302, 303]});
        let redirect = json!({"properties": {"statusCode": codes, "port": {"type": "integer"}}});
        let filters = json!({"items": {"properties": {"requestRedirect": redirect}}});
        let rules = json!({"items": {"properties": {"filters": filters}}});
        let schema = json!({"properties": {"spec": {"properties": {"rules": rules}}}});
        let found = fields(Kind::HttpRoute, &schema);
        let want = [
            "spec.rules[].filters[].requestRedirect.port",
            "spec.rules[].filters[].requestRedirect.statusCode=303",
        ];
        assert_eq!(found.into_iter().collect::<Vec<_>>(), want);
    }
}
