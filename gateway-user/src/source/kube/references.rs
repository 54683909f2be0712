//! Who is referred to: Services by routes, with their EndpointSlices, and Secrets by listeners.
//!
//! Owns which references there are. Others of these kinds, most of a cluster's objects, are not read. Whether a reference
//! is permitted, or its route attached, does not matter here. Must not know how objects come.

use rustc_hash::FxHashSet;

use super::super::kind::Kind;
use super::super::object::Object;
use super::super::translate::Body;
use super::entry::Entry;
use crate::core::model::{BackendRef, ObjectName};

/// The objects that are referred to.
#[derive(Debug, Default)]
pub(super) struct References {
    services: FxHashSet<ObjectName>,
    secrets: FxHashSet<ObjectName>,
}

/// Whether objects of a kind are used only if they are referred to.
pub(super) fn needed_by_reference(kind: Kind) -> bool {
    matches!(kind, Kind::Service | Kind::EndpointSlice | Kind::Secret)
}

impl References {
    /// Adds what an object refers to.
    pub(super) fn add(&mut self, object: &Object) {
        let from = &object.meta.name;
        match &object.body {
            Body::Http(route) => {
                route.rules.iter().for_each(|rule| self.backends(from, &rule.backends));
            }
            Body::L4(route) => {
                route.rules.iter().for_each(|rule| self.backends(from, &rule.backends));
            }
            Body::Gateway(gateway) => {
                for certificate in gateway.listeners.iter().flat_map(|listener| &listener.certificates) {
                    let namespace = certificate.namespace.as_ref().unwrap_or(&from.namespace).clone();
                    self.secrets.insert(ObjectName { namespace, name: certificate.name.clone() });
                }
            }
            _ => {}
        }
    }

    fn backends(&mut self, from: &ObjectName, backends: &[BackendRef]) {
        for backend in backends {
            let namespace = backend.namespace.as_ref().unwrap_or(&from.namespace).clone();
            self.services.insert(ObjectName { namespace, name: backend.name.clone() });
        }
    }

    /// Whether others refer to all of this, too.
    pub(super) fn within(&self, others: &Self) -> bool {
        self.services.is_subset(&others.services) && self.secrets.is_subset(&others.secrets)
    }

    /// Whether an object is needed.
    pub(super) fn need(&self, kind: Kind, name: &ObjectName, entry: &Entry) -> bool {
        match kind {
            Kind::Service => self.services.contains(name),
            Kind::EndpointSlice => {
                entry.service.as_ref().is_some_and(|service| self.services.contains(service))
            }
            Kind::Secret => self.secrets.contains(name),
            _ => true,
        }
    }
}
