//! From objects to the model: refusals, metadata, lists, endpoints, warnings.

use gateway_ebpf::abi::Affinity;

use super::{load, load_with, messages, name};
use crate::core::model::{GatewayAddress, Model};
use crate::core::transport::Transport;
use crate::source::assemble::{Generations, Origin, Part, assemble};
use crate::source::object;

fn model(text: &str) -> Model {
    load(text).unwrap_or_else(|errors| panic!("{}", messages(Err(errors)))).model
}

/// All refusals of a model, with what carries them.
fn refusals(model: &Model) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut add = |owner: String, refusals: &[crate::core::model::Refusal]| {
        all.extend(refusals.iter().map(|refusal| (owner.clone(), refusal.field.clone())));
    };
    for class in model.classes.values() {
        add("class".into(), &class.refusals);
    }
    for gateway in model.gateways.values() {
        add("gateway".into(), &gateway.refusals);
        for listener in &gateway.listeners {
            add(format!("listener {}", listener.name), &listener.refusals);
        }
    }
    for route in model.http_routes.values() {
        add("route".into(), &route.refusals);
        for (i, rule) in route.rules.iter().enumerate() {
            add(format!("rule {i}"), &rule.refusals);
            for backend in &rule.backends {
                add(format!("rule {i} backend {}", backend.name), &backend.refusals);
            }
        }
    }
    for route in model.l4_routes.values() {
        add("tcp route".into(), &route.refusals);
    }
    all
}

