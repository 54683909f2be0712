//! What a compilation leaves to the next one: of thousands of HTTPRoutes few change at a time, and what stays as it was need
//! not be compiled again.
//!
//! Owns when something may be taken over: everything that routes depend on, but for the routes themselves, is what it was.
//! What is taken over is `routes`' and `http`'s. The snapshot is the same as without.

use std::collections::BTreeMap;
use std::sync::Arc;

use gateway_ebpf::abi::BindingKey;
use rustc_hash::FxHashMap;

use super::gateways::{Gateways, ListenerId};
use super::http::Table;
use crate::core::model::{HttpRoute, Model, ObjectName};
use crate::core::route::Patterns;
use crate::core::status::ParentStatus;

/// What a compilation leaves to the next one.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// What it was made of; `None`: nothing may be taken over.
    from: Option<Model>,
    /// Where each listener is served.
    keys: Vec<Vec<BindingKey>>,
    pub(super) routes: BTreeMap<ObjectName, KeptRoute>,
    pub(super) tables: FxHashMap<ListenerId, Table>,
    /// The regular expressions in use, which compile to the same whenever they do.
    pub(super) patterns: Patterns,
}

/// What an HTTPRoute came to.
#[derive(Clone, Debug)]
pub(super) struct KeptRoute {
    pub(super) route: Arc<HttpRoute>,
    /// The listeners that it is attached to, each once.
    pub(super) listeners: Arc<[ListenerId]>,
    /// Whether it is among their attachedRoutes.
    pub(super) counts: bool,
    /// Its status.
    pub(super) entries: Arc<[ParentStatus]>,
    /// What was noted of it.
    pub(super) notes: Arc<[String]>,
    /// The regular expressions that it asks for.
    pub(super) patterns: Arc<[Arc<str>]>,
}

impl Kept {
    pub(super) fn new(
        model: &Model,
        gateways: &Gateways<'_>,
        routes: BTreeMap<ObjectName, KeptRoute>,
        tables: FxHashMap<ListenerId, Table>,
        patterns: Patterns,
    ) -> Self {
        let (from, keys) = (Some(model.clone()), keys(gateways).cloned().collect());
        Self { from, keys, routes, tables, patterns }
    }

    /// Whether what routes depend on is what it was. Of the host that is where listeners are served, and what names resolve
    /// to: this is told of all routes together, so that nothing is taken over where there are such names.
    pub(super) fn fits(&self, model: &Model, gateways: &Gateways<'_>) -> bool {
        let Some(before) = &self.from else { return false };
        // Whatever is added to the model is to be thought of here.
        let Model {
            classes,
            parameters,
            gateways: all_gateways,
            http_routes: _,
            l4_routes: _,
            unbuilt_routes: _,
            listener_sets: _,
            backend_tls,
            grants,
            services,
            secrets: _, // Where they are missing, a listener has no keys.
            slices,
            namespaces,
        } = before;
        model.classes == *classes
            && model.parameters == *parameters
            && model.gateways == *all_gateways
            && model.backend_tls == *backend_tls
            && model.grants == *grants
            && model.services == *services
            && model.slices == *slices
            && model.namespaces == *namespaces
            && self.keys.iter().eq(keys(gateways))
            && services.values().all(|service| service.external_name.is_none())
    }
}

/// Where each listener is served, in the order of Gateways and listeners.
fn keys<'g>(gateways: &'g Gateways<'_>) -> impl Iterator<Item = &'g Vec<BindingKey>> {
    gateways.list.iter().flat_map(|gateway| &gateway.listeners).map(|work| &work.keys)
}
