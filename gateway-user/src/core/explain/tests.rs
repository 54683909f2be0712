//! Every line about who lost, by data.

use std::collections::BTreeSet;

use gateway_ebpf::abi::{ANY, Affinity, BindingKey, TCP, mapped};
mod random;

use ::http::{HeaderMap, HeaderName, HeaderValue};

use super::{Http, Scene, bindings, http, l4, listing, no_binding, security, tuple};
use crate::core::compile::compile;
use crate::core::host::Host;
use crate::core::model::Model;
use crate::core::route::{RequestView, Unserved};
use crate::core::snapshot::{BoundService, Ids, Snapshot};
use crate::core::testing::model;
use crate::core::transport::Transport;

/// `[METHOD] HOST/PATH[?QUERY] [HEADER:VALUE]…`
struct Asked<'t> {
    method: &'t str,
    host: &'t str,
    path: &'t str,
    query: Option<&'t str>,
    headers: HeaderMap,
}

impl<'t> Asked<'t> {
    fn new(text: &'t str) -> Self {
        let (headers, words): (Vec<&str>, Vec<&str>) =
            text.split(' ').partition(|w| w.contains(':') && !w.contains('/'));
        let (method, url) = if let [method, url] = words[..] { (method, url) } else { ("GET", words[0]) };
        let (host, rest) = url.split_at(url.find('/').unwrap_or(url.len()));
        let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
        let headers = headers.iter().map(|header| {
            let (name, value) = header.split_once(':').unwrap();
            (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap())
        });
        Self { method, host, path, query, headers: headers.collect() }
    }

    fn view(&self) -> RequestView<'_> {
        RequestView {
            host: self.host,
            path: self.path,
            query: self.query,
            method: self.method,
            headers: &self.headers,
        }
    }
}

fn compiled(objects: &str) -> (Model, Snapshot) {
    let model = model(objects);
    let snapshot = compile(&model, &Host::default(), &Ids::default(), 1);
    (model, snapshot)
}

fn scene<'a>(model: &'a Model, snapshot: &'a Snapshot) -> Scene<'a> {
    Scene { snapshot, model, report: &snapshot.report }
}

const PORT_80: BindingKey = BindingKey { address: ANY, port: 80, protocol: TCP, pad: 0 };

fn explain(model: &Model, snapshot: &Snapshot, request: &str) -> Http {
    let BoundService::Http(table) = &snapshot.bindings[&PORT_80].service else { panic!("not HTTP") };
    http(&scene(model, snapshot), table, &Asked::new(request).view())
}

/// Compiles, asks, and compares: first who serves (`ROUTE.RULE match N` or the status), then a line for each that lost.
fn check(objects: &str, request: &str, want: &str) {
    let (model, snapshot) = compiled(objects);
    let answer = explain(&model, &snapshot, request);
    let mut lines = vec![match (&answer.served, answer.unserved) {
        (Some(served), None) => {
            format!("{}.{} match {}", served.rule.route, served.rule.rule, served.matched.at)
        }
        (Some(served), Some(why)) => format!("{}.{} {}", served.rule.route, served.rule.rule, why.status()),
        (None, why) => why.map_or(String::new(), |why| why.status().to_string()),
    }];
    if let Some(outcome) = answer.outcome(&scene(&model, &snapshot), &snapshot.bindings[&PORT_80].label, "h")
    {
        lines.push(format!("{} -> {}", outcome.message, outcome.remedy));
    }
    lines.extend(answer.lost.iter().map(|lost| {
        let rule = lost.rule.as_ref().map(|rule| format!(".{rule}")).unwrap_or_default();
        format!("{}{rule} {}: {}", lost.route, lost.why.name(), lost.message)
    }));
    let want: Vec<&str> = want.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(lines, want, "{request}");
}

/// The same on a Gateway with one listener for all hosts, without what is said of a 404.
fn check_routes(routes: &str, request: &str, want: &str) {
    let services = "service svc 80\nendpoints svc 10.0.0.9:8080";
    check(&format!("gateway gw\nlistener http HTTP 80\n{routes}\n{services}"), request, want);
}

