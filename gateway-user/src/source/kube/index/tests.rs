//! What the index makes of what is seen.

use serde_json::json;

use super::*;
use crate::core::model::Model;

fn service(name: &str, port: u16) -> Box<Value> {
    Box::new(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "shop", "uid": name, "resourceVersion": "7"},
        "spec": {"ports": [{"port": port}], "clusterIP": "10.96.0.7", "type": "ClusterIP"},
    }))
}

fn route(name: &str, generation: i64, status: &str) -> Box<Value> {
    Box::new(json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": "shop", "uid": name, "resourceVersion": "7",
            "generation": generation, "creationTimestamp": "2026-01-31T12:00:00Z",
            "managedFields": [{"manager": "kubectl"}]},
        "spec": {"parentRefs": [{"name": "gw"}],
            "rules": [{"backendRefs": [{"name": "a", "port": 80 + generation}]}]},
        "status": {"parents": [{"controllerName": status}]},
    }))
}

const BOTH: &[Kind] = &[Kind::HttpRoute, Kind::Service];

/// An index of which every list is complete, and empty.
fn empty() -> Index {
    index_of(BOTH)
}

fn services(index: &mut Index) -> Vec<String> {
    assert_eq!(index.load().unwrap().warnings, []);
    index.of(Kind::Service).map(|(name, _)| name.to_string()).collect()
}

#[test]
fn a_list_counts_once_it_is_complete() {
    let mut index = Index::new(BOTH);
    assert_eq!(index.awaited(), BOTH);
    assert!(!index.take(Kind::Service, Seen::Begin));
    assert!(!index.take(Kind::Service, Seen::Listed(service("a", 80))));
    assert_eq!((services(&mut index), index.awaited().len()), (vec![], 2));
    assert!(index.take(Kind::Service, Seen::Complete));
    assert_eq!((services(&mut index), index.awaited()), (vec!["shop/a".to_owned()], vec![Kind::HttpRoute]));
    // The list is had again: until it is complete, nothing is missing.
    index.take(Kind::Service, Seen::Begin);
    assert_eq!(services(&mut index), ["shop/a"]);
    index.take(Kind::Service, Seen::Listed(service("b", 80)));
    assert_eq!(services(&mut index), ["shop/a"]);
    // It broke off, and begins anew.
    index.take(Kind::Service, Seen::Begin);
    index.take(Kind::Service, Seen::Listed(service("a", 80)));
    assert!(!index.take(Kind::Service, Seen::Complete), "all is as it was");
    assert_eq!(services(&mut index), ["shop/a"]);
    index.take(Kind::Service, Seen::Begin);
    assert!(index.take(Kind::Service, Seen::Complete), "an empty list is obeyed, too");
    assert_eq!(services(&mut index), Vec::<String>::new());
}

#[test]
fn what_is_denied_leaves_what_was_known() {
    let mut index = Index::new(BOTH);
    index.take(Kind::HttpRoute, Seen::Absent);
    assert!(index.take(Kind::Service, Seen::Denied("services is forbidden".to_owned())));
    assert_eq!(index.awaited(), []);
    let told = index.load().unwrap().warnings;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].message, "its objects cannot be read: services is forbidden");
    assert_eq!(told[0].remedy, "the rest works without them");
    index.take(Kind::Service, Seen::Begin);
    index.take(Kind::Service, Seen::Listed(service("a", 80)));
    index.take(Kind::Service, Seen::Complete);
    assert_eq!(services(&mut index), ["shop/a"]);
    assert!(index.take(Kind::Service, Seen::Denied("again".to_owned())));
    assert!(!index.take(Kind::Service, Seen::Denied("again".to_owned())), "it is said once");
    let loaded = index.load().unwrap();
    assert_eq!(index.of(Kind::Service).count(), 1);
    assert_eq!(loaded.warnings[0].remedy, "what was known of them goes on serving");
    index.take(Kind::Service, Seen::Begin);
    index.take(Kind::Service, Seen::Listed(service("a", 80)));
    assert!(index.take(Kind::Service, Seen::Complete), "all is as it was, but for what was said");
    assert_eq!(index.load().unwrap().warnings, []);
}

