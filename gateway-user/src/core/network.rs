//! What is known of the host's links and routes: an argument of decisions, never asked for.
//!
//! Owns the shape. Must not decide anything: that is `locality`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The network namespace's links and addresses at one moment, and what the kernel says of the way to each endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Links by index.
    pub links: BTreeMap<u32, Link>,
    /// Every address that is delivered to the host itself, those of Gateways among them.
    pub addresses: BTreeSet<IpAddr>,
    /// Ways to endpoints.
    pub routes: BTreeMap<IpAddr, Answer>,
}

/// A link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// What its packets begin with.
    pub medium: Medium,
    /// Whether it is up.
    pub up: bool,
    /// The link that it is a port of.
    pub master: Option<u32>,
    /// The largest IP packet, in bytes.
    pub mtu: u32,
}

/// What a link is, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One end of a pair; the other is in another network namespace of this machine.
    Veth,
    /// Of TUN/TAP: a program, such as a virtual machine, is on the other side.
    Tun,
    /// A bridge.
    Bridge,
    /// A routing domain: its ports stay interfaces in their own right.
    Vrf,
    /// Anything else.
    Other,
}

/// What a link's packets begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// An Ethernet header.
    Ethernet,
    /// The IP header.
    Raw,
    /// It leads back to the host.
    Loopback,
    /// Something else.
    Other,
}

/// What the kernel says of the way to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Packets are sent on.
    Route(Route),
    /// It is the host itself.
    Local,
    /// There is no way; why.
    None(String),
}

/// A way to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The link that packets leave by.
    pub interface: u32,
    /// The router that they are handed to; `None`: the address itself.
    pub gateway: Option<IpAddr>,
    /// The address of the host that they have by default.
    pub source: Option<IpAddr>,
    /// The largest packet, if the route says one.
    pub mtu: Option<u32>,
}
