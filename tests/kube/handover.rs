//! Several agents at once, each on a node of its own.

use std::net::IpAddr;

use gateway_tests::{agent::Agent, netns::NetNs};

use crate::{Bed, http_route, traffic::Traffic};

/// Lets a client reach an address by one of the agents: both have it, and a network would route to either.
fn by(client: &NetNs, address: IpAddr, agent: &str) {
    client.run(&format!("ip route replace {address}/32 via {agent}"));
}

fn leads(agent: &Agent<'_>) -> bool {
    agent.metric("sluice_kube_leader") > 0.0
}

#[test]
fn of_two_agents_both_serve_and_one_writes() {
    let bed = Bed::new("agents");
    let (one, two) = (bed.cluster.site("one", 2), bed.cluster.site("two", 3));
    let mut first = bed.agent(&one, "one");
    let address = bed.address();
    let second = bed.agent(&two, "two");
    bed.cluster.apply(&http_route("all", "/all"));
    let other = bed.cluster.site("other-client", 251);
    by(&bed.client, address, "10.245.0.2");
    by(&other, address, "10.245.0.3");
    bed.wait_for(address, "/all", 200);
    bed.cluster.wait("the other agent to serve", |_| Bed::asks(&other, address, "/all") == Some(200));
    let by_first = Traffic::start(&bed.client, address, "/all");
    let by_second = Traffic::start(&other, address, "/all");
    assert!(bed.holder().starts_with("one-"), "{}", bed.holder());

    // Each change is written once, by the leader, and then nothing.
    bed.cluster.apply(&http_route("more", "/more"));
    bed.wait_accepted("httproute", "more");
    bed.settles(&[&first, &second]);
    let written = |agent: &Agent<'_>| agent.metric("sluice_kube_status_writes_total");
    assert!(leads(&first) && !leads(&second));
    assert_eq!(written(&second), 0.0, "who does not lead writes nothing");
    by_first.none_failed();

    // The leader hands over: what it wrote stays as it is, and the other one goes on serving.
    let before = bed.revisions();
    first.stop();
    bed.cluster.wait("the other to lead", |_| bed.holder().starts_with("two-"));
    bed.cluster.wait("the other to know", |_| leads(&second));
    bed.settles(&[&second]);
    assert_eq!(bed.revisions(), before, "the new leader says what the old one said");
    bed.cluster.apply(&http_route("last", "/last"));
    bed.wait_accepted("httproute", "last");
    // The old one comes back, and has to wait.
    first.launch();
    first.wait_ready();
    bed.wait_for(address, "/last", 200);
    bed.settles(&[&first, &second]);
    assert!(leads(&second) && !leads(&first));
    assert_eq!(written(&first), 0.0);
    by_second.none_failed();
}

#[test]
fn a_leader_that_is_cut_off_leads_no_more_when_another_does() {
    let bed = Bed::new("cut-off");
    let (one, two) = (bed.cluster.site("one", 2), bed.cluster.site("two", 3));
    let first = bed.agent(&one, "one");
    bed.address();
    let second = bed.agent(&two, "two");
    assert!(leads(&first) && !leads(&second));
    // Nothing of what the API server says gets to the first one: no refusal and no end of a connection either.
    bed.cut_off(2);
    bed.cluster.wait("the other to lead", |_| {
        let now = leads(&second);
        assert!(!(now && leads(&first)), "both of them lead");
        now
    });
    bed.reconnect(2);
    bed.cluster.apply(&http_route("all", "/all"));
    bed.wait_accepted("httproute", "all");
    bed.settles(&[&first, &second]);
    assert!(leads(&second) && !leads(&first));
}
