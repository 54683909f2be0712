//! Filters of HTTPRoutes: what they come to, what of them is refused, and what has no effect.

use super::{load, messages, name};
use crate::core::model::HttpRule;
use crate::core::redirect::Scheme;

fn route(rule: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r}}\nspec:\n  rules:\n  - {rule}\n"
    )
}

/// The rule of a route that has one, and what is warned of.
fn rule(text: &str) -> (HttpRule, String) {
    let loaded = load(&route(text));
    let loaded = loaded.unwrap_or_else(|errors| panic!("{text}: {}", messages(Err(errors))));
    let warnings = loaded.warnings.iter().map(|warning| format!("{warning}\n")).collect();
    (loaded.model.http_routes[&name("default/r")].rules[0].clone(), warnings)
}

/// What a rule's refusals say.
fn refusals(rule: &HttpRule) -> Vec<String> {
    let all = rule.refusals.iter().chain(rule.backends.iter().flat_map(|backend| &backend.refusals));
    all.map(|refusal| format!("{}: {}", refusal.field, refusal.message)).collect()
}

#[test]
fn header_changes_of_a_rule_and_its_backends() {
    let (rule, warnings) = rule(
        "{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-A, value: \"1, 2\"}, \
         {name: Host, value: \"b.example:8080\"}], add: [{name: x-b, value: \"3\"}], remove: [X-C]}}, \
         {type: ResponseHeaderModifier, responseHeaderModifier: {remove: [server]}}], \
         backendRefs: [{name: a, port: 80}, {name: b, port: 80, \
         filters: [{type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: x-d, value: \"4\"}]}}]}]}",
    );
    assert_eq!((warnings.as_str(), refusals(&rule)), ("", Vec::new()));
    let headers = rule.headers.as_deref().unwrap();
    assert_eq!(
        headers.request.to_string(),
        "set x-a: 1, 2, set host: b.example:8080, add x-b: 3, remove x-c"
    );
    assert_eq!(headers.response.to_string(), "remove server");
    assert_eq!(rule.backends[0].headers, None);
    assert_eq!(rule.backends[1].headers.as_deref().unwrap().request.to_string(), "add x-d: 4");
}

#[test]
fn redirects() {
    for (filter, words) in [
        ("{}", "302 to the same place"),
        ("{scheme: https, statusCode: 301}", "301 to https"),
        (
            "{hostname: b.example, port: 8443, path: {type: ReplaceFullPath, replaceFullPath: /x}}",
            "302 to host b.example, port 8443, path /x",
        ),
        (
            "{path: {type: ReplacePrefixMatch, replacePrefixMatch: /x/}, statusCode: 308}",
            "308 to \"/x/\" in place of \"/a\"",
        ),
        (
            "{path: {type: ReplacePrefixMatch, replacePrefixMatch: \"\"}, statusCode: 307}",
            "307 to \"\" in place of \"/a\"",
        ),
        ("{scheme: http, statusCode: 303}", "303 to http"),
    ] {
        let (rule, warnings) = rule(&format!(
            "{{matches: [{{path: {{type: PathPrefix, value: /a}}}}], \
             filters: [{{type: RequestRedirect, requestRedirect: {filter}}}]}}"
        ));
        assert_eq!((warnings.as_str(), refusals(&rule)), ("", Vec::new()), "{filter}");
        assert_eq!(rule.redirect.unwrap().to_string(), words, "{filter}");
        assert_eq!(rule.backends.len(), 0);
    }
}

#[test]
fn a_redirect_in_the_old_form() {
    let text = "apiVersion: gateway.networking.k8s.io/v1alpha2\nkind: HTTPRoute\nmetadata: {name: r}\nspec:\n  \
                parentRefs: [{name: g}]\n  rules:\n  - filters: [{type: RequestRedirect, requestRedirect: {protocol: HTTPS, statusCode: 301}}]\n";
    let loaded = load(text).unwrap();
    let redirect = loaded.model.http_routes[&name("default/r")].rules[0].redirect.clone().unwrap();
    assert_eq!((redirect.scheme, redirect.status.code()), (Some(Scheme::Https), 301));
}