#[test]
fn a_status_alone_changes_nothing() {
    let mut index = empty();
    let name = ObjectName::new("shop", "r");
    let mut new = route("r", 1, "x");
    new.as_object_mut().unwrap().remove("status");
    assert!(index.take(Kind::HttpRoute, Seen::Applied(new)));
    let before = index.load().unwrap().model;
    assert!(!index.take(Kind::HttpRoute, Seen::Written(route("r", 1, "x"))), "its first one");
    assert!(!index.take(Kind::HttpRoute, Seen::Applied(route("r", 1, "y"))));
    assert!(before.http_routes.same(&index.load().unwrap().model.http_routes));
    assert_eq!(index.get(Kind::HttpRoute, &name).unwrap().status()["parents"][0]["controllerName"], "y");
    assert!(index.take(Kind::HttpRoute, Seen::Applied(route("r", 2, "y"))));
    let loaded = index.load().unwrap();
    let route = &loaded.model.http_routes[&name];
    assert_eq!((route.meta.generation, route.rules[0].backends[0].port), (2, Some(82)));
    assert!(route.meta.created.is_some());
    assert!(index.take(Kind::HttpRoute, Seen::Deleted(name.clone())));
    assert!(!index.take(Kind::HttpRoute, Seen::Deleted(name)));
}

#[test]
fn a_write_of_ours_is_not_undone_and_brings_nothing_back() {
    let mut index = empty();
    let name = ObjectName::new("shop", "r");
    let at = |revision: &str, status: &str| {
        let mut route = route("r", 1, status);
        route["metadata"]["resourceVersion"] = json!(revision);
        route
    };
    let status = |index: &Index| {
        index.get(Kind::HttpRoute, &name).map(|e| e.status()["parents"][0]["controllerName"].clone())
    };
    index.take(Kind::HttpRoute, Seen::Applied(at("9", "before")));
    index.take(Kind::HttpRoute, Seen::Written(at("12", "ours")));
    assert_eq!(status(&index), Some(json!("ours")));
    index.take(Kind::HttpRoute, Seen::Applied(at("11", "older")));
    assert_eq!(status(&index), Some(json!("ours")), "an event of before comes late");
    index.take(Kind::HttpRoute, Seen::Applied(at("100", "newer")));
    assert_eq!(status(&index), Some(json!("newer")), "as numbers");
    index.take(Kind::HttpRoute, Seen::Deleted(name.clone()));
    assert!(!index.take(Kind::HttpRoute, Seen::Written(at("101", "ours"))));
    assert_eq!(status(&index), None);
}

