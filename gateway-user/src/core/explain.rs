//! Why a request or a connection goes where it goes, and what is served where.
//!
//! Owns the reasons, and what is said about those that lost. The decision itself is never made here: it is the data
//! path's own search (`HttpTable`, watched), the kernel's choice (`steer`) and the slots (`L4Service`). Must not know
//! how a request is written down or sent on.

mod http;
mod l4;
mod listing;
mod lost;
mod outside;
mod remedy;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use gateway_ebpf::abi::{ANY, Address, BindingKey, wire};
use gateway_ebpf::select::Tuple;

use super::model::{Model, ObjectName};
use super::route::MatchText;
use super::snapshot::{BoundService, Snapshot};
use super::status::Report;
use super::steer;
use super::transport::Transport;

pub use http::{Http, Served, http};
pub use l4::{L4, Shares, l4};
pub use listing::{Listed, ListedBackend, listing};
pub use outside::unserved_listeners;
pub use remedy::{Outcome, no_binding, security};

/// What is explained: a snapshot, what it was compiled from, and the conditions that came of it.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// The snapshot.
    pub snapshot: &'a Snapshot,
    /// What it was compiled from.
    pub model: &'a Model,
    /// Conditions.
    pub report: &'a Report,
}

/// Who did not get a request or a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Kind of the route.
    pub kind: &'static str,
    /// The route.
    pub route: ObjectName,
    /// The rule; `None`: the route as a whole.
    pub rule: Option<Arc<str>>,
    /// `NAMESPACE/GATEWAY/LISTENER` where it is served; `None`: nowhere.
    pub listener: Option<Arc<str>>,
    /// Of the rule's matches the one that came closest.
    pub matched: Option<Matched>,
    /// Why, in a word.
    pub why: Why,
    /// Why, for a person.
    pub message: String,
}

impl Lost {
    /// Who came closest first, then by name; positions of rules as numbers.
    fn place(&self) -> impl Ord + '_ {
        (self.why, &self.route, self.rule.as_ref().map(|rule| (rule.len(), rule)))
    }
}

/// A match in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matched {
    /// Its position within the rule's matches.
    pub at: u32,
    /// The hostname; `None`: every one of the listener.
    pub hostname: Option<String>,
    /// What it asks for.
    pub text: MatchText,
}

/// Why somebody lost: who came closest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// It fits too, but a rule of the specification prefers the other match.
    Precedence,
    /// It fits too, and as well, but the other route is older.
    Age,
    /// It fits too, and as well, but the other route's name comes first.
    NameOrder,
    /// It fits too, and as well, but the other one comes first in the route.
    RuleOrder,
    /// It is attached, but not served.
    NotServed,
    /// It is not attached.
    NotAttached,
    /// A query parameter does not fit.
    Query,
    /// A header does not fit.
    Header,
    /// The method does not fit.
    Method,
    /// The path does not fit.
    Path,
    /// The route's hostname does not fit.
    Hostname,
    /// Another listener has the host.
    Listener,
}

impl Why {
    /// Its name for programs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Precedence => "Precedence",
            Self::Age => "Age",
            Self::NameOrder => "NameOrder",
            Self::RuleOrder => "RuleOrder",
            Self::NotServed => "NotServed",
            Self::NotAttached => "NotAttached",
            Self::Query => "Query",
            Self::Header => "Header",
            Self::Method => "Method",
            Self::Path => "Path",
            Self::Hostname => "Hostname",
            Self::Listener => "Listener",
        }
    }
}

/// The bindings that a client may reach: with an address the one that the kernel finds, without one every binding of
/// the port that has a listener for the host; if none has, every binding of the port.
#[must_use]
pub fn bindings(snapshot: &Snapshot, to: Option<IpAddr>, port: u16, host: Option<&str>) -> Vec<BindingKey> {
    if let Some(to) = to {
        let packet = tuple(Transport::Tcp, (ANY, 0), (wire(to), port));
        return steer::binding(&snapshot.image, &packet).map(|(key, _)| key).into_iter().collect();
    }
    let of_port: Vec<BindingKey> = snapshot
        .image
        .bindings
        .keys()
        .copied()
        .filter(|k| k.port == port && k.protocol == Transport::Tcp.number())
        .collect();
    let fits = |key: &BindingKey| match (snapshot.bindings.get(key).map(|b| &b.service), host) {
        (Some(BoundService::Http(table)), Some(host)) => table.inspect(host).listeners().any(|l| l.fits),
        _ => false,
    };
    let fitting: Vec<BindingKey> = of_port.iter().copied().filter(fits).collect();
    if fitting.is_empty() { of_port } else { fitting }
}

/// A connection or flow as its first packet shows it.
#[must_use]
pub fn tuple(
    transport: Transport,
    (source, source_port): (Address, u16),
    (destination, destination_port): (Address, u16),
) -> Tuple {
    Tuple { source, destination, source_port, destination_port, protocol: transport.number() }
}

/// The name in a label `NAMESPACE/NAME`.
fn object(label: &str) -> ObjectName {
    let (namespace, name) = label.split_once('/').unwrap_or(("", label));
    ObjectName::new(namespace, name)
}

/// Gateway and listener of a label `NAMESPACE/GATEWAY/LISTENER`.
fn listener(label: &str) -> (ObjectName, &str) {
    let (gateway, listener) = label.rsplit_once('/').unwrap_or((label, ""));
    (object(gateway), listener)
}
