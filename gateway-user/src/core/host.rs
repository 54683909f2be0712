//! What compilation must know of the host: an argument, never asked for.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::names::Names;
use super::transport::Transport;

/// The host as it was when compilation began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// The host's own addresses, without those that the agent brought up for Gateways.
    pub addresses: BTreeSet<IpAddr>,
    /// What processes of the host listen on (the agent's own sockets left out). An unspecified address stands
    /// for all of its family.
    pub listening: Vec<Listening>,
    /// What names resolve to, as the host sees them.
    pub names: Names,
}

/// A socket of a process that is not ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listening {
    /// Its protocol.
    pub transport: Transport,
    /// Its address and port.
    pub at: SocketAddr,
    /// The process, as a message shall name it: `nginx (pid 4711)`; empty if unknown.
    pub process: String,
}
