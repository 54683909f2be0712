//! Changes while connections are made and carry bytes: endpoints that come, go and move, agents that are killed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::IpAddr,
};

use gateway_tests::{agent::Agent, peers::echo};
use serde_json::Value;

use super::at;
use super::forward_bed::{
    Bed, CASES, Case, Load, PORT, alive, all_forwarded, close, connect, objects, paths, ways,
};

/// Connections that are made altogether.
const CONNECTIONS: u64 = 20_000;

#[test]
fn connections_go_on_while_an_endpoint_flaps() {
    let bed = Bed::new("flap");
    let _stay = bed.echoes();
    let flap = CASES.map(|case| echo::tcp(bed.ns(&case), at(case.endpoint, PORT + 1), "flap"));
    let yaml = |there: bool| {
        objects(|case| (PORT..=PORT + u16::from(there)).map(|port| at(case.endpoint, port)).collect())
    };
    let agent = bed.agent_on(&yaml(true), &[]);
    let load = Load::start(&bed.lab.client, CASES.map(|case| case.asked()));
    let mut changes = 0;
    while load.fewest() < CONNECTIONS / CASES.len() as u64 && !load.failed() {
        changes += 1;
        agent.change(&yaml(changes % 2 == 0));
        load.more(10);
    }
    let made = load.finish();
    assert!(made >= CONNECTIONS && changes >= 10, "{made} connections, {changes} changes");
    assert!(flap.iter().all(|echo| echo.connections() > 100), "they took part");
    all_forwarded(&agent);
}

