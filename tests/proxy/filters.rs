//! Filters of HTTPRoutes: what backends and clients get. The tables are those of the conformance tests of the same
//! names (v1.6.1).

use gateway_tests::objects;

use super::fixture::*;

/// A rule for a prefix with these filters, and the Service `web`.
fn filtered(prefix: &str, filters: &[&str]) -> String {
    format!(
        "{{matches: [{{path: {{type: PathPrefix, value: {prefix}}}}}], filters: [{}], \
         backendRefs: [{{name: web, port: 80}}]}}",
        filters.join(", ")
    )
}

fn redirect(prefix: &str, redirect: &str) -> String {
    format!(
        "{{matches: [{{path: {{type: PathPrefix, value: {prefix}}}}}], \
         filters: [{{type: RequestRedirect, requestRedirect: {redirect}}}]}}"
    )
}

const REQUEST: &str = "{type: RequestHeaderModifier, requestHeaderModifier: ";
const RESPONSE: &str = "{type: ResponseHeaderModifier, responseHeaderModifier: ";

const SET: &str = "{set: [{name: X-Header-Set, value: set-overwrites-values}]}}";
const ADD: &str = "{add: [{name: X-Header-Add, value: add-appends-values}]}}";
const REMOVE: &str = "{remove: [X-Header-Remove]}}";
const MULTIPLE: &str = "{set: [{name: X-Header-Set-1, value: header-set-1}, {name: X-Header-Set-2, value: header-set-2}], \
     add: [{name: X-Header-Add-1, value: header-add-1}, {name: X-Header-Add-2, value: header-add-2}, \
     {name: X-Header-Add-3, value: header-add-3}], remove: [X-Header-Remove-1, X-Header-Remove-2]}}";
const CASES: &str = "{set: [{name: X-Header-Set, value: header-set}], add: [{name: X-Header-Add, value: header-add}], \
     remove: [X-Header-Remove]}}";

