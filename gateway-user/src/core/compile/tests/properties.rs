//! What holds for every model, sensible or not.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use gateway_ebpf::abi::{Action, Affinity, MAX_SIZE_CLASS, REJECT_BACKEND};
use proptest::prelude::*;

use super::{Kept, compile, compile_after, host, lines, object};
use crate::core::host::{Host, Role};
use crate::core::model::*;
use crate::core::pool::{Pools, Range};
use crate::core::route::RequestView;
use crate::core::snapshot::{BoundService, Ids, ServiceImage, Snapshot};
use crate::core::transport::Transport;

fn word<const N: usize>(words: [&'static str; N]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(words.to_vec())
}

fn meta() -> impl Strategy<Value = Meta> {
    (word(["default", "x"]), word(["a", "b", "c", ""]), 0..9i64, prop::option::of(0..3i128)).prop_map(
        |(namespace, name, generation, created)| Meta {
            name: ObjectName::new(namespace, name),
            generation,
            created,
        },
    )
}

fn refusals() -> impl Strategy<Value = Vec<Refusal>> {
    prop_oneof![
        6 => Just(Vec::new()),
        1 => Just(vec![Refusal { field: "f".into(), message: "m".into() }]),
    ]
}

fn group_kind() -> impl Strategy<Value = GroupKind> {
    (word(["", GATEWAY_GROUP, "x.io"]), word(["Service", "Gateway", "HTTPRoute", "TCPRoute", "Odd"]))
        .prop_map(|(group, kind)| GroupKind { group: group.into(), kind: kind.into() })
}

fn address() -> impl Strategy<Value = GatewayAddress> {
    prop_oneof![
        word(["10.0.0.1", "192.0.2.1", "::", "0.0.0.0", "fd00::1", "224.0.0.1", "::ffff:10.0.0.1"])
            .prop_map(|text| GatewayAddress::Ip(text.parse().unwrap())),
        Just(GatewayAddress::FromPool),
        Just(GatewayAddress::Unsupported("Hostname".into())),
    ]
}

fn hostname() -> impl Strategy<Value = &'static str> {
    word(["a.org", "*.org", "*.a.org", "", "*", "*.", "UPPER.org", "\u{e9}.org", "x.y.a.org"])
}

fn listener() -> impl Strategy<Value = Listener> {
    let protocol = prop_oneof![
        4 => Just(Protocol::Http),
        3 => Just(Protocol::Tcp),
        1 => Just(Protocol::Https),
        1 => Just(Protocol::Udp),
        1 => Just(Protocol::Other("x".into())),
    ];
    let namespaces =
        prop_oneof![Just(FromNamespaces::All), Just(FromNamespaces::Same), Just(FromNamespaces::None)];
    let allowed = (namespaces, prop::collection::vec(group_kind(), 0..2))
        .prop_map(|(namespaces, kinds)| AllowedRoutes { namespaces, kinds, named: None });
    (word(["l", "m", "n"]), prop::option::of(hostname()), 79..83u16, protocol, allowed, refusals()).prop_map(
        |(name, hostname, port, protocol, allowed, refusals)| Listener {
            name: name.into(),
            hostname: hostname.map(Into::into),
            port,
            protocol,
            certificates: Vec::new(),
            allowed,
            refusals,
        },
    )
}

fn group_kind_of_parameters() -> impl Strategy<Value = GroupKind> {
    (word([OWN_GROUP, OWN_GROUP, OWN_GROUP, ""]), word([PARAMETERS, PARAMETERS, PARAMETERS, "Odd"]))
        .prop_map(|(group, kind)| GroupKind { group: group.into(), kind: kind.into() })
}

