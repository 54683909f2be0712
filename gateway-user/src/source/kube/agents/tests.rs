//! One agent's word, and many together.

use super::*;
use crate::core::status::ListenerStatus;

const TTL: Duration = Duration::from_secs(40);

fn condition(status: bool, reason: &'static str, generation: i64) -> Condition {
    let message = "because".to_owned();
    Condition { kind: "Programmed", status, reason, message, observed_generation: generation }
}

fn listener(status: bool) -> ListenerStatus {
    ListenerStatus {
        name: "http".into(),
        supported_kinds: Vec::new(),
        attached_routes: 0,
        conditions: vec![condition(status, if status { "Programmed" } else { "Pending" }, 1)],
    }
}

fn gateway(status: bool, reason: &'static str, generation: i64) -> GatewayStatus {
    GatewayStatus {
        conditions: vec![condition(status, reason, generation)],
        listeners: vec![listener(true)],
        ..GatewayStatus::default()
    }
}

fn report(gateway: GatewayStatus) -> Report {
    Report { gateways: BTreeMap::from([(ObjectName::new("shop", "web"), gateway)]), ..Report::default() }
}

fn sign(node: &str, said: Option<Said>) -> Sign {
    Sign { node: node.to_owned(), said, renewed: None, lasts: TTL }
}

/// What becomes of a status of ours beside what others say.
fn beside(ours: GatewayStatus, others: &[(&str, Option<Said>)]) -> GatewayStatus {
    let now = Instant::now();
    let mut agents = Agents::default();
    for (node, said) in others {
        assert!(agents.see(format!("lease-{node}"), sign(node, said.clone()), now));
    }
    let ours = report(ours).gateways;
    assert_eq!(agents.together("a", &ours, now), None, "until all of them are known");
    agents.only(&others.iter().map(|(node, _)| format!("lease-{node}")).collect());
    let mut all = agents.together("a", &ours, now).unwrap();
    assert_eq!(agents.together("a", &ours, now + TTL).unwrap(), ours, "whoever has ended is not waited for");
    all.pop_first().unwrap().1
}

fn said(gateway: GatewayStatus) -> Option<Said> {
    Some(Said::new(&report(gateway)))
}

