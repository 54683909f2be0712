//! What the kernel refuses: the configuration before goes on serving, conditions say so, and it is tried again with
//! growing pauses until the kernel does it.

use std::fs;

use gateway_tests::{
    agent::Agent,
    client,
    lab::{BACKEND4, Lab},
    objects::{gateway, http_route, prefix, service},
    peers::echo,
};
use serde_json::Value;

use super::{FAMILIES, WORKERS, at};

/// Limits the address space of a process, or lifts the limit: bytes.
fn limit(lab: &Lab, pid: i32, bytes: &str) {
    lab.gateway.run(&format!("prlimit --pid {pid} --as={bytes}:unlimited"));
}

/// `Programmed` of the Gateway and of its listeners, with their reasons and messages.
fn programmed(agent: &Agent<'_>) -> Vec<String> {
    let status = agent.ask("status");
    let gateway = &status["gateways"][0];
    let listeners = gateway["listeners"].as_array().expect("listeners").clone();
    let condition = |object: &Value| {
        let all = object["conditions"].as_array().expect("conditions").clone();
        let c = all.into_iter().find(|c| c["type"] == "Programmed").expect("Programmed");
        format!("{} {} {}", c["status"], c["reason"], c["message"]).replace('"', "")
    };
    std::iter::once(gateway).chain(&listeners).map(condition).collect()
}

#[test]
fn what_the_kernel_refuses_is_tried_again_until_it_does_it() {
    let lab = Lab::new("refused");
    let one = echo::http(&lab.backend, at(BACKEND4, 8001), "one");
    let yaml = |listeners: &[&str]| {
        [
            gateway("web", None, listeners),
            service("one", &[one.address]),
            http_route("a", &["web"], &[], &[prefix("/", &["one"])]),
        ]
        .concat()
    };
    let agent = Agent::start(&lab.gateway, &yaml(&["http HTTP 80"]), WORKERS);
    let serves = |port| {
        FAMILIES.iter().all(|(ip, _)| {
            client::get(&lab.client, at(*ip, port), "a", "/").is_ok_and(|answer| answer.status == 200)
        })
    };
    assert!(serves(80));
    // The kernel maps no more memory for the agent: SLOTS, which a change maps, have no room.
    let statm = fs::read_to_string(format!("/proc/{}/statm", agent.pid())).expect("the agent runs");
    let pages: u64 = statm.split(' ').next().and_then(|n| n.parse().ok()).expect("a number of pages");
    limit(&lab, agent.pid(), &(pages * 4096 + (1 << 20)).to_string());
    agent.change(&yaml(&["http HTTP 80", "new HTTP 81"]));
    let state = programmed(&agent);
    assert_eq!(state.len(), 3);
    for condition in &state {
        assert!(condition.starts_with("False Pending "), "{state:?}");
        assert!(condition.contains("the last one goes on serving"), "{state:?}");
        assert!(condition.contains("Cannot allocate memory"), "{state:?}");
    }
    assert!(serves(80), "the configuration before goes on serving");
    assert!(!serves(81));
    assert_eq!(agent.metric("sluice_config_current"), 0.0);
    let tries = || agent.log().matches("the configuration cannot be applied; it is tried again").count();
    agent.wait("it to be tried three times", || tries() >= 3);
    assert!(serves(80));
    limit(&lab, agent.pid(), "unlimited");
    agent.wait("it to be applied", || agent.metric("sluice_config_current") == 1.0);
    println!("applied at try {}", tries() + 1);
    assert!(programmed(&agent).iter().all(|c| c.starts_with("True Programmed ")), "{:?}", programmed(&agent));
    assert!(serves(80) && serves(81));
    assert_eq!(agent.ask("status")["agent"]["configuration"]["error"], Value::Null);
}
