//! What is said about each object: conditions as the Gateway API names them (v1.6.1).
//!
//! Owns the vocabulary. Must not know where a status is written to.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::model::{GroupKind, ObjectName, ParentRef};

/// A condition. The time of its transition is the writer's to add.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Condition {
    /// `Accepted`, `Programmed`, `ResolvedRefs`, …
    pub kind: &'static str,
    /// True or False.
    pub status: bool,
    /// One of the reasons that the API names.
    pub reason: &'static str,
    /// For a person: names the object, the field, the value and the remedy.
    pub message: String,
    /// The generation that it speaks of.
    pub observed_generation: i64,
}

/// The status of everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// GatewayClasses.
    pub classes: BTreeMap<Arc<str>, Vec<Condition>>,
    /// Gateways that are ours.
    pub gateways: BTreeMap<ObjectName, GatewayStatus>,
    /// Routes, by kind and name: one entry for each parentRef that names a Gateway of ours or none.
    pub routes: BTreeMap<(&'static str, ObjectName), Arc<[ParentStatus]>>,
    /// ListenerSets and policies, by kind and name.
    pub others: BTreeMap<(&'static str, ObjectName), Vec<Condition>>,
    /// ExternalName Services that routes refer to: what their names came to.
    pub external: BTreeMap<ObjectName, ExternalName>,
    /// What has no place in a status: a Gateway of another class, a parentRef to a missing Gateway, a Service with
    /// a selector.
    pub notes: Vec<String>,
}

/// What became of an ExternalName Service's name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExternalName {
    /// The name.
    pub name: Arc<str>,
    /// The addresses that are connected to.
    pub addresses: Vec<IpAddr>,
    /// Addresses that it resolves to as well and that are left out, with the reason.
    pub left_out: Vec<(IpAddr, String)>,
    /// Whether some of these are refused: no name may lead there.
    pub refused: bool,
    /// Why there is no answer, or no new one.
    pub problem: Option<String>,
}

/// `status.addresses` of a Gateway holds no more.
pub const MOST_ADDRESSES: usize = 16;

/// Status of a Gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct GatewayStatus {
    /// Addresses, at most [`MOST_ADDRESSES`].
    pub addresses: Vec<IpAddr>,
    /// Whether they are the host's own: on another host it has others.
    pub of_host: bool,
    /// Conditions.
    pub conditions: Vec<Condition>,
    /// Listeners, in the order of the spec.
    pub listeners: Vec<ListenerStatus>,
}

/// Status of a listener.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListenerStatus {
    /// Its name.
    pub name: Arc<str>,
    /// supportedKinds.
    pub supported_kinds: Vec<GroupKind>,
    /// attachedRoutes.
    pub attached_routes: u32,
    /// Conditions.
    pub conditions: Vec<Condition>,
}

/// Status of a route for one of its parentRefs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ParentStatus {
    /// Whether the parent is a Gateway of ours. If not (it is missing, or of a kind that is not built), this entry is
    /// there for the user of files and must not be written to an API server.
    pub ours: bool,
    /// The parentRef as the route has it.
    pub parent: ParentRef,
    /// Conditions.
    pub conditions: Vec<Condition>,
}

/// What came of applying a snapshot: what `Programmed` depends on beyond the snapshot itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Gateway addresses that could not be brought up, with the reason.
    pub failed_addresses: BTreeMap<IpAddr, String>,
    /// Why nothing could be applied at all, if so.
    pub failed: Option<String>,
}

/// The report as it stands after applying: `Programmed` speaks of what was done. A Gateway that loses an address to a
/// failure stays programmed on the others, but says so; one that loses all of them, or of which nothing could be
/// applied, is not programmed, and neither are its listeners.
#[must_use]
pub fn finish(report: &Arc<Report>, outcome: &Outcome) -> Arc<Report> {
    let mut report = Arc::clone(report);
    if *outcome == Outcome::default() {
        return report;
    }
    for gateway in Arc::make_mut(&mut report).gateways.values_mut() {
        if let Some(why) = &outcome.failed {
            let message =
                format!("the configuration could not be applied, the last one goes on serving: {why}");
            unprogram(&mut gateway.conditions, "Pending", &message);
            for listener in &mut gateway.listeners {
                unprogram(&mut listener.conditions, "Pending", &message);
            }
            continue;
        }
        let mut lost = Vec::new();
        gateway.addresses.retain(|ip| match outcome.failed_addresses.get(ip) {
            Some(why) => {
                lost.push(format!("{ip}: {why}"));
                false
            }
            None => true,
        });
        if lost.is_empty() {
            continue;
        }
        let message = format!("addresses that cannot be used: {}", lost.join("; "));
        unprogram(&mut gateway.conditions, "AddressNotUsable", &message);
        if gateway.addresses.is_empty() {
            for listener in &mut gateway.listeners {
                unprogram(&mut listener.conditions, "Pending", &message);
            }
        }
    }
    report
}

/// Turns Programmed=True into False; what is False already has its reason.
pub(crate) fn unprogram(conditions: &mut [Condition], reason: &'static str, message: &str) {
    if let Some(programmed) = conditions.iter_mut().find(|c| c.kind == "Programmed" && c.status) {
        programmed.status = false;
        programmed.reason = reason;
        programmed.message = message.to_owned();
    }
}

#[cfg(test)]
mod tests;
