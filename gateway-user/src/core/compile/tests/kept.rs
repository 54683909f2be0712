//! What is compiled again, and what is not: seen by whether it is the very same in memory.

use std::sync::Arc;

use proptest::prelude::*;

use super::{Ids, Kept, Snapshot, compile, compile_after, host};
use crate::core::model::Model;
use crate::core::snapshot::SeriesKey;
use crate::core::testing::model;

const SERVED: &str = "gateway one\nlistener http HTTP 80\ngateway two\nlistener http HTTP 81\n\
    service svc 80\nendpoints svc 10.1.0.1:8080\n";

/// `one` and `two` are whether the table of the Gateway's listener is made anew; `routes` whose status is.
#[track_caller]
fn check(before: &str, after: &str, one: bool, two: bool, routes: &[&str]) {
    let (before, mut after) = (model(&format!("{SERVED}{before}")), model(&format!("{SERVED}{after}")));
    share(&before, &mut after);
    let (first, kept) = compile_after(&Kept::default(), &before, &host(&[]), &Ids::default(), 1);
    let (second, _) = compile_after(&kept, &after, &host(&[]), &first.ids, 2);
    let anew = |name: &str| !Arc::ptr_eq(block(&first, name), block(&second, name));
    assert_eq!((anew("one"), anew("two")), (one, two), "tables");
    let anew: Vec<&str> = (second.report.routes.iter())
        .filter(|(key, entries)| !first.report.routes.get(key).is_some_and(|old| Arc::ptr_eq(old, entries)))
        .map(|((_, name), _)| &*name.name)
        .collect();
    assert_eq!(anew, routes, "statuses");
}

/// As a source does it: what has not changed is the same object.
fn share(before: &Model, after: &mut Model) {
    for (name, route) in after.http_routes.iter_mut() {
        if let Some(same) = before.http_routes.get(name).filter(|old| old == &route) {
            *route = Arc::clone(same);
        }
    }
}

fn block<'s>(snapshot: &'s Snapshot, gateway: &str) -> &'s Arc<[SeriesKey]> {
    let label = format!("default/{gateway}/http");
    snapshot.series.iter().find(|block| *block[0].listener == *label).unwrap()
}

const A: &str = "http a parent=one\nrule\nto svc:80\n";
const B: &str = "http b parent=two\nrule\nto svc:80\n";

#[test]
fn what_nobody_has_changed_stays() {
    check(&format!("{A}{B}"), &format!("{A}{B}"), false, false, &[]);
}

#[test]
fn a_route_that_changes_takes_its_listener_along() {
    let changed = "http b parent=two\nrule\nmatch prefix=/x\nto svc:80\n";
    check(&format!("{A}{B}"), &format!("{A}{changed}"), false, true, &["b"]);
}

#[test]
fn a_route_that_comes_or_goes_takes_its_listener_along() {
    check(A, &format!("{A}{B}"), false, true, &["b"]);
    check(&format!("{A}{B}"), B, true, false, &[]);
}

#[test]
fn a_route_that_moves_takes_both_along_and_no_other_route() {
    let c = "http c parent=two\nrule\nmatch prefix=/c\nto svc:80\n";
    let moved = "http a parent=two\nrule\nto svc:80\n";
    check(&format!("{A}{B}{c}"), &format!("{moved}{B}{c}"), true, true, &["a"]);
}

#[test]
fn what_all_depend_on_takes_all_along() {
    for more in [
        "class sluice sluice-gateway.dev/controller",
        "parameters p pool=10.0.0.0/28",
        "gateway three\nlistener http HTTP 82",
        "tls t other",
        "grant g from=TCPRoute/x",
        "service other 80",
        "endpoints svc 10.1.0.2:8080",
        "namespace x",
    ] {
        check(A, &format!("{A}{more}\n"), true, true, &["a"]);
    }
}

#[test]
fn of_the_host_counts_where_listeners_are_served_and_what_names_resolve_to() {
    let anew = |more: &str, before: &[&str], after: &[&str]| {
        let model = model(&format!("{SERVED}{A}{more}"));
        let (first, kept) = compile_after(&Kept::default(), &model, &host(before), &Ids::default(), 1);
        let (second, _) = compile_after(&kept, &model, &host(after), &first.ids, 2);
        !Arc::ptr_eq(block(&first, "one"), block(&second, "one"))
    };
    assert!(!anew("", &[], &["0.0.0.0:99"]));
    assert!(anew("", &["0.0.0.0:81"], &[]), "the other Gateway's port was taken");
    assert!(anew("service out external=a.example.org\n", &[], &[]));
}

/// A route, absent or in one of its versions, on the listener of one Gateway, of the other, or on both.
fn route(name: &'static str) -> impl Strategy<Value = String> {
    (0..4u8, 0..3usize, 0..3usize, prop::option::of(0..2u8)).prop_map(move |(version, parents, hosts, created)| {
        let parents = ["parent=one", "parent=two", "parent=one parent=two parent=none"][parents];
        let hosts = ["", "host=a.org", "host=a.org host=*.org"][hosts];
        let created = created.map(|at| format!("created={at}")).unwrap_or_default();
        let rules = match version {
            0 => return String::new(),
            1 => "rule\nto svc:80".to_owned(),
            2 => format!("rule name=x\nmatch regex=/{name}+\nmatch prefix=/x header=k:v\nto svc:80 weight=2\nto none:1"),
            _ => "rule refuse=f\nmatch exact=/x\nto svc:80\nrule\nmatch prefix=/\nto svc:80".to_owned(),
        };
        format!("http {name} {parents} {hosts} {created}\n{rules}\n")
    })
}

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// A change of few routes.
fn change() -> impl Strategy<Value = Vec<(usize, String)>> {
    let one = (0..NAMES.len()).prop_flat_map(|at| (Just(at), route(NAMES[at])));
    prop::collection::vec(one, 0..3)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_comes_of_it_is_what_comes_of_compiling_everything(
        first in NAMES.map(route),
        changes in prop::collection::vec(change(), 1..5),
    ) {
        let mut texts = first;
        let (mut kept, mut ids, mut before) = (Kept::default(), Ids::default(), Model::default());
        for (at, change) in [Vec::new()].iter().chain(&changes).enumerate() {
            for (at, text) in change {
                texts[*at].clone_from(text);
            }
            let mut next = model(&format!("{SERVED}{}", texts.concat()));
            share(&before, &mut next);
            let (snapshot, left) = compile_after(&kept, &next, &host(&[]), &ids, at as u64);
            let whole = compile(&next, &host(&[]), &ids, at as u64);
            prop_assert_eq!(format!("{snapshot:?}"), format!("{whole:?}"));
            (kept, ids, before) = (left, snapshot.ids, next);
        }
    }
}
