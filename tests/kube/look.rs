//! What is looked at in a cluster from outside, who leads and what is written, and what is done to it.

use std::{
    net::{IpAddr, SocketAddr},
    thread,
    time::Duration,
};

use gateway_tests::{
    agent::Agent,
    client,
    cluster::{Component, NODE4},
    netns::NetNs,
};
use serde_json::Value;

use crate::{Bed, condition};

/// So long nothing may be written, for all to be said.
const SILENCE: Duration = Duration::from_secs(3);

impl Bed {
    /// What a client gets for a path.
    pub(crate) fn asks(client: &NetNs, at: IpAddr, path: &str) -> Option<u16> {
        client::get(client, SocketAddr::new(at, 80), "shop.example", path).ok().map(|answer| answer.status)
    }

    /// Waits until a route of `shop` is accepted.
    pub(crate) fn wait_accepted(&self, kind: &str, name: &str) {
        self.cluster.wait(&format!("{kind} {name} to be accepted"), |_| {
            let status = self.status(kind, name);
            condition(&status["parents"][0]["conditions"], "Accepted").as_deref() == Some("True")
        });
    }

    /// Ends the API server, and with it every watch, and starts it again.
    pub(crate) fn restart_api_server(&mut self) {
        self.cluster.kill(Component::ApiServer);
        self.cluster.launch(Component::ApiServer);
        self.cluster.wait_ready();
    }

    /// Lets nothing of what the API server says get to a site: no refusal and no end of a connection either. Pods and
    /// clients reach it.
    pub(crate) fn cut_off(&self, host: u8) {
        self.cluster.node.run(&format!("ip rule add from {NODE4} to 10.245.0.{host} unreachable"));
    }

    /// Undoes that.
    pub(crate) fn reconnect(&self, host: u8) {
        self.cluster.node.run(&format!("ip rule del from {NODE4} to 10.245.0.{host} unreachable"));
    }

    /// The leader's Lease.
    pub(crate) fn lease(&self) -> Value {
        self.cluster.get(&["lease", "sluice-leader", "--namespace", "sluice-system"])
    }

    /// Who holds it.
    pub(crate) fn holder(&self) -> String {
        self.lease()["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
    }

    /// The revisions of all objects that have a status of ours.
    pub(crate) fn revisions(&self) -> Vec<String> {
        let mut found = Vec::new();
        for kind in ["gatewayclasses", "gateways", "httproutes", "tcproutes"] {
            let list = self.cluster.get(&[kind, "--all-namespaces"]);
            for object in list["items"].as_array().into_iter().flatten() {
                let metadata = &object["metadata"];
                found.push(format!("{kind} {} {}", metadata["name"], metadata["resourceVersion"]));
            }
        }
        found
    }

    /// Waits until statuses are written no more: neither do these agents write one, nor does an object change.
    pub(crate) fn settles(&self, agents: &[&Agent<'_>]) {
        let seen = || {
            let writes =
                agents.iter().map(|agent| agent.metric("sluice_kube_status_writes_total").to_string());
            (self.revisions(), writes.collect::<Vec<_>>())
        };
        self.cluster.wait("statuses to be written no more", |_| {
            let before = seen();
            thread::sleep(SILENCE);
            seen() == before
        });
    }
}