#[test]
fn what_does_not_fit_by_itself() {
    check_routes(
        "http r\nmatch prefix=/\nto svc:80\nrule name=exact\nmatch exact=/a\nrule\nmatch prefix=/a/b\nrule\nmatch regex=/b.*
         rule\nmatch prefix=/ method=POST\nrule\nmatch prefix=/ header=x:1\nrule\nmatch prefix=/ header=y:2\nrule
         match prefix=/ headerre=y:[0-9]\nrule\nmatch prefix=/ query=q:1\nrule\nmatch prefix=/ query=p:1
         rule\nmatch prefix=/ queryre=p:[0-9]",
        "h/a/c?p=x%20 y:3x",
        r#"default/r.0 match 0
           default/r.8 Query: there is no query parameter q (asked for: "1")
           default/r.9 Query: query parameter p is "x ", not "1"
           default/r.10 Query: query parameter p is "x ", which does not fit the expression "[0-9]" in full
           default/r.5 Header: there is no header x (asked for: "1")
           default/r.6 Header: header y is "3x", not "2"
           default/r.7 Header: header y is "3x", which does not fit the expression "[0-9]" in full
           default/r.4 Method: method GET is not POST
           default/r.2 Path: path "/a/c" does not begin with the elements of "/a/b"
           default/r.3 Path: path "/a/c" does not fit the expression "/b.*" in full
           default/r.exact Path: path "/a/c" is not exactly "/a""#,
    );
}

#[test]
fn precedence_by_hostname() {
    check_routes(
        "http none\nmatch prefix=/x\nhttp wild host=*.example.com\nmatch exact=/x\nhttp exact host=a.example.com\nmatch prefix=/\nto svc:80
         http other host=b.example.com",
        "a.example.com/x",
        r#"default/exact.0 match 0
           default/none.0 Precedence: it fits too, but its hostname * is less specific than a.example.com (HTTPRoute, spec.hostnames)
           default/wild.0 Precedence: it fits too, but its hostname *.example.com is less specific than a.example.com (HTTPRoute, spec.hostnames)
           default/other.0 Hostname: its hostname b.example.com does not fit "a.example.com""#,
    );
}

#[test]
fn precedence_by_path() {
    let rules = "http r\nmatch prefix=/a\nto svc:80\nrule\nmatch prefix=/\nrule\nmatch regex=/a.*\nto svc:80\nrule\nmatch regex=/.*\nrule\nmatch exact=/a/b\nto svc:80";
    check_routes(
        rules,
        "h/a/b",
        r#"default/r.4 match 0
           default/r.0 Precedence: it fits too, but an Exact path comes before PathPrefix "/a" (HTTPRoute, rules.matches)
           default/r.1 Precedence: it fits too, but an Exact path comes before PathPrefix "/" (HTTPRoute, rules.matches)
           default/r.2 Precedence: it fits too, but an Exact path comes before RegularExpression "/a.*" (HTTPRoute, rules.matches)
           default/r.3 Precedence: it fits too, but an Exact path comes before RegularExpression "/.*" (HTTPRoute, rules.matches)"#,
    );
    check_routes(
        rules,
        "h/a/c",
        r#"default/r.2 match 0
           default/r.0 Precedence: it fits too, but a RegularExpression comes before PathPrefix "/a" (left open by the specification)
           default/r.1 Precedence: it fits too, but a RegularExpression comes before PathPrefix "/" (left open by the specification)
           default/r.3 Precedence: it fits too, but the expression "/a.*" is longer than "/.*" (left open by the specification)
           default/r.4 Path: path "/a/c" is not exactly "/a/b""#,
    );
    check_routes(
        "http r\nmatch prefix=/\nrule\nmatch prefix=/a\nto svc:80",
        "h/a",
        r#"default/r.1 match 0
           default/r.0 Precedence: it fits too, but the prefix "/a" is longer than "/" (HTTPRoute, rules.matches)"#,
    );
}

