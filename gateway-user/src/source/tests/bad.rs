//! What bad input gets: every message as a person sees it.

use super::{load, load_with, messages};

/// A Gateway with these lines as its spec's listeners and what follows.
fn gateway(listeners: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata:\n  name: g\nspec:\n  \
         gatewayClassName: sluice\n  listeners:\n{listeners}"
    )
}

/// An HTTPRoute with this spec.
fn route(spec: &str) -> String {
    format!("apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata:\n  name: r\nspec:\n{spec}")
}

/// Asserts what is said of an input that is refused.
#[track_caller]
fn refused(input: &str, expected: &str) {
    let result = load(input);
    assert!(result.is_err(), "it was accepted");
    assert_eq!(messages(result), expected);
}

#[test]
fn broken_yaml() {
    refused(
        "apiVersion: v1\nkind: [Service\nmetadata: {}\n",
        "test.yaml:3:9: this is no YAML: illegal placement of ':' indicator\n",
    );
    refused("a: b: c\n", "test.yaml:1:5: this is no YAML: mapping values are not allowed in this context\n");
    refused(
        "kind: Service\n\tname: x\n",
        "test.yaml:1:7: this is no YAML: while scanning a plain scalar, found a tab\n",
    );
    refused(
        "a: \"\\q\"\n",
        "test.yaml:1:4: this is no YAML: while parsing a quoted scalar, found unknown escape character\n",
    );
    refused("a: &x [*x]\n", "test.yaml:1:8: an alias within its own anchor; write the value out\n");
    refused("a: *nowhere\n", "test.yaml:1:4: this is no YAML: while parsing node, found unknown anchor\n");
    refused("a: !!binary aGk=\n", "test.yaml:1:13: the tag `tag:yaml.org,2002:binary` is not supported\n");
    refused("a: !mine x\n", "test.yaml:1:10: the tag `!mine` is not supported\n");
    refused("? [a]\n: b\n", "test.yaml:1:3: a key must be plain text\n");
    refused("just text\n", "test.yaml:1:1: this is no object: it has neither apiVersion nor kind\n");
}

#[test]
fn a_broken_document_does_not_hide_the_next_ones() {
    refused(
        &format!("a: [\n---\n{}", gateway("  - {name: http, protocol: HTTP, port: 0}\n")),
        "test.yaml:2:1: this is no YAML: while parsing a node, did not find expected node content\ntest.yaml:10:40: Gateway default/g: spec.listeners[0].port: must be from 1 to 65535 (got 0)\n",
    );
}

#[test]
fn duplicate_keys() {
    refused(
        &gateway("  - name: http\n    port: 80\n    protocol: HTTP\n    port: 81\n"),
        "test.yaml:11:5: the key `port` is there already, in line 9; keep one of them\n",
    );
}

#[test]
fn what_every_object_needs() {
    refused("apiVersion: v1\n", "test.yaml:1:1: kind: is required; such as `kind: HTTPRoute`\n");
    refused(
        "kind: Gateway\n",
        "test.yaml:1:1: Gateway: apiVersion: is required; write `apiVersion: gateway.networking.k8s.io/v1`\n",
    );
    refused(
        "apiVersion: v1\nkind: Service\n",
        "test.yaml:1:1: Service: metadata.name: is required; add it\n",
    );
    refused(
        "apiVersion: v1\nkind: Service\nmetadata:\n  namespace: a\n",
        "test.yaml:4:3: Service: metadata.name: is required; add it\n",
    );
    refused(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: My_Service\n",
        "test.yaml:4:9: Service default/My_Service: metadata.name: must match ^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$ (got \"My_Service\"); write a-z, 0-9, - and dots, such as my-name or my.name\n",
    );
    refused(
        "apiVersion: v1\nkind: 7\n",
        "test.yaml:2:7: kind: must be text (got 7); such as `kind: HTTPRoute`\n",
    );
    refused(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  creationTimestamp: yesterday\n",
        "test.yaml:5:22: Service default/a: metadata.creationTimestamp: is no time: failed to parse four digit integer as year: invalid digit, expected 0-9 but got y (got \"yesterday\"); write it as 2026-01-31T12:00:00Z\n",
    );
    refused(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  lables: {}\n",
        "test.yaml:5:3: Service default/a: metadata.lables: unknown field (got {}); did you mean `labels`?\n",
    );
}

