//! What becomes of `Programmed`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Condition, Outcome, Report, finish};
use crate::core::compile::compile;
use crate::core::host::Host;
use crate::core::snapshot::Ids;
use crate::core::testing::{model, object};

fn report(objects: &str) -> Arc<Report> {
    compile(&model(objects), &Host::default(), &Ids::default(), 1).report
}

fn programmed(list: &[Condition]) -> (bool, &str, &str) {
    let condition = list.iter().find(|c| c.kind == "Programmed").expect("it is always there");
    (condition.status, condition.reason, &condition.message)
}

const TWO: &str = "gateway gw address=10.0.0.1 address=10.0.0.2\nlistener http HTTP 80";

fn failed(addresses: &[&str]) -> Outcome {
    let failed_addresses = addresses.iter().map(|a| (a.parse().unwrap(), "no route".to_owned()));
    Outcome { failed_addresses: failed_addresses.collect::<BTreeMap<_, _>>(), failed: None }
}

#[test]
fn success_changes_nothing() {
    let report = report(TWO);
    assert_eq!(finish(&report, &failed(&["10.9.9.9"])), report);
}

#[test]
fn a_failed_address_is_named_and_left_out() {
    let done = finish(&report(TWO), &failed(&["10.0.0.2"]));
    let gateway = &done.gateways[&object("gw")];
    assert_eq!(
        programmed(&gateway.conditions),
        (false, "AddressNotUsable", "addresses that cannot be used: 10.0.0.2: no route")
    );
    assert_eq!(gateway.addresses, ["10.0.0.1".parse::<std::net::IpAddr>().unwrap()]);
    assert!(programmed(&gateway.listeners[0].conditions).0, "it is served on the other");
}

#[test]
fn without_any_address_the_listeners_are_not_programmed_either() {
    let done = finish(&report(TWO), &failed(&["10.0.0.1", "10.0.0.2"]));
    let gateway = &done.gateways[&object("gw")];
    assert_eq!(programmed(&gateway.conditions).1, "AddressNotUsable");
    assert!(gateway.addresses.is_empty());
    assert_eq!(programmed(&gateway.listeners[0].conditions).1, "Pending");
}

#[test]
fn what_could_not_be_applied_is_pending_and_what_was_invalid_stays_so() {
    let objects = "gateway gw\nlistener http HTTP 80\nlistener odd TLS 53";
    let outcome = Outcome { failed: Some("SLOTS: full".into()), ..Outcome::default() };
    let done = finish(&report(objects), &outcome);
    let gateway = &done.gateways[&object("gw")];
    let (status, reason, message) = programmed(&gateway.conditions);
    assert!(!status && reason == "Pending" && message.ends_with(": SLOTS: full"), "{message}");
    assert_eq!(programmed(&gateway.listeners[0].conditions).1, "Pending");
    assert_eq!(programmed(&gateway.listeners[1].conditions).1, "Invalid");
}
