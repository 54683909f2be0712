//! What is said of those that lost fits what the data path does, in random configurations.

use proptest::prelude::*;

use super::{compiled, explain};
use crate::core::compile::compile;
use crate::core::explain::Why;
use crate::core::host::Host;
use crate::core::snapshot::Ids;

/// Objects out of few hostnames, paths and conditions, so that much of it collides.
fn objects() -> impl Strategy<Value = String> {
    let hosts = prop::sample::subsequence(vec!["a.example.com", "*.example.com", "*.com", "b.org"], 0..=2);
    let path = prop::sample::select(vec![
        "exact=/a",
        "exact=/a/b",
        "prefix=/",
        "prefix=/a",
        "prefix=/a/b",
        "regex=/a.*",
        "regex=/.*",
    ]);
    let more = prop::sample::select(vec![
        "",
        "method=GET",
        "header=x:1",
        "header=x:1 query=q:1",
        "queryre=q:[12]",
        "method=POST",
    ]);
    let one = (path, more).prop_map(|(path, more)| format!("match {path} {more}\n"));
    let rule =
        prop::collection::vec(one, 1..3).prop_map(|matches| format!("rule\n{}to svc:80\n", matches.concat()));
    let section = prop::sample::select(vec!["gw", "gw#any", "gw#wild", "gw#one"]);
    let route = (hosts, section, 0..3, prop::collection::vec(rule, 1..3));
    prop::collection::vec(route, 1..6).prop_map(|routes| {
        let mut text = "gateway gw\nlistener any HTTP 80\nlistener wild HTTP 80 hostname=*.example.com
             listener one HTTP 80 hostname=a.example.com\nservice svc 80\nendpoints svc 10.0.0.9:8080\n"
            .to_owned();
        for (at, (hosts, section, created, rules)) in routes.into_iter().enumerate() {
            let hosts: String = hosts.iter().map(|host| format!(" host={host}")).collect();
            text.push_str(&format!(
                "http r{at} parent={section} created={created}{hosts}\n{}",
                rules.concat()
            ));
        }
        text
    })
}

proptest! {
    /// Whoever is said to lose does not serve, and would if and only if it is said to fit too once the winner and all
    /// that beat it are gone: asked of the same data path with the route alone.
    #[test]
    fn who_is_said_to_fit_serves_when_it_is_alone(
        text in objects(),
        host in prop::sample::select(vec!["a.example.com", "x.example.com", "b.org", "x.com", "net"]),
        path in prop::sample::select(vec!["/", "/a", "/a/b", "/a/c", "/b"]),
        more in prop::sample::select(vec!["", "?q=1", "?q=3"]),
        header in prop::sample::select(vec!["", " x:1", " x:2"]),
    ) {
        let (model, snapshot) = compiled(&text);
        let request = format!("{host}{path}{more}{header}");
        let answer = explain(&model, &snapshot, &request);
        for lost in &answer.lost {
            let mut alone = model.clone();
            alone.http_routes.retain(|name, _| *name == lost.route);
            let Some(rule) = &lost.rule else { continue };
            let mut route = (*alone.http_routes[&lost.route]).clone();
            let at: usize = rule.parse().unwrap();
            route.rules = vec![route.rules[at].clone()];
            alone.http_routes.insert(lost.route.clone(), route.into());
            let snapshot = compile(&alone, &Host::default(), &Ids::default(), 1);
            let by_itself = explain(&alone, &snapshot, &request);
            let fits_too = lost.why <= Why::RuleOrder;
            prop_assert_eq!(by_itself.served.is_some(), fits_too, "{}\n{}\n{:?}", text, request, lost);
        }
    }
}