#[test]
fn kinds_and_versions() {
    refused(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoutes\nmetadata: {name: r}\n",
        "test.yaml:2:7: HTTPRoutes default/r: kind: gateway.networking.k8s.io has no such kind (got \"HTTPRoutes\"); did you mean `HTTPRoute`?\n",
    );
    refused(
        "apiVersion: gateway.networking.k8s.io/v2\nkind: HTTPRoute\nmetadata: {name: r}\n",
        "test.yaml:1:13: HTTPRoute default/r: apiVersion: HTTPRoute has no version v2 (got \"gateway.networking.k8s.io/v2\"); write `apiVersion: gateway.networking.k8s.io/v1`\n",
    );
    refused(
        "apiVersion: v1\nkind: HTTPRoute\nmetadata: {name: r}\n",
        "test.yaml:1:13: HTTPRoute default/r: apiVersion: HTTPRoute does not belong to this API (got \"v1\"); write `apiVersion: gateway.networking.k8s.io/v1`\n",
    );
    refused(
        "apiVersion: gateway.networking.k8s.i/v1\nkind: HTTPRoute\nmetadata: {name: r}\n",
        "test.yaml:1:13: HTTPRoute default/r: apiVersion: HTTPRoute does not belong to this API (got \"gateway.networking.k8s.i/v1\"); write `apiVersion: gateway.networking.k8s.io/v1`\n",
    );
    refused(
        "apiVersion: networking.x-k8s.io/v1alpha1\nkind: GRPCRoute\nmetadata: {name: r}\n",
        "test.yaml:1:13: GRPCRoute default/r: apiVersion: GRPCRoute does not belong to this API (got \"networking.x-k8s.io/v1alpha1\"); write `apiVersion: gateway.networking.k8s.io/v1`\n",
    );
    refused(
        "apiVersion: networking.x-k8s.io/v1alpha2\nkind: Gateway\nmetadata: {name: r}\n",
        "test.yaml:1:13: Gateway default/r: apiVersion: Gateway was never released in networking.x-k8s.io/v1alpha2 (got \"networking.x-k8s.io/v1alpha2\"); write `apiVersion: gateway.networking.k8s.io/v1`\n",
    );
    refused(
        "apiVersion: gateway.networking.k8s.io/v1alpha3\nkind: HTTPRoute\nmetadata: {name: r}\n",
        "test.yaml:1:13: HTTPRoute default/r: apiVersion: HTTPRoute has no version v1alpha3 (got \"gateway.networking.k8s.io/v1alpha3\"); write `apiVersion: gateway.networking.k8s.io/v1`\n",
    );
    refused(
        "apiVersion: networking.x-k8s.io/v1alpha1\nkind: BackendPolicy\nmetadata: {name: r}\n",
        "test.yaml:2:7: BackendPolicy default/r: kind: BackendPolicy was removed from the API in v0.4: the TLS towards a backend that it set up cannot be told from it alone (got \"BackendPolicy\"); write a BackendTLSPolicy with targetRefs and validation (hostname, caCertificateRefs), and the Service's appProtocol\n",
    );
    refused(
        "apiVersion: sluice-gateway.dev/v1\nkind: SluiceParameter\nmetadata: {name: r}\n",
        "test.yaml:2:7: SluiceParameter default/r: kind: sluice-gateway.dev has no such kind (got \"SluiceParameter\"); did you mean `SluiceParameters`?\n",
    );
    refused(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: SluiceParameters\nmetadata: {name: r}\n",
        "test.yaml:1:13: SluiceParameters default/r: apiVersion: SluiceParameters does not belong to this API (got \"gateway.networking.k8s.io/v1\"); write `apiVersion: sluice-gateway.dev/v1`\n",
    );
    refused(
        "apiVersion: discovery.k8s.io/v1beta1\nkind: EndpointSlice\nmetadata: {name: r}\n",
        "test.yaml:1:13: EndpointSlice default/r: apiVersion: EndpointSlice has no version v1beta1 (got \"discovery.k8s.io/v1beta1\"); write `apiVersion: discovery.k8s.io/v1`\n",
    );
}