#[test]
fn precedence_by_method_headers_and_query() {
    let rules = "http r\nmatch prefix=/\nrule\nmatch prefix=/ header=x:1 header=y:1 query=q:1\nrule\nmatch prefix=/ method=GET\nto svc:80
                 rule\nmatch prefix=/ method=GET query=q:1\nto svc:80\nrule\nmatch prefix=/ method=GET header=x:1\nto svc:80";
    check_routes(
        rules,
        "h/?q=1 x:1 y:1",
        r#"default/r.4 match 0
           default/r.0 Precedence: it fits too, but asks for no method (HTTPRoute, rules.matches)
           default/r.1 Precedence: it fits too, but asks for no method (HTTPRoute, rules.matches)
           default/r.2 Precedence: it fits too, but asks for fewer headers: 0, not 1 (HTTPRoute, rules.matches)
           default/r.3 Precedence: it fits too, but asks for fewer headers: 0, not 1 (HTTPRoute, rules.matches)"#,
    );
    check_routes(
        rules,
        "h/?q=1",
        r#"default/r.3 match 0
           default/r.0 Precedence: it fits too, but asks for no method (HTTPRoute, rules.matches)
           default/r.2 Precedence: it fits too, but asks for fewer query parameters: 0, not 1 (HTTPRoute, rules.matches)
           default/r.1 Header: there is no header x (asked for: "1")
           default/r.4 Header: there is no header x (asked for: "1")"#,
    );
}

#[test]
fn ties_by_age_name_and_order() {
    check_routes(
        "http b created=7\nto svc:80\nrule\nhttp c created=9\nhttp a\nhttp ab",
        "h/",
        "default/b.0 match 0
         default/a.0 Age: it fits too, but default/b has a creationTimestamp and this one has none, so that it counts as older
         default/ab.0 Age: it fits too, but default/b has a creationTimestamp and this one has none, so that it counts as older
         default/c.0 Age: it fits too, but default/b is older (metadata.creationTimestamp)
         default/b.1 RuleOrder: it fits too, but the other rule comes first in the route (HTTPRoute, rules.matches)",
    );
    check_routes(
        "http b\nhttp a\nto svc:80",
        "h/",
        "default/a.0 match 0
         default/b.0 NameOrder: it fits too, but default/a comes first by namespace and name, and neither is older",
    );
}

#[test]
fn the_closest_match_of_a_rule_speaks_for_it() {
    check_routes(
        "http r\nmatch exact=/x\nmatch prefix=/ method=PUT\nmatch prefix=/y\nrule\nmatch prefix=/z\nmatch prefix=/\nto svc:80",
        "h/z",
        "default/r.1 match 0
         default/r.0 Method: method GET is not PUT",
    );
}

#[test]
fn listeners_and_what_is_not_attached() {
    let objects = "gateway gw\nlistener any HTTP 80\nlistener wild HTTP 80 hostname=*.example.com\nlistener one HTTP 80 hostname=a.example.com
         gateway other\nlistener any HTTP 81
         http any parent=gw#any\nhttp wild parent=gw#wild\nhttp one parent=gw#one\nto svc:80
         http alien/r parent=default/gw#one\nhttp host parent=gw#one host=b.org\nhttp port parent=gw:81\nhttp typo parent=gv\nhttp elsewhere parent=other
         unbuilt GRPCRoute grpc parent=gw
         service svc 80\nendpoints svc 10.0.0.9:8080";
    check(
        objects,
        "a.example.com/",
        r#"default/one.0 match 0
           alien/r NotAttached: not attached to listener default/gw/one: allowedRoutes.namespaces of listener "one" does not admit the namespace "alien"
           default/grpc NotAttached: not attached to listener default/gw/one: listener "one" takes no GRPCRoute
           default/host NotAttached: not attached to listener default/gw/one: none of its hostnames (b.org) fits the listener's, a.example.com
           default/port NotAttached: not attached to listener default/gw/one: its parentRef asks for port 81
           default/typo NotAttached: parentRefs: there is no Gateway default/gv (create it, or correct the reference)
           default/any.0 Listener: it is on listener default/gw/any (*), and "a.example.com" belongs to the more specific listener default/gw/one (a.example.com) alone
           default/wild.0 Listener: it is on listener default/gw/wild (*.example.com), and "a.example.com" belongs to the more specific listener default/gw/one (a.example.com) alone"#,
    );
    check(
        "gateway gw\nlistener one HTTP 80 hostname=a.example.com\nhttp r",
        "b.org/",
        r#"404
           "h" fits no listener here -> use a host that fits (a.example.com), or add a listener for it
           default/r.0 Listener: it is on listener default/gw/one, whose hostname a.example.com does not fit "b.org""#,
    );
}