fn parameters() -> impl Strategy<Value = Parameters> {
    let ranges =
        prop::sample::subsequence(vec!["10.0.0.0/31", "10.0.0.4/30", "fd00::/126", "192.0.2.1"], 0..4);
    let mode = prop::option::of(prop_oneof![Just(AddressMode::Pool), Just(AddressMode::Node)]);
    let interfaces = prop::option::of(word(["eth0", "eth*", "x"]));
    (meta(), mode, ranges, interfaces, refusals()).prop_map(|(meta, mode, ranges, interfaces, refusals)| {
        let ranges: Vec<Range> = ranges.iter().map(|text| text.parse().unwrap()).collect();
        let interfaces = interfaces.map(|name| [name.into()].into());
        Parameters {
            meta,
            mode,
            pools: Pools::new(&ranges).unwrap().map(Arc::new),
            interfaces,
            trusted: None,
            refusals,
        }
    })
}

fn gateway() -> impl Strategy<Value = Gateway> {
    let listeners = prop::collection::vec(listener(), 0..5);
    let addresses = prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(address(), 1..3)];
    let parameters = prop::option::of((group_kind_of_parameters(), word(["a", "b", "none"])));
    let parameters = parameters.prop_map(|reference| {
        reference.map(|(kind, name)| ParametersRef { kind, namespace: None, name: name.into() })
    });
    let had = prop::collection::vec(word(["10.0.0.1", "10.0.0.5", "fd00::2"]), 0..2);
    let all = (meta(), listeners, addresses, parameters, had, refusals());
    all.prop_map(|(meta, mut listeners, addresses, parameters, had, refusals)| {
        // Their names are the keys of a map: no source lets equal ones through.
        let mut names = std::collections::BTreeSet::new();
        listeners.retain(|l| names.insert(l.name.clone()));
        Gateway {
            meta,
            class: "c".into(),
            addresses,
            parameters,
            infrastructure: Infrastructure::default(),
            had: had.into_iter().map(|ip| ip.parse().unwrap()).collect(),
            listeners,
            refusals,
        }
    })
}

fn parents() -> impl Strategy<Value = Vec<ParentRef>> {
    let kind = prop_oneof![
        9 => Just(GroupKind { group: GATEWAY_GROUP.into(), kind: "Gateway".into() }),
        1 => group_kind(),
    ];
    let section = prop::option::of(word(["l", "m"]));
    let parent = (
        kind,
        prop::option::of(word(["default", "x"])),
        word(["a", "b", "c"]),
        section,
        prop::option::of(79..83u16),
    );
    let parent = parent.prop_map(|(kind, namespace, name, section, port)| ParentRef {
        kind,
        namespace: namespace.map(Into::into),
        name: name.into(),
        section: section.map(Into::into),
        port,
    });
    prop::collection::vec(parent, 0..3)
}

fn backends() -> impl Strategy<Value = Vec<BackendRef>> {
    let kind = prop_oneof![
        9 => Just(GroupKind { group: String::new(), kind: "Service".into() }),
        1 => group_kind(),
    ];
    let weight = prop_oneof![Just(0u32), Just(1), Just(7), Just(1_000_000), Just(u32::MAX)];
    let namespace = prop::option::of(word(["default", "x"]));
    let one = (kind, namespace, word(["a", "b", "c"]), prop::option::of(80..82u16), weight, refusals());
    let one = one.prop_map(|(kind, namespace, name, port, weight, refusals)| BackendRef {
        kind,
        namespace: namespace.map(Into::into),
        name: name.into(),
        port,
        weight,
        headers: None,
        refusals,
    });
    prop::collection::vec(one, 0..4)
}

fn values() -> impl Strategy<Value = Vec<ValueMatch>> {
    let one = (word(["x", "", "bad name", "X-A"]), word(["1", "", "(", ".*"]), any::<bool>());
    let one =
        one.prop_map(|(name, value, regex)| ValueMatch { name: name.into(), value: value.into(), regex });
    prop::collection::vec(one, 0..2)
}

