//! Filters of HTTPRoutes in the tables.

use std::sync::Arc;

use super::{check, compiled};
use crate::core::headers::HeaderFilters;
use crate::core::route::{RequestView, RuleEntry};
use crate::core::snapshot::BoundService;

const GW: &str = "gateway gw\nlistener http HTTP 80\n";
const SVC: &str =
    "service svc 80\nendpoints svc 10.1.0.1:8080\nservice web 80\nendpoints web 10.1.0.2:8080\n";

/// The rule that serves every request.
fn rule(route: &str) -> Arc<RuleEntry> {
    let snapshot = compiled(&format!("{GW}{SVC}{route}"), &[]);
    let bound = snapshot.bindings.values().next().unwrap();
    let BoundService::Http(table) = &bound.service else { panic!("not HTTP") };
    let headers = http::HeaderMap::new();
    let request = RequestView { host: "a", path: "/", query: None, method: "GET", headers: &headers };
    table.find(&request).rule.unwrap().clone()
}

fn shown(headers: Option<&Arc<HeaderFilters>>) -> String {
    headers.map_or_else(|| "-".to_owned(), |h| format!("{} | {}", h.request, h.response))
}

#[test]
fn a_backend_has_the_rules_changes_and_its_own() {
    let one = rule(
        "http r\nrule set=x:1 answer-set=y:1 answer-add=z:1\nto svc:80 add=x:2 answer-add=y:2 answer-add=z:2\nto web:80",
    );
    assert_eq!(shown(one.headers.as_ref()), "set x: 1 | set y: 1, add z: 1");
    let backends: Vec<String> = one.backends.iter().map(|b| shown(b.headers.as_ref())).collect();
    assert_eq!(backends, ["set x: 1 and 2 | set y: 1, add z: 2 and 1", "set x: 1 | set y: 1, add z: 1"]);
    assert!(Arc::ptr_eq(one.headers.as_ref().unwrap(), one.backends[1].headers.as_ref().unwrap()));

    let own = rule("http r\nto svc:80 remove=x\nto web:80");
    assert_eq!(shown(own.headers.as_ref()), "-");
    let backends: Vec<String> = own.backends.iter().map(|b| shown(b.headers.as_ref())).collect();
    assert_eq!(backends, ["remove x | ", "-"]);
}

#[test]
fn a_redirect_is_accepted_and_needs_no_backend() {
    let objects = format!("{GW}http r\nrule redirect=301 scheme=https");
    check(
        &objects,
        "HTTPRoute r @gw Accepted=True:Accepted
         HTTPRoute r @gw ResolvedRefs=True:ResolvedRefs
         !HTTPRoute r @gw PartiallyInvalid
         listener gw/http attached=1",
    );
    let rule = rule("http r\nrule redirect=301 scheme=https");
    assert_eq!(rule.redirect.as_ref().unwrap().to_string(), "301 to https");
    assert!(rule.backends.is_empty());
}

#[test]
fn a_refused_rule_has_no_filters() {
    for refused in [
        "http r\nrule redirect=301 set=x:1 refuse=spec.x",
        "http r\nrule redirect=301 set=x:1\nto svc:80 refuse=spec.x",
    ] {
        let rule = rule(refused);
        assert!(rule.refused && rule.redirect.is_none() && rule.headers.is_none(), "{rule:?}");
    }
}