#[test]
fn what_is_attached_and_not_served() {
    check_routes(
        "http r\nmatch regex=(\nto svc:80\nrule\nmatch exact=/a\nto svc:80",
        "h/b",
        r#"404
           no rule on listener default/gw/http fits the request -> HTTPRoute default/r: PartiallyInvalid=True: Dropped Rule: spec.rules[0].matches[0].path: the regular expression "(" is refused: unclosed group (what it matches is answered with 500)
           default/r.0 NotServed: PartiallyInvalid=True: Dropped Rule: spec.rules[0].matches[0].path: the regular expression "(" is refused: unclosed group (what it matches is answered with 500)
           default/r.1 Path: path "/b" is not exactly "/a""#,
    );
}

#[test]
fn what_no_endpoint_gets() {
    for (routes, want) in [
        (
            "",
            "404\nno rule on listener default/gw/http fits the request -> no HTTPRoute is attached: add one with a parentRef to Gateway default/gw, sectionName http",
        ),
        (
            "http r\nmatch exact=/b",
            "404\nno rule on listener default/gw/http fits the request -> add a match for it; below is said why the others do not fit\ndefault/r.0 Path: path \"/\" is not exactly \"/b\"",
        ),
        (
            "http r\nrule refuse=spec.rules[0].filters\nto svc:80\nrule\nmatch exact=/b",
            "default/r.0 500\nthe rule asks for what is not supported -> PartiallyInvalid=True: Dropped Rule: spec.rules[0].filters: is not built (what it matches is answered with 500)\ndefault/r.1 Path: path \"/\" is not exactly \"/b\"",
        ),
        (
            "http r\nto svc:80 weight=0",
            "default/r.0 500\nthe rule has no backend -> add a backendRef with a weight above 0 to rule 0 of HTTPRoute default/r",
        ),
        (
            "http r\nto nobody:80",
            "default/r.0 500\nthe backend is invalid -> ResolvedRefs=False: spec.rules[0].backendRefs[0]: there is no Service default/nobody (create it, or correct the reference)",
        ),
        (
            "service late 80\nhttp r\nto late:80",
            "default/r.0 503\nthe backend has no endpoint -> Service default/late has no EndpointSlice: add one in namespace default with the label kubernetes.io/service-name: late, or use --endpoint default/late:80=ADDRESS:PORT",
        ),
        (
            "service late 80\nendpoints late 10.0.0.1:80! 10.0.0.2:80!\nhttp r\nto late:80",
            "default/r.0 503\nthe backend has no endpoint -> Service default/late has no endpoint that is ready: look at the 2 of EndpointSlice late--0, late--1",
        ),
        (
            "service late 80\nendpoints late 10.0.0.1:80 port=other\nhttp r\nto late:80",
            "default/r.0 503\nthe backend has no endpoint -> Service default/late: 1 endpoints of EndpointSlice late-other-0 are ready, but none has the Service's port: compare the names of the ports",
        ),
        ("http r\nto svc:80 weight=3\nto nobody:80", "default/r.0 match 0"),
        ("http r\nrule redirect=302 scheme=https", "default/r.0 match 0"),
    ] {
        check_routes(routes, "h/", want);
    }
}

