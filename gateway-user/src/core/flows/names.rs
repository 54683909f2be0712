//! What the ids in a flow stand for.
//!
//! Owns the names of one snapshot's forwarded bindings. What earlier ones called them is `ledger`'s to keep.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

use gateway_ebpf::abi::{ANY, Action, BindingKey, UDP};
use gateway_ebpf::flow::TrafficKey;

use crate::core::snapshot::{BoundService, Snapshot};

/// What a flow's figures are shown under. What is not known is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels {
    /// `ADDRESS:PORT/PROTOCOL`, `*:PORT/PROTOCOL` for any address.
    pub binding: Arc<str>,
    /// `NAMESPACE/GATEWAY/LISTENER`.
    pub listener: Arc<str>,
    /// `NAMESPACE/NAME` of the route.
    pub route: Arc<str>,
    /// `NAMESPACE/SERVICE:PORT`.
    pub service: Arc<str>,
    /// The endpoint.
    pub backend: Option<SocketAddr>,
}

/// A forwarded binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindingName {
    /// As in [`Labels`].
    pub name: Arc<str>,
    /// As in [`Labels`].
    pub listener: Arc<str>,
    /// Id of its service.
    pub service: u32,
}

/// An endpoint of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartName {
    /// `NAMESPACE/SERVICE:PORT` of the backendRef.
    pub name: Arc<str>,
    /// The endpoint.
    pub at: SocketAddr,
}

/// The names of everything that flows can begin with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Forwarded bindings by id.
    pub bindings: BTreeMap<u32, BindingName>,
    /// Routes by service id.
    pub routes: BTreeMap<u32, Arc<str>>,
    /// Endpoints by service id and backend id.
    pub parts: BTreeMap<(u32, u32), PartName>,
}

impl Names {
    /// Those of a snapshot.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Self {
        let mut names = Self::default();
        for (key, bound) in &snapshot.bindings {
            let forwarded = snapshot.image.bindings.get(key).is_some_and(|b| b.action == Action::Forward);
            let BoundService::L4(service) = &bound.service else { continue };
            if !forwarded {
                continue;
            }
            let (name, listener) = (binding_name(key).into(), Arc::clone(&bound.label));
            names.bindings.insert(bound.id, BindingName { name, listener, service: service.id });
            if names.routes.insert(service.id, Arc::clone(&service.route)).is_none() {
                names.parts.extend(service.backends.iter().map(|(id, backend)| {
                    ((service.id, *id), PartName { name: Arc::clone(&backend.name), at: backend.at })
                }));
            }
        }
        names
    }

    /// What a key's figures are shown under, if flows with it can begin.
    #[must_use]
    pub fn get(&self, key: &TrafficKey) -> Option<Labels> {
        let binding = self.bindings.get(&key.binding)?;
        let part = self.parts.get(&(key.service, key.backend))?;
        let route = self.routes.get(&key.service).filter(|_| binding.service == key.service)?;
        Some(Labels {
            binding: Arc::clone(&binding.name),
            listener: Arc::clone(&binding.listener),
            route: Arc::clone(route),
            service: Arc::clone(&part.name),
            backend: Some(part.at),
        })
    }

    /// Every key that flows can begin with.
    pub fn keys(&self) -> impl Iterator<Item = TrafficKey> + '_ {
        self.bindings.iter().flat_map(|(id, binding)| {
            let parts = self.parts.range((binding.service, 0)..=(binding.service, u32::MAX));
            parts.map(|((service, backend), _)| TrafficKey {
                binding: *id,
                service: *service,
                backend: *backend,
                pad: 0,
            })
        })
    }
}

/// `ADDRESS:PORT/PROTOCOL`, `*:PORT/PROTOCOL` for any address.
#[must_use]
pub fn binding_name(key: &BindingKey) -> String {
    let protocol = if key.protocol == UDP { "udp" } else { "tcp" };
    if key.address == ANY {
        return format!("*:{}/{protocol}", key.port);
    }
    let at = SocketAddr::new(Ipv6Addr::from(key.address).to_canonical(), key.port);
    format!("{at}/{protocol}")
}

