//! Each old field by itself: what it is today, or why it is refused; and who chose whom.

use super::{load, messages, name};
use crate::source::dialect;
use crate::source::object::{Identity, identify};

/// An object of an old version turned into today's form: the spec, and what is refused.
fn converted(kind: &str, version: &str, spec: &str) -> (String, Vec<String>) {
    let text = format!("{{apiVersion: {version}, kind: {kind}, metadata: {{name: a}}, spec: {{{spec}}}}}");
    let (mut documents, problems) = crate::source::yaml::parse(&text);
    assert_eq!(problems, [], "{text}");
    let Identity::Known(kind, old) = identify(kind, version) else { panic!("{kind} {version}") };
    let converted = dialect::convert(kind, old.then_some(version), &mut documents[0]);
    let errors = converted.map(|converted| converted.errors).unwrap_or_default();
    let told = |error: &crate::source::Diagnostic| format!("{}: {}", error.field, error.message);
    (documents[0].get("spec").unwrap().to_string(), errors.iter().map(told).collect())
}

const FIRST: &str = "networking.x-k8s.io/v1alpha1";
const SECOND: &str = "gateway.networking.k8s.io/v1alpha2";

#[test]
fn what_each_old_field_is_today() {
    let beta = "gateway.networking.k8s.io/v1beta1";
    let v1 = "gateway.networking.k8s.io/v1";
    for (kind, version, spec, today) in [
        ("GatewayClass", FIRST, "controller: a/b", "{controllerName: \"a/b\"}"),
        (
            "GatewayClass",
            FIRST,
            "controller: a/b, parametersRef: {group: g, kind: K, name: n, namespace: x}",
            "{controllerName: \"a/b\", parametersRef: {group: \"g\", kind: \"K\", name: \"n\", namespace: \"x\"}}",
        ),
        (
            "GatewayClass",
            FIRST,
            "controller: a/b, parametersRef: {group: g, kind: K, name: n, scope: Cluster, namespace: x}",
            "{controllerName: \"a/b\", parametersRef: {group: \"g\", kind: \"K\", name: \"n\"}}",
        ),
        (
            "Gateway",
            FIRST,
            "listeners: [{port: 443, protocol: HTTPS, hostname: \"\", tls: {certificateRef: {group: core, kind: Secret, name: c}, routeOverride: {certificate: Deny}}}]",
            "{listeners: [{name: \"https-443\", port: 443, protocol: \"HTTPS\", tls: {certificateRefs: [{group: \"\", kind: \"Secret\", name: \"c\"}]}}]}",
        ),
        (
            "Gateway",
            FIRST,
            "listeners: [{port: 1, protocol: TCP, hostname: a.example, tls: {mode: Terminate}}]",
            "{listeners: [{name: \"tcp-1\", port: 1, protocol: \"TCP\"}]}",
        ),
        // In v1alpha2 that was an error as it is today.
        (
            "Gateway",
            SECOND,
            "listeners: [{name: a, port: 1, protocol: TCP, hostname: a.example}]",
            "{listeners: [{name: \"a\", port: 1, protocol: \"TCP\", hostname: \"a.example\"}]}",
        ),
        (
            "Gateway",
            v1,
            "backendTLS: {clientCertificateRef: {name: c}}, listeners: [{name: a, port: 443, protocol: HTTPS, tls: {frontendValidation: {caCertificateRefs: [{name: ca}]}}}, {name: b, port: 444, protocol: HTTPS, tls: {}}]",
            "{listeners: [{name: \"a\", port: 443, protocol: \"HTTPS\", tls: {}}, {name: \"b\", port: 444, protocol: \"HTTPS\", tls: {}}], \
             tls: {frontend: {default: {}, perPort: [{port: 443, tls: {validation: {caCertificateRefs: [{name: \"ca\"}]}}}]}, \
             backend: {clientCertificateRef: {name: \"c\"}}}}",
        ),
        (
            "HTTPRoute",
            FIRST,
            "gateways: {allow: All}, rules: [{matches: [{path: {type: Prefix, value: /}, headers: {type: RegularExpression, values: {a: b}}, queryParams: {values: {c: d}}}]}]",
            "{rules: [{matches: [{path: {type: \"PathPrefix\", value: \"/\"}, headers: [{type: \"RegularExpression\", name: \"a\", value: \"b\"}], queryParams: [{name: \"c\", value: \"d\"}]}]}]}",
        ),
        (
            "HTTPRoute",
            FIRST,
            "rules: [{forwardTo: [{serviceName: s, backendRef: {group: g, kind: K, name: n}, port: 1, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {add: {a: b}, set: {c: d}, remove: [e]}}]}]}]",
            "{rules: [{backendRefs: [{name: \"s\", port: 1, filters: [{type: \"RequestHeaderModifier\", requestHeaderModifier: \
             {add: [{name: \"a\", value: \"b\"}], set: [{name: \"c\", value: \"d\"}], remove: [\"e\"]}}]}]}]}",
        ),
        (
            "HTTPRoute",
            FIRST,
            "rules: [{filters: [{type: RequestMirror, requestMirror: {serviceName: s, port: 1}}, {type: RequestMirror, requestMirror: {backendRef: {group: core, kind: Service, name: n}, port: 2}}]}]",
            "{rules: [{filters: [{type: \"RequestMirror\", requestMirror: {backendRef: {name: \"s\", port: 1}}}, \
             {type: \"RequestMirror\", requestMirror: {backendRef: {group: \"\", kind: \"Service\", name: \"n\", port: 2}}}]}]}",
        ),
        (
            "HTTPRoute",
            SECOND,
            "parentRefs: [{name: g}], rules: [{filters: [{type: RequestRedirect, requestRedirect: {protocol: HTTPS}}], backendRefs: [{name: s, port: 1}]}]",
            "{parentRefs: [{name: \"g\"}], rules: [{filters: [{type: \"RequestRedirect\", requestRedirect: {scheme: \"https\"}}]}]}",
        ),
        (
            "TLSRoute",
            FIRST,
            "rules: [{matches: [{snis: [a.example, b.example]}, {snis: [a.example]}], forwardTo: [{serviceName: s, port: 1}]}]",
            "{rules: [{backendRefs: [{name: \"s\", port: 1}]}], hostnames: [\"a.example\", \"b.example\"]}",
        ),
        (
            "BackendTLSPolicy",
            SECOND,
            "targetRef: {group: \"\", kind: Service, name: s, namespace: default}, tls: {hostname: h, caCertRefs: [{group: \"\", kind: ConfigMap, name: c}], wellKnownCACerts: System}",
            "{targetRefs: [{group: \"\", kind: \"Service\", name: \"s\"}], validation: {hostname: \"h\", caCertificateRefs: [{group: \"\", kind: \"ConfigMap\", name: \"c\"}], wellKnownCACertificates: \"System\"}}",
        ),
        (
            "HTTPRoute",
            v1,
            "parentRefs: [{group: gateway.networking.x-k8s.io, kind: XListenerSet, name: l}]",
            "{parentRefs: [{group: \"gateway.networking.k8s.io\", kind: \"ListenerSet\", name: \"l\"}]}",
        ),
        (
            "ReferenceGrant",
            beta,
            "from: [{group: gateway.networking.x-k8s.io, kind: XListenerSet, namespace: n}]",
            "{from: [{group: \"gateway.networking.k8s.io\", kind: \"ListenerSet\", namespace: \"n\"}]}",
        ),
    ] {
        assert_eq!(converted(kind, version, spec), (today.to_owned(), Vec::new()), "{kind} {version} {spec}");
    }
}

