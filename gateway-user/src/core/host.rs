//! What compilation must know of the host: an argument, never asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::names::Names;
use super::transport::Transport;

/// The host as it was when compilation began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// The host's own addresses by the names of their interfaces, without those that the agent brought up for Gateways.
    pub interfaces: BTreeMap<Arc<str>, BTreeSet<IpAddr>>,
    /// What processes of the host listen on (the agent's own sockets left out). An unspecified address stands
    /// for all of its family.
    pub listening: Vec<Listening>,
    /// What names resolve to, as the host sees them.
    pub names: Names,
    /// Who decides which address of a pool a Gateway gets.
    pub role: Role,
}

impl Host {
    /// The host's own addresses.
    #[must_use]
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        self.interfaces.values().flatten().copied().collect()
    }

    /// Whether this is one of the host's own addresses.
    #[must_use]
    pub fn has(&self, ip: IpAddr) -> bool {
        self.interfaces.values().any(|addresses| addresses.contains(&ip))
    }
}

/// Who decides which address of a pool a Gateway gets, and what a Gateway gets that has no pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// This agent alone, with files for input: a Gateway has what it had before by this agent's own memory, and one
    /// without a pool listens on every local address.
    #[default]
    Alone,
    /// This agent, for all of its cluster: a Gateway has what its status names. Without a pool it has no address,
    /// unless the addressMode is Node.
    Leader,
    /// Another agent of the cluster: a Gateway has what its status names, and nothing before that.
    Follower,
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
