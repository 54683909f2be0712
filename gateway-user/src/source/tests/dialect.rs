//! Old dialects: what they mean, and that nothing of them is lost.

use super::{load, messages, name};
use crate::core::model::{AllowedRoutes, FromNamespaces, GroupKind, NamedRoute};
use crate::core::transport::Transport;

/// The allowedRoutes of a listener that is written with these lines.
fn allowed(listener: &str) -> AllowedRoutes {
    let text = format!(
        "apiVersion: gateway.networking.k8s.io/v1alpha2\nkind: Gateway\nmetadata: {{name: g}}\nspec:\n  \
         gatewayClassName: c\n  listeners:\n  - port: 80\n{listener}"
    );
    let loaded = load(&text).unwrap_or_else(|errors| panic!("{}", messages(Err(errors))));
    loaded.model.gateways[&name("default/g")].listeners[0].allowed.clone()
}

fn kinds(names: &[&str]) -> Vec<GroupKind> {
    let kind = |name: &&str| GroupKind { group: "gateway.networking.k8s.io".into(), kind: (*name).into() };
    names.iter().map(kind).collect()
}

fn named(kind: &str, name: Option<&str>, namespace: Option<&str>) -> NamedRoute {
    NamedRoute { kind: kind.into(), name: name.map(Into::into), namespace: namespace.map(Into::into) }
}

#[test]
fn routes_of_a_listener() {
    let of_kind = |namespaces, kind: &str| AllowedRoutes { namespaces, kinds: kinds(&[kind]), named: None };
    for (lines, expected) in [
        ("    protocol: HTTP\n    routes: {kind: HTTPRoute}\n", of_kind(FromNamespaces::Same, "HTTPRoute")),
        ("    protocol: TCP\n    routes: {}\n", of_kind(FromNamespaces::Same, "TCPRoute")),
        (
            "    protocol: HTTP\n    routes: {group: gateway.networking.k8s.io, kind: HTTPRoute, namespaces: {from: All}, selector: {}}\n",
            of_kind(FromNamespaces::All, "HTTPRoute"),
        ),
        (
            "    protocol: HTTP\n    routes: {kinds: [{kind: GRPCRoute}]}\n",
            of_kind(FromNamespaces::Same, "GRPCRoute"),
        ),
        (
            "    protocol: HTTP\n    routes:\n    - {kind: HTTPRoute, name: a}\n    - {kind: HTTPRoute, name: b, namespace: c}\n    - {kind: GRPCRoute}\n",
            AllowedRoutes {
                namespaces: FromNamespaces::All,
                kinds: kinds(&["HTTPRoute", "GRPCRoute"]),
                named: Some(vec![
                    named("HTTPRoute", Some("a"), None),
                    named("HTTPRoute", Some("b"), Some("c")),
                    named("GRPCRoute", None, None),
                ]),
            },
        ),
        (
            "    protocol: HTTP\n    routes: {name: a, namespaces: {from: Same}}\n",
            AllowedRoutes {
                namespaces: FromNamespaces::Same,
                kinds: kinds(&["HTTPRoute"]),
                named: Some(vec![named("HTTPRoute", Some("a"), None)]),
            },
        ),
    ] {
        assert_eq!(allowed(lines), expected, "{lines}");
    }
}

#[test]
fn routes_chosen_by_labels_are_looked_up() {
    let text = "
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: Gateway
metadata: {name: g}
spec:
  gatewayClassName: c
  listeners: [{protocol: HTTP, port: 80, routes: {kind: HTTPRoute, selector: {matchLabels: {app: web}}}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: yes, labels: {app: web}}
spec: {}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: other, labels: {app: api}}
spec: {}
";
    let loaded = load(text).unwrap();
    let listener = &loaded.model.gateways[&name("default/g")].listeners[0];
    assert_eq!(listener.allowed.named, Some(vec![named("HTTPRoute", Some("yes"), Some("default"))]));
    assert_eq!(listener.allowed.namespaces, FromNamespaces::Same);
    assert_eq!(&*listener.name, "http-80");
}

#[test]
fn listeners_without_a_name_get_one_of_their_own() {
    let text = "
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: Gateway
metadata: {name: g}
spec:
  gatewayClassName: c
  listeners:
  - {protocol: HTTP, port: 80, hostname: a.example}
  - {protocol: HTTP, port: 80, hostname: b.example}
  - {protocol: example.com/Own, port: 81}
  - {name: http-80-3, protocol: HTTP, port: 80}
";
    let loaded = load(text).unwrap();
    let listeners = &loaded.model.gateways[&name("default/g")].listeners;
    let names: Vec<_> = listeners.iter().map(|listener| &*listener.name).collect();
    assert_eq!(names, ["http-80", "http-80-2", "examplecomown-81", "http-80-3"]);
}

