//! Addresses of Gateways that the host does not own: brought up, announced, removed.
//!
//! Owns how an address is brought up so that it can be recognised as ours after a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The addresses that this agent brought up in its network namespace.
#[derive(Debug)]
pub struct Addresses {}

impl Addresses {
    /// Finds what an agent before this one left.
    ///
    /// # Errors
    /// No netlink.
    pub async fn open() -> Result<Self, super::Error> {
        Ok(Self {})
    }

    /// The addresses that are up because of us.
    #[must_use]
    pub fn own(&self) -> BTreeSet<IpAddr> {
        BTreeSet::new()
    }

    /// Brings up what is wanted and the host does not own, removes what is ours and no longer wanted. Returns what
    /// could not be brought up, and why.
    pub async fn sync(&mut self, _want: &BTreeSet<IpAddr>) -> BTreeMap<IpAddr, String> {
        BTreeMap::new()
    }

    /// Removes all of ours.
    pub async fn remove_all(&mut self) {}
}

/// Removes what an agent before left in the network namespace of this thread.
pub(super) fn remove_leftovers() -> Result<Vec<String>, super::Error> {
    Ok(Vec::new())
}