#[test]
fn what_is_not_built_is_refused_where_it_stands() {
    let model = model(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: sluice}
spec: {controllerName: sluice-gateway.dev/controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: g}
spec:
  gatewayClassName: sluice
  defaultScope: All
  tls: {backend: {clientCertificateRef: {name: a}}}
  listeners:
  - {name: plain, protocol: HTTP, port: 80}
  - {name: tls, protocol: HTTPS, port: 443, tls: {certificateRefs: [{name: a}], options: {example.com/x: y}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  useDefaultGateways: All
  rules:
  - backendRefs: [{name: a, port: 80}]
  - filters:
    - {type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: a, value: b}]}}
    - {type: URLRewrite, urlRewrite: {hostname: a.example}}
    - {type: RequestMirror, requestMirror: {backendRef: {name: a, port: 80}}}
    - {type: CORS, cors: {allowOrigins: ['*']}}
    - {type: ExternalAuth, externalAuth: {protocol: HTTP, http: {}, backendRef: {name: a, port: 80}}}
    - {type: ExtensionRef, extensionRef: {group: a.example, kind: B, name: c}}
    retry: {attempts: 2}
    sessionPersistence: {sessionName: a}
    backendRefs:
    - {name: a, port: 80}
    - name: b
      port: 80
      filters:
      - {type: ResponseHeaderModifier, responseHeaderModifier: {remove: [a]}}
      - {type: URLRewrite, urlRewrite: {hostname: a.example}}
      - {type: RequestMirror, requestMirror: {backendRef: {name: a, port: 80}}}
      - {type: CORS, cors: {allowOrigins: ['*']}}
      - {type: ExternalAuth, externalAuth: {protocol: HTTP, http: {}, backendRef: {name: a, port: 80}}}
      - {type: ExtensionRef, extensionRef: {group: a.example, kind: B, name: c}}
    - name: c
      port: 80
      filters: [{type: RequestRedirect, requestRedirect: {scheme: https}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: t}
spec:
  useDefaultGateways: All
  rules: [{backendRefs: [{name: a, port: 80}]}]
",
    );
    let expected = [
        ("gateway", "spec.defaultScope"),
        ("gateway", "spec.tls"),
        ("listener tls", "spec.listeners[1].tls.options"),
        ("route", "spec.useDefaultGateways"),
        ("rule 1", "spec.rules[1].filters[1].urlRewrite"),
        ("rule 1", "spec.rules[1].filters[2].requestMirror"),
        ("rule 1", "spec.rules[1].filters[3].cors"),
        ("rule 1", "spec.rules[1].filters[4].externalAuth"),
        ("rule 1", "spec.rules[1].filters[5].extensionRef"),
        ("rule 1", "spec.rules[1].retry"),
        ("rule 1", "spec.rules[1].sessionPersistence"),
        ("rule 1 backend b", "spec.rules[1].backendRefs[1].filters[1].urlRewrite"),
        ("rule 1 backend b", "spec.rules[1].backendRefs[1].filters[2].requestMirror"),
        ("rule 1 backend b", "spec.rules[1].backendRefs[1].filters[3].cors"),
        ("rule 1 backend b", "spec.rules[1].backendRefs[1].filters[4].externalAuth"),
        ("rule 1 backend b", "spec.rules[1].backendRefs[1].filters[5].extensionRef"),
        ("rule 1 backend c", "spec.rules[1].backendRefs[2].filters[0].requestRedirect"),
        ("tcp route", "spec.useDefaultGateways"),
    ];
    let mut found = refusals(&model);
    found.sort();
    let mut expected = expected.map(|(owner, field)| (owner.to_owned(), field.to_owned()));
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn a_value_that_asks_for_nothing_is_not_refused() {
    let model = model(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: g}
spec:
  gatewayClassName: sluice
  defaultScope: None
  listeners: [{name: plain, protocol: HTTP, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec: {useDefaultGateways: None}
",
    );
    assert_eq!(refusals(&model), []);
    // The CRD's defaults are there.
    let rule = &model.http_routes[&name("default/r")].rules[0];
    assert_eq!((rule.matches.len(), rule.backends.len()), (1, 0));
}

#[test]
fn kinds_that_are_not_built_are_known_by_name() {
    let model = model(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: a}
spec: {parentRefs: [{name: g}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: a}
spec: {parentRefs: [{name: g, sectionName: sni, port: 53}], hostnames: [a.example], rules: [{backendRefs: [{name: s, port: 53}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {name: a}
spec: {parentRef: {name: g}, listeners: [{name: a, port: 80, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: a}
spec: {targetRefs: [{group: \"\", kind: Service, name: s, sectionName: https}], validation: {hostname: a.example, wellKnownCACertificates: System}}
",
    );
    let routes: Vec<_> = model.unbuilt_routes.keys().map(|(kind, _)| *kind).collect();
    assert_eq!(routes, ["GRPCRoute", "TLSRoute"]);
    let parent = &model.unbuilt_routes[&("TLSRoute", name("default/a"))].parents[0];
    assert_eq!((parent.section.as_deref(), parent.port), (Some("sni"), Some(53)));
    assert_eq!(model.listener_sets.len(), 1);
    let target = &model.backend_tls[&name("default/a")].targets[0];
    assert_eq!(
        (&*target.kind.kind, &*target.name, target.section.as_deref()),
        ("Service", "s", Some("https"))
    );
}

#[test]
fn metadata_in_files() {
    let loaded = load(
        "
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Namespace
  metadata: {name: prod, labels: {stage: prod}, uid: x, creationTimestamp: null}
  status: {phase: Active}
- apiVersion: gateway.networking.k8s.io/v1
  kind: HTTPRoute
  metadata: {name: r, namespace: prod, creationTimestamp: \"2026-01-31T12:00:00Z\", generation: 17, managedFields: [{a: b}]}
  spec: {hostnames: [a.example]}
  status: {anything: goes}
- apiVersion: v1
  kind: List
  items:
  - {apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: r}, spec: {}}
",
    )
    .unwrap();
    assert_eq!(loaded.warnings, []);
    let labels = &loaded.model.namespaces["prod"];
    assert_eq!((&*labels["stage"], &*labels["kubernetes.io/metadata.name"]), ("prod", "prod"));
    let route = &loaded.model.http_routes[&name("prod/r")];
    assert_eq!(route.meta.created, Some(1_769_860_800_000_000_000));
    assert_eq!(route.meta.generation, 1);
    assert_eq!(loaded.model.http_routes[&name("default/r")].meta.created, None);
}

#[test]
fn generation_counts_changes_of_the_spec() {
    let mut generations = Generations::default();
    let route = |metadata: &str, hostnames: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r{metadata}}}\nspec: {{{hostnames}}}\n"
        )
    };
    for (text, expected) in [
        (route("", "hostnames: [a.example]"), Some(1)),
        (route("", "hostnames: [\"a.example\"]"), Some(1)),
        (route(", labels: {a: b}", "hostnames: [a.example]"), Some(1)),
        (route("", "hostnames: [b.example]"), Some(2)),
        (route("", "hostname: [c.example]"), None),
        (route("", "hostnames: [b.example]"), Some(2)),
        (route("", "hostnames: [a.example]"), Some(3)),
    ] {
        let read = object::read(&text).into();
        let parts = [Part { file: "a".into(), lines_before: 0, read, origin: Origin::File }];
        let loaded = assemble(&parts, &[], &mut generations).ok();
        assert_eq!(
            loaded.map(|loaded| loaded.model.http_routes[&name("default/r")].meta.generation),
            expected,
            "{text}"
        );
    }
}

#[test]
fn what_has_no_effect_is_told() {
    for (text, expected) in [
        (
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n",
            "test.yaml:1:1: Deployment default/a: Sluice has no use for Deployment of apps/v1; the object is skipped\n",
        ),
        (
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: a}\n",
            "test.yaml:1:1: Gateway default/a: Sluice has no use for Gateway of networking.istio.io/v1; the object is skipped; \
             here it would be a Gateway of gateway.networking.k8s.io/v1: `servers` are its listeners; \
             docs/coming-from-istio.md shows them side by side\n",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {selector: {app: a}, ports: [{port: 80}]}\n",
            "test.yaml:4:18: Service default/a: spec.selector: there are no pods to select here: endpoints come from \
             EndpointSlices or `--endpoint` (got {app: \"a\"})\n",
        ),
        (
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, namespace: b}\n",
            "test.yaml:3:32: Namespace a: metadata.namespace: a Namespace has no namespace (got \"b\"); remove it\n",
        ),
        (
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: a}\naddressType: IPv4\nendpoints: null\n",
            "test.yaml:1:1: EndpointSlice default/a: metadata.labels[\"kubernetes.io/service-name\"]: it is missing: the \
             slice belongs to no Service and is skipped\n",
        ),
        (
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: g}\nspec:\n  gatewayClassName: s\n  listeners: [{name: a, port: 80, protocol: HTTP}]\n  allowedListeners: {namespaces: {from: Same}}\n",
            "test.yaml:7:21: Gateway default/g: spec.allowedListeners: ListenerSets \
             are not built: none is attached (got {namespaces: {from: \"Same\"}})\n",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}, ports: [{port: 80}]}\n",
            "test.yaml:4:86: Service default/a: spec.sessionAffinityConfig.clientIP.timeoutSeconds: it has no effect: a \
             client's address leads to the same endpoint at any time, while the endpoints stay (got 60)\n",
        ),
        ("# nothing\n---\n---\n", ""),
    ] {
        let loaded = load(text).unwrap_or_else(|errors| panic!("{}", messages(Err(errors))));
        assert_eq!(messages(Ok(loaded)), expected);
    }
}

