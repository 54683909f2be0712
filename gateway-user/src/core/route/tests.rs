//! Precedence, one rule a test: routes and requests as data, the answer as text.

use gateway_ebpf::abi::{ANY, BindingKey, TCP};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::RequestView;
use crate::core::compile::compile;
use crate::core::host::Host;
use crate::core::snapshot::{BoundService, Ids, SeriesAt, Snapshot};
use crate::core::testing::model;

/// `[METHOD] HOST/PATH[?QUERY] [HEADER:VALUE]…` → `ROUTE.RULE`, or `404`.
fn ask(snapshot: &Snapshot, request: &str) -> String {
    let (words, headers): (Vec<&str>, Vec<&str>) =
        request.split(' ').partition(|w| !w.contains(':') || w.contains('/'));
    let (method, url) = match *words {
        [url] => ("GET", url),
        [method, url] => (method, url),
        _ => panic!("{request}"),
    };
    let (host, rest) = url.split_at(url.find('/').unwrap_or(url.len()));
    let (path, query) = match rest.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (rest, None),
    };
    let mut map = HeaderMap::new();
    for header in headers {
        let (name, value) = header.split_once(':').unwrap();
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        map.append(name, HeaderValue::from_str(value).unwrap());
    }
    let key = BindingKey { address: ANY, port: 80, protocol: TCP, pad: 0 };
    let BoundService::Http(table) = &snapshot.bindings[&key].service else { panic!("not HTTP") };
    let found = table.find(&RequestView { host, path, query, method, headers: &map });
    let series = found.series.of(&snapshot.series).unwrap();
    assert_eq!(series.listener, *found.listener, "{request}");
    match found.rule {
        Some(rule) => {
            assert_eq!((&series.route, &series.rule), (&rule.route, &rule.rule), "{request}");
            format!("{}.{}", rule.route.trim_start_matches("default/"), rule.rule)
        }
        None => "404".to_owned(),
    }
}

/// Compiles and asks; the cases are `REQUEST -> ANSWER`, one a line.
fn check(objects: &str, cases: &str) {
    let snapshot = compile(&model(objects), &Host::default(), &Ids::default(), 1);
    for case in cases.lines().map(str::trim).filter(|c| !c.is_empty()) {
        let (request, answer) = case.split_once(" -> ").expect(case);
        assert_eq!(ask(&snapshot, request), answer, "{request}");
    }
}

/// The same on a Gateway with one listener for all hosts.
fn check_routes(routes: &str, cases: &str) {
    check(&format!("gateway gw\nlistener http HTTP 80\n{routes}"), cases);
}

#[test]
fn exact_path_is_all_of_the_path() {
    check_routes(
        "http r\nmatch exact=/a/b",
        "h/a/b -> r.0\n h/a/b/ -> 404\n h/a/bc -> 404\n h/a -> 404\n h/A/b -> 404\n h/a/b?x=1 -> r.0",
    );
}

#[test]
fn prefix_is_by_element() {
    check_routes(
        "http r\nmatch prefix=/my-service",
        "h/my-service -> r.0\n h/my-service/ -> r.0\n h/my-service/x -> r.0\n h/my-servicex -> 404\n h/ -> 404",
    );
}

#[test]
fn slash_at_the_end_of_a_prefix_is_ignored() {
    check_routes("http r\nmatch prefix=/a/", "h/a -> r.0\n h/a/ -> r.0\n h/a/b -> r.0\n h/ab -> 404");
}

#[test]
fn path_is_matched_raw() {
    check_routes(
        "http r\nmatch prefix=/a\nrule\nmatch prefix=/a/b\nrule\nmatch exact=//",
        "h/a%2Fb -> 404\n h/a//b -> r.0\n h//a -> 404\n h// -> r.2\n h/%61 -> 404",
    );
}

#[test]
fn no_match_at_all_is_every_path() {
    check_routes("http r\nto svc:80", "h/ -> r.0\n h/x/y -> r.0\n h -> r.0");
}