#[test]
fn bindings_by_address_and_by_host() {
    let (_, snapshot) = compiled(
        "gateway any\nlistener a HTTP 80 hostname=*.org\ngateway exact address=10.0.0.1\nlistener a HTTP 80 hostname=*.com
         listener t TCP 90",
    );
    let key = |address, port| BindingKey { address, port, protocol: TCP, pad: 0 };
    let exact = mapped([10, 0, 0, 1]);
    for (to, port, host, want) in [
        (Some("10.0.0.1"), 80, None, vec![key(exact, 80)]),
        (Some("::ffff:10.0.0.1"), 80, None, vec![key(exact, 80)]),
        (Some("10.0.0.2"), 80, None, vec![key(ANY, 80)]),
        (Some("::1"), 80, Some("a.com"), vec![key(ANY, 80)]),
        (Some("10.0.0.2"), 90, None, vec![]),
        (None, 80, Some("a.com"), vec![key(exact, 80)]),
        (None, 80, Some("a.org"), vec![key(ANY, 80)]),
        (None, 80, Some("a.net"), vec![key(ANY, 80), key(exact, 80)]),
        (None, 90, Some("a.com"), vec![key(exact, 90)]),
        (None, 91, Some("a.com"), vec![]),
    ] {
        let to = to.map(|to: &str| to.parse().unwrap());
        assert_eq!(bindings(&snapshot, to, port, host), want, "{to:?} {port} {host:?}");
    }
}

#[test]
fn no_binding_says_why_the_listener_is_not_served() {
    for (objects, want) in [
        ("", "no listener is served at all; see `sluice status`"),
        (
            "gateway gw address=10.0.0.1\nlistener a HTTP 80\ngateway b\nlistener a HTTP 81",
            "add a listener, or use one of: *:81, 10.0.0.1:80",
        ),
        (
            "gateway gw\nlistener tls HTTPS 443 cert=x",
            "listener default/gw/tls: Programmed (Invalid): there is no certificate to serve with: tls.certificateRefs[0]: there is no Secret default/x (create it, or correct the reference)",
        ),
        (
            "class theirs example.com/x\ngateway gw class=theirs\nlistener a HTTP 443",
            "listener default/gw/a: the Gateway's class is not ours",
        ),
    ] {
        let (model, snapshot) = compiled(objects);
        let outcome =
            no_binding(&scene(&model, &snapshot), Transport::Tcp, Some("10.0.0.9".parse().unwrap()), 443);
        assert_eq!(outcome.remedy, want);
        assert_eq!(
            outcome.message,
            "nothing of ours listens on 10.0.0.9:443: a connection goes to the host's own sockets"
        );
    }
}

/// `ROUTE of SLOTS (REFUSED refused)`, shares, outcome, then those that lost.
fn check_l4(transport: Transport, objects: &str, want: &str) {
    let listeners = format!("gateway gw\nlistener db {} 80", transport.name());
    let (model, snapshot) = compiled(&format!("{listeners}\n{objects}"));
    let packet = tuple(transport, (mapped([10, 0, 0, 2]), 40_000), (mapped([10, 0, 0, 1]), 80));
    let bound = &snapshot.bindings[&BindingKey { protocol: transport.number(), ..PORT_80 }];
    let scene = scene(&model, &snapshot);
    let l4 = l4(&scene, bound, &packet);
    let mut lines =
        vec![format!("{}.{}", l4.route.as_deref().unwrap_or("-"), l4.rule.as_deref().unwrap_or("-"))];
    for shares in &l4.shares {
        let slots: usize = shares.endpoints.iter().map(|(_, slots)| slots).sum();
        let percent = (slots * 100).checked_div(l4.slots).unwrap_or(0);
        lines.push(format!("{} weight {} {percent}%", shares.name, shares.weight));
    }
    if let Some(outcome) = l4.outcome(&scene, &bound.label) {
        lines.push(format!("{} -> {}", outcome.message, outcome.remedy));
    }
    lines.extend(l4.lost.iter().map(|lost| format!("{} {}: {}", lost.route, lost.why.name(), lost.message)));
    let want: Vec<&str> = want.lines().map(str::trim).collect();
    assert_eq!(lines, want);
}