#[test]
fn what_is_remembered_is_what_counts() {
    let mut index = Index::new(BOTH);
    let key = |kind, name: &str| (kind, ObjectName::new("shop", name));
    let keys = |index: &mut Index| {
        drop(index.load().unwrap());
        let told = index.unremembered();
        let told = told
            .into_iter()
            .map(|((kind, name), text)| (format!("{} {} {}", kind.name(), name.name, text.is_some()), text));
        told.unzip::<_, _, Vec<_>, Vec<_>>()
    };
    assert!(!index.take(Kind::Service, Seen::Applied(service("b", 80))), "one object is no list");
    index.take(Kind::Service, Seen::Begin);
    index.take(Kind::Service, Seen::Complete);
    index.take(Kind::Service, Seen::Applied(service("a", 80)));
    index.take(Kind::Service, Seen::Applied(service("nobody-s", 80)));
    assert_eq!(keys(&mut index).0, Vec::<String>::new(), "HTTPRoutes are not known yet");
    index.take(Kind::HttpRoute, Seen::Begin);
    index.take(Kind::HttpRoute, Seen::Listed(route("r", 1, "x")));
    index.take(Kind::HttpRoute, Seen::Complete);
    let (told, first) = keys(&mut index);
    assert_eq!(told, ["HTTPRoute r true", "Service a true"]);
    assert_eq!(keys(&mut index).0, Vec::<String>::new(), "once");
    index.take(Kind::HttpRoute, Seen::Applied(route("r", 1, "y")));
    assert_eq!(keys(&mut index).0, Vec::<String>::new(), "a status need not be remembered");
    index.take(Kind::HttpRoute, Seen::Begin);
    index.take(Kind::HttpRoute, Seen::Listed(route("s", 1, "y")));
    index.take(Kind::HttpRoute, Seen::Complete);
    index.take(Kind::Service, Seen::Deleted(key(Kind::Service, "a").1));
    index.take(Kind::Service, Seen::Applied(service("a", 81)));
    index.take(Kind::Service, Seen::Deleted(key(Kind::Service, "nobody-s").1));
    assert_eq!(keys(&mut index).0, ["HTTPRoute r false", "HTTPRoute s true", "Service a true"]);

    let mut again = Index::new(BOTH);
    let objects = [Kind::HttpRoute, Kind::Service].into_iter().zip(first);
    again.remember(
        objects.map(|(kind, text)| (kind, serde_json::from_str(&text.unwrap()).unwrap())).collect(),
    );
    assert_eq!(again.awaited(), []);
    let loaded = again.load().unwrap();
    assert_eq!((loaded.model.services.len(), loaded.model.http_routes.len()), (1, 1));
    assert_eq!(keys(&mut again).0, Vec::<String>::new());
    again.take(Kind::Service, Seen::Begin);
    again.take(Kind::Service, Seen::Complete);
    assert_eq!(keys(&mut again).0, ["Service a false"], "what the API server has not is forgotten");
}

#[test]
fn an_object_that_cannot_be_used_is_left_out_alone() {
    let mut index = empty();
    let mut bad = route("bad", 1, "x");
    bad["spec"]["rules"][0]["matches"] = json!([{"path": {"type": "Sideways", "value": "/"}}]);
    index.take(Kind::HttpRoute, Seen::Applied(bad));
    index.take(Kind::HttpRoute, Seen::Applied(route("good", 1, "x")));
    let loaded = index.load().unwrap();
    assert_eq!(loaded.model.http_routes.len(), 1);
    assert_eq!(loaded.warnings.len(), 1);
    assert_eq!(loaded.warnings[0].object, "HTTPRoute shop/bad");
    assert_eq!(loaded.warnings[0].field, "spec.rules[0].matches[0].path.type");
    assert!(loaded.warnings[0].message.ends_with("the object is left out"), "{:?}", loaded.warnings);
}

/// An EndpointSlice of a Service as a cluster has it, with so many endpoints.
fn slice(name: &str, of: &str, network: u32, endpoints: u32) -> Box<Value> {
    let endpoint = |i: u32| {
        let address = std::net::Ipv4Addr::from(u32::from_be_bytes([10, 0, 0, 0]) + network * 256 + i);
        json!({
            "addresses": [address], "nodeName": format!("worker-{i}.example.internal"), "zone": "zone-a",
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "targetRef": {"kind": "Pod", "namespace": "shop", "name": format!("{of}-7d4b9c6f5d-{i:05}"),
                "uid": format!("5f0c3a52-7d1e-4c0b-9c55-{i:012}")},
        })
    };
    Box::new(json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {
            "name": name, "namespace": "shop", "uid": name, "resourceVersion": "7", "generation": 7,
            "labels": {"kubernetes.io/service-name": of, "app": of,
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"},
            "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-31T12:00:00Z"},
            "managedFields": [{"manager": "kube-controller-manager", "fieldsV1": {"f:endpoints": {}}}],
        },
        "endpoints": (0..endpoints).map(endpoint).collect::<Vec<_>>(),
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
    }))
}