#[test]
fn the_longest_prefix_wins_whatever_the_order() {
    check_routes(
        "http r\nmatch prefix=/\nrule\nmatch prefix=/a\nrule\nmatch prefix=/a/b\nrule\nmatch prefix=/aa",
        "h/ -> r.0\n h/x -> r.0\n h/a/x -> r.1\n h/a/b -> r.2\n h/a/b/c -> r.2\n h/aa/b -> r.3\n h/ab -> r.0",
    );
}

#[test]
fn a_path_between_characters_is_no_prefix() {
    check_routes("http r\nmatch prefix=/\u{e9}", "h/\u{e9}/x -> r.0\n h/\u{e8}/x -> 404");
}

#[test]
fn exact_before_regex_before_prefix() {
    check_routes(
        "http r\nmatch prefix=/a/b/c\nrule\nmatch regex=/a/.*\nrule\nmatch exact=/a/b/c",
        "h/a/b/c -> r.2\n h/a/b/c/d -> r.1\n h/a/b -> r.1",
    );
}

#[test]
fn the_longest_regex_is_tried_first() {
    check_routes("http r\nmatch regex=/a.*\nrule\nmatch regex=/a/b.*", "h/a/b -> r.1\n h/a/c -> r.0");
}

#[test]
fn regex_fits_in_full() {
    check_routes(
        "http r\nmatch regex=/v[0-9]+|/w",
        "h/v1 -> r.0\n h/w -> r.0\n h/v1/x -> 404\n h/x/w -> 404\n h/v -> 404\n h/wx -> 404",
    );
}

#[test]
fn a_method_wins_over_headers() {
    check_routes(
        "http r\nmatch prefix=/ header=x:1 header=y:1\nrule\nmatch prefix=/ method=GET",
        "h/ x:1 y:1 -> r.1\n POST h/ x:1 y:1 -> r.0\n POST h/ -> 404",
    );
}

#[test]
fn more_headers_win_over_more_query_parameters() {
    check_routes(
        "http r\nmatch query=a:1 query=b:1\nrule\nmatch header=x:1\nrule\nmatch header=x:1 header=y:1",
        "h/?a=1&b=1 x:1 y:1 -> r.2\n h/?a=1&b=1 x:1 -> r.1\n h/?a=1&b=1 -> r.0",
    );
}

#[test]
fn more_query_parameters_win() {
    check_routes(
        "http r\nmatch query=a:1\nrule\nmatch query=a:1 query=b:1",
        "h/?a=1&b=1 -> r.1\n h/?a=1 -> r.0\n h/?b=1 -> 404\n h/ -> 404",
    );
}

#[test]
fn a_longer_path_wins_over_method_and_headers() {
    check_routes(
        "http r\nmatch prefix=/a method=GET header=x:1\nrule\nmatch prefix=/a/b",
        "h/a/b x:1 -> r.1\n h/a x:1 -> r.0",
    );
}

#[test]
fn a_shorter_prefix_serves_where_the_longer_asks_for_more() {
    check_routes(
        "http r\nmatch prefix=/a\nrule\nmatch prefix=/a/b method=POST\nrule\nmatch exact=/a/b header=x:1",
        "h/a/b -> r.0\n POST h/a/b -> r.1\n h/a/b x:1 -> r.2",
    );
}

#[test]
fn the_older_route_wins() {
    check_routes("http a created=2\nmatch prefix=/\nhttp b created=1\nmatch prefix=/", "h/ -> b.0");
}

#[test]
fn a_route_with_a_time_is_older_than_one_without() {
    check_routes("http a\nmatch prefix=/\nhttp b created=9\nmatch prefix=/", "h/ -> b.0");
}

#[test]
fn namespace_and_name_decide_among_routes_of_one_age() {
    check(
        "gateway gw\nlistener http HTTP 80 from=All\nhttp b created=1\nmatch prefix=/\nhttp a created=1\nmatch prefix=/
         http x/y parent=default/gw\nmatch prefix=/x\nhttp a/z parent=default/gw\nmatch prefix=/x",
        "h/ -> a.0\n h/x -> a/z.0",
    );
}

#[test]
fn the_first_rule_wins_within_a_route() {
    check_routes("http r\nmatch prefix=/x\nrule name=second\nmatch prefix=/x", "h/x -> r.0");
}