#[test]
fn what_an_agent_says_comes_back_as_it_was() {
    let mut gateway = gateway(false, "NoResources", 7);
    gateway.listeners = vec![listener(false)];
    gateway.addresses = vec!["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
    gateway.of_host = true;
    let said = Said::new(&report(gateway.clone()));
    let text = serde_json::to_string(&said).unwrap();
    assert_eq!(serde_json::from_str::<Said>(&text).unwrap(), said);
    let served = &said.gateways["shop/web"];
    assert_eq!((served.generation, &served.addresses), (7, &gateway.addresses));
    assert_eq!(served.failed.as_ref().unwrap().reason, "NoResources");
    assert_eq!(served.listeners["http"], "because");
    // A later version says more.
    let more = text.replacen('{', r#"{"more":[1],"#, 1);
    assert_eq!(serde_json::from_str::<Said>(&more).unwrap(), said);
}

#[test]
fn there_is_room_for_some_thousand_gateways_and_it_is_said_if_there_are_more() {
    let mut report = report(gateway(true, "Programmed", 1));
    for at in 0..10_000 {
        let name = ObjectName::new("a-namespace-with-a-name", &format!("gateway-{at}"));
        report.gateways.insert(name, gateway(at % 2 == 0, "Invalid", 3));
    }
    let said = Said::new(&report);
    let text = serde_json::to_string(&said).unwrap();
    assert!(text.len() < 256 << 10 && said.gateways.len() > 1000, "{} {}", text.len(), said.gateways.len());
    assert!(said.cut);
    let all = beside(gateway(true, "Programmed", 1), &[("b", Some(said))]);
    assert!(all.conditions[0].status, "nothing is known against it");
}

#[test]
fn a_gateway_is_programmed_if_it_is_on_every_node() {
    let good = || gateway(true, "Programmed", 2);
    assert_eq!(beside(good(), &[]), good());
    assert_eq!(beside(good(), &[("b", said(good())), ("c", said(gateway(true, "Programmed", 3)))]), good());
    for behind in [said(gateway(true, "Programmed", 1)), said(GatewayStatus::default()), None] {
        let all = beside(good(), &[("b", said(good())), ("c", behind)]);
        let programmed = &all.conditions[0];
        assert_eq!((programmed.status, programmed.reason), (false, "Pending"));
        assert_eq!(programmed.message, "not served yet by c");
        assert!(all.listeners[0].conditions[0].status);
    }
    let all = beside(good(), &[("b", said(gateway(false, "AddressNotUsable", 2)))]);
    assert_eq!((all.conditions[0].status, all.conditions[0].reason), (false, "AddressNotUsable"));
    assert_eq!(all.conditions[0].message, "node b: because");
}

#[test]
fn a_node_that_fails_is_named() {
    let good = || gateway(true, "Programmed", 2);
    let bad = || gateway(false, "NoResources", 2);
    let all = beside(bad(), &[("b", said(good()))]);
    assert_eq!((all.conditions[0].reason, &*all.conditions[0].message), ("NoResources", "node a: because"));
    let all = beside(bad(), &[("b", said(bad()))]);
    assert_eq!(all.conditions[0].message, "because", "it is the same everywhere");
    let mut there = good();
    there.listeners = vec![listener(false)];
    let all = beside(good(), &[("b", said(there))]);
    assert!(all.conditions[0].status);
    assert_eq!(all.listeners[0].conditions[0].message, "node b: because");
    let refused =
        Condition { kind: "Accepted", message: "a port".to_owned(), ..condition(false, "Invalid", 2) };
    let mut there = bad();
    there.conditions.insert(0, refused);
    assert_eq!(beside(good(), &[("b", said(there))]).conditions[0].message, "node b: a port");
    let many: Vec<(String, Option<Said>)> = (0..9).map(|at| (format!("n{at}"), None)).collect();
    let many: Vec<_> = many.iter().map(|(node, said)| (&**node, said.clone())).collect();
    let all = beside(good(), &many);
    assert_eq!(all.conditions[0].message, "not served yet by n0, n1, n2, n3, n4, and 4 more nodes");
}

#[test]
fn nodes_own_addresses_are_those_of_all_nodes() {
    let on = |addresses: &[&str], of_host| GatewayStatus {
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        of_host,
        ..gateway(true, "Programmed", 1)
    };
    let others =
        [("b", said(on(&["192.0.2.2"], true))), ("c", said(on(&["2001:db8::3", "192.0.2.1"], true)))];
    let all = beside(on(&["192.0.2.9"], true), &others);
    assert_eq!(all, on(&["192.0.2.1", "192.0.2.2", "192.0.2.9", "2001:db8::3"], true));
    let pool = on(&["192.0.2.9", "192.0.2.1"], false);
    assert_eq!(beside(pool.clone(), &others), pool, "what came out of a pool is the leader's to say");
}

#[test]
fn a_lease_lives_for_as_long_as_it_is_renewed() {
    let (start, second) = (Instant::now(), Duration::from_secs(1));
    let renewed = |at: i64| Sign {
        renewed: Some(Timestamp::from_second(at).unwrap()),
        ..sign("b", said(gateway(true, "Programmed", 1)))
    };
    let mut agents = Agents::default();
    assert!(agents.see("b".to_owned(), renewed(1), start));
    assert_eq!(agents.next_end(start), Some(start + TTL));
    assert!(!agents.see("b".to_owned(), renewed(1), start + 5 * second), "seen again, not renewed");
    assert_eq!(agents.next_end(start), Some(start + TTL));
    assert!(!agents.see("b".to_owned(), renewed(2), start + 10 * second));
    let end = start + 10 * second + TTL;
    assert_eq!((agents.next_end(start), agents.next_end(end)), (Some(end), None));
    assert!(agents.left(end + 9 * second, 10 * second).is_empty());
    assert_eq!(agents.left(end + 11 * second, 10 * second), ["b"]);
    assert!(agents.see("b".to_owned(), renewed(3), end + second), "it lives again");
    assert!(agents.gone("b") && !agents.gone("b"));
    agents.see("b".to_owned(), renewed(3), end);
    agents.only(&BTreeSet::new());
    assert_eq!(agents.next_end(start), None);
}