#[test]
fn tcp_says_who_serves_and_why_not() {
    let services = "service a 80\nendpoints a 10.0.0.3:1 10.0.0.4:1\nservice late 80\n";
    for (routes, want) in [
        ("tcp r\nto a:80", "default/r.0\ndefault/a:80 weight 1 100%"),
        ("tcp b\nto a:80\ntcp a\nrule name=x\nto a:80\ntcp c created=1\nto a:80\ntcp d/r parent=default/gw", "default/c.0\ndefault/a:80 weight 1 100%
          default/a Age: a TCP listener is served by one route: default/c has a creationTimestamp and this one has none, so that it counts as older
          default/b Age: a TCP listener is served by one route: default/c has a creationTimestamp and this one has none, so that it counts as older
          d/r NotAttached: not attached to listener default/gw/db: allowedRoutes.namespaces of listener \"db\" does not admit the namespace \"d\""),
        ("", "-.-\nno TCPRoute serves listener default/gw/db: the connection is reset -> add a TCPRoute with a parentRef to Gateway default/gw, sectionName db"),
        ("tcp d/r parent=default/gw", "-.-\nno TCPRoute serves listener default/gw/db: the connection is reset -> TCPRoute d/r: not attached to listener default/gw/db: allowedRoutes.namespaces of listener \"db\" does not admit the namespace \"d\"
          d/r NotAttached: not attached to listener default/gw/db: allowedRoutes.namespaces of listener \"db\" does not admit the namespace \"d\""),
        ("tcp r\nto late:80", "default/r.0\ndefault/late:80 weight 1 0%\nthe connection is reset: TCPRoute default/r has nothing to connect to -> Service default/late has no EndpointSlice: add one in namespace default with the label kubernetes.io/service-name: late, or use --endpoint default/late:80=ADDRESS:PORT"),
        ("tcp r\nto nobody:80", "default/r.0\ndefault/nobody:80 weight 1 0%\nthe connection is reset: TCPRoute default/r has nothing to connect to -> ResolvedRefs=False: spec.rules[0].backendRefs[0]: there is no Service default/nobody (create it, or correct the reference)"),
        ("tcp r\nto a:80 weight=0", "default/r.0\ndefault/a:80 weight 0 0%\nthe connection is reset: TCPRoute default/r has nothing to connect to -> give a backendRef a weight above 0"),
    ] {
        check_l4(Transport::Tcp, &format!("{services}{routes}"), want);
    }
}

#[test]
fn what_a_backend_is_picked_by_is_said() {
    let objects =
        "gateway gw\nlistener db TCP 80\nservice a 80 affinity=ClientIP\nendpoints a 10.0.0.3:1 10.0.0.4:1
                   service b 80\nendpoints b 10.0.0.3:1 10.0.0.4:1\n";
    let bound = |route: &str, port| {
        let (model, snapshot) = compiled(&format!("{objects}{route}"));
        let packet = tuple(Transport::Tcp, (mapped([10, 0, 0, 2]), port), (mapped([10, 0, 0, 1]), 80));
        l4(&scene(&model, &snapshot), &snapshot.bindings[&PORT_80], &packet)
    };
    let picks = |route| (1..200).map(|port| bound(route, port).order[0].at).collect::<BTreeSet<_>>().len();
    for (route, affinity, idle, endpoints) in [
        ("tcp r idle=30\nto a:80", Affinity::ClientIp, Some(30), 1),
        ("tcp r\nto b:80", Affinity::None, None, 2),
    ] {
        let said = bound(route, 1);
        assert_eq!((said.affinity, said.idle.map(std::num::NonZeroU32::get)), (affinity, idle), "{route}");
        assert_eq!(picks(route), endpoints, "{route}");
    }
}