/// Path, fields before, fields after, fields that are gone.
type Case = (&'static str, &'static [&'static str], &'static [&'static str], &'static [&'static str]);

/// HTTPRouteRequestHeaderModifier and, of answers, HTTPRouteResponseHeaderModifier.
const TABLE: &[Case] = &[
    (
        "/set",
        &["Some-Other-Header: val"],
        &["some-other-header: val", "x-header-set: set-overwrites-values"],
        &[],
    ),
    (
        "/set",
        &["Some-Other-Header: val", "X-Header-Set: some-other-value"],
        &["some-other-header: val", "x-header-set: set-overwrites-values"],
        &[],
    ),
    (
        "/add",
        &["Some-Other-Header: val"],
        &["some-other-header: val", "x-header-add: add-appends-values"],
        &[],
    ),
    (
        "/add",
        &["Some-Other-Header: val", "X-Header-Add: some-other-value"],
        &["some-other-header: val", "x-header-add: some-other-value,add-appends-values"],
        &[],
    ),
    ("/remove", &["X-Header-Remove: val"], &[], &["x-header-remove"]),
    (
        "/multiple",
        &[
            "X-Header-Set-2: set-val-2",
            "X-Header-Add-2: add-val-2",
            "X-Header-Remove-2: remove-val-2",
            "Another-Header: another-header-val",
        ],
        &[
            "x-header-set-1: header-set-1",
            "x-header-set-2: header-set-2",
            "x-header-add-1: header-add-1",
            "x-header-add-2: add-val-2,header-add-2",
            "x-header-add-3: header-add-3",
            "another-header: another-header-val",
        ],
        &["x-header-remove-1", "x-header-remove-2"],
    ),
    (
        "/case-insensitivity",
        &[
            "x-header-set: original-val-set",
            "x-header-add: original-val-add",
            "x-header-remove: original-val-remove",
            "Another-Header: another-header-val",
        ],
        &[
            "x-header-set: header-set",
            "x-header-add: original-val-add,header-add",
            "another-header: another-header-val",
        ],
        &["x-header-remove"],
    ),
];

/// Of the table of answers, what changes both.
const BOTH: Case = (
    "/both",
    &["X-Header-Remove: 1", "X-Header-Remove-1: 1", "X-Header-Echo: echo"],
    &["x-header-set: seen", "x-header-set-1: header-set-1", "x-header-echo: echo"],
    &["x-header-remove", "x-header-remove-1"],
);

fn rules(kind: &str) -> Vec<String> {
    let rule = |prefix, filter| filtered(prefix, &[&format!("{kind}{filter}")]);
    vec![
        rule("/set", SET),
        rule("/add", ADD),
        rule("/remove", REMOVE),
        rule("/multiple", MULTIPLE),
        rule("/case-insensitivity", CASES),
    ]
}

/// The values of a field, joined.
fn joined(head: &str, name: &str) -> Option<String> {
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    let values: Vec<&str> = fields.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v).collect();
    (!values.is_empty()).then(|| values.join(","))
}

fn check(head: &str, (path, _, after, gone): &Case) {
    for field in *after {
        let (name, value) = field.split_once(": ").unwrap();
        assert_eq!(joined(head, name).as_deref(), Some(value), "{path}: {head}");
    }
    for name in *gone {
        assert_eq!(joined(head, name), None, "{path}: {head}");
    }
}

#[test]
fn requests_are_changed_as_the_conformance_tests_ask() {
    for v6 in FAMILIES {
        let backend = Backend::echo(v6, "one");
        let route = objects::http_route("r", &["gw"], &[], &rules(REQUEST));
        let gateway = Gateway::http(single(), &(objects::service("web", &[backend.at]) + &route));
        let mut client = Peer::connect(gateway.at(v6));
        for case in TABLE {
            let fields: String = case.1.iter().map(|field| format!("{field}\r\n")).collect();
            let answer = client.ask(&format!("GET {} HTTP/1.1\r\nhost: a\r\n{fields}\r\n", case.0));
            assert_eq!(answer.status(), 200);
            check(&answer.text(), case);
        }
        assert_eq!(backend.connections(), 1);
    }
}

#[test]
fn answers_are_changed_as_the_conformance_tests_ask() {
    // Its answer has the fields of the request, without the two that every one has.
    let backend = Backend::new(false, |_, stream| {
        let mut peer = Peer::new(stream);
        while let Some(request) = peer.message(true) {
            let own = |line: &&str| {
                !["host", "x-forwarded-", "forwarded"].iter().any(|name| line.starts_with(name))
            };
            let fields = request.head.lines().skip(1).filter(own);
            let fields: String = fields.map(|line| format!("{line}\r\n")).collect();
            peer.send(&format!("HTTP/1.1 200 OK\r\n{fields}content-length: 2\r\n\r\nok"));
        }
    });
    let both = [
        &*format!(
            "{RESPONSE}{{set: [{{name: X-Header-Set-1, value: header-set-1}}], remove: [X-Header-Remove-1]}}}}"
        ),
        &*format!("{REQUEST}{{set: [{{name: X-Header-Set, value: seen}}], remove: [X-Header-Remove]}}}}"),
    ];
    let mut all = rules(RESPONSE);
    all.push(filtered("/both", &both));
    let route = objects::http_route("r", &["gw"], &[], &all);
    let gateway = Gateway::http(single(), &(objects::service("web", &[backend.at]) + &route));
    let mut client = Peer::connect(gateway.at(false));
    for case in TABLE.iter().chain(&[BOTH]) {
        let fields: String = case.1.iter().map(|field| format!("{field}\r\n")).collect();
        let answer = client.ask(&format!("GET {} HTTP/1.1\r\nhost: a\r\n{fields}\r\n", case.0));
        assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"));
        check(&answer.head, case);
    }
    assert_eq!(backend.connections(), 1);
}

/// HTTPRouteBackendRequestHeaderModifier: each backend gets what the rule and its own filters say.
#[test]
fn backends_have_filters_of_their_own() {
    let backends = [Backend::echo(false, "one"), Backend::echo(false, "two")];
    let rule = format!(
        "{{filters: [{REQUEST}{{set: [{{name: x-rule, value: rule}}, {{name: x-both, value: rule}}]}}}}, \
         {RESPONSE}{{set: [{{name: x-answer, value: rule}}]}}}}], \
         backendRefs: [{{name: one, port: 80, filters: [{REQUEST}{{add: [{{name: x-both, value: one}}]}}}}, \
         {RESPONSE}{{set: [{{name: x-answer, value: one}}, {{name: x-one, value: \"1\"}}]}}}}]}}, \
         {{name: two, port: 80, filters: [{REQUEST}{{set: [{{name: x-both, value: two}}], remove: [x-rule]}}}}]}}]}}"
    );
    let yaml = [
        objects::service("one", &[backends[0].at]),
        objects::service("two", &[backends[1].at]),
        objects::http_route("r", &["gw"], &[], &[rule]),
    ];
    let gateway = Gateway::http(single(), &yaml.concat());
    let mut client = Peer::connect(gateway.at(false));
    let mut seen = [0, 0];
    for _ in 0..20 {
        let answer = client.ask("GET / HTTP/1.1\r\nhost: a\r\nx-both: client\r\n\r\n");
        let text = answer.text();
        let field = |name| joined(&text, name);
        // An answer meets the rule's changes last.
        assert_eq!(joined(&answer.head, "x-answer").as_deref(), Some("rule"));
        if text.starts_with("one\n") {
            seen[0] += 1;
            assert_eq!(
                (field("x-rule").as_deref(), field("x-both").as_deref()),
                (Some("rule"), Some("rule,one"))
            );
            assert_eq!(answer.field("x-one"), Some("1"));
        } else {
            seen[1] += 1;
            assert_eq!((field("x-rule"), field("x-both").as_deref()), (None, Some("two")));
            assert_eq!(answer.field("x-one"), None);
        }
    }
    assert_eq!(seen, [10, 10]);
}

/// What a client says in Connection, in trailers, or about itself does not undo a filter, and the framing stays as it is.
#[test]
fn a_client_cannot_undo_a_filter() {
    let backend = Backend::new(false, |_, stream| {
        let mut peer = Peer::new(stream);
        while let Some(request) = peer.message(true) {
            let body =
                format!("{}{}|{}", request.head, request.trailers, String::from_utf8_lossy(&request.body));
            peer.send(&format!(
                "HTTP/1.1 200 OK\r\ntrailer: x-secret, x-end\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\nx-secret: 1\r\nx-end: 1\r\n\r\n",
                body.len()
            ));
        }
    });
    let filters = [
        &*format!(
            "{REQUEST}{{set: [{{name: x-user, value: nobody}}, {{name: x-forwarded-proto, value: https}}, \
             {{name: host, value: \"inside.example:81\"}}], remove: [x-internal]}}}}"
        ),
        &*format!("{RESPONSE}{{remove: [x-secret]}}}}"),
    ];
    let route = objects::http_route("r", &["gw"], &["a.example"], &[filtered("/", &filters)]);
    let gateway = Gateway::http(single(), &(objects::service("web", &[backend.at]) + &route));
    let mut client = Peer::connect(gateway.at(false));
    for _ in 0..3 {
        let answer = client.ask(
            "POST / HTTP/1.1\r\nhost: a.example\r\nconnection: x-user, host, content-length\r\nx-user: root\r\n\
             x-internal: 1\r\nx-forwarded-proto: gopher\r\nte: trailers\r\ntransfer-encoding: chunked\r\n\r\n\
             5\r\nhello\r\n0\r\nx-user: root\r\nx-internal: 1\r\nx-sum: 7\r\n\r\n",
        );
        assert_eq!(
            answer.text(),
            "POST / HTTP/1.1\r\nhost: inside.example:81\r\nx-user: nobody\r\nx-forwarded-proto: https\r\n\
             te: trailers\r\nconnection: te\r\ntransfer-encoding: chunked\r\nx-forwarded-for: 127.0.0.1\r\n\
             forwarded: for=127.0.0.1;proto=http\r\nx-sum: 7\r\n|hello"
        );
        assert_eq!(answer.trailers, "x-end: 1\r\n");
    }
    assert_eq!(backend.connections(), 1);
}

/// The gateway's own answers to what a rule matches are changed, too: a client sees no difference by who answers.
#[test]
fn the_gateways_own_answers_are_changed() {
    let hsts = format!("{RESPONSE}{{set: [{{name: strict-transport-security, value: max-age=9}}]}}}}");
    let rules = [
        filtered("/late", &[&hsts]).replace("web", "late"),
        filtered("/nobody", &[&hsts]).replace("web", "nobody"),
        filtered("/down", &[&hsts]).replace("web", "down"),
        format!("{{matches: [{{path: {{value: /none}}}}], filters: [{hsts}]}}"),
        redirect("/old", "{scheme: https, statusCode: 301}")
            .replace("filters: [", &format!("filters: [{hsts}, ")),
    ];
    let yaml = [
        objects::service("late", &[]),
        objects::service("down", &[refusing(false)]),
        objects::http_route("r", &["gw"], &[], &rules),
    ];
    let gateway = Gateway::http(config(), &yaml.concat());
    let mut client = Peer::connect(gateway.at(false));
    for (path, status) in [("/late", 503), ("/nobody", 500), ("/down", 503), ("/none", 500), ("/old", 301)] {
        let answer = client.get(path);
        assert_eq!(answer.status(), status, "{path}");
        assert_eq!(answer.field("strict-transport-security"), Some("max-age=9"), "{path}: {}", answer.head);
    }
    // What no rule matches has no filter.
    assert_eq!(client.get("/other").field("strict-transport-security"), None);
}

#[test]
fn a_refused_filter_answers_500_and_its_rule_serves_nothing() {
    let backend = Backend::echo(false, "one");
    let rules = [
        filtered(
            "/framing",
            &[&format!("{REQUEST}{{set: [{{name: Transfer-Encoding, value: chunked}}]}}}}")],
        ),
        filtered("/twice", &[&format!("{REQUEST}{{set: [{{name: x, value: a}}], remove: [X]}}}}")]),
        filtered("/mirror", &["{type: RequestMirror, requestMirror: {backendRef: {name: web, port: 80}}}"]),
        redirect("/to", "{path: {type: ReplaceFullPath, replaceFullPath: \"/a?b\"}}"),
        filtered("/ok", &[&format!("{REQUEST}{{remove: [x]}}}}")]),
    ];
    let route = objects::http_route("r", &["gw"], &[], &rules);
    let gateway = Gateway::http(config(), &(objects::service("web", &[backend.at]) + &route));
    let mut client = Peer::connect(gateway.at(false));
    for path in ["/framing", "/twice", "/mirror", "/to"] {
        assert_eq!(client.get(path).status(), 500, "{path}");
    }
    assert_eq!(client.get("/ok").status(), 200);
    assert_eq!(backend.connections(), 1);
}

#[test]
fn redirects_say_where_to_and_ask_no_backend() {
    for v6 in FAMILIES {
        let rules = [
            redirect(
                "/prefix",
                "{path: {type: ReplacePrefixMatch, replacePrefixMatch: /new/}, statusCode: 301}",
            ),
            redirect(
                "/full",
                "{path: {type: ReplaceFullPath, replaceFullPath: /whole}, hostname: b.example, port: 81}",
            ),
            redirect("/scheme", "{scheme: https}"),
            redirect("/303", "{statusCode: 303}"),
            redirect("/307", "{statusCode: 307, scheme: http}"),
            redirect("/308", "{statusCode: 308, port: 80}"),
        ];
        let gateway = Gateway::http(single(), &objects::http_route("r", &["gw"], &[], &rules));
        let port = gateway.at(v6).port();
        let mut client = Peer::connect(gateway.at(v6));
        for (target, status, location) in [
            ("/prefix/a%2Fb//c?q=%20&r", 301, format!("http://a.example:{port}/new/a%2Fb//c?q=%20&r")),
            ("/prefix", 301, format!("http://a.example:{port}/new")),
            ("/full/x?y", 302, "http://b.example:81/whole?y".to_owned()),
            ("/scheme", 302, "https://a.example/scheme".to_owned()),
            ("/303", 303, format!("http://a.example:{port}/303")),
            ("/307", 307, "http://a.example/307".to_owned()),
            ("/308", 308, "http://a.example/308".to_owned()),
            ("http://b.example:99/308", 308, "http://b.example/308".to_owned()),
            ("/308/\u{e4}\"{}", 308, "http://a.example/308/%C3%A4%22%7B%7D".to_owned()),
        ] {
            let answer = client.ask(&format!("GET {target} HTTP/1.1\r\nhost: a.example:9\r\n\r\n"));
            assert_eq!(answer.status(), status, "{target}");
            assert_eq!(answer.field("location"), Some(&*location), "{target}");
            assert_eq!(answer.text(), "", "{target}");
        }
        // A body, and a request without one in its answer; the connection goes on.
        let answer = client.ask("POST /303 HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello");
        assert_eq!(answer.status(), 303);
        client.send("HEAD /303 HTTP/1.1\r\nhost: a\r\n\r\n");
        assert!(client.lines().unwrap().starts_with("HTTP/1.1 303"));
        // Hosts: an address in brackets, none at all, an empty one.
        let answer = client.ask("GET /303 HTTP/1.1\r\nhost: [::1]:80\r\n\r\n");
        assert_eq!(answer.field("location"), Some(&*format!("http://[::1]:{port}/303")));
        let own = if v6 { "[::1]" } else { "127.0.0.1" };
        let answer = client.ask("GET /303 HTTP/1.1\r\nhost:\r\n\r\n");
        assert_eq!(answer.field("location"), Some(&*format!("http://{own}:{port}/303")));
        let answer = Peer::connect(gateway.at(v6)).ask("GET /303 HTTP/1.0\r\n\r\n");
        assert_eq!((answer.status(), answer.field("location")), (400, None));
        let mut old = Peer::connect(gateway.at(v6));
        assert_eq!(old.ask("GET /303 HTTP/1.0\r\nhost: a\r\n\r\n").status(), 303);
        assert!(old.is_closed());

        // Counted as what they are: the rule's, without a backend.
        gateway.wait("redirects to be counted", |t| {
            let of = |rule: &str| {
                let own = t.http.iter().filter(|(key, _)| &*key.rule == rule && key.backend.is_empty());
                own.map(|(_, http)| http.status[2]).sum::<u64>()
            };
            [of("0"), of("1"), of("2"), of("3"), of("4"), of("5")] == [2, 1, 1, 6, 1, 3]
        });
        assert_eq!(gateway.totals().upstream_connects, 0);
    }
}