#[test]
fn what_cannot_be_said_today_is_refused() {
    let x = "gateway.networking.x-k8s.io/v1alpha1";
    for (kind, version, spec, error) in [
        (
            "HTTPRoute",
            FIRST,
            "rules: [{matches: [{path: {type: ImplementationSpecific}}]}]",
            "spec.rules[0].matches[0].path.type: what it meant was each implementation's own affair, and it was removed from the API",
        ),
        (
            "HTTPRoute",
            FIRST,
            "rules: [{matches: [{headers: {type: ImplementationSpecific, values: {a: b}}}]}]",
            "spec.rules[0].matches[0].headers.type: what it meant was each implementation's own affair, and it was removed from the API",
        ),
        (
            "HTTPRoute",
            FIRST,
            "rules: [{matches: [{headers: {values: {a: b, A: c}}}]}]",
            "spec.rules[0].matches[0].headers.values.A: the header is there in another spelling, and today only the first one counts",
        ),
        (
            "HTTPRoute",
            FIRST,
            "rules: [{matches: [{headers: {values: {}}}]}]",
            "spec.rules[0].matches[0].headers.values: must map one name to its value at least",
        ),
        (
            "HTTPRoute",
            FIRST,
            "rules: [{matches: [{headers: {value: c, values: {a: b}}}]}]",
            "spec.rules[0].matches[0].headers.value: unknown field",
        ),
        (
            "HTTPRoute",
            FIRST,
            "rules: [{matches: [{extensionRef: {group: g, kind: K, name: n}}]}]",
            "spec.rules[0].matches[0].extensionRef: extensions of a match were removed from the API (GEP-820)",
        ),
        (
            "HTTPRoute",
            FIRST,
            "rules: [{forwardTo: [{serviceName: s}]}]",
            "spec.rules[0].backendRefs[0]: without a port it was the one that the client had connected to; today a Service needs its port",
        ),
        (
            "HTTPRoute",
            FIRST,
            "rules: [{filters: [{type: RequestMirror, requestMirror: {serviceName: s}}]}]",
            "spec.rules[0].filters[0].requestMirror.backendRef: without a port it was the one that the client had connected to; today a Service needs its port",
        ),
        (
            "HTTPRoute",
            FIRST,
            "tls: {certificateRef: {group: core, kind: Secret, name: c}}",
            "spec.tls: a route has no certificate any more (GEP-746)",
        ),
        (
            "HTTPRoute",
            FIRST,
            "gateways: {allow: Some}",
            "spec.gateways.allow: is none of All, FromList, SameNamespace",
        ),
        (
            "HTTPRoute",
            FIRST,
            "gateways: {allow: FromList, gatewayRefs: [{name: g}]}",
            "spec.gateways.gatewayRefs[0]: needs name and namespace, both text",
        ),
        ("HTTPRoute", FIRST, "gateways: {allowed: All}", "spec.gateways.allowed: unknown field"),
        (
            "HTTPRoute",
            SECOND,
            "gateways: {allow: All}, parentRefs: [{name: g}]",
            "spec.gateways: `gateways` and `parentRefs` exclude one another",
        ),
        (
            "HTTPRoute",
            "gateway.networking.k8s.io/v1",
            "rules: [{sessionPersistence: {idleTimeout: 1m}}]",
            "spec.rules[0].sessionPersistence.idleTimeout: the end of an idle session was removed from the API in v1.6",
        ),
        (
            "TCPRoute",
            FIRST,
            "rules: [{matches: [{snis: [a]}], forwardTo: [{serviceName: s, port: 1}]}]",
            "spec.rules[0].matches[0].snis: unknown field",
        ),
        (
            "TCPRoute",
            SECOND,
            "rules: [{backendRefs: [{name: s, port: 1}]}, {backendRefs: [{name: t, port: 1}]}]",
            "spec.rules: a route of this kind has one rule today: with nothing to match, the first took every connection",
        ),
        (
            "TLSRoute",
            FIRST,
            "rules: [{matches: [{snis: [a]}], forwardTo: []}, {matches: [{snis: [b]}], forwardTo: []}]",
            "spec.rules: a TLSRoute has one rule today, and its hostnames instead of snis",
        ),
        (
            "Gateway",
            FIRST,
            "listeners: [{port: 443, protocol: HTTPS, tls: {routeOverride: {certificate: Allow}}}]",
            "spec.listeners[0].tls.routeOverride.certificate: routes cannot bring certificates any more (GEP-746)",
        ),
        (
            "Gateway",
            FIRST,
            "listeners: [{port: 80, protocol: HTTP, routes: {kind: HTTPRoute, selector: {matchLabels: {a: 1}}}}]",
            "spec.listeners[0].routes.selector.matchLabels[\"a\"]: must be text, and is a number",
        ),
        (
            "Gateway",
            FIRST,
            "listeners: [{port: 80, protocol: HTTP, routes: {kind: HTTPRoute, selector: {matchExpressions: [{key: a, operator: Is}]}}}]",
            "spec.listeners[0].routes.selector.matchExpressions[0]: the operator must be In, NotIn, Exists or DoesNotExist",
        ),
        (
            "Gateway",
            SECOND,
            "listeners: [{name: a, port: 80, protocol: HTTP, routes: [{kind: HTTPRoute, namespaces: {from: All}}, {kind: GRPCRoute, namespaces: {from: Same}}]}]",
            "spec.listeners[0].routes[1].namespaces: a listener has one choice of namespaces for all its kinds of routes",
        ),
        (
            "Gateway",
            "gateway.networking.k8s.io/v1beta1",
            "listeners: [{name: a, port: 443, protocol: HTTPS, tls: {frontendValidation: {caCertificateRefs: [{name: ca}]}}}, {name: b, port: 443, protocol: HTTPS, tls: {}}]",
            "spec.listeners[1].tls.frontendValidation: clients are validated by port today, and another listener of this port does it otherwise",
        ),
        (
            "XListenerSet",
            x,
            "listeners: [{name: a, protocol: HTTP}]",
            "spec.listeners[0].port: an implementation could choose the port, which today it cannot",
        ),
        (
            "XListenerSet",
            x,
            "listeners: [{name: a, port: 1, protocol: HTTPS, tls: {frontendValidation: {}}}]",
            "spec.listeners[0].tls.frontendValidation: clients are validated by port today, which is the Gateway's to say",
        ),
        (
            "BackendTLSPolicy",
            SECOND,
            "targetRef: {group: \"\", kind: Service, name: s, namespace: other}",
            "spec.targetRef.namespace: a policy has its targets in its own namespace today",
        ),
    ] {
        assert_eq!(converted(kind, version, spec).1, [error], "{kind} {version} {spec}");
    }
}