#[test]
fn unknown_fields_and_wrong_types() {
    refused(
        &gateway("  - name: http\n    protocol: HTTP\n    port: 80\n    hostnam: a.example\n"),
        "test.yaml:11:5: Gateway default/g: spec.listeners[0].hostnam: unknown field (got \"a.example\"); did you mean `hostname`?\n",
    );
    refused(
        &gateway("  - name: http\n    protocol: HTTP\n    port: \"80\"\n    hostname: true\n"),
        "test.yaml:10:11: Gateway default/g: spec.listeners[0].port: must be a whole number, and is text (got \"80\"); remove the quotes\ntest.yaml:11:15: Gateway default/g: spec.listeners[0].hostname: must be text, and is true or false (got true); put it in quotes\n",
    );
    refused(
        &gateway("    name: http\n    protocol: HTTP\n    port: 80\n"),
        "test.yaml:8:5: Gateway default/g: spec.listeners: must be a list, and is an object (got {name: \"http\", protocol: \"HTTP\", port: 80}); put `- ` in front of each item\n",
    );
    refused(
        &route("  hostnames:\n  rules:\n  - backendRef: []\n"),
        "test.yaml:6:12: HTTPRoute default/r: spec.hostnames: must be a list, and is empty; give it a value, or remove it\ntest.yaml:8:5: HTTPRoute default/r: spec.rules[0].backendRef: unknown field (got []); did you mean `backendRefs`?\n",
    );
    refused(
        &route("  parentRefs:\n  - name: g\n    port: 80.5\n  rulez: []\n"),
        "test.yaml:8:11: HTTPRoute default/r: spec.parentRefs[0].port: must be a whole number, and is a fraction or too large (got 80.5)\ntest.yaml:9:3: HTTPRoute default/r: spec.rulez: unknown field (got []); did you mean `rules`?\n",
    );
    refused(
        &route("  rules:\n  - forwardTo:\n    - serviceName: s\n"),
        "test.yaml:7:5: HTTPRoute default/r: spec.rules[0].forwardTo: unknown field (got [{serviceName: \"s\"}]); today it is `backendRefs`\n",
    );
    refused(
        &route("  rules:\n  - <<: {a: b}\n"),
        "test.yaml:7:5: HTTPRoute default/r: spec.rules[0].<<: unknown field (got {a: \"b\"}); merge keys are not supported: write the fields out\n",
    );
}

#[test]
fn values_out_of_range() {
    refused(
        &gateway("  - name: http\n    protocol: HTTP\n    port: 0\n"),
        "test.yaml:10:11: Gateway default/g: spec.listeners[0].port: must be from 1 to 65535 (got 0)\n",
    );
    refused(
        &gateway("  - name: http\n    protocol: HTTP\n    port: 99999999999999999999\n"),
        "test.yaml:10:11: Gateway default/g: spec.listeners[0].port: must be a whole number, and is a fraction or too large (got 100000000000000000000)\n",
    );
    refused(
        &gateway("  - []\n"),
        "test.yaml:8:5: Gateway default/g: spec.listeners[0]: must be an object, and is a list (got [])\n",
    );
    refused(
        &gateway("  - name: Http\n    protocol: HTTP\n    port: 80\n"),
        "test.yaml:8:11: Gateway default/g: spec.listeners[0].name: must match ^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$ (got \"Http\"); write a-z, 0-9, - and dots, such as my-name or my.name\n",
    );
    refused(
        &gateway(
            "  - name: a\n    protocol: HTTP\n    port: 80\n    hostname: 1.2.3.4.\n  - name: a\n    protocol: HTTP\n    port: 81\n",
        ),
        "test.yaml:11:15: Gateway default/g: spec.listeners[0].hostname: must match ^(\\*\\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$ (got \"1.2.3.4.\"); write a hostname in lower case, such as a.example.com or *.example.com\ntest.yaml:12:5: Gateway default/g: spec.listeners[1]: another item has the same name (got {name: \"a\", protocol: \"HTTP\", port: 81}); give each its own name\n",
    );
    refused(
        &route("  rules:\n  - matches:\n    - path: {type: Prefix, value: /a}\n      method: get\n"),
        "test.yaml:8:20: HTTPRoute default/r: spec.rules[0].matches[0].path.type: is none of Exact, PathPrefix, RegularExpression (got \"Prefix\"); did you mean `PathPrefix`?\ntest.yaml:9:15: HTTPRoute default/r: spec.rules[0].matches[0].method: is none of GET, HEAD, POST, PUT, DELETE, CONNECT, OPTIONS, TRACE, PATCH (got \"get\"); did you mean `GET`?\n",
    );
    refused(
        &route(
            "  rules:\n  - timeouts: {request: 1.5s}\n    backendRefs:\n    - {name: s, port: 80, weight: -1}\n",
        ),
        "test.yaml:7:25: HTTPRoute default/r: spec.rules[0].timeouts.request: must match ^([0-9]{1,5}(h|m|s|ms)){1,4}$ (got \"1.5s\"); write whole numbers with h, m, s or ms, such as 1m30s\ntest.yaml:9:35: HTTPRoute default/r: spec.rules[0].backendRefs[0].weight: must be from 0 to 1000000 (got -1)\n",
    );
    refused(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: g}\nspec:\n  gatewayClassName: s\n  \
         listeners: [{name: a, port: 1, protocol: TCP}]\n  addresses: [{value: example.com}]\n",
        "test.yaml:7:15: Gateway default/g: spec.addresses[0]: an address of type IPAddress needs an IPv4 or IPv6 address as value (got {value: \"example.com\"})\n",
    );
    for expression in
        ["{key: a, operator: Is}", "{key: a, operator: In}", "{key: a, operator: Exists, values: [b]}"]
    {
        let allowed = format!(
            "allowedRoutes: {{namespaces: {{from: Selector, selector: {{matchExpressions: [{expression}]}}}}}}"
        );
        let errors =
            load(&gateway(&format!("  - {{name: a, port: 1, protocol: TCP, {allowed}}}\n"))).unwrap_err();
        assert_eq!(
            errors[0].field,
            "spec.listeners[0].allowedRoutes.namespaces.selector.matchExpressions[0]"
        );
        assert!(errors[0].message.starts_with("the operator"), "{}", errors[0]);
    }
}