#[test]
fn any_of_a_rules_matches_is_enough() {
    check_routes(
        "http r\nrule name=n\nmatch exact=/a\nmatch exact=/b",
        "h/a -> r.n\n h/b -> r.n\n h/c -> 404",
    );
}

#[test]
fn header_names_have_no_case_and_values_have() {
    check_routes(
        "http r\nmatch header=X-Version:Two",
        "h/ x-version:Two -> r.0\n h/ X-VERSION:two -> 404\n h/ -> 404",
    );
}

#[test]
fn a_repeated_header_is_one_joined_by_commas() {
    check_routes(
        "http r\nmatch header=x:1,2\nrule\nmatch headerre=y:1,.*",
        "h/ x:1 x:2 -> r.0\n h/ x:1,2 -> r.0\n h/ x:2 x:1 -> 404\n h/ x:1 -> 404\n h/ y:1 y:7 -> r.1\n h/ y:1 -> 404",
    );
}

#[test]
fn header_regex_fits_in_full() {
    check_routes("http r\nmatch headerre=x:v[12]", "h/ x:v1 -> r.0\n h/ x:v12 -> 404\n h/ x:av1 -> 404");
}

#[test]
fn query_is_percent_decoded_and_plus_is_itself() {
    check_routes(
        "http r\nmatch query=a:x/y\nrule\nmatch query=b:1+2\nrule\nmatch queryre=c:[/]+",
        "h/?a=x%2Fy -> r.0\n h/?%61=x%2fy -> r.0\n h/?a=x%2 -> 404\n h/?b=1+2 -> r.1\n h/?b=1%202 -> 404\n h/?c=%2F/ -> r.2",
    );
}

#[test]
fn of_a_repeated_parameter_the_first_counts() {
    check_routes(
        "http r\nmatch query=a:1",
        "h/?a=1&a=2 -> r.0\n h/?a=2&a=1 -> 404\n h/?z&a=1 -> r.0\n h/?A=1 -> 404",
    );
}

#[test]
fn hosts_have_no_case_and_no_dot_of_the_root() {
    check_routes(
        "http r host=a.example.com",
        "A.Example.COM/ -> r.0\n a.example.com./ -> r.0\n b.example.com/ -> 404",
    );
}

#[test]
fn a_wildcard_fits_any_number_of_labels_but_not_the_apex() {
    check_routes(
        "http r host=*.example.com",
        "a.example.com/ -> r.0\n a.b.example.com/ -> r.0\n example.com/ -> 404\n .example.com/ -> 404\n aexample.com/ -> 404",
    );
}

#[test]
fn exact_host_before_longer_wildcard_before_shorter_before_none() {
    check_routes(
        "http none\nmatch prefix=/\nhttp short host=*.com\nmatch prefix=/\nhttp long host=*.b.com\nmatch prefix=/
         http exact host=a.b.com\nmatch prefix=/",
        "a.b.com/ -> exact.0\n x.b.com/ -> long.0\n y.x.b.com/ -> long.0\n b.com/ -> short.0\n org/ -> none.0\n 10.0.0.1/ -> none.0",
    );
}

#[test]
fn the_host_counts_more_than_the_path() {
    check_routes(
        "http wild host=*.example.com\nmatch exact=/x\nhttp exact host=a.example.com\nmatch prefix=/",
        "a.example.com/x -> exact.0\n b.example.com/x -> wild.0",
    );
}

#[test]
fn a_less_specific_host_serves_what_the_more_specific_does_not() {
    check_routes(
        "http wild host=*.example.com\nmatch prefix=/w\nhttp exact host=a.example.com\nmatch prefix=/e\nhttp any\nmatch prefix=/n",
        "a.example.com/e -> exact.0\n a.example.com/w -> wild.0\n a.example.com/n -> any.0\n b.example.com/e -> 404",
    );
}

