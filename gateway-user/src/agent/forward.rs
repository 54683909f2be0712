//! Forwarding as the loop sees it: what the network is like, which interfaces are hooked, and what is shown of both.
//!
//! Owns what was found out last. Must not decide what follows from it: that is `core::locality`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use tracing::{info, warn};

use super::words;
use crate::admin::view::{ForwardingView, InterfaceView, WayView};
use crate::core::locality::{self, Unhooked, stub};
use crate::core::network::Network;
use crate::core::snapshot::{BackendKey, Ways};
use crate::dataplane::{self, Dataplane, Hook, NetworkReader, Networks, Tables, Wanted};

/// Looks at the network as a whole, though nothing was told: a full queue of netlink loses what it cannot hold.
const WHOLE_EVERY: u32 = 12;

/// Forwarding that is on.
pub(super) struct Forwarder {
    reader: NetworkReader,
    /// Patterns of interfaces' names; none stands for every one.
    chosen: Vec<String>,
    /// What was found out last; shown as it is.
    known: Arc<Known>,
    /// Looks that were not at the whole.
    looks: u32,
}

/// What is known of the ways that forwarding may take.
#[derive(Clone, Debug)]
pub(super) struct Known {
    tables: Tables,
    network: Network,
    hooks: BTreeMap<u32, Result<Hook, Unhooked>>,
}

/// What to look at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// The ways to endpoints that are new.
    New,
    /// That, and whether every hook is in its place.
    Hooks,
    /// Everything.
    Whole,
}

impl Forwarder {
    pub(super) fn new(networks: &Networks, chosen: Vec<String>, tables: Tables) -> Self {
        let known = Known { tables, network: Network::default(), hooks: BTreeMap::new() };
        Self { reader: networks.reader(), chosen, known: Arc::new(known), looks: 0 }
    }

    /// What is known.
    pub(super) fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known)
    }

    /// Looks at the network, hooks what is to be hooked, and says which ways lead to these backends. What cannot be
    /// looked at is taken to be as it was. `own`: addresses that are the host's because of us; of those that have just
    /// come up the kernel may not tell yet.
    pub(super) async fn survey(
        &mut self,
        look: Look,
        dataplane: &mut Dataplane,
        backends: &BTreeMap<u32, BackendKey>,
        own: &BTreeSet<IpAddr>,
    ) -> Ways {
        let endpoints: BTreeSet<IpAddr> = backends.values().map(|key| key.at.ip()).collect();
        self.looks += u32::from(look == Look::Hooks);
        let whole = look == Look::Whole || self.looks >= WHOLE_EVERY || self.known.network.links.is_empty();
        if whole {
            self.looks = 0;
            match self.reader.read(&endpoints).await {
                Ok(mut network) => {
                    network.addresses.extend(own);
                    Arc::make_mut(&mut self.known).network = network;
                }
                Err(error) => warn!(error = words(&error), "cannot look at the host's network"),
            }
        } else if !endpoints.iter().eq(self.known.network.routes.keys()) {
            let known = &self.known.network.routes;
            let new = endpoints.iter().filter(|endpoint| !known.contains_key(endpoint)).copied().collect();
            let new = self.reader.ways(&new).await;
            let routes = &mut Arc::make_mut(&mut self.known).network.routes;
            routes.retain(|endpoint, _| endpoints.contains(endpoint));
            routes.extend(new);
        }
        if (whole || look == Look::Hooks)
            && let Err(error) = self.hook(dataplane)
        {
            warn!(error = words(&error), "cannot look after the hooks on interfaces");
        }
        locality::ways(backends, &self.known.network, &self.known.hooked())
    }

    fn hook(&mut self, dataplane: &mut Dataplane) -> Result<(), dataplane::Error> {
        let mut hooks = BTreeMap::new();
        let mut wanted = BTreeMap::new();
        for (index, link) in &self.known.network.links {
            match stub(link, &self.known.network, &self.chosen) {
                Ok(stub) => drop(wanted.insert(*index, Wanted { name: link.name.clone(), stub })),
                Err(why) => drop(hooks.insert(*index, Err(why))),
            }
        }
        for (index, hook) in dataplane.hook(&wanted)? {
            let interface = &*wanted[&index].name;
            let hook = hook.map_err(|error| Unhooked::Failed(words(&error)));
            if self.known.hooks.get(&index) != Some(&hook) {
                match &hook {
                    Ok(hook) => info!(interface, hook = hook.name(), "interface hooked"),
                    Err(why) => warn!(interface, %why, "interface not hooked: its traffic takes the relay"),
                }
            }
            hooks.insert(index, hook);
        }
        if self.known.hooks != hooks {
            Arc::make_mut(&mut self.known).hooks = hooks;
        }
        Ok(())
    }
}

impl Known {
    fn hooked(&self) -> BTreeSet<u32> {
        self.hooks.iter().filter(|(_, hook)| hook.is_ok()).map(|(index, _)| *index).collect()
    }

    /// What is shown.
    pub(super) fn view(&self, backends: &BTreeMap<u32, BackendKey>) -> ForwardingView {
        let name = |index: &u32| self.network.links.get(index).map_or("", |link| &link.name);
        let interfaces = self.hooks.iter().map(|(index, hook)| InterfaceView {
            name: name(index).to_owned(),
            index: *index,
            hook: hook.as_ref().map_or("none", |hook| hook.name()).to_owned(),
            reason: hook.as_ref().err().map(ToString::to_string),
        });
        let hooked = self.hooked();
        let path = |(id, key): (&u32, &BackendKey)| {
            let found = locality::path(key.at.ip(), &self.network, &hooked);
            let way = found.as_ref().ok();
            WayView {
                id: *id,
                address: key.at.to_string(),
                path: locality::kind(&found).to_owned(),
                reason: locality::reason(key.at.ip(), &found, &self.network),
                interface: way.map(|way| name(&way.interface).to_owned()),
                next_hop: way.map(|way| way.next_hop.to_string()),
                source: way.and_then(|way| way.source).map(|source| source.to_string()),
                mtu: way.map(|way| way.mtu),
            }
        };
        ForwardingView {
            on: true,
            reason: None,
            flows: self.tables.flows,
            opening_flows: self.tables.opening,
            interfaces: interfaces.collect(),
            backends: backends.iter().map(path).collect(),
        }
    }
}
