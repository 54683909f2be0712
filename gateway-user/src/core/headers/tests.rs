//! Changes of headers: one rule of the specification each, and how changes become one.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;

/// `+name: value` adds, `=name: value` sets, `-name` removes.
fn changes(lines: &[&str]) -> HeaderChanges {
    let mut all = HeaderChanges::default();
    for line in lines {
        let (sign, rest) = line.split_at(1);
        let (name, value) = rest.split_once(": ").unwrap_or((rest, ""));
        let value = || vec![HeaderValue::from_str(value).unwrap()];
        let change = match sign {
            "+" => Change::Append(value()),
            "=" => Change::Replace(value()),
            _ => Change::Replace(Vec::new()),
        };
        all.push(HeaderName::from_bytes(name.as_bytes()).unwrap(), change);
    }
    all
}

fn header(lines: &[&str]) -> HeaderMap {
    let mut header = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        header
            .append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    header
}

/// The fields, each with its values joined.
fn shown(header: &HeaderMap) -> Vec<String> {
    let mut all: Vec<String> = header
        .keys()
        .map(|name| {
            let values: Vec<_> = header.get_all(name).iter().map(|v| v.to_str().unwrap()).collect();
            format!("{name}: {}", values.join(","))
        })
        .collect();
    all.sort();
    all
}

#[test]
fn what_changes_do() {
    for (asked, before, after) in [
        // The API's own examples.
        (&["=my-header: bar"][..], &["my-header: foo"][..], &["my-header: bar"][..]),
        (&["+my-header: bar,baz"], &["my-header: foo"], &["my-header: foo,bar,baz"]),
        (
            &["-my-header1", "-my-header3"],
            &["my-header1: foo", "my-header2: bar", "my-header3: baz"],
            &["my-header2: bar"],
        ),
        // What is not there.
        (&["=a: 1", "+b: 2", "-c"], &[], &["a: 1", "b: 2"]),
        // All values are replaced, and all are removed.
        (&["=a: 1", "-b"], &["a: x", "a: y", "b: x", "b: y"], &["a: 1"]),
        // Names in any case; of equal ones the first counts.
        (&["=X-A: 1", "=x-a: 2"], &["x-A: 0"], &["x-a: 1"]),
        (&["+X-A: 1", "+x-a: 2"], &[], &["x-a: 1"]),
        (&["+set-cookie: b=2"], &["set-cookie: a=1"], &["set-cookie: a=1,b=2"]),
    ] {
        let mut header = header(before);
        changes(asked).apply(&mut header);
        assert_eq!(shown(&header), after, "{asked:?}");
    }
}

#[test]
fn a_rule_and_its_backend_make_one_change() {
    for (rule, backend, together) in [
        ("=a: 1", "=a: 2", "set a: 2"),
        ("=a: 1", "+a: 2", "set a: 1 and 2"),
        ("=a: 1", "-a", "remove a"),
        ("+a: 1", "=a: 2", "set a: 2"),
        ("+a: 1", "+a: 2", "add a: 1 and 2"),
        ("+a: 1", "-a", "remove a"),
        ("-a", "=a: 2", "set a: 2"),
        ("-a", "+a: 2", "set a: 2"),
        ("-a", "-a", "remove a"),
        ("=a: 1", "+b: 2", "set a: 1, add b: 2"),
    ] {
        let filters =
            |of: &str| HeaderFilters { request: changes(&[of]), response: HeaderChanges::default() };
        assert_eq!(filters(rule).around(&filters(backend)).request.to_string(), together);
        // An answer meets the backend's first.
        let filters =
            |of: &str| HeaderFilters { request: HeaderChanges::default(), response: changes(&[of]) };
        assert_eq!(filters(backend).around(&filters(rule)).response.to_string(), together);
    }
}

#[test]
fn trailers_bring_nothing_back() {
    let mut trailers = header(&["a: 1", "b: 2", "c: 3", "d: 4"]);
    changes(&["=a: 0", "+b: 0", "-c"]).withhold(&mut trailers);
    assert_eq!(shown(&trailers), ["b: 2", "d: 4"]);
}

#[test]
fn fields_that_are_not_a_filters() {
    use Action::{Add, Remove, Set};
    use Message::{Request, Response};
    let all = [(Request, Set), (Request, Add), (Request, Remove)].into_iter().chain([
        (Response, Set),
        (Response, Add),
        (Response, Remove),
    ]);
    for (message, action) in all {
        let refused = |name: &str| {
            forbidden(message, action, &HeaderName::from_bytes(name.as_bytes()).unwrap()).is_some()
        };
        for name in [
            "Connection",
            "Transfer-Encoding",
            "TE",
            "Upgrade",
            "Keep-Alive",
            "Proxy-Connection",
            "Content-Length",
        ] {
            assert!(refused(name), "{message:?} {action:?} {name}");
        }
        for name in ["X-Any", "Forwarded", "X-Forwarded-Proto", "Content-Type", "Cookie", "Via", "Trailer"] {
            assert!(!refused(name), "{message:?} {action:?} {name}");
        }
        assert_eq!(refused("Host"), message == Request && action != Set);
        assert_eq!(refused("Expect"), message == Request);
        assert_eq!(refused("Date"), message == Response && action == Remove);
    }
}

fn any_changes() -> impl Strategy<Value = HeaderChanges> {
    let name = prop_oneof![Just("a"), Just("b"), Just("c"), Just("host")];
    let value = prop_oneof![Just("1"), Just("2"), Just("3, 4")];
    let one = (name, value, 0..3).prop_map(|(name, value, action)| {
        let value = HeaderValue::from_static(value);
        let change = match action {
            0 => Change::Replace(vec![value]),
            1 => Change::Append(vec![value]),
            _ => Change::Replace(Vec::new()),
        };
        (HeaderName::from_static(name), change)
    });
    prop::collection::vec(one, 0..6).prop_map(|list| {
        let mut changes = HeaderChanges::default();
        list.into_iter().for_each(|(name, change)| changes.push(name, change));
        changes
    })
}

proptest! {
    /// Two changes as one do what they do one after the other.
    #[test]
    fn together_they_do_what_they_do_in_turn(
        first in any_changes(),
        second in any_changes(),
        before in prop::collection::vec((0..4usize, 0..3u16), 0..8),
    ) {
        let mut header = HeaderMap::new();
        for (name, value) in before {
            header.append(["a", "b", "c", "d"][name], value.into());
        }
        let mut together = header.clone();
        first.then(&second).apply(&mut together);
        first.apply(&mut header);
        second.apply(&mut header);
        prop_assert_eq!(shown(&header), shown(&together));
    }

    /// What is replaced has just the values that come, and what is not named stays as it is.
    #[test]
    fn what_is_not_named_stays(changes in any_changes(), before in prop::collection::vec((0..4usize, 0..3u16), 0..8)) {
        let mut header = HeaderMap::new();
        for (name, value) in before {
            header.append(["a", "b", "c", "d"][name], value.into());
        }
        let old = header.clone();
        changes.apply(&mut header);
        for name in ["a", "b", "c", "d", "host"] {
            let has: Vec<_> = header.get_all(name).iter().cloned().collect();
            let had: Vec<_> = old.get_all(name).iter().cloned().collect();
            let want = match changes.of(&HeaderName::from_static(name)) {
                None => had,
                Some(Change::Replace(values)) => values.clone(),
                Some(Change::Append(values)) => [had, values.clone()].concat(),
            };
            prop_assert_eq!(has, want, "{}", name);
        }
    }
}
