//! Addresses of Gateways that the host does not own: brought up, announced, removed.
//!
//! Owns them. Each carries [`PROTOCOL`] in the kernel itself, as the protocol of its route or its address, so that
//! an agent started after a crash, and `uninstall`, recognise it without a file of their own; it also means that
//! one network namespace has one agent that brings addresses up. Must not know which Gateway wants one.

mod announce;
pub(super) mod netlink;
mod place;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use netlink::Netlink;
use place::{Place, place};

use super::Error;

/// Number of the "protocol" that installed a route (rtnetlink's `RTPROT_*`) or address (`IFAPROT_*`): ours. iproute2
/// names none so, and routing daemons have the numbers from 186 on.
const PROTOCOL: u8 = 115;

/// The addresses that this agent, or one before it, brought up in its network namespace.
#[derive(Debug)]
pub struct Addresses {
    netlink: Netlink,
    ours: BTreeMap<IpAddr, Place>,
}

impl Addresses {
    /// Opens netlink in the network namespace of this thread, and finds what an agent before this one left.
    ///
    /// # Errors
    /// Netlink is refused.
    pub async fn open() -> Result<Self, Error> {
        let netlink = Netlink::open()?;
        let ours = netlink.ours().await?;
        Ok(Self { netlink, ours })
    }

    /// The addresses that are up because of us.
    #[must_use]
    pub fn own(&self) -> BTreeSet<IpAddr> {
        self.ours.keys().copied().collect()
    }

    /// What is wanted and neither up because of us nor the host's own any more: somebody else removed it.
    ///
    /// # Errors
    /// Netlink is refused.
    pub async fn missing(&mut self, want: &BTreeSet<IpAddr>) -> Result<BTreeSet<IpAddr>, Error> {
        self.ours = self.netlink.ours().await?;
        let interfaces = self.netlink.interfaces().await?;
        let there = |ip: &IpAddr| self.ours.contains_key(ip) || interfaces.iter().any(|i| i.owns(*ip));
        Ok(want.iter().copied().filter(|ip| !there(ip)).collect())
    }

    /// Brings up what is wanted and the host does not own, removes what is ours and no longer wanted. Returns what
    /// could not be brought up, and why.
    pub async fn sync(&mut self, want: &BTreeSet<IpAddr>) -> BTreeMap<IpAddr, String> {
        match self.try_sync(want).await {
            Ok(failed) => failed,
            Err(e) => want.iter().map(|address| (*address, e.to_string())).collect(),
        }
    }

    async fn try_sync(&mut self, want: &BTreeSet<IpAddr>) -> Result<BTreeMap<IpAddr, String>, Error> {
        // What the kernel has now: a link that went down takes addresses and routes along.
        self.ours = self.netlink.ours().await?;
        let interfaces = self.netlink.interfaces().await?;
        let owned = |address| interfaces.iter().any(|i| i.owns(address));
        let mut failed = BTreeMap::new();
        for address in want.iter().filter(|address| !owned(**address)) {
            let target = place(*address, &interfaces);
            let before = self.ours.get(address).copied();
            if before == Some(target.place) {
                continue;
            }
            match self.netlink.add(*address, target.place).await {
                Ok(()) => {
                    self.ours.insert(*address, target.place);
                    if let Some(before) = before {
                        self.remove(*address, before).await;
                        // Where the kernel knows an address once, the removal took both.
                        self.ours = self.netlink.ours().await?;
                    }
                    announce(*address, target.announce);
                }
                Err(e) => {
                    failed.insert(*address, e.to_string());
                }
            }
        }
        let gone: Vec<_> = self
            .ours
            .iter()
            .filter(|(a, _)| !want.contains(a) || owned(**a))
            .map(|(a, p)| (*a, *p))
            .collect();
        for (address, at) in gone {
            if self.remove(address, at).await {
                self.ours.remove(&address);
            }
        }
        Ok(failed)
    }

    /// Removes all of ours.
    pub async fn remove_all(&mut self) {
        self.remove_but(&BTreeSet::new()).await;
    }

    /// Removes all of ours but these.
    pub async fn remove_but(&mut self, kept: &BTreeSet<IpAddr>) {
        for (address, at) in self.ours.clone().into_iter().filter(|(address, _)| !kept.contains(address)) {
            if self.remove(address, at).await {
                self.ours.remove(&address);
            }
        }
    }

    async fn remove(&self, address: IpAddr, at: Place) -> bool {
        match self.netlink.remove(address, at).await {
            Ok(()) => true,
            Err(e) => {
                tracing::warn!("the address {address} stays up: {e}");
                false
            }
        }
    }
}

fn announce(address: IpAddr, on: Option<place::Link>) {
    if let Some(link) = on
        && let Err(e) = announce::announce(address, link)
    {
        tracing::warn!("the address {address} is up, but could not be announced to its neighbours: {e}");
    }
}

/// Removes what an agent before left in the network namespace of this thread; returns what it was.
pub(super) fn remove_leftovers() -> Result<Vec<String>, Error> {
    let failed = || Error::io("cannot start the thread that removes addresses");
    // A thread of its own, in the same namespace: this one may belong to a runtime already.
    let work = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed())?;
        runtime.block_on(async {
            let mut addresses = Addresses::open().await?;
            let before = addresses.own();
            addresses.remove_all().await;
            match addresses.own().first() {
                None => Ok(before.into_iter().map(|address| format!("address {address}")).collect()),
                Some(left) => Err(Error::Netlink {
                    what: format!("removing the address {left}"),
                    message: "the kernel refused (see the log)".into(),
                }),
            }
        })
    };
    std::thread::scope(|scope| {
        scope.spawn(work).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