/// A Service and a route of a kind to it.
fn to_service(affinity: &str, kind: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: a}}\nspec: {{sessionAffinity: {affinity}, ports: [{{port: 80}}]}}\n\
         ---\napiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: r, annotations: \
         {{sluice-gateway.dev/idle-timeout: 1m30s}}}}\nspec: {{rules: [{{backendRefs: [{{name: a, port: 80}}]}}]}}\n"
    )
}

#[test]
fn affinity_by_address_is_for_routes_of_tcp_and_udp() {
    for (affinity, kind, want) in [
        ("ClientIP", "TCPRoute", Affinity::ClientIp),
        ("ClientIP", "UDPRoute", Affinity::ClientIp),
        ("None", "TCPRoute", Affinity::None),
    ] {
        let loaded = load(&to_service(affinity, kind)).unwrap();
        assert_eq!(loaded.model.services[&name("default/a")].affinity, want, "{affinity}");
        assert_eq!(messages(Ok(loaded)), "", "{affinity} {kind}");
    }
    let loaded =
        load(&to_service("ClientIP", "HTTPRoute").replace("sluice-gateway.dev", "example.org")).unwrap();
    assert_eq!(
        messages(Ok(loaded)),
        "test.yaml:1:1: Service default/a: spec.sessionAffinity: it works for TCPRoutes and UDPRoutes alone, and has no \
         effect on HTTPRoute default/r: each of its requests goes to an endpoint by itself (got \"ClientIP\")\n"
    );
}

#[test]
fn an_idle_timeout_is_the_routes() {
    for (kind, transport) in [("TCPRoute", Transport::Tcp), ("UDPRoute", Transport::Udp)] {
        let route =
            model(&to_service("None", kind)).l4_routes.remove(&(transport, name("default/r"))).unwrap();
        assert_eq!(route.idle.map(std::num::NonZeroU32::get), Some(90));
    }
}