fn http_route() -> impl Strategy<Value = HttpRoute> {
    let path = prop_oneof![
        word(["/", "", "/a", "/a/", "//", "x"]).prop_map(|p| PathMatch::Prefix(p.into())),
        word(["/", "", "/a"]).prop_map(|p| PathMatch::Exact(p.into())),
        word([".*", "(", "", "(a*)*"]).prop_map(|p| PathMatch::Regex(p.into())),
    ];
    let method = prop::option::of(word(["GET", ""]));
    let matches = (path, method, values(), values()).prop_map(|(path, method, headers, query)| HttpMatch {
        path,
        method: method.map(Into::into),
        headers,
        query,
    });
    let timeout = || prop::option::of((0..2u64).prop_map(Duration::from_secs));
    let rule = (
        prop::option::of(word(["0", "n"])),
        prop::collection::vec(matches, 0..3),
        backends(),
        timeout(),
        timeout(),
        refusals(),
    );
    let rule =
        rule.prop_map(|(name, matches, backends, request_timeout, backend_timeout, refusals)| HttpRule {
            name: name.map(Into::into),
            matches,
            backends,
            request_timeout,
            backend_timeout,
            redirect: None,
            headers: None,
            refusals,
        });
    let rules = prop::collection::vec(rule, 0..3);
    (meta(), parents(), prop::collection::vec(hostname(), 0..3), rules, refusals()).prop_map(
        |(meta, parents, hostnames, rules, refusals)| HttpRoute {
            meta,
            parents,
            hostnames: hostnames.into_iter().map(Into::into).collect(),
            rules,
            refusals,
        },
    )
}

fn l4_route() -> impl Strategy<Value = L4Route> {
    let rule =
        (backends(), refusals()).prop_map(|(backends, refusals)| L4Rule { name: None, backends, refusals });
    let transport = prop_oneof![3 => Just(Transport::Tcp), 1 => Just(Transport::Udp)];
    (transport, meta(), parents(), prop::collection::vec(rule, 0..3), refusals()).prop_map(
        |(transport, meta, parents, rules, refusals)| {
            let idle = NonZeroU32::new(rules.len() as u32);
            L4Route { transport, meta, parents, rules, idle, refusals }
        },
    )
}

fn service() -> impl Strategy<Value = Service> {
    let port = (word(["", "n"]), 80..82u16, word(["TCP", "UDP"]), prop::option::of(word(["http", "https"])));
    let port = port.prop_map(|(name, port, protocol, app)| ServicePort {
        name: name.into(),
        port,
        protocol: protocol.into(),
        app_protocol: app.map(Into::into),
    });
    let affinity = prop_oneof![Just(Affinity::None), Just(Affinity::ClientIp)];
    (meta(), prop::collection::vec(port, 0..3), any::<bool>(), affinity).prop_map(
        |(meta, ports, external, affinity)| Service {
            external_name: external.then(|| "x.org".into()).filter(|_| meta.generation == 0),
            affinity,
            meta,
            ports,
        },
    )
}

fn slice() -> impl Strategy<Value = EndpointSlice> {
    let endpoint =
        (0..5u8, any::<[bool; 3]>(), any::<bool>()).prop_map(|(n, [ready, serving, terminating], v6)| {
            Endpoint {
                address: if v6 {
                    [0xfd00, 0, 0, 0, 0, 0, 0, u16::from(n)].into()
                } else {
                    [10, 1, 0, n].into()
                },
                ready,
                serving,
                terminating,
            }
        });
    let port = (word(["", "n"]), prop::option::of(1..3u16), word(["TCP", "UDP"]));
    let port = port.prop_map(|(name, port, protocol)| (name.into(), port, protocol.into()));
    (meta(), word(["a", "b", "c"]), prop::collection::vec(endpoint, 0..4), prop::collection::vec(port, 0..2))
        .prop_map(|(meta, service, endpoints, ports)| EndpointSlice {
            meta,
            service: service.into(),
            endpoints,
            ports,
        })
}

fn by_name<T>(list: Vec<T>, name: impl Fn(&T) -> &Meta) -> Shared<ObjectName, T> {
    list.into_iter().map(|object| (name(&object).name.clone(), object)).collect()
}