#[test]
fn rules_of_the_api() {
    refused(
        &gateway("  - {name: a, protocol: TCP, port: 80, hostname: a.example}\n"),
        "test.yaml:8:5: Gateway default/g: spec.listeners: hostname must not be specified for protocols ['TCP', 'UDP'] (got [{name: \"a\", protocol: \"TCP\", port: 80, hostname: \"a.example\"}])\n",
    );
    refused(
        &route("  rules:\n  - matches: [{path: {value: a}}]\n    backendRefs: [{name: s}]\n"),
        "test.yaml:7:22: HTTPRoute default/r: spec.rules[0].matches[0].path: value must be an absolute path and start with '/' when type one of ['Exact', 'PathPrefix'] (got {value: \"a\"})\ntest.yaml:8:19: HTTPRoute default/r: spec.rules[0].backendRefs[0]: Must have port for Service reference (got {name: \"s\"})\n",
    );
    refused(
        &route("  rules:\n  - timeouts: {request: 1s, backendRequest: 2s}\n"),
        "test.yaml:7:15: HTTPRoute default/r: spec.rules[0].timeouts: backendRequest timeout cannot be longer than request timeout (got {request: \"1s\", backendRequest: \"2s\"})\n",
    );
    refused(
        &route("  parentRefs: [{name: g}, {name: g}]\n"),
        "test.yaml:6:15: HTTPRoute default/r: spec.parentRefs: sectionName or port must be unique when parentRefs includes 2 or more references to the same parent (got [{name: \"g\"}, {name: \"g\"}])\n",
    );
}

#[test]
fn the_same_object_twice_names_both_places() {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}]}\n";
    refused(
        &format!("{service}---\n{service}"),
        "test.yaml:6:1: Service default/a: is there already, at test.yaml:1; keep one of them\n",
    );
}