/// An index that knows of nothing.
fn index_of(kinds: &[Kind]) -> Index {
    let mut index = Index::new(kinds);
    for kind in kinds {
        index.take(*kind, Seen::Begin);
        index.take(*kind, Seen::Complete);
    }
    index
}

const WITH_SLICES: &[Kind] = &[Kind::HttpRoute, Kind::Service, Kind::EndpointSlice];

#[test]
fn what_nobody_refers_to_is_no_change_until_somebody_does() {
    let mut index = index_of(WITH_SLICES);
    let served = |index: &mut Index| {
        let model = index.load().unwrap().model;
        (model.services.len(), model.slices.values().map(|slice| slice.endpoints.len()).sum::<usize>())
    };
    assert_eq!(served(&mut index), (0, 0));
    assert!(!index.take(Kind::Service, Seen::Applied(service("a", 80))));
    assert!(!index.take(Kind::EndpointSlice, Seen::Applied(slice("a-1", "a", 0, 3))));
    assert!(!index.take(Kind::EndpointSlice, Seen::Applied(slice("b-1", "b", 1, 3))));
    assert_eq!(served(&mut index), (0, 0));
    // The watch does not tell of them again.
    assert!(index.take(Kind::HttpRoute, Seen::Applied(route("r", 1, "x"))));
    assert_eq!(served(&mut index), (1, 3));
    assert!(index.take(Kind::EndpointSlice, Seen::Applied(slice("a-1", "a", 0, 4))));
    assert!(!index.take(Kind::EndpointSlice, Seen::Applied(slice("b-1", "b", 1, 4))));
    let mut moved = slice("a-1", "a", 0, 4);
    moved["endpoints"][0]["nodeName"] = json!("another");
    moved["metadata"]["generation"] = json!(8);
    assert!(!index.take(Kind::EndpointSlice, Seen::Applied(moved)), "what changed is nobody's business");
    assert_eq!(served(&mut index), (1, 4));
    assert!(
        index.take(Kind::EndpointSlice, Seen::Applied(slice("a-1", "b", 0, 4))),
        "it was of a Service that is used"
    );
    assert_eq!(served(&mut index), (1, 0));
    assert!(index.take(Kind::Service, Seen::Deleted(ObjectName::new("shop", "a"))));
    assert!(!index.take(Kind::EndpointSlice, Seen::Deleted(ObjectName::new("shop", "b-1"))));
    assert!(index.take(Kind::HttpRoute, Seen::Deleted(ObjectName::new("shop", "r"))));
    assert_eq!(served(&mut index), (0, 0));
}

#[test]
fn a_service_of_our_own_is_a_change_though_nobody_refers_to_it() {
    let mut index = index_of(WITH_SLICES);
    let mut ours = service("sluice-gw", 80);
    ours["metadata"]["labels"] = json!({"app.kubernetes.io/managed-by": "sluice-gateway.dev"});
    index.load().unwrap();
    assert!(index.take(Kind::Service, Seen::Applied(ours)));
    assert!(index.load().unwrap().model.services.is_empty());
    // It is made again if somebody takes it away.
    assert!(index.take(Kind::Service, Seen::Deleted(ObjectName::new("shop", "sluice-gw"))));
}

#[test]
fn an_annotation_of_ours_is_a_change() {
    let mut index = empty();
    let annotated = |name: &str, value: &str| {
        let mut route = route("r", 1, "x");
        route["metadata"]["annotations"] = json!({ name: value });
        Seen::Applied(route)
    };
    assert!(index.take(Kind::HttpRoute, annotated("sluice-gateway.dev/idle-timeout", "30s")));
    assert!(index.take(Kind::HttpRoute, annotated("sluice-gateway.dev/idle-timeout", "40s")));
    assert!(index.take(Kind::HttpRoute, annotated("example.com/note", "a")));
    assert!(!index.take(Kind::HttpRoute, annotated("example.com/note", "b")));
}