#[test]
fn forward_to_and_target_refs() {
    // What stands in a rule, and the backends that come of it: namespace, name, port, weight.
    for (kind, rule, expected) in [
        (
            "HTTPRoute",
            "forwardTo: [{targetRef: {kind: Service, name: a, namespace: n}, port: 80, weight: 5}]",
            &[("n", "a", 80, 5)][..],
        ),
        ("HTTPRoute", "forwardTo: {targetRef: {name: a}, port: 80}", &[("", "a", 80, 1)]),
        ("HTTPRoute", "forwardTo: [{serviceName: a, port: 80}]", &[("", "a", 80, 1)]),
        (
            "HTTPRoute",
            "forwardTo: [{backendRef: {group: core, kind: Service, name: a}, port: 80}]",
            &[("", "a", 80, 1)],
        ),
        (
            "HTTPRoute",
            "forwardTo: [{targetRefs: [{name: a}, {name: b, port: 81}], port: 80, weight: 2}, {targetRef: {name: c}, port: 82}]",
            &[("", "a", 80, 2), ("", "b", 81, 2), ("", "c", 82, 1)],
        ),
        (
            "HTTPRoute",
            "targetRefs: [{kind: Service, name: a, port: 80}, {kind: Service, name: b, port: 81, weight: 3}]",
            &[("", "a", 80, 1), ("", "b", 81, 3)],
        ),
        ("HTTPRoute", "targetRefs: [{name: a}, {name: b}], port: 80", &[("", "a", 80, 1), ("", "b", 80, 1)]),
        (
            "HTTPRoute",
            "backendRefs: [{name: z, port: 1}], forwardTo: [{targetRef: {name: a}, port: 80}]",
            &[("", "z", 1, 1), ("", "a", 80, 1)],
        ),
        (
            "TCPRoute",
            "forwardTo: [{targetRef: {kind: Service, name: a, namespace: n}, port: 80, weight: 0}]",
            &[("n", "a", 80, 0)],
        ),
        ("TCPRoute", "targetRefs: [{kind: Service, name: a, port: 80}]", &[("", "a", 80, 1)]),
    ] {
        let text = format!(
            "apiVersion: gateway.networking.k8s.io/v1alpha2\nkind: {kind}\nmetadata: {{name: r}}\nspec:\n  rules: [{{{rule}}}]\n"
        );
        let loaded = load(&text).unwrap_or_else(|errors| panic!("{rule}: {}", messages(Err(errors))));
        let model = &loaded.model;
        let backends = match kind {
            "HTTPRoute" => &model.http_routes[&name("default/r")].rules[0].backends,
            _ => &model.l4_routes[&(Transport::Tcp, name("default/r"))].rules[0].backends,
        };
        let found: Vec<_> = (backends.iter())
            .map(|b| (b.namespace.as_deref().unwrap_or_default(), &*b.name, b.port.unwrap(), b.weight))
            .collect();
        assert_eq!(found, expected, "{rule}");
        assert!(
            backends
                .iter()
                .all(|backend| backend.kind == GroupKind { group: String::new(), kind: "Service".into() })
        );
        assert_eq!(loaded.warnings.len(), 1, "{rule}");
        assert!(load(&loaded.warnings[0].remedy).is_ok_and(|today| today.model == *model), "{rule}");
    }
}

#[test]
fn what_the_dialect_does_not_know_is_an_error() {
    let rule = |rule: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1alpha2\nkind: HTTPRoute\nmetadata: {{name: r}}\nspec:\n  rules:\n  - {rule}\n"
        )
    };
    for (text, field, message) in [
        (rule("forwardTo: 5"), "spec.rules[0].forwardTo", "unknown field"),
        (rule("forwardTo: [{port: 80}]"), "spec.rules[0].backendRefs[0].name", "is required"),
        (rule("forwardTo: [{targetRef: {name: a, colour: red}, port: 80}]"), "spec.rules[0].backendRefs[0].colour", "unknown field"),
        (rule("forwardTo: [{targetRef: {name: a}}]"), "spec.rules[0].backendRefs[0]", "Must have port for Service reference"),
        (rule("matches: [{path: {type: ImplementationSpecific, value: /}}]"), "spec.rules[0].matches[0].path.type", "what it meant was each implementation's own affair, and it was removed from the API"),
        (
            "apiVersion: gateway.networking.k8s.io/v1alpha2\nkind: Gateway\nmetadata: {name: g}\nspec: {gatewayClassName: c, listeners: [{port: 80, protocol: HTTP, routes: {kind: HTTPRoute, nam: a}}]}\n".to_owned(),
            "spec.listeners[0].routes.nam",
            "unknown field",
        ),
    ] {
        let errors = load(&text).unwrap_err();
        assert_eq!((&*errors[0].field, &*errors[0].message), (field, message), "{text}");
        assert!(errors[0].line > 0);
    }
}

#[test]
fn an_old_version_alone_changes_nothing() {
    let text = "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {name: a}\nspec:\n  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: b}]\n  to: [{group: \"\", kind: Service}]\n";
    let loaded = load(text).unwrap();
    assert_eq!(
        messages(Ok(loaded.clone())),
        "test.yaml:1:1: ReferenceGrant default/a: gateway.networking.k8s.io/v1beta1 is an old version of the API; \
         write `apiVersion: gateway.networking.k8s.io/v1`; the rest stays\n"
    );
    let policy = text.replace("v1beta1", "v1alpha2").replace("ReferenceGrant", "ReferencePolicy");
    assert_eq!(load(&policy).unwrap().model, loaded.model);
}
