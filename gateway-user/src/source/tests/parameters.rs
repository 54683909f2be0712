//! SluiceParameters as they are written, and references to them.

use super::{load, messages, name};
use crate::core::model::{AddressMode, GroupKind, ParametersRef};
use crate::source::object;

/// SluiceParameters with this spec.
fn parameters(spec: &str) -> String {
    format!(
        "apiVersion: sluice-gateway.dev/v1\nkind: SluiceParameters\nmetadata: {{name: p}}\nspec: {spec}\n"
    )
}

#[test]
fn pools_and_mode_arrive() {
    let text = parameters(
        "{addressMode: Node, addressPools: [{name: a, addresses: [192.0.2.0/28, 2001:db8::/120]}, {addresses: [198.51.100.7-198.51.100.9]}]}",
    );
    let model = load(&text).unwrap().model;
    let found = &model.parameters[&name("default/p")];
    assert_eq!(found.mode, Some(AddressMode::Node));
    assert_eq!(
        found.pools.as_ref().unwrap().to_string(),
        "192.0.2.1-192.0.2.14, 198.51.100.7-198.51.100.9, 2001:db8::1-2001:db8::ff"
    );
    // Nothing is filled in: what is not written is the class's.
    let model = load(&parameters("{interfaces: [eth0, 'veth?*']}")).unwrap().model;
    let found = model.parameters[&name("default/p")].interfaces.clone().unwrap();
    assert_eq!(found.iter().map(|pattern| &**pattern).collect::<Vec<_>>(), ["eth0", "veth?*"]);
    let model = load(&parameters("{}")).unwrap().model;
    let found = &model.parameters[&name("default/p")];
    assert_eq!((found.mode, &found.pools, found.refusals.len()), (None, &None, 0));
    assert_eq!(found.interfaces, None);
}

#[test]
fn references_labels_and_annotations_arrive() {
    let text = "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: sluice}
spec:
  controllerName: sluice-gateway.dev/controller
  parametersRef: {group: sluice-gateway.dev, kind: SluiceParameters, namespace: infra, name: p}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: g}
spec:
  gatewayClassName: sluice
  infrastructure:
    labels: {a: b}
    annotations: {c: d}
    parametersRef: {group: a.example, kind: ConfigMap, name: q}
  listeners: [{name: http, protocol: HTTP, port: 80}]
";
    let loaded = load(text).unwrap();
    let reference = |group: &str, kind: &str, namespace: Option<&str>, name: &str| ParametersRef {
        kind: GroupKind { group: group.into(), kind: kind.into() },
        namespace: namespace.map(Into::into),
        name: name.into(),
    };
    assert_eq!(
        loaded.model.classes["sluice"].parameters,
        Some(reference("sluice-gateway.dev", "SluiceParameters", Some("infra"), "p"))
    );
    let gateway = &loaded.model.gateways[&name("default/g")];
    assert_eq!(gateway.parameters, Some(reference("a.example", "ConfigMap", None, "q")));
    assert_eq!(gateway.infrastructure.labels["a"], "b");
    assert_eq!(gateway.infrastructure.annotations["c"], "d");
    assert_eq!(messages(Ok(loaded)), "");
}