#[test]
fn what_a_filter_may_not_do_is_refused() {
    let at = "spec.rules[0].filters[0].requestHeaderModifier";
    for (modifier, want) in [
        (
            "set: [{name: Connection, value: close}]",
            "set[0]: a filter may not set \"Connection\": it belongs to one connection, and the gateway writes it by itself (RFC 9110, 7.6.1); remove the entry",
        ),
        (
            "add: [{name: Transfer-Encoding, value: chunked}]",
            "add[0]: a filter may not add \"Transfer-Encoding\": it belongs to one connection, and the gateway writes it by itself (RFC 9110, 7.6.1); remove the entry",
        ),
        (
            "remove: [content-length]",
            "remove[0]: a filter may not remove \"content-length\": it says where the message ends, and the gateway writes it by itself; remove the entry",
        ),
        (
            "remove: [Host]",
            "remove[0]: a filter may not remove \"Host\": a request has exactly one; set it instead; remove the entry",
        ),
        (
            "set: [{name: Host, value: \"a/b\"}]",
            "set[0]: \"a/b\" is not a host; write a name or an address, with or without a port",
        ),
        (
            "set: [{name: Host, value: \"user@a\"}]",
            "set[0]: \"user@a\" is not a host; write a name or an address, with or without a port",
        ),
        (
            "set: [{name: Host, value: \"a:b\"}]",
            "set[0]: \"a:b\" is not a host; write a name or an address, with or without a port",
        ),
        ("remove: [\"x y\"]", "remove[0]: \"x y\" is not the name of a header (RFC 9110, 5.1); correct it"),
        (
            "remove: [\":path\"]",
            "remove[0]: \":path\" is not the name of a header (RFC 9110, 5.1); correct it",
        ),
        (
            "set: [{name: X-A, value: \"1\"}], remove: [x-a]",
            "remove[0]: spec.rules[0].filters[0].requestHeaderModifier.set[0] names \"x-a\" too, and a filter may do one thing to a header; keep one of them",
        ),
    ] {
        let (rule, warnings) = rule(&format!(
            "{{filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{{modifier}}}}}], \
             backendRefs: [{{name: a, port: 80}}]}}"
        ));
        assert_eq!(refusals(&rule), [format!("{at}.{want}")]);
        assert_eq!(warnings, "");
    }
    // A backend's filter refuses the rule as well; an answer may have a Host field, and must have a Date.
    let (rule, _) = rule(
        "{backendRefs: [{name: a, port: 80, filters: [{type: ResponseHeaderModifier, responseHeaderModifier: \
         {set: [{name: host, value: a}], remove: [Date]}}]}]}",
    );
    assert_eq!(
        refusals(&rule),
        [
            "spec.rules[0].backendRefs[0].filters[0].responseHeaderModifier.remove[0]: a filter may not remove \"Date\": an answer that is passed on has one (RFC 9110, 6.6.1); remove the entry"
        ]
    );
}

#[test]
fn what_is_no_path_is_refused() {
    for (path, field) in [
        ("{type: ReplaceFullPath, replaceFullPath: \"a\"}", "replaceFullPath: \"a\""),
        ("{type: ReplaceFullPath, replaceFullPath: \"/a?b\"}", "replaceFullPath: \"/a?b\""),
        ("{type: ReplacePrefixMatch, replacePrefixMatch: \"/ä\"}", "replacePrefixMatch: \"/ä\""),
        ("{type: ReplaceFullPath, replaceFullPath: \"/a\\r\\nx: y\"}", "replaceFullPath: \"/a\r\nx: y\""),
    ] {
        let (rule, _) =
            rule(&format!("{{filters: [{{type: RequestRedirect, requestRedirect: {{path: {path}}}}}]}}"));
        assert_eq!(
            refusals(&rule),
            [format!(
                "spec.rules[0].filters[0].requestRedirect.path.{field} is not a path; begin it with /, without ? and #, and percent-encode what is not ASCII"
            )]
        );
    }
}

#[test]
fn what_has_no_effect_is_said() {
    let (first, warnings) = rule(
        "{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-A, value: \"1\"}, {name: x-a, value: \"2\"}]}}], backendRefs: [{name: a, port: 80}]}",
    );
    assert_eq!(first.headers.unwrap().request.to_string(), "set x-a: 1");
    assert_eq!(
        warnings,
        "test.yaml:6:101: HTTPRoute default/r: spec.rules[0].filters[0].requestHeaderModifier.set[1]: it has no \
         effect: spec.rules[0].filters[0].requestHeaderModifier.set[0] names the same header, and the first one \
         counts (got {name: \"x-a\", value: \"2\"}); remove one of the two\n"
    );
    let (_, warnings) = rule(
        "{filters: [{type: RequestRedirect, requestRedirect: {scheme: https}}, {type: RequestHeaderModifier, requestHeaderModifier: {remove: [x]}}]}",
    );
    assert_eq!(
        warnings,
        "test.yaml:6:128: HTTPRoute default/r: spec.rules[0].filters[1].requestHeaderModifier: it has no effect: the \
         rule redirects, and no backend gets the request (got {remove: [\"x\"]}); remove one of the two filters\n"
    );
}

#[test]
fn what_the_api_rules_out_is_an_error() {
    for (rule, says) in [
        (
            "{filters: [{type: RequestRedirect, requestRedirect: {scheme: https}}], backendRefs: [{name: a, port: 80}]}",
            "RequestRedirect filter must not be used together with backendRefs",
        ),
        (
            "{filters: [{type: RequestRedirect, requestRedirect: {scheme: https}}, {type: RequestRedirect, requestRedirect: {scheme: http}}]}",
            "RequestRedirect filter cannot be repeated",
        ),
        (
            "{filters: [{type: RequestRedirect, requestRedirect: {}}, {type: URLRewrite, urlRewrite: {hostname: a}}]}",
            "May specify either httpRouteFilterRequestRedirect or httpRouteFilterRequestRewrite, but not both",
        ),
        (
            "{matches: [{path: {type: Exact, value: /a}}], filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}}]}",
            "exactly one PathPrefix match must be specified",
        ),
        (
            "{matches: [{path: {value: /a}}, {path: {value: /b}}], filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}}]}",
            "exactly one PathPrefix match must be specified",
        ),
        (
            "{filters: [{type: RequestRedirect, requestRedirect: {statusCode: 304}}]}",
            "is none of 301, 302, 303, 307, 308",
        ),
        ("{filters: [{type: RequestRedirect, requestRedirect: {scheme: ftp}}]}", "is none of http, https"),
        (
            "{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: \"x:\", value: a}]}}]}",
            "must match",
        ),
        (
            "{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x, value: \"a\\r\\nb: c\"}]}}]}",
            "must match",
        ),
    ] {
        let said = messages(load(&route(rule)));
        assert!(load(&route(rule)).is_err() && said.contains(says), "{rule}: {said}");
    }
}