#[test]
fn a_listener_is_isolated_from_the_less_specific_ones() {
    check(
        "gateway gw\nlistener any HTTP 80\nlistener wild HTTP 80 hostname=*.example.com\nlistener one HTTP 80 hostname=a.example.com
         http any parent=gw#any\nmatch prefix=/any\nhttp wild parent=gw#wild\nmatch prefix=/wild\nhttp one parent=gw#one\nmatch prefix=/one",
        "a.example.com/one -> one.0\n a.example.com/wild -> 404\n a.example.com/any -> 404\n b.example.com/wild -> wild.0
         b.example.com/any -> 404\n x.org/any -> any.0\n x.org/wild -> 404",
    );
}

#[test]
fn hostnames_that_do_not_fit_the_listener_are_ignored() {
    check(
        "gateway gw\nlistener http HTTP 80 hostname=*.example.com\nhttp r host=a.example.com host=a.example.net host=*.com
         match prefix=/",
        "a.example.com/ -> r.0\n a.example.net/ -> 404\n b.example.com/ -> r.0\n x.com/ -> 404",
    );
}

#[test]
fn a_route_without_hostname_takes_those_of_the_listener() {
    check(
        "gateway gw\nlistener http HTTP 80 hostname=a.example.com\nhttp r\nmatch prefix=/",
        "a.example.com/ -> r.0\n b.example.com/ -> 404",
    );
}

#[test]
fn a_host_that_is_no_name_fits_only_what_has_none() {
    let long = format!("{}.example.com", "a".repeat(250));
    check_routes(
        "http wild host=*.example.com\nmatch prefix=/w\nhttp any\nmatch prefix=/",
        &format!("{long}/w -> any.0\n [::1]/w -> any.0\n /w -> any.0"),
    );
}

#[test]
fn long_hostile_paths_are_cheap() {
    let hostile = "/".repeat(60_000);
    let mut routes = String::new();
    for at in 0..200 {
        routes.push_str(&format!("http r{at}\nmatch prefix=/{}\n", "x/".repeat(at % 50)));
    }
    check_routes(&routes, &format!("h{hostile} -> r0.0\n h/x{hostile} -> r1.0"));
}

#[test]
fn bad_expressions_are_refused_and_say_why() {
    for (pattern, says) in [
        ("a)|(b", "unopened group"),
        ("[", "unclosed character class"),
        ("(?:x{1000}){1000}", "compiles to more than"),
        (r"\p{Greek}", "Unicode"),
    ] {
        let text = super::Patterns::default().get(&super::Patterns::default(), &pattern.into());
        let why = text.expect_err(pattern);
        assert!(why.contains(says), "{pattern}: {why}");
    }
}

#[test]
fn choice_meets_the_weights_evenly() {
    let table = |weights: &[u32]| super::RuleEntry {
        route: "".into(),
        rule: "".into(),
        backends: weights
            .iter()
            .enumerate()
            .map(|(at, &weight)| super::HttpBackend {
                weight,
                name: "".into(),
                target: super::Target::Invalid,
                headers: None,
                series: SeriesAt { block: 0, at: at as u32 },
            })
            .collect(),
        refused: false,
        redirect: None,
        headers: None,
        request_timeout: None,
        backend_timeout: None,
        trusted: None,
        series: SeriesAt { block: 0, at: 0 },
    };
    for (weights, start) in
        [(&[70, 30, 0][..], 0), (&[1, 1], 7), (&[0, 5], u64::MAX - 50), (&[1, 2, 3, 4], 1 << 60)]
    {
        let rule = table(weights);
        let mut counts = vec![0u32; weights.len()];
        for at in 0..100u64 {
            let chosen = rule.choose(start.wrapping_add(at)).expect("there is weight");
            counts[chosen.series.at as usize] += 1;
        }
        let total: u32 = weights.iter().sum();
        for (count, weight) in counts.iter().zip(weights) {
            let want = 100 * weight / total;
            assert!(count.abs_diff(want) <= 3, "{weights:?}: {counts:?}");
            assert!(*weight > 0 || *count == 0, "{weights:?}: {counts:?}");
        }
    }
    for nothing in [&[][..], &[0], &[0, 0]] {
        assert!(table(nothing).choose(3).is_none(), "{nothing:?}");
    }
}
