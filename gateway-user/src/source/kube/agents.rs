//! What the agents of a cluster say of its Gateways, and what that comes to: `Programmed` speaks of all nodes.
//!
//! Owns which agents live, how what one serves is put into its Lease, and how the leader puts all of them together. Pure:
//! time is an argument. Must not know how Leases come and go (`presence`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::status::shortened;
use crate::core::model::ObjectName;
use crate::core::status::{Condition, GatewayStatus, MOST_ADDRESSES, Report, unprogram};

/// Room for what an agent says: all annotations of an object have 256 KiB together.
const ROOM: usize = 200 << 10;
/// A reason is cut after so many bytes.
const REASON: usize = 500;
/// So many nodes are named in a message.
const NAMED: usize = 5;

/// What an agent serves, as it stands in its Lease.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Said {
    /// The agent's version.
    #[serde(default)]
    version: String,
    /// Gateways by `namespace/name`.
    #[serde(default)]
    gateways: BTreeMap<String, Served>,
    /// There was no room for all Gateways: those that are missing are served as far as is known.
    #[serde(default, skip_serializing_if = "is_false")]
    cut: bool,
}

/// What an agent says of a Gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Served {
    /// The generation that it serves.
    generation: i64,
    /// The addresses that it is on, if they are the node's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<IpAddr>,
    /// Why it is not programmed on the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failed: Option<Failure>,
    /// Listeners that are not, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    listeners: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Failure {
    reason: String,
    message: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
fn is_false(it: &bool) -> bool {
    !it
}

impl Said {
    /// What an agent says whose report this is.
    pub(super) fn new(report: &Report) -> Self {
        let mut said = Self { version: env!("CARGO_PKG_VERSION").to_owned(), ..Self::default() };
        let mut room = ROOM;
        for (name, status) in &report.gateways {
            let Some(served) = Served::new(status) else { continue };
            let name = name.to_string();
            let size = name.len() + serde_json::to_string(&served).map_or(0, |text| text.len()) + 8;
            let Some(left) = room.checked_sub(size) else {
                said.cut = true;
                break;
            };
            room = left;
            said.gateways.insert(name, served);
        }
        said
    }
}

impl Served {
    fn new(status: &GatewayStatus) -> Option<Self> {
        let programmed = programmed(&status.conditions)?;
        let listeners = status.listeners.iter();
        let listeners = listeners.filter_map(|listener| {
            Some((listener.name.to_string(), shortened(why_not(&listener.conditions)?, REASON).to_owned()))
        });
        let failed = why_not(&status.conditions).map(|why| Failure {
            reason: programmed.reason.to_owned(),
            message: shortened(why, REASON).to_owned(),
        });
        Some(Self {
            generation: programmed.observed_generation,
            addresses: if status.of_host { status.addresses.clone() } else { Vec::new() },
            failed,
            listeners: listeners.collect(),
        })
    }
}

fn programmed(conditions: &[Condition]) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.kind == "Programmed")
}

/// Why it is not programmed, if it is not: that it is not accepted says more.
fn why_not(conditions: &[Condition]) -> Option<&str> {
    let programmed = programmed(conditions).filter(|condition| !condition.status)?;
    let refused = conditions.iter().find(|condition| condition.kind == "Accepted" && !condition.status);
    Some(&refused.unwrap_or(programmed).message)
}

/// What was read of a Lease.
#[derive(Debug)]
pub(super) struct Sign {
    /// The node.
    pub(super) node: String,
    /// What the agent says; `None`: it cannot be understood.
    pub(super) said: Option<Said>,
    /// When it was renewed, by the other's clock.
    pub(super) renewed: Option<Timestamp>,
    /// How long it lasts from then on.
    pub(super) lasts: Duration,
}

/// Another agent.
#[derive(Debug)]
struct Agent {
    sign: Sign,
    /// When its Lease was first seen renewed as it is: clocks of other nodes are not trusted.
    since: Instant,
}

impl Agent {
    fn end(&self) -> Instant {
        self.since + self.sign.lasts
    }
}

/// The other agents.
#[derive(Debug, Default)]
pub(super) struct Agents {
    /// By the names of their Leases.
    known: BTreeMap<String, Agent>,
    /// Whether these are all, or it is not to be found out.
    complete: bool,
}

impl Agents {
    /// A Lease as it is now. Whether anything but its time is new.
    pub(super) fn see(&mut self, lease: String, sign: Sign, now: Instant) -> bool {
        let before = self.known.get(&lease);
        let same = before.is_some_and(|before| {
            before.sign.said == sign.said && before.sign.node == sign.node && before.end() > now
        });
        let since =
            before.filter(|before| before.sign.renewed == sign.renewed).map_or(now, |before| before.since);
        self.known.insert(lease, Agent { sign, since });
        !same
    }