#[cfg(test)]
pub(crate) mod testing {
    //! Names to test with.

    use super::*;

    pub(crate) fn key(binding: u32, service: u32, backend: u32) -> TrafficKey {
        TrafficKey { binding, service, backend, pad: 0 }
    }

    /// Each binding and its service as `ID NAME SERVICE`, each endpoint as `SERVICE ID ADDRESS:PORT`.
    pub(crate) fn names(bindings: &[&str], parts: &[&str]) -> Names {
        let mut names = Names::default();
        let number = |word: &str| word.parse().unwrap();
        for binding in bindings {
            let words: Vec<_> = binding.split(' ').collect();
            let service = number(words[2]);
            let listener = format!("default/web/{}", words[1]).into();
            let named = BindingName { name: words[1].into(), listener, service };
            names.bindings.insert(number(words[0]), named);
            names.routes.insert(service, format!("default/route-{service}").into());
        }
        for part in parts {
            let words: Vec<_> = part.split(' ').collect();
            let named = PartName { name: "default/app:80".into(), at: words[2].parse().unwrap() };
            names.parts.insert((number(words[0]), number(words[1])), named);
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use gateway_ebpf::abi::{TCP, mapped};

    use super::testing::{key, names};
    use super::*;
    use crate::core::snapshot::{BindingImage, BoundListeners, L4Backend, L4Service};
    use crate::core::transport::Transport;

    #[test]
    fn a_binding_is_named_as_the_workers_name_it() {
        for (address, protocol, want) in [
            (ANY, TCP, "*:80/tcp"),
            (mapped([10, 0, 0, 1]), UDP, "10.0.0.1:80/udp"),
            (*b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01", TCP, "[2001:db8::1]:80/tcp"),
        ] {
            assert_eq!(binding_name(&BindingKey { address, port: 80, protocol, pad: 0 }), want);
        }
    }

    #[test]
    fn only_what_belongs_together_has_a_name() {
        let names = names(&["0 *:80/tcp 4", "1 *:81/tcp 5"], &["4 7 10.0.0.7:80", "5 8 10.0.0.8:80"]);
        let labels = names.get(&key(0, 4, 7)).unwrap();
        assert_eq!((&*labels.binding, &*labels.listener), ("*:80/tcp", "default/web/*:80/tcp"));
        assert_eq!((&*labels.route, &*labels.service), ("default/route-4", "default/app:80"));
        assert_eq!(labels.backend, Some("10.0.0.7:80".parse().unwrap()));
        for wrong in [key(0, 5, 8), key(0, 4, 8), key(2, 4, 7)] {
            assert_eq!(names.get(&wrong), None);
        }
        assert_eq!(names.keys().collect::<Vec<_>>(), [key(0, 4, 7), key(1, 5, 8)]);
    }

    #[test]
    fn of_a_snapshot_those_are_named_that_forward() {
        let at = "10.0.0.7:80".parse().unwrap();
        let mut snapshot = Snapshot::default();
        for (id, action) in [(0, Action::Forward), (1, Action::Steer)] {
            let binding = BindingKey { address: ANY, port: 80 + id as u16, protocol: TCP, pad: 0 };
            let service = L4Service {
                transport: Transport::Tcp,
                id: 4,
                route: "default/db".into(),
                listener: "default/web/tcp".into(),
                slots: [7].into(),
                affinity: gateway_ebpf::abi::Affinity::None,
                idle: None,
                backends: [(7, L4Backend { at, name: "default/db:80".into() })].into(),
            };
            let bound = BoundListeners {
                id,
                key: binding,
                label: "default/web/tcp".into(),
                service: BoundService::L4(Arc::new(service)),
                tls: None,
            };
            snapshot.bindings.insert(binding, Arc::new(bound));
            let image = BindingImage { action, id, service: Some(4), idle: None };
            snapshot.image.bindings.insert(binding, image);
        }
        let names = Names::of(&snapshot);
        assert_eq!(names.keys().collect::<Vec<_>>(), [key(0, 4, 7)]);
        assert_eq!(&*names.get(&key(0, 4, 7)).unwrap().route, "default/db");
    }
}