pub(crate) fn any_model() -> impl Strategy<Value = Model> {
    let grant = meta().prop_map(|meta| ReferenceGrant {
        from: vec![(GroupKind { group: GATEWAY_GROUP.into(), kind: "TCPRoute".into() }, "default".into())],
        to: vec![(GroupKind { group: String::new(), kind: "Service".into() }, None)],
        meta,
    });
    let policy = meta().prop_map(|meta| BackendTlsPolicy {
        targets: vec![PolicyTarget {
            kind: GroupKind { group: String::new(), kind: "Service".into() },
            name: "c".into(),
            section: None,
        }],
        meta,
    });
    (
        prop::collection::vec(gateway(), 0..4),
        prop::collection::vec(parameters(), 0..4),
        prop::collection::vec(http_route(), 0..4),
        prop::collection::vec(l4_route(), 0..4),
        prop::collection::vec(service(), 0..5),
        prop::collection::vec(slice(), 0..6),
        prop::collection::vec(grant, 0..2),
        prop::collection::vec(policy, 0..2),
    )
        .prop_map(|(gateways, parameters, http, l4, services, slices, grants, policies)| Model {
            gateways: by_name(gateways, |g| &g.meta),
            parameters: by_name(parameters, |p| &p.meta),
            http_routes: by_name(http.into_iter().map(Arc::new).collect(), |r| &r.meta),
            l4_routes: l4.into_iter().map(|r| ((r.transport, r.meta.name.clone()), r)).collect(),
            services: by_name(services, |s| &s.meta),
            slices: by_name(slices, |s| &s.meta),
            grants: by_name(grants, |g| &g.meta),
            backend_tls: by_name(policies, |p| &p.meta),
            ..Model::default()
        })
}

fn any_role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Alone), Just(Role::Leader), Just(Role::Follower)]
}