#[test]
fn what_is_wrong_with_a_pool_is_told() {
    for (spec, expected) in [
        (
            "{addressPools: [{addresses: [10.0.0.0/33, 10.0.0.9-10.0.0.1]}]}",
            "test.yaml:4:36: SluiceParameters default/p: spec.addressPools[0].addresses[0]: is no network, range or address \
             (got \"10.0.0.0/33\"); write a network such as 192.0.2.0/28, a range such as 192.0.2.10-192.0.2.20, or one address\n\
             test.yaml:4:49: SluiceParameters default/p: spec.addressPools[0].addresses[1]: is empty: 10.0.0.1 is below \
             10.0.0.9 (got \"10.0.0.9-10.0.0.1\"); write 10.0.0.1-10.0.0.9\n",
        ),
        (
            "{addressPools: [{addresses: [10.0.0.0/24]}, {addresses: [10.1.0.0/24, 10.0.0.200-10.0.1.9]}]}",
            "test.yaml:4:77: SluiceParameters default/p: spec.addressPools[1].addresses[1]: overlaps \
             spec.addressPools[0].addresses[0], \"10.0.0.0/24\" (got \"10.0.0.200-10.0.1.9\"); write each address once\n",
        ),
        (
            "{addressPools: [{addresses: [10.0.0.1-fd00::1, 224.0.0.0/24]}]}",
            "test.yaml:4:36: SluiceParameters default/p: spec.addressPools[0].addresses[0]: mixes the families: it begins \
             with IPv4 and ends with IPv6, or the other way round (got \"10.0.0.1-fd00::1\"); write a range for each family\n\
             test.yaml:4:54: SluiceParameters default/p: spec.addressPools[0].addresses[1]: has addresses that no Gateway \
             can have: 224.0.0.0-239.255.255.255 is multicast (got \"224.0.0.0/24\"); use addresses that hosts can have\n",
        ),
        (
            "{addressPools: [], addressMode: Nodes}",
            "test.yaml:4:22: SluiceParameters default/p: spec.addressPools: has 0 items and needs at least 1\n\
             test.yaml:4:39: SluiceParameters default/p: spec.addressMode: is none of Pool, Node (got \"Nodes\"); did you mean `Node`?\n",
        ),
        (
            "{addressPools: [{name: a, addresses: [10.0.0.1]}, {name: a, addresses: [10.0.0.2]}]}",
            "test.yaml:4:22: SluiceParameters default/p: spec.addressPools: each pool needs a name of its own (got [{name: \
             \"a\", addresses: [\"10.0.0.1\"]}, {name: \"a\", addresses: [\"10.0.0.2\"]}])\n",
        ),
        (
            "{trustedProxies: [10.0.0.0/8, 10.0.0.5/24, proxy, '2001:db8::1']}",
            "test.yaml:4:37: SluiceParameters default/p: spec.trustedProxies[1]: is no network: it has bits set behind the \
             prefix (got \"10.0.0.5/24\"); write 10.0.0.0/24 for the network, or 10.0.0.5 for this address alone\n\
             test.yaml:4:50: SluiceParameters default/p: spec.trustedProxies[2]: is neither a network nor an address \
             (got \"proxy\"); write a network such as 192.0.2.0/24 or 2001:db8::/64, or an address\n",
        ),
        (
            "{addressMode: Node, interfaces: [eth*, 'a b', x/y]}",
            "test.yaml:4:46: SluiceParameters default/p: spec.interfaces[1]: no interface has such a name (got \"a b\"); \
             write a name such as eth0, or a pattern such as eth*\n\
             test.yaml:4:53: SluiceParameters default/p: spec.interfaces[2]: no interface has such a name (got \"x/y\"); \
             write a name such as eth0, or a pattern such as eth*\n",
        ),
        (
            "{addressPool: []}",
            "test.yaml:4:8: SluiceParameters default/p: spec.addressPool: unknown field (got []); did you mean `addressPools`?\n",
        ),
    ] {
        let result = load(&parameters(spec));
        assert!(result.is_err(), "{spec} was accepted");
        assert_eq!(messages(result), expected, "{spec}");
    }
}

#[test]
fn what_is_wrong_or_not_built_is_a_refusal_of_the_object() {
    let refusals = |spec: &str| -> Vec<String> {
        let read = object::read(&parameters(spec));
        let super::super::translate::Body::Parameters(found) = &read.objects[0].body else {
            panic!("{read:?}")
        };
        found.refusals.iter().map(|refusal| format!("{}: {}", refusal.field, refusal.message)).collect()
    };
    assert_eq!(refusals("{limits: {connections: 5}}"), ["spec.limits: limits are not built; remove it"]);
    // A source that leaves a bad object out and goes on finds it refused, with the reason.
    assert_eq!(
        refusals("{addressPools: [{addresses: [10.0.0.5/24]}]}"),
        [
            "spec.addressPools[0].addresses[0]: \"10.0.0.5/24\" is no network: it has bits set behind the prefix; write \
             10.0.0.0/24 for the network, or 10.0.0.5 for this address alone"
        ]
    );
}
