//! Several agents: a Gateway's status speaks of all of them.

use std::{collections::BTreeSet, net::TcpListener};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use super::{Bed, GATEWAY};

/// A Gateway that is on whatever addresses the nodes have.
const ON_NODES: &str = "
apiVersion: sluice-gateway.dev/v1
kind: SluiceParameters
metadata: { name: nodes, namespace: shop }
spec: { addressMode: Node }
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: nodes, namespace: shop }
spec:
  gatewayClassName: sluice
  infrastructure: { parametersRef: { group: sluice-gateway.dev, kind: SluiceParameters, name: nodes } }
  listeners: [{ name: http, protocol: HTTP, port: 8088 }, { name: raw, protocol: TCP, port: 9000 }]
";

/// The condition `Programmed` of a Gateway, or of one of its listeners: status and message.
fn programmed(bed: &Bed, gateway: &str, listener: Option<&str>) -> (String, String) {
    let status = bed.status("gateway", gateway);
    let conditions = match listener {
        None => &status["conditions"],
        Some(name) => {
            let mut listeners = status["listeners"].as_array().into_iter().flatten();
            listeners
                .find(|listener| listener["name"] == name)
                .map_or(&Value::Null, |found| &found["conditions"])
        }
    };
    let all = conditions.as_array().into_iter().flatten();
    let found = all.clone().find(|condition| condition["type"] == "Programmed").unwrap_or(&Value::Null);
    let text = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
    (text("status"), text("message"))
}

/// The Gateway with so many listeners more.
fn more(count: u16) -> String {
    let more: String =
        (0..count).map(|at| format!(", {{ name: more{at}, protocol: TCP, port: {} }}", 9100 + at)).collect();
    GATEWAY.replace("port: 9000 }]", &format!("port: 9000 }}{more}]"))
}

#[test]
fn a_gateway_is_programmed_when_every_node_serves_it() {
    let bed = Bed::new("behind");
    let (one, two) = (bed.cluster.site("one", 2), bed.cluster.site("two", 3));
    let _first = bed.agent(&one, "one");
    bed.address();
    let mut second = bed.agent(&two, "two");
    let lease =
        || bed.cluster.try_kubectl(&["get", "lease", "sluice-agent-two", "--namespace", "sluice-system"]);
    bed.cluster.wait("the second node's Lease", |_| lease().is_ok());
    let wait = |what: &str, status: &str, part: &str| {
        bed.cluster.wait(what, |_| {
            let (is, message) = programmed(&bed, "web", None);
            is == status && message.contains(part)
        });
    };
    // A node that does not follow.
    let process = Pid::from_raw(second.pid());
    kill(process, Signal::SIGSTOP).expect("a signal can be sent");
    bed.cluster.apply(&more(1));
    wait("the second node to be behind", "False", "not served yet by two");
    kill(process, Signal::SIGCONT).expect("a signal can be sent");
    wait("the second node to follow", "True", "");
    // One that has gone is waited for no longer than its Lease lasts.
    second.kill();
    bed.cluster.apply(&more(2));
    wait("the second node to be behind", "False", "not served yet by two");
    wait("the second node's Lease to end", "True", "");
    // One that is stopped leaves nothing to wait for, neither its own nor what was left before.
    second.launch();
    second.wait_ready();
    assert!(second.stop().success(), "{}", second.log());
    assert!(lease().is_err_and(|why| why.contains("NotFound")), "{:?}", lease());
}

#[test]
fn a_node_that_fails_is_named_and_each_node_s_addresses_are_told() {
    let bed = Bed::new("nodes");
    let (one, two) = (bed.cluster.site("one", 2), bed.cluster.site("two", 3));
    // Something else of the second node has that port.
    let taken = two.enter(|| TcpListener::bind("0.0.0.0:9000")).expect("the port is free");
    bed.cluster.apply(ON_NODES);
    let _first = bed.agent(&one, "one");
    let mut second = bed.agent(&two, "two");
    let wait = |what: &str, status: &str, part: &str| {
        bed.cluster.wait(what, |_| {
            let (is, message) = programmed(&bed, "nodes", Some("raw"));
            is == status && message.contains(part)
        });
    };
    wait("the second node's problem", "False", "node two: ");
    bed.cluster.wait("an event", |cluster| {
        let events = cluster.get(&["events", "--namespace", "shop"]);
        let mut events = events["items"].as_array().into_iter().flatten();
        events.any(|event| {
            event["type"] == "Warning"
                && event["involvedObject"]["name"] == "nodes"
                && event["message"].as_str().is_some_and(|note| note.starts_with("listener raw: node two: "))
        })
    });
    assert_eq!(programmed(&bed, "nodes", Some("http")).0, "True");
    assert_eq!(programmed(&bed, "nodes", None).0, "True", "the other listener is served");
    drop(taken);
    wait("the second node to have the port", "True", "");

    let addresses = || {
        let status = bed.status("gateway", "nodes");
        let all = status["addresses"].as_array().into_iter().flatten();
        all.filter_map(|address| address["value"].as_str().map(str::to_owned)).collect::<BTreeSet<_>>()
    };
    bed.cluster.wait("the addresses of both nodes", |_| {
        ["10.245.0.2", "10.245.0.3"].iter().all(|address| addresses().contains(*address))
    });
    assert!(second.stop().success(), "{}", second.log());
    bed.cluster.wait("the addresses of the node that is left", |_| !addresses().contains("10.245.0.3"));
    assert!(addresses().contains("10.245.0.2"));
}
