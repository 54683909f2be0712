//! Who belongs to whom: in the old dialects Gateways chose their routes, today routes name their Gateways.
//!
//! Owns that choice across objects. Must not know files or text, nor how today's form says it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Choosers, Converted, Named, Selection, short_warning, warning};
use crate::core::model::{
    FromNamespaces, GATEWAY_GROUP, Gateway, GroupKind, Listener, Model, NamedRoute, ObjectName, ParentRef,
    Protocol,
};
use crate::core::transport::Transport;
use crate::source::Diagnostic;
use crate::source::kind::Kind;
use crate::source::object::Object;
use crate::source::translate::Body;

/// The label that every namespace has, with its name as the value.
pub(super) const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// So many warnings show today's form; more would be a wall of text.
const SHOWN: usize = 100;

/// The objects of an input, as far as they choose and are chosen.
pub(in crate::source) struct World<'a> {
    /// All Gateways; what they were before if they chose routes.
    pub(super) gateways: Vec<(&'a Object, &'a Gateway, Option<&'a Converted>)>,
    routes: Vec<&'a Object>,
    namespaces: BTreeMap<&'a str, &'a BTreeMap<String, String>>,
    /// How many objects are shown in today's form.
    shown: std::cell::Cell<usize>,
}

impl<'a> World<'a> {
    pub(in crate::source) fn new(objects: impl Iterator<Item = &'a Object>) -> Self {
        let (mut gateways, mut routes, mut namespaces) = (Vec::new(), Vec::new(), BTreeMap::new());
        for object in objects {
            match &object.body {
                Body::Gateway(gateway) => {
                    let old = object.old.as_deref().filter(|old| !old.selections.is_empty());
                    gateways.push((object, gateway, old));
                }
                Body::Namespace => drop(namespaces.insert(&*object.meta.name.name, &object.labels)),
                body if parents(body).is_some() => routes.push(object),
                _ => {}
            }
        }
        Self { gateways, routes, namespaces, shown: std::cell::Cell::default() }
    }

    /// Gives listeners the routes that they chose, and routes the Gateways that chose them.
    pub(in crate::source) fn resolve(&self, model: &mut Model) {
        for (object, _, old) in &self.gateways {
            let Some(gateway) = model.gateways.get_mut(&object.meta.name) else { continue };
            for selection in old.map_or(&[][..], |old| &old.selections) {
                if let Some(listener) = gateway.listeners.get_mut(selection.listener)
                    && !selection.only.is_empty()
                {
                    listener.allowed.named = Some(self.named(selection));
                }
            }
        }
        for route in &self.routes {
            let Some(found) = self.parents(route) else { continue };
            let name = &route.meta.name;
            let mut l4 = |transport, found| {
                if let Some(route) = model.l4_routes.get_mut(&(transport, name.clone())) {
                    route.parents = found;
                }
            };
            match route.kind {
                Kind::HttpRoute => {
                    if let Some(route) = model.http_routes.get_mut(name) {
                        Arc::make_mut(route).parents = found;
                    }
                }
                Kind::TcpRoute => l4(Transport::Tcp, found),
                Kind::UdpRoute => l4(Transport::Udp, found),
                kind => {
                    if let Some(route) = model.unbuilt_routes.get_mut(&(kind.name(), name.clone())) {
                        route.parents = found;
                    }
                }
            }
        }
    }

    /// The warning about an object whose today's form depends on others.
    pub(in crate::source) fn warning(&self, object: &Object) -> Option<Diagnostic> {
        let old = object.old.as_deref().filter(|old| old.depends())?;
        let mut today = old.today.clone()?;
        self.shown.set(self.shown.get() + 1);
        let found = if self.shown.get() > SHOWN {
            short_warning(old, &today)
        } else {
            let remarks = self.today(object, &mut today);
            warning(object.kind, old, &today, &remarks.lines)
        };
        Some(Diagnostic { object: format!("{} {}", object.kind.name(), object.meta.name), ..found })
    }