#[test]
fn addresses_of_a_gateway() {
    let model = model(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: g}\nspec:\n  gatewayClassName: s\n  \
         addresses: [{value: 192.0.2.1}, {}, {type: Hostname, value: a.example}, {type: a.example/own}]\n  \
         listeners: [{name: a, port: 80, protocol: HTTP}]\n",
    );
    let expected = [
        GatewayAddress::Ip("192.0.2.1".parse().unwrap()),
        GatewayAddress::FromPool,
        GatewayAddress::Unsupported("Hostname a.example".into()),
        GatewayAddress::Unsupported("a.example/own".into()),
    ];
    assert_eq!(model.gateways[&name("default/g")].addresses, expected);
}

#[test]
fn endpoints_from_flags() {
    // Flags, the ports of the Service afterwards, and each slice's ports.
    let written = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{name: x, port: 80}, {name: y, port: 81}]}\n";
    for (text, flags, ports, slices) in [
        ("", &["default/a:80=127.0.0.1:1"][..], &[80, 80][..], &["port-80=1,port-80-udp=1"][..]),
        ("", &["default/a=127.0.0.1:1"], &[1, 1], &["port-1=1,port-1-udp=1"]),
        (
            "",
            &["default/a:80=127.0.0.1:1", "default/a:80=[::1]:2"],
            &[80, 80],
            &["port-80=1,port-80-udp=1", "port-80=2,port-80-udp=2"],
        ),
        (
            "",
            &["default/a:80=127.0.0.1:1", "default/a=127.0.0.1:2"],
            &[80, 80],
            &["port-80=1,port-80-udp=1", "port-80=2,port-80-udp=2"],
        ),
        (
            "",
            &["default/a:80=127.0.0.1:1", "default/a:81=127.0.0.1:2"],
            &[80, 80, 81, 81],
            &["port-80=1,port-80-udp=1", "port-81=2,port-81-udp=2"],
        ),
        (written, &["default/a:81=127.0.0.1:1"], &[80, 81], &["y=1"]),
        (written, &["default/a=127.0.0.1:1"], &[80, 81], &["x=1,y=1"]),
    ] {
        let model = load_with(text, flags).unwrap().model;
        let service = &model.services[&name("default/a")];
        assert_eq!(service.ports.iter().map(|port| port.port).collect::<Vec<_>>(), ports, "{flags:?}");
        let of_slice = |slice: &crate::core::model::EndpointSlice| {
            assert_eq!((&*slice.service, slice.endpoints.len()), ("a", 1));
            let port =
                |(name, port, _): &(std::sync::Arc<str>, Option<u16>, _)| format!("{name}={}", port.unwrap());
            slice.ports.iter().map(port).collect::<Vec<_>>().join(",")
        };
        assert_eq!(model.slices.values().map(of_slice).collect::<Vec<_>>(), slices, "{flags:?}");
    }
}

#[test]
fn json_is_yaml() {
    let text = "{\n\t\"apiVersion\": \"v1\",\n\t\"kind\":\"List\", \"items\":\n\t[\n\t\t{\"apiVersion\": \"v1\",\t\"kind\": \"Namespace\",\n\
                \t\t \"metadata\": {\"name\": \"a\", \"labels\": {\"b\": \"\\u00fc\\/\\n\"}}}\n\t]\n}\n";
    let model = model(text);
    assert_eq!(model.namespaces["a"]["b"], "ü/\n");
    assert_eq!(model.namespaces.len(), 1);
}

#[test]
fn scalars_are_yaml_1_2() {
    let labels = |value: &str| {
        let text =
            format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: a, labels: {{b: {value}}}}}\n");
        load(&text)
            .map(|loaded| loaded.model.namespaces["a"]["b"].clone())
            .map_err(|errors| errors[0].message.clone())
    };
    for (value, text) in
        [("yes", "yes"), ("on", "on"), ("'80'", "80"), ("1.2.3", "1.2.3"), ("!!str 80", "80")]
    {
        assert_eq!(labels(value).as_deref(), Ok(text), "{value}");
    }
    for (value, got) in [
        ("true", "true or false"),
        ("80", "a number"),
        ("0x1F", "a number"),
        ("0o17", "a number"),
        ("1e3", "a number"),
        (".5", "a number"),
        (".inf", "a number"),
        ("~", "empty"),
        ("[]", "a list"),
    ] {
        assert_eq!(labels(value), Err(format!("must be text, and is {got}")), "{value}");
    }
}