/// Ends the agent five times under load, and starts it again.
fn restart(name: &str, end: fn(&mut Agent<'_>)) {
    let bed = Bed::new(name);
    let _echoes = bed.echoes();
    let mut agent = bed.agent(&[]);
    let load = Load::start(&bed.lab.client, CASES.map(|case| case.asked()));
    for _ in 0..5 {
        load.more(50);
        end(&mut agent);
        load.more(50);
        agent.launch();
        agent.wait_ready();
        all_forwarded(&agent);
    }
    load.more(50);
    assert!(load.finish() >= 5 * 100 * CASES.len() as u64);
    all_forwarded(&agent);
}

#[test]
fn no_connection_fails_when_the_agent_is_killed() {
    restart("killed", |agent| {
        agent.kill();
    });
}

#[test]
fn no_connection_fails_when_the_agent_is_stopped() {
    restart("stopped", |agent| assert!(agent.stop().success(), "{}", agent.log()));
}

/// Ids of the backends that the agent knows.
fn ids(agent: &Agent<'_>) -> BTreeSet<u64> {
    let status = agent.ask("status");
    let backends = status["agent"]["forwarding"]["backends"].as_array().cloned().unwrap_or_default();
    backends.iter().map(|backend| backend["id"].as_u64().expect("an id")).collect()
}

#[test]
fn a_flow_outlives_its_endpoint_and_meets_the_next_one_with_its_id() {
    let bed = Bed::new("ids");
    let listeners = |port: u16| CASES.map(|case| bed.listener(&case, port));
    let (old, _between, new) = (listeners(PORT), listeners(PORT + 1), listeners(PORT + 2));
    let yaml = |port: u16| objects(|case| vec![at(case.endpoint, port)]);
    let mut agent = bed.agent_on(&yaml(PORT), &[]);
    let client = &bed.lab.client;
    let flows: Vec<_> = CASES.iter().zip(&old).map(|(c, old)| connect(client, c.asked(), old)).collect();
    let before = ids(&agent);
    agent.change(&yaml(PORT + 1));
    assert!(ids(&agent).is_disjoint(&before), "an id is not given out again at once");
    // Without what outlives a restart the next agent begins anew, with ids that are free.
    agent.kill();
    fs::remove_dir_all(agent.state_dir()).expect("the state can be removed");
    agent.write(&yaml(PORT + 2));
    agent.launch();
    agent.wait_ready();
    ways(&agent);
    assert_eq!(ids(&agent), before, "the ids of what the flows lead to");
    for ((case, new), (near, far, _)) in CASES.iter().zip(&new).zip(&flows) {
        alive(near, far);
        let (second, second_far, _) = connect(client, case.asked(), new);
        alive(&second, &second_far);
        alive(near, far);
        // It is still known for what it is.
        let shown = shown(&agent);
        for (flow, port) in [(near, PORT), (&second, PORT + 2)] {
            let client = flow.local_addr().expect("an address").to_string();
            assert_eq!(shown[&client], at(case.endpoint, port).to_string(), "{case:?}");
        }
        close(&second, &second_far);
        close(near, far);
        let labels = [format!("listener=\"default/db/{}\"", case.name), format!(":{}\"", PORT + 2)];
        let labels = labels.each_ref().map(String::as_str);
        assert_eq!(agent.metric_with("sluice_forward_connections_total", &labels), 1.0, "{case:?}");
    }
    all_forwarded(&agent);
}

/// Client of each flow → its endpoint, as `sluice flows` has them.
fn shown(agent: &Agent<'_>) -> BTreeMap<String, String> {
    let flows = agent.ask("flows")["flows"].as_array().cloned().unwrap_or_default();
    let text = |flow: &Value, key: &str| flow[key].as_str().unwrap_or_default().to_owned();
    flows.iter().map(|flow| (text(flow, "client"), text(flow, "backend"))).collect()
}

#[test]
fn an_endpoint_moves_from_the_node_and_back() {
    let bed = Bed::new("moves");
    // Beside the way by the router there is one of its own.
    bed.lab.gateway.veth("pod", &bed.behind, "eth1");
    for (case, near, far, pod) in
        [(&CASES[0], "10.9.5.1", "10.9.5.2", "10.9.6.2"), (&CASES[1], "fd09:5::1", "fd09:5::2", "fd09:6::2")]
    {
        let [near, far, pod]: [IpAddr; 3] = [near, far, pod].map(|ip| ip.parse().expect("an address"));
        let (family, length, whole) = if case.own.is_ipv6() { (6, 64, 128) } else { (4, 24, 32) };
        bed.lab.gateway.address("pod", near, length);
        bed.behind.address("eth1", far, length);
        bed.behind.address("eth1", pod, whole);
        bed.behind.run(&format!("ip -{family} route add {}/{whole} via {near}", case.client));
        bed.lab.backend.run(&format!("ip -{family} route add {pod}/{whole} via {}", behind(case)));
        let lead = |by: &str| bed.lab.gateway.run(&format!("ip -{family} route replace {pod}/{whole} {by}"));
        let (on_node, away) = ("dev pod".to_owned(), format!("via {}", case.endpoint));
        lead(&on_node);
        let endpoint = at(pod, PORT);
        let listener = bed.behind.enter(|| std::net::TcpListener::bind(endpoint)).expect("a listener");
        let agent = bed.agent_on(&objects(|_| vec![endpoint]), &[]);
        let path = |agent: &Agent<'_>| paths(agent).get(&endpoint.to_string()).cloned().unwrap_or_default();
        let mut flows = Vec::new();
        for (by, want) in [(&on_node, "local"), (&away, "snat"), (&on_node, "local"), (&away, "snat")] {
            lead(by);
            agent.wait("the way to be seen", || path(&agent) == want);
            let (near, far, seen) = connect(&bed.lab.client, case.asked(), &listener);
            let client = near.local_addr().expect("an address");
            assert_eq!(seen == client, want == "local", "{case:?}: {client} is seen as {seen}");
            flows.push((near, far));
            for (near, far) in &flows {
                alive(near, far);
            }
        }
        for (near, far) in &flows {
            close(near, far);
        }
        all_forwarded(&agent);
    }
}

/// The address behind the router, of the case's family.
fn behind(case: &Case) -> IpAddr {
    CASES.iter().find(|c| !c.local && c.own == case.own).expect("a remote one").endpoint
}