    /// The routes that a listener chose, those chosen by labels looked up.
    fn named(&self, selection: &Selection) -> Vec<NamedRoute> {
        let mut all = Vec::new();
        for named in &selection.only {
            match named {
                Named::Route(route) => all.push(route.clone()),
                Named::Labels(..) => {
                    let fitting = self.routes.iter().filter(|route| fits(named, route));
                    all.extend(fitting.map(|route| NamedRoute {
                        kind: route.kind.name().to_owned(),
                        name: Some(route.meta.name.name.to_string()),
                        namespace: Some(route.meta.name.namespace.to_string()),
                    }));
                }
            }
        }
        all
    }

    /// Whether allowedRoutes let a route in. `narrow`: as today's form will be written.
    pub(super) fn admits(
        &self,
        object: &Object,
        gateway: &Gateway,
        listener: usize,
        route: &Object,
        narrow: bool,
    ) -> bool {
        let this = &gateway.listeners[listener];
        let namespace = &route.meta.name.namespace;
        if !kinds(this).any(|kind| kind == route.kind.name()) {
            return false;
        }
        if narrow && let Some(only) = self.narrowed(object, gateway, listener) {
            return only.contains(&**namespace);
        }
        match &this.allowed.namespaces {
            FromNamespaces::All => true,
            FromNamespaces::Same => *namespace == object.meta.name.namespace,
            FromNamespaces::None => false,
            FromNamespaces::Selector(selector) => selector.selects(|key| {
                let implied = (key == NAME_LABEL).then_some(&**namespace);
                let labels = self.namespaces.get(&**namespace);
                labels.and_then(|labels| labels.get(key)).map(String::as_str).or(implied)
            }),
        }
    }

    /// Whether a listener took a route, by its name, its labels and allowedRoutes.
    pub(super) fn took(
        &self,
        object: &Object,
        gateway: &Gateway,
        old: Option<&Converted>,
        i: usize,
        route: &Object,
    ) -> bool {
        let selections = old.map_or(&[][..], |old| &old.selections);
        let only = selections.iter().find(|selection| selection.listener == i);
        self.admits(object, gateway, i, route, false)
            && only.is_none_or(|all| all.only.is_empty() || all.only.iter().any(|named| fits(named, route)))
    }

    /// The namespaces of a listener's routes, if it named them and they can be told.
    pub(super) fn narrowed(
        &self,
        object: &Object,
        gateway: &Gateway,
        listener: usize,
    ) -> Option<BTreeSet<String>> {
        let old = object.old.as_deref()?;
        let selection = old.selections.iter().find(|selection| selection.listener == listener)?;
        if selection.only.is_empty() || gateway.listeners[listener].allowed.namespaces != FromNamespaces::All
        {
            return None;
        }
        let mut found = BTreeSet::new();
        for named in &selection.only {
            let Named::Route(NamedRoute { name: Some(_), namespace, .. }) = named else { return None };
            if let Some(namespace) = namespace {
                found.insert(namespace.clone());
                continue;
            }
            let before = found.len();
            let fitting =
                self.routes.iter().filter(|route| fits(named, route) && self.may_be_meant(route, object));
            found.extend(fitting.map(|route| route.meta.name.namespace.to_string()));
            if found.len() == before && before == 0 {
                return None;
            }
        }
        Some(found)
    }

    /// Whether a route names a Gateway or lets itself be chosen by it.
    fn may_be_meant(&self, route: &Object, gateway: &Object) -> bool {
        match route.old.as_deref().and_then(|old| old.choosers.as_ref()) {
            Some(choosers) => allows(choosers, route, &gateway.meta.name),
            None => {
                parents(&route.body).unwrap_or_default().iter().any(|parent| names(parent, route, gateway))
            }
        }
    }