/// What workers and kernel rely on.
fn sound(snapshot: &Snapshot) {
    let image = &snapshot.image;
    assert_eq!(image.bindings.len(), snapshot.bindings.len());
    let mut ids: Vec<u32> = image.bindings.values().map(|b| b.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), image.bindings.len(), "ids of bindings are unique");
    for binding in image.bindings.values() {
        assert_eq!(binding.action == Action::Forward, binding.service.is_some());
        assert!(binding.service.is_none_or(|id| image.services.contains_key(&id)));
    }
    for ServiceImage { slots, .. } in image.services.values() {
        assert!(slots.len().is_power_of_two() && slots.len() <= 1 << MAX_SIZE_CLASS);
        assert!(slots.iter().all(|id| *id == REJECT_BACKEND || image.backends.contains_key(id)));
        assert!(slots.iter().any(|id| *id != REJECT_BACKEND));
    }
    assert!(!image.backends.contains_key(&REJECT_BACKEND));
    let all: Vec<_> = snapshot.series.iter().flat_map(|block| block.iter()).collect();
    let mut series = all.clone();
    series.sort();
    series.dedup();
    assert_eq!(series.len(), all.len(), "no two counters have the same labels");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn compiling_never_panics_and_what_it_yields_is_sound(model in any_model(), path in "/?[a/]{0,6}", host_name in "[a-cA-C.]{0,9}") {
        let snapshot = compile(&model, &host(&["0.0.0.0:82"]), &Ids::default(), 3);
        sound(&snapshot);
        lines(&snapshot);
        let headers = http::HeaderMap::new();
        let view = RequestView { host: &host_name, path: &path, query: Some("a=%"), method: "GET", headers: &headers };
        for bound in snapshot.bindings.values() {
            if let BoundService::Http(table) = &bound.service {
                let found = table.find(&view);
                prop_assert!(found.series.of(&snapshot.series).is_some());
                if let Some(rule) = found.rule {
                    prop_assert!(rule.choose(7).is_none_or(|b| b.weight > 0));
                    prop_assert!(rule.backends.iter().all(|b| b.series.of(&snapshot.series).is_some()));
                }
            }
        }
    }

    #[test]
    fn compiling_twice_gives_the_same(model in any_model(), role in any_role()) {
        let host = Host { role, ..host(&[]) };
        let first = compile(&model, &host, &Ids::default(), 1);
        let second = compile(&model, &host, &Ids::default(), 1);
        prop_assert_eq!(format!("{first:?}"), format!("{second:?}"));
        // With its own ids as the previous ones, nothing moves.
        let third = compile(&model, &host, &first.ids, 2);
        prop_assert_eq!(&third.image, &first.image);
        prop_assert_eq!(&third.report, &first.report);
        prop_assert_eq!(&third.series, &first.series);
        prop_assert_eq!(&third.ids, &first.ids);
    }

    #[test]
    fn what_is_taken_over_is_what_would_be_compiled(
        before in any_model(),
        other in any_model(),
        choice in prop::collection::vec(0..3u8, 6),
        services in prop::bool::weighted(0.2),
        gateways in prop::bool::weighted(0.1),
    ) {
        let host = host(&[]);
        let mut after = before.clone();
        let names: Vec<_> = before.http_routes.keys().chain(other.http_routes.keys()).cloned().collect();
        for (name, choice) in names.into_iter().zip(choice) {
            match (choice, other.http_routes.get(&name)) {
                (0, _) => {}
                (1, Some(route)) => drop(after.http_routes.insert(name, route.clone())),
                _ => drop(after.http_routes.remove(&name)),
            }
        }
        if services {
            after.services = other.services.clone();
        }
        if gateways {
            after.gateways = other.gateways.clone();
        }
        let (first, kept) = compile_after(&Kept::default(), &before, &host, &Ids::default(), 1);
        let (second, kept) = compile_after(&kept, &after, &host, &first.ids, 2);
        sound(&second);
        prop_assert_eq!(format!("{second:?}"), format!("{:?}", compile(&after, &host, &first.ids, 2)));
        let (third, _) = compile_after(&kept, &before, &host, &second.ids, 3);
        prop_assert_eq!(format!("{third:?}"), format!("{:?}", compile(&before, &host, &second.ids, 3)));
    }

    #[test]
    fn what_stays_keeps_its_ids(before in any_model(), after in any_model()) {
        let first = compile(&before, &host(&[]), &Ids::default(), 1);
        let second = compile(&after, &host(&[]), &first.ids, 2);
        sound(&second);
        for (key, id) in &second.ids.bindings {
            match first.ids.bindings.get(key) {
                Some(old) => prop_assert_eq!(old, id),
                None => prop_assert!(!first.ids.bindings.values().any(|old| old == id), "a freed id is not used at once"),
            }
        }
        for (key, id) in &second.ids.backends {
            match first.ids.backends.get(key) {
                Some(old) => prop_assert_eq!(old, id),
                None => prop_assert!(!first.ids.backends.values().any(|old| old == id)),
            }
        }
        for (key, id) in &second.ids.services {
            if let Some(old) = first.ids.services.get(key) {
                prop_assert_eq!(old, id);
            }
        }
    }

    #[test]
    fn a_restarted_agent_finds_its_ids_in_the_kernel(model in any_model()) {
        let first = compile(&model, &host(&[]), &Ids::default(), 1);
        let again = compile(&model, &host(&[]), &Ids::recover(&first.image), 1);
        prop_assert_eq!(&again.image, &first.image);
    }
}

#[test]
fn a_recovered_service_is_known_by_its_binding() {
    let objects = |order: [&str; 2]| {
        format!(
            "gateway gw\nlistener s TCP 1\nlistener t TCP 2\nservice a 80\nendpoints a 10.1.0.1:1\nservice b 80\nendpoints b 10.1.0.2:1
             tcp {} parent=gw#s\nto a:80\ntcp {} parent=gw#t\nto b:80",
            order[0], order[1]
        )
    };
    let first = super::compiled(&objects(["m", "n"]), &[]);
    let renamed = super::model(&objects(["z", "a"]));
    let again = compile(&renamed, &host(&[]), &Ids::recover(&first.image), 1);
    assert_eq!(again.image, first.image);
    let id = |snapshot: &Snapshot, name| snapshot.ids.services[&(Transport::Tcp, object(name), 0)];
    assert_eq!(id(&again, "z"), id(&first, "m"));
}