#[test]
fn what_is_refused_is_refused_once_and_with_its_remedy() {
    let route = "apiVersion: networking.x-k8s.io/v1alpha1\nkind: HTTPRoute\nmetadata: {name: r}\nspec:\n  rules:\n  - forwardTo: [{serviceName: s}]\n  - matches: [{path: {type: ImplementationSpecific, value: a}}]\n";
    assert_eq!(
        messages(load(route)),
        "test.yaml:6:17: HTTPRoute default/r: spec.rules[0].backendRefs[0]: without a port it was the one that the client had \
         connected to; today a Service needs its port (got {name: \"s\"}); add `port:` with the Service's port\n\
         test.yaml:7:29: HTTPRoute default/r: spec.rules[1].matches[0].path.type: what it meant was each implementation's own \
         affair, and it was removed from the API (got \"ImplementationSpecific\"); write Exact, PathPrefix or \
         RegularExpression, whichever was meant\n"
    );
}

/// Gateways of v1alpha1 that choose, routes that let themselves be chosen.
#[test]
fn gateways_choose_their_routes_and_routes_their_gateways() {
    let gateway = |name: &str, routes: &str| {
        format!(
            "---\napiVersion: {FIRST}\nkind: Gateway\nmetadata: {{name: {name}, namespace: infra}}\nspec:\n  gatewayClassName: c\n  listeners:\n  - {{port: 80, protocol: HTTP, routes: {{kind: HTTPRoute{routes}}}}}\n  - {{port: 81, protocol: TCP, routes: {{kind: TCPRoute}}}}\n"
        )
    };
    let route = |namespace: &str, labels: &str, gateways: &str| {
        format!(
            "---\napiVersion: {FIRST}\nkind: HTTPRoute\nmetadata: {{name: r, namespace: {namespace}, labels: {{{labels}}}}}\nspec: {{{gateways}}}\n"
        )
    };
    let this = "gateways: {allow: FromList, gatewayRefs: [{name: g, namespace: infra}]}";
    let other = "gateways: {allow: FromList, gatewayRefs: [{name: h, namespace: infra}]}";
    let all = "gateways: {allow: All}";
    let apps = ", selector: {matchLabels: {app: a}}, namespaces: {from: All}";
    let by_namespace = ", namespaces: {from: Selector, selector: {matchLabels: {team: x}}}";
    for (routes, namespace, labels, gateways, chosen) in [
        ("", "infra", "", "", true),
        ("", "infra", "", "gateways: {}", true),
        ("", "infra", "", all, true),
        ("", "infra", "", this, true),
        // The route lets itself be chosen by another.
        ("", "infra", "", other, false),
        // The listener chooses in its own namespace.
        ("", "shop", "", all, false),
        (", namespaces: {from: All}", "shop", "", all, true),
        // The route lets itself be chosen in its own namespace.
        (", namespaces: {from: All}", "shop", "", "", false),
        (", namespaces: {from: All}", "shop", "", this, true),
        (apps, "shop", "app: a", all, true),
        (apps, "shop", "app: b", all, false),
        (", selector: {}, namespaces: {from: All}", "shop", "app: b", all, true),
        (by_namespace, "shop", "", all, true),
        (by_namespace, "infra", "", all, false),
    ] {
        let text = format!(
            "{}{}---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, labels: {{team: x}}}}\n",
            gateway("g", routes),
            route(namespace, labels, gateways)
        );
        let loaded = load(&text).unwrap_or_else(|errors| panic!("{text}: {}", messages(Err(errors))));
        let parents = &loaded.model.http_routes[&name(&format!("{namespace}/r"))].parents;
        let to_g: Vec<_> = parents.iter().filter(|parent| &*parent.name == "g").collect();
        assert_eq!(to_g.len(), usize::from(chosen), "{text}");
        // One parentRef for the whole Gateway: its other listener takes no HTTPRoute.
        assert!(to_g.iter().all(|parent| parent.section.is_none()), "{text}");
    }
}