#[test]
fn services_and_slices() {
    refused(
        "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}, {port: 80}, {port: 81, targetPort: []}]}\n",
        "test.yaml:4:28: Service default/a: spec.ports[1]: another item has the same port and protocol (got {port: 80}); give each its own port and protocol\ntest.yaml:4:63: Service default/a: spec.ports[2].targetPort: must be a number or text, and is a list (got [])\n",
    );
    refused(
        "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}, {port: 81}]}\n",
        "test.yaml:4:15: Service default/a: spec.ports: each port needs a name of its own when there are several (got [{port: 80}, {port: 81}])\n",
    );
    refused(
        "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {type: ExternalName}\n",
        "test.yaml:4:7: Service default/a: spec: a Service of type ExternalName needs externalName (got {type: \"ExternalName\"})\n",
    );
    refused(
        "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {type: ExternalName, externalName: Db_1.example.org}\n",
        "test.yaml:4:42: Service default/a: spec.externalName: must match ^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\\.?$ (got \"Db_1.example.org\"); write a DNS name in lower case, such as db.example.org\n",
    );
    refused(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: a, labels: {kubernetes.io/service-name: a}}\naddressType: IPv4\nendpoints: [{addresses: [\"::1\"]}, {addresses: []}]\n",
        "test.yaml:5:47: EndpointSlice default/a: endpoints[1].addresses: has 0 items and needs at least 1\n",
    );
    refused(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: a, labels: {kubernetes.io/service-name: a}}\naddressType: IPv4\nendpoints: [{addresses: [\"::1\"]}]\n",
        "test.yaml:5:26: EndpointSlice default/a: endpoints[0].addresses[0]: is no IPv4 address (got \"::1\")\n",
    );
}

/// A route of a kind with an annotation of ours.
fn annotated(kind: &str, annotation: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata:\n  name: r\n  annotations:\n    \
         example.org/idle-timeout: never\n    sluice-gateway.dev/{annotation}\nspec: {{rules: [{{backendRefs: [{{name: a, \
         port: 80}}]}}]}}\n"
    )
}

#[test]
fn idle_timeouts_that_are_none() {
    let field = "metadata.annotations[\"sluice-gateway.dev/idle-timeout\"]";
    let remedy = "write whole numbers with h, m, s or ms, such as 30s or 1h30m";
    for (kind, value, column, problem) in [
        ("TCPRoute", "soon", 38, "is no duration"),
        ("UDPRoute", "1.5s", 38, "is no duration"),
        ("TCPRoute", "\"30\"", 38, "is no duration"),
        ("UDPRoute", "999ms", 38, "must be at least 1s"),
        ("TCPRoute", "0s", 38, "must be at least 1s"),
    ] {
        let shown = if value.starts_with('"') { value.to_owned() } else { format!("{value:?}") };
        refused(
            &annotated(kind, &format!("idle-timeout: {value}")),
            &format!("test.yaml:7:{column}: {kind} default/r: {field}: {problem} (got {shown}); {remedy}\n"),
        );
    }
    refused(
        &annotated("TCPRoute", "idle-timeout: 30"),
        &format!(
            "test.yaml:7:38: TCPRoute default/r: {field}: must be text, and is a number (got 30); put it in quotes\n"
        ),
    );
}

#[test]
fn annotations_of_ours_that_there_are_not() {
    for (kind, annotation, expected) in [
        ("TCPRoute", "idle-timeout: 30s", ""),
        (
            "TCPRoute",
            "idle-timout: 30s",
            "metadata.annotations[\"sluice-gateway.dev/idle-timout\"]: Sluice has no such annotation (got \"30s\"); \
             did you mean `sluice-gateway.dev/idle-timeout`?",
        ),
        (
            "UDPRoute",
            "color: red",
            "metadata.annotations[\"sluice-gateway.dev/color\"]: Sluice has no such annotation (got \"red\"); there is \
             `sluice-gateway.dev/idle-timeout`",
        ),
        (
            "HTTPRoute",
            "idle-timeout: soon",
            "metadata.annotations[\"sluice-gateway.dev/idle-timeout\"]: it has no effect on a HTTPRoute: it is for \
             TCPRoutes and UDPRoutes (got \"soon\"); remove it",
        ),
    ] {
        let result = load(&annotated(kind, annotation));
        assert!(result.is_ok(), "{annotation}: {}", messages(result));
        let told = messages(result);
        let told = told.trim_end().rsplit_once("default/r: ").map_or(&*told, |(_, told)| told);
        assert_eq!(told, expected, "{annotation}");
    }
}

#[test]
fn affinity_that_is_none() {
    refused(
        "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {sessionAffinity: ClientIp, ports: [{port: 80}]}\n",
        "test.yaml:4:25: Service default/a: spec.sessionAffinity: is none of ClientIP, None (got \"ClientIp\"); did you \
         mean `ClientIP`?\n",
    );
}

#[test]
fn endpoints_for_a_port_that_a_service_lacks() {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}]}\n";
    let result = load_with(service, &["default/a:81=127.0.0.1:1"]);
    let expected = "--endpoint: Service default/a: the Service has no such port (got default/a:81=127.0.0.1:1); it has 80\n";
    assert_eq!(messages(result), expected);
}

#[test]
fn many_problems_are_counted() {
    let listeners = "  - {name: http, protocol: HTTP, port: 0}\n";
    let gateways = (0..300).map(|_| format!("---\n{}", gateway(listeners))).collect::<String>();
    let errors = load(&gateways).unwrap_err();
    assert_eq!(errors.len(), 101);
    assert_eq!(errors[100].to_string(), "and 200 more problems");
}

#[test]
fn aliases_that_explode() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for i in 1..20 {
        bomb.push_str(&format!(
            "a{i}: &a{i} [*a{0}, *a{0}, *a{0}, *a{0}, *a{0}, *a{0}, *a{0}, *a{0}, *a{0}]\n",
            i - 1
        ));
    }
    refused(
        &bomb,
        "test.yaml:5:9: anchors and aliases stand for more than 100000 values in one document; write the values out\n",
    );
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    refused(&deep, "test.yaml:1:256: this is no YAML: recursion limit exceeded\n");
    let mut nested = String::from("a0: &a0 [x]\n");
    for i in 1..200 {
        nested.push_str(&format!("a{i}: &a{i} [*a{}]\n", i - 1));
    }
    refused(&nested, "test.yaml:64:12: nested deeper than 64 levels\n");
}
