//! What is made in the cluster for each Gateway: a headless Service with the infrastructure's labels and annotations, and an
//! EndpointSlice for each family of its addresses.
//!
//! Owns their names and what is in them. They belong to the Gateway, so that they go with it. Pure. Must not know how they
//! are written.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::{Value, json};

use super::super::kind::Kind;
use crate::core::model::{GATEWAY_GROUP, Gateway, Protocol};

/// Label of whatever is made for a Gateway (GEP-1762).
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
/// Label that says who looks after an object, and its value.
pub(super) const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "sluice-gateway.dev");
/// What a name of a Service may have (RFC 1035 label).
const LONGEST: usize = 63;

/// What is made for a Gateway: kind, name and object, as they are applied.
pub(super) fn of(gateway: &Gateway, uid: &str, addresses: &[IpAddr]) -> Vec<(Kind, String, Value)> {
    let name = service_name(&gateway.meta.name.name);
    let mut labels: BTreeMap<&str, &str> = BTreeMap::new();
    labels.extend(gateway.infrastructure.labels.iter().map(|(key, value)| (&**key, &**value)));
    labels.insert(GATEWAY_NAME, &gateway.meta.name.name);
    labels.insert(MANAGED_BY.0, MANAGED_BY.1);
    let owner = json!({
        "apiVersion": format!("{GATEWAY_GROUP}/v1"), "kind": "Gateway",
        "name": &*gateway.meta.name.name, "uid": uid, "controller": true,
    });
    let metadata = |name: &str, more: &[(&'static str, &str)]| {
        let mut labels = labels.clone();
        labels.extend(more.iter().copied());
        json!({
            "name": name,
            "namespace": &*gateway.meta.name.namespace,
            "labels": labels,
            "annotations": gateway.infrastructure.annotations,
            "ownerReferences": [owner],
        })
    };
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": metadata(&name, &[]),
        "spec": {"clusterIP": "None", "ports": ports(gateway)},
    });
    let mut made = vec![(Kind::Service, name.clone(), service)];
    for (slice, (family, v6)) in
        slices(&gateway.meta.name.name).into_iter().zip([("IPv4", false), ("IPv6", true)])
    {
        let of_family: Vec<_> =
            addresses.iter().filter(|ip| ip.is_ipv6() == v6).map(ToString::to_string).collect();
        if of_family.is_empty() {
            continue;
        }
        let belongs = [
            ("kubernetes.io/service-name", &*name),
            ("endpointslice.kubernetes.io/managed-by", MANAGED_BY.1),
        ];
        let endpoints: Vec<_> =
            of_family.iter().map(|ip| json!({"addresses": [ip], "conditions": {"ready": true}})).collect();
        let object = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": metadata(&slice, &belongs),
            "addressType": family,
            "endpoints": endpoints,
            "ports": ports(gateway),
        });
        made.push((Kind::EndpointSlice, slice, object));
    }
    made
}

/// Names of the EndpointSlices that a Gateway of this name may have: of IPv4, of IPv6.
pub(super) fn slices(gateway: &str) -> [String; 2] {
    ["ipv4", "ipv6"].map(|family| format!("{}-{family}", service_name(gateway)))
}

/// The ports of its listeners, each once.
fn ports(gateway: &Gateway) -> Vec<Value> {
    let port = |protocol: &Protocol| if *protocol == Protocol::Udp { "UDP" } else { "TCP" };
    let ports: BTreeSet<_> = gateway.listeners.iter().map(|l| (l.port, port(&l.protocol))).collect();
    let named = |(port, protocol): (u16, &str)| json!({"name": format!("{}-{port}", protocol.to_lowercase()), "port": port, "protocol": protocol});
    ports.into_iter().map(named).collect()
}

/// The Service of a Gateway of this name. Where that would be too long, its end is a hash of all of it.
fn service_name(gateway: &str) -> String {
    // A slice's name has five characters more.
    let name = format!("sluice-{}", gateway.replace('.', "-"));
    if name.len() + "-ipv4".len() <= LONGEST && !gateway.contains('.') {
        return name;
    }
    let hash = crc32fast::hash(gateway.as_bytes());
    let kept = &name[..name.len().min(LONGEST - "-ipv4".len() - 9)];
    format!("{kept}-{hash:08x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_enough_and_differ() {
        assert_eq!(service_name("web"), "sluice-web");
        let long = "a".repeat(63);
        let names = [service_name(&long), service_name(&long[1..]), service_name("a.b"), service_name("a-b")];
        for name in &names {
            assert!(name.len() + 5 <= LONGEST && !name.contains('.'), "{name}");
        }
        assert_eq!(BTreeSet::from(names.clone()).len(), names.len());
    }
}