#[test]
fn a_hundred_thousand_endpoints_that_nobody_refers_to_cost_little() {
    const SLICES: u32 = 1000;
    const EACH: u32 = 100;
    let mut text = 0;
    let mut kept = None;
    let cost = allocation_counter::measure(|| {
        let mut index = index_of(WITH_SLICES);
        index.take(Kind::EndpointSlice, Seen::Begin);
        for at in 0..SLICES {
            let slice = slice(&format!("service-{at}-x7f2p"), &format!("service-{at}"), at, EACH);
            text += slice.to_string().len();
            index.take(Kind::EndpointSlice, Seen::Listed(slice));
        }
        index.take(Kind::EndpointSlice, Seen::Complete);
        let loaded = index.load().unwrap();
        assert!(loaded.model.slices.is_empty());
        assert!(index.unremembered().is_empty());
        kept = Some(index);
    });
    assert_eq!(kept.map(|index| index.of(Kind::EndpointSlice).count()), Some(SLICES as usize));
    let each = cost.bytes_current / i64::from(SLICES * EACH);
    println!("{} kB for {} kB of objects: {each} bytes an endpoint", cost.bytes_current / 1000, text / 1000);
    assert!(each < 50, "{each} bytes an endpoint");
}

#[test]
fn a_service_that_nobody_refers_to_costs_little() {
    const SERVICES: u32 = 10_000;
    let mut kept = None;
    let cost = allocation_counter::measure(|| {
        let mut index = index_of(WITH_SLICES);
        for at in 0..SERVICES {
            let mut service = service(&format!("service-{at}"), 80);
            service["metadata"]["uid"] = json!(format!("5f0c3a52-7d1e-4c0b-9c55-{at:012}"));
            service["metadata"]["annotations"] = json!({"example.com/note": "x".repeat(1000)});
            index.take(Kind::Service, Seen::Applied(service));
        }
        assert!(index.load().unwrap().model.services.is_empty());
        kept = Some(index);
    });
    let each = cost.bytes_current / i64::from(SERVICES);
    println!("{each} bytes a Service");
    assert!(each < 1000, "{each} bytes a Service");
}

#[test]
fn a_route_that_changes_leaves_everything_else_as_it_is() {
    let mut index = index_of(WITH_SLICES);
    let to = |name: &str, service: &str, generation: i64| {
        let mut route = route(name, generation, "x");
        route["spec"]["rules"][0]["backendRefs"][0]["name"] = json!(service);
        Seen::Applied(route)
    };
    let names = |model: &Model| {
        let routes =
            model.http_routes.iter().map(|(name, route)| format!("{} {}", name.name, route.meta.generation));
        let services = model.services.keys().map(|name| name.name.to_string());
        (routes.collect::<Vec<_>>().join(","), services.collect::<Vec<_>>().join(","))
    };
    for name in ["a", "b"] {
        index.take(Kind::Service, Seen::Applied(service(name, 80)));
    }
    index.take(Kind::HttpRoute, to("r", "a", 1));
    index.take(Kind::HttpRoute, to("s", "a", 1));
    let first = index.load().unwrap().model;
    assert_eq!(names(&first), ("r 1,s 1".into(), "a".into()));
    // One changes, one comes, one goes: to the same Service.
    index.take(Kind::HttpRoute, to("r", "a", 2));
    index.take(Kind::HttpRoute, to("t", "a", 1));
    index.take(Kind::HttpRoute, Seen::Deleted(ObjectName::new("shop", "s")));
    let second = index.load().unwrap().model;
    assert_eq!(names(&second), ("r 2,t 1".into(), "a".into()));
    assert!(first.services.same(&second.services), "what stays is not even looked at");
    assert_eq!(second, index.load().unwrap().model, "nothing is lost when nothing has changed");
    // Another Service comes in with the route that refers to it.
    index.take(Kind::HttpRoute, to("t", "b", 2));
    assert_eq!(names(&index.load().unwrap().model), ("r 2,t 2".into(), "a,b".into()));
    // So does what changes along with a route, before or after it.
    index.take(Kind::HttpRoute, to("t", "b", 3));
    index.take(Kind::Service, Seen::Deleted(ObjectName::new("shop", "b")));
    index.take(Kind::HttpRoute, to("r", "a", 3));
    assert_eq!(names(&index.load().unwrap().model), ("r 3,t 3".into(), "a".into()));
    // What cannot be used is left out and said, and no longer once it can.
    let mut bad = route("r", 4, "x");
    bad["spec"]["rules"][0]["matches"] = json!([{"path": {"type": "Sideways", "value": "/"}}]);
    index.take(Kind::HttpRoute, Seen::Applied(bad));
    let loaded = index.load().unwrap();
    assert_eq!((names(&loaded.model).0, loaded.warnings.len()), ("t 3".into(), 1));
    index.take(Kind::HttpRoute, to("t", "a", 4));
    let loaded = index.load().unwrap();
    assert_eq!((names(&loaded.model).0, loaded.warnings.len()), ("t 4".into(), 1), "it is said again");
    index.take(Kind::HttpRoute, to("r", "a", 5));
    let loaded = index.load().unwrap();
    assert_eq!((names(&loaded.model).0, loaded.warnings.len()), ("r 5,t 4".into(), 0));
}

