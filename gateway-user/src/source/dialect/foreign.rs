//! Kinds that are near the Gateway API and not of it, or no more.
//!
//! Owns what a person is told of them. Must not know what they held.

use super::FIRST_GROUP;
use crate::core::model::GATEWAY_GROUP;

/// Kinds that the API had and that have no like today: what became of them, and what to write.
const GONE: &[(&str, &[&str], &str, &str)] = &[
    (
        "BackendPolicy",
        &[FIRST_GROUP, GATEWAY_GROUP],
        "BackendPolicy was removed from the API in v0.4: the TLS towards a backend that it set up cannot be told from it \
         alone",
        "write a BackendTLSPolicy with targetRefs and validation (hostname, caCertificateRefs), and the Service's \
         appProtocol",
    ),
    (
        "BackendLBPolicy",
        &[GATEWAY_GROUP],
        "BackendLBPolicy was taken out of the API in v1.3; the sessions that it kept are not kept here",
        "remove the object",
    ),
];

/// What became of a kind of the API that is gone: message and remedy.
pub(in crate::source) fn gone(kind: &str, group: &str) -> Option<(&'static str, &'static str)> {
    let found = GONE.iter().find(|(name, groups, ..)| *name == kind && groups.contains(&group));
    found.map(|(_, _, message, remedy)| (*message, *remedy))
}

/// The groups of Istio's own API, and what its kinds are here.
pub(in crate::source) fn istio(kind: &str, group: &str) -> Option<String> {
    if group != "istio.io" && !group.ends_with(".istio.io") {
        return None;
    }
    let today = match kind {
        "Gateway" => "a Gateway of gateway.networking.k8s.io/v1: `servers` are its listeners",
        "VirtualService" => {
            "an HTTPRoute, GRPCRoute, TCPRoute or TLSRoute: `gateways` are parentRefs, `hosts` hostnames, `http` rules"
        }
        "DestinationRule" => "in part a BackendTLSPolicy; subsets are Services of their own",
        "ServiceEntry" => "a Service of type ExternalName, or one with EndpointSlices",
        _ => return Some("docs/coming-from-istio.md tells what stands for what".to_owned()),
    };
    Some(format!("here it would be {today}; docs/coming-from-istio.md shows them side by side"))
}