    /// The parents of a route that did not name its Gateways; `None` for others.
    pub(super) fn parents(&self, route: &Object) -> Option<Vec<ParentRef>> {
        let choosers = route.old.as_deref()?.choosers.as_ref()?;
        let mut found = Vec::new();
        for (object, gateway, old) in self.gateways.iter().filter(|(_, _, old)| old.is_some()) {
            if !allows(choosers, route, &object.meta.name) {
                continue;
            }
            let old = *old;
            let chose = |i: &usize| {
                old.is_some_and(|old| old.selections.iter().any(|selection| selection.listener == *i))
                    && self.took(object, gateway, old, *i, route)
            };
            let all = 0..gateway.listeners.len();
            let took: Vec<usize> = all.clone().filter(chose).collect();
            let today: Vec<usize> = all.filter(|i| self.admits(object, gateway, *i, route, true)).collect();
            if took.is_empty() {
                continue;
            }
            if took == today {
                found.push(parent(&object.meta.name, None));
            } else {
                let section = |i: &usize| parent(&object.meta.name, Some(gateway.listeners[*i].name.clone()));
                found.extend(took.iter().map(section));
            }
        }
        if let Choosers::These(names) = choosers {
            let chooses = |name: &ObjectName| {
                self.gateways.iter().any(|(object, _, old)| object.meta.name == *name && old.is_some())
            };
            found.extend(names.iter().filter(|name| !chooses(name)).map(|name| parent(name, None)));
        }
        Some(found)
    }
}

/// The parents that a route names; `None` for what is no route.
pub(super) fn parents(body: &Body) -> Option<&[ParentRef]> {
    match body {
        Body::Http(route) => Some(&route.parents),
        Body::L4(route) => Some(&route.parents),
        Body::Unbuilt(route) => Some(&route.parents),
        _ => None,
    }
}

pub(super) fn names(parent: &ParentRef, route: &Object, gateway: &Object) -> bool {
    parent.kind.group == GATEWAY_GROUP
        && parent.kind.kind == "Gateway"
        && parent.name == gateway.meta.name.name
        && *parent.namespace.as_ref().unwrap_or(&route.meta.name.namespace) == gateway.meta.name.namespace
}

fn allows(choosers: &Choosers, route: &Object, gateway: &ObjectName) -> bool {
    match choosers {
        Choosers::All => true,
        Choosers::SameNamespace => route.meta.name.namespace == gateway.namespace,
        Choosers::These(names) => names.contains(gateway),
    }
}

fn fits(named: &Named, route: &Object) -> bool {
    match named {
        Named::Route(named) => {
            named.kind == route.kind.name()
                && named.name.as_deref().is_none_or(|name| name == &*route.meta.name.name)
                && named.namespace.as_deref().is_none_or(|namespace| namespace == &*route.meta.name.namespace)
        }
        Named::Labels(kind, selector) => {
            kind == route.kind.name() && selector.selects(|key| route.labels.get(key).map(String::as_str))
        }
    }
}

/// The kinds of routes that a listener takes.
fn kinds(listener: &Listener) -> impl Iterator<Item = &str> {
    let of_protocol: &[&str] = match listener.protocol {
        Protocol::Http | Protocol::Https => &["HTTPRoute", "GRPCRoute"],
        Protocol::Tls => &["TLSRoute", "TCPRoute"],
        Protocol::Tcp => &["TCPRoute"],
        Protocol::Udp => &["UDPRoute"],
        Protocol::Other(_) => &[],
    };
    let of_protocol = if listener.allowed.kinds.is_empty() { of_protocol } else { &[] };
    let written = listener.allowed.kinds.iter().filter(|kind| kind.group == GATEWAY_GROUP);
    written.map(|kind| &*kind.kind).chain(of_protocol.iter().copied())
}

fn parent(name: &ObjectName, section: Option<Arc<str>>) -> ParentRef {
    ParentRef {
        kind: GroupKind { group: GATEWAY_GROUP.to_owned(), kind: "Gateway".to_owned() },
        namespace: Some(name.namespace.clone()),
        name: name.name.clone(),
        section,
        port: None,
    }
}