/// An event, by numbers.
fn event(at: u8, kind: u8, what: u8) -> (Kind, Seen) {
    let name = format!("r{}", at % 3);
    let to = ["a", "b", "c"][usize::from(what % 3)];
    match kind {
        0..=3 => {
            let mut route = route(&name, i64::from(kind) + 1, "x");
            route["spec"]["rules"][0]["backendRefs"][0]["name"] = json!(to);
            match what {
                0..=5 => {}
                6 => {
                    route["metadata"]["labels"] =
                        json!({"app.kubernetes.io/managed-by": "sluice-gateway.dev"});
                }
                _ => route["spec"]["rules"][0]["matches"] = json!([{"path": {"type": "Odd", "value": "/"}}]),
            }
            (Kind::HttpRoute, Seen::Applied(route))
        }
        4 => (Kind::HttpRoute, Seen::Deleted(ObjectName::new("shop", &name))),
        5 => (Kind::Service, Seen::Applied(service(to, 80 + u16::from(at)))),
        6 => (Kind::Service, Seen::Deleted(ObjectName::new("shop", to))),
        _ => (Kind::EndpointSlice, Seen::Applied(slice(&format!("{to}-1"), to, 0, u32::from(at)))),
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_is_put_together_bit_by_bit_is_what_would_be_at_once(
        events in proptest::collection::vec((0..4u8, 0..8u8, 0..8u8, proptest::bool::ANY), 1..40),
    ) {
        let mut index = index_of(WITH_SLICES);
        for (at, kind, what, look) in events {
            let (kind, seen) = event(at, kind, what);
            index.take(kind, seen);
            if !look {
                continue;
            }
            let bit_by_bit = index.load().unwrap();
            index.handed = None;
            let at_once = index.load().unwrap();
            proptest::prop_assert_eq!(&bit_by_bit.warnings, &at_once.warnings);
            proptest::prop_assert_eq!(&bit_by_bit.model.http_routes, &at_once.model.http_routes);
            // What nobody refers to any longer may still be there.
            for (name, service) in &at_once.model.services {
                proptest::prop_assert_eq!(bit_by_bit.model.services.get(name), Some(service));
            }
            for (name, slice) in &at_once.model.slices {
                proptest::prop_assert_eq!(bit_by_bit.model.slices.get(name), Some(slice));
            }
        }
    }
}