#[test]
fn udp_says_who_serves_and_why_not() {
    let services = "service a 80:UDP\nendpoints a 10.0.0.3:1 protocol=UDP\nservice t 80\n";
    for (routes, want) in [
        ("udp r\nto a:80\ntcp r\nto t:80", "default/r.0\ndefault/a:80 weight 1 100%"),
        ("udp b\nto a:80\nudp a\nto a:80", "default/a.0\ndefault/a:80 weight 1 100%
          default/b NameOrder: a UDP listener is served by one route: default/a comes first by namespace and name, and neither is older"),
        ("", "-.-\nno UDPRoute serves listener default/gw/db: the datagrams are dropped -> add a UDPRoute with a parentRef to Gateway default/gw, sectionName db"),
        ("udp r\nto t:80", "default/r.0\ndefault/t:80 weight 1 0%\nthe datagrams are dropped: UDPRoute default/r has nothing to connect to -> ResolvedRefs=False: spec.rules[0].backendRefs[0]: Service default/t, port 80: its protocol is TCP, not UDP (use a UDP port)"),
    ] {
        check_l4(Transport::Udp, &format!("{services}{routes}"), want);
    }
}

#[test]
fn the_listing_is_in_the_order_of_precedence() {
    let (_, snapshot) = compiled(
        "gateway gw\nlistener any HTTP 80\nlistener a HTTP 80 hostname=a.org\nlistener t TCP 79\nlistener u TCP 78\nlistener d UDP 79
         http r parent=gw#any host=*.com host=b.com\nmatch prefix=/\nmatch exact=/x method=GET header=h:1 queryre=q:.\nto svc:80 weight=7
         http s parent=gw#a\ntcp t parent=gw#t\nto svc:80\nudp t\nto dns:53
         service svc 80\nendpoints svc 10.0.0.3:1\nservice dns 53:UDP\nendpoints dns 10.0.0.4:53 protocol=UDP",
    );
    let lines: Vec<String> = listing(&snapshot)
        .iter()
        .map(|l| {
            let matched =
                l.matched.as_ref().map(|m| format!("{} {}", m.hostname.as_deref().unwrap_or("*"), m.text));
            let backends: Vec<String> =
                l.backends.iter().map(|b| format!("{}={:?} {:?}", b.name, b.weight, b.endpoints)).collect();
            let host = l.listener_hostname.as_deref().unwrap_or("*");
            format!(
                "{} {} {host} {}.{} {} {} {:?}",
                l.binding.port,
                l.listener,
                l.route,
                l.rule,
                matched.unwrap_or_default(),
                backends.join(","),
                l.unserved.map(Unserved::status)
            )
        })
        .collect();
    assert_eq!(
        lines,
        [
            "78 default/gw/u * .0   None",
            "79 default/gw/t * default/t.0  default/svc:80=None [10.0.0.3:1] None",
            "79 default/gw/d * default/t.0  default/dns:53=None [10.0.0.4:53] None",
            "80 default/gw/a a.org default/s.0 * PathPrefix /  Some(500)",
            "80 default/gw/any * default/r.0 b.com Exact /x, method GET, header h=1, query q~. default/svc:80=Some(7) [10.0.0.3:1] None",
            "80 default/gw/any * default/r.0 b.com PathPrefix / default/svc:80=Some(7) [10.0.0.3:1] None",
            "80 default/gw/any * default/r.0 *.com Exact /x, method GET, header h=1, query q~. default/svc:80=Some(7) [10.0.0.3:1] None",
            "80 default/gw/any * default/r.0 *.com PathPrefix / default/svc:80=Some(7) [10.0.0.3:1] None",
        ]
    );
}

#[test]
fn tls_is_spoken_where_it_ends_and_nowhere_else() {
    let (model, snapshot) = compiled(
        "gateway gw\nlistener s HTTPS 443 cert=a hostname=a.org\nlistener h HTTP 80\nlistener t TCP 90\nsecret a",
    );
    for (port, tls, says) in [
        (443, Some("a.org"), None),
        (443, Some("b.org"), Some("the ClientHello has \"b.org\", which fits no listener here")),
        (443, Some(""), Some("the ClientHello has no name")),
        (443, None, Some("default/gw/s speaks TLS")),
        (80, Some("a.org"), Some("default/gw/h speaks HTTP in clear")),
        (80, None, None),
        (90, Some("a.org"), None),
    ] {
        let bound = snapshot.bindings.values().find(|bound| bound.key.port == port).unwrap();
        let outcome = security(&scene(&model, &snapshot), bound, tls);
        let fits =
            outcome.as_ref().map(|o| o.message.as_str()).zip(says).map(|(m, says)| m.starts_with(says));
        assert_eq!(
            (outcome.is_some(), fits.unwrap_or(true)),
            (says.is_some(), true),
            "{port} {tls:?} {outcome:?}"
        );
    }
}