    /// A Lease is no more.
    pub(super) fn gone(&mut self, lease: &str) -> bool {
        self.known.remove(lease).is_some()
    }

    /// These are all Leases that there are.
    pub(super) fn only(&mut self, leases: &BTreeSet<String>) {
        self.known.retain(|lease, _| leases.contains(lease));
        self.complete = true;
    }

    /// There is no way to know them: whoever is known counts. Whether that is new.
    pub(super) fn unknowable(&mut self) -> bool {
        !std::mem::replace(&mut self.complete, true)
    }

    /// When the next one ends that is not renewed.
    pub(super) fn next_end(&self, now: Instant) -> Option<Instant> {
        self.known.values().map(Agent::end).filter(|end| *end > now).min()
    }

    /// Leases that ended so long ago that nobody will renew them.
    pub(super) fn left(&self, now: Instant, long: Duration) -> Vec<String> {
        let left = self.known.iter().filter(|(_, agent)| now.duration_since(agent.end()) > long);
        left.map(|(lease, _)| lease.clone()).collect()
    }

    /// The Gateways' statuses as they are for all agents that live, `me` being the node whose report this is: a Gateway is
    /// programmed if it is on every one of them. `None` until the others are known.
    pub(super) fn together(
        &self,
        me: &str,
        gateways: &BTreeMap<ObjectName, GatewayStatus>,
        now: Instant,
    ) -> Option<BTreeMap<ObjectName, GatewayStatus>> {
        if !self.complete {
            return None;
        }
        let mut gateways = gateways.clone();
        let living = self.known.values().filter(|agent| agent.end() > now);
        let living: Vec<&Sign> = living.map(|agent| &agent.sign).collect();
        if living.is_empty() {
            return Some(gateways);
        }
        for (name, status) in &mut gateways {
            everywhere(me, &name.to_string(), status, &living);
        }
        Some(gateways)
    }
}

/// What the others say of one Gateway.
fn everywhere(me: &str, name: &str, status: &mut GatewayStatus, others: &[&Sign]) {
    let Some(here) = programmed(&status.conditions).cloned() else { return };
    let mut behind = Vec::new();
    let mut serving = 0_usize;
    let mut failing: Option<(&'static str, Vec<String>)> = None;
    let mut listeners: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for agent in others {
        let served = agent.said.as_ref().map(|said| (said.gateways.get(name), said.cut));
        let served = match served {
            Some((Some(served), _)) if served.generation >= here.observed_generation => served,
            Some((None, true)) => continue,
            _ => {
                behind.push(agent.node.as_str());
                continue;
            }
        };
        if status.of_host {
            status.addresses.extend(&served.addresses);
        }
        match &served.failed {
            None => serving += 1,
            Some(Failure { reason, message }) => {
                let (_, nodes) = failing.get_or_insert_with(|| (known(reason), Vec::new()));
                nodes.push(format!("node {}: {message}", agent.node));
            }
        }
        for (listener, why) in &served.listeners {
            listeners.entry(listener).or_default().push(format!("node {}: {why}", agent.node));
        }
    }
    if status.of_host {
        status.addresses.sort_unstable();
        status.addresses.dedup();
        status.addresses.truncate(MOST_ADDRESSES);
    }
    if !here.status {
        // It is what fails everywhere, or here alone.
        if serving > 0 {
            let here = status.conditions.iter_mut().find(|condition| condition.kind == "Programmed");
            here.into_iter()
                .for_each(|condition| condition.message = format!("node {me}: {}", condition.message));
        }
    } else if let Some((reason, nodes)) = failing {
        unprogram(&mut status.conditions, reason, &some(&nodes, "; "));
    } else if !behind.is_empty() {
        let message = format!("not served yet by {}", some(&behind, ", "));
        unprogram(&mut status.conditions, "Pending", &message);
    }
    for listener in &mut status.listeners {
        if let Some(nodes) = listeners.get(&*listener.name) {
            unprogram(&mut listener.conditions, "Pending", &some(nodes, "; "));
        }
    }
}

/// The first of these, and how many more there are.
fn some<T: AsRef<str>>(all: &[T], between: &str) -> String {
    let named: Vec<&str> = all.iter().take(NAMED).map(AsRef::as_ref).collect();
    let more = all.len() - named.len();
    let rest = if more > 0 { format!("{between}and {more} more nodes") } else { String::new() };
    named.join(between) + &rest
}

/// The reason of another agent, of those that the API names for `Programmed` of a Gateway.
fn known(reason: &str) -> &'static str {
    ["Invalid", "NoResources", "AddressNotAssigned", "AddressNotUsable"]
        .into_iter()
        .find(|known| *known == reason)
        .unwrap_or("Pending")
}

#[cfg(test)]
mod tests;
