//! Objects of all files into one model.
//!
//! Owns what holds across objects: nothing twice, generations, endpoints from flags, routes that a listener of the
//! old dialect named by labels. Must not know YAML or the file system.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gateway_ebpf::abi::Affinity;
use rustc_hash::FxHashMap;

use super::dialect::attach;
use super::endpoint::port_name;
use super::kind::Kind;
use super::object::{Object, Read};
use super::translate::Body;
use super::{Diagnostic, EndpointFlag, Loaded};
use crate::core::model::{Endpoint, EndpointSlice, HttpRoute, Meta, Model, ObjectName, Service, ServicePort};
use crate::core::transport::Transport;

/// A part of a file and where it begins, or an object of the store.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) file: Arc<str>,
    pub(super) lines_before: u32,
    pub(super) read: Arc<Read>,
    pub(super) origin: Origin,
}

/// Where a part comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// From a file, which counts no generations.
    File,
    /// Out of the store, with its generation.
    Store(i64),
    /// On its way into the store, with the generation that it gets there.
    Applied(i64),
}

impl Origin {
    fn generation(self) -> Option<i64> {
        match self {
            Self::File => None,
            Self::Store(generation) | Self::Applied(generation) => Some(generation),
        }
    }
}

/// What the store is called where a file would be named.
pub(super) const THE_STORE: &str = "the store";

impl Part {
    /// Its errors, with their places.
    pub(super) fn diagnostics(&self) -> impl Iterator<Item = Diagnostic> {
        self.read.errors.iter().map(|error| self.located(error))
    }

    /// Its warnings, with their places.
    pub(super) fn warnings(&self) -> impl Iterator<Item = Diagnostic> {
        self.read.warnings.iter().map(|warning| self.located(warning))
    }

    pub(super) fn located(&self, diagnostic: &Diagnostic) -> Diagnostic {
        let no_line = diagnostic.line == 0 || matches!(self.origin, Origin::Store(_));
        let line = if no_line { 0 } else { diagnostic.line + self.lines_before };
        Diagnostic { file: self.file.to_string(), line, ..diagnostic.clone() }
    }
}

/// Which spec each object had last, and how often it has changed.
#[derive(Debug, Default)]
pub(super) struct Generations(FxHashMap<(Kind, ObjectName), (u64, i64)>);

impl Generations {
    /// The generation of an object that was there when it was last put together.
    pub(super) fn of(&self, key: &(Kind, ObjectName)) -> Option<i64> {
        self.0.get(key).map(|(_, generation)| *generation)
    }
}

/// After so many problems the rest is only counted.
const MOST_PROBLEMS: usize = 100;

/// Puts everything together. Generations advance only if there is no error.
pub(super) fn assemble(
    parts: &[Part],
    endpoints: &[EndpointFlag],
    generations: &mut Generations,
) -> Result<Loaded, Vec<Diagnostic>> {
    let mut errors: Vec<Diagnostic> = Vec::new();
    for part in parts {
        errors.extend(part.diagnostics());
    }
    let mut seen: FxHashMap<(Kind, &ObjectName), (&Part, &Object)> = FxHashMap::default();
    for part in parts {
        for object in &part.read.objects {
            match seen.entry((object.kind, &object.meta.name)) {
                Entry::Vacant(place) => {
                    place.insert((part, object));
                }
                Entry::Occupied(place) => {
                    let (other, first) = place.get();
                    errors.push(part.located(&twice(object, part.origin, other, first)));
                }
            }
        }
    }
    let mut next = FxHashMap::with_capacity_and_hasher(seen.len(), rustc_hash::FxBuildHasher);
    let mut model = Model::default();
    let mut routes = Vec::new();
    for part in parts {
        for object in &part.read.objects {
            let key = (object.kind, object.meta.name.clone());
            let generation = match (part.origin.generation(), generations.0.get(&key)) {
                (Some(kept), _) => kept,
                (None, Some((spec, generation))) if *spec == object.spec => *generation,
                (None, Some((_, generation))) => generation + 1,
                (None, None) => 1,
            };
            next.insert(key, (object.spec, generation));
            add(&mut model, &mut routes, object, generation);
        }
    }
    model.http_routes = routes.into_iter().collect();
    let world = attach::World::new(parts.iter().flat_map(|part| &part.read.objects));
    world.resolve(&mut model);
    if !endpoints.is_empty() {
        let written: BTreeSet<ObjectName> = model.services.keys().cloned().collect();
        for flag in endpoints {
            let added = endpoint(&mut model, flag, !written.contains(&flag.service));
            errors.extend(added.err().map(|error| *error));
        }
    }
    if !errors.is_empty() {
        if let Some(more) = errors.len().checked_sub(MOST_PROBLEMS).filter(|more| *more > 0) {
            errors.truncate(MOST_PROBLEMS);
            let message = format!("and {more} more problem{}", if more == 1 { "" } else { "s" });
            errors.push(Diagnostic { message, ..Diagnostic::default() });
        }
        return Err(errors);
    }
    generations.0 = next;
    let mut warnings: Vec<Diagnostic> = Vec::new();
    let by_request = chosen_by_request(&model);
    for part in parts {
        warnings.extend(part.warnings());
        let objects = || part.read.objects.iter();
        let old = objects().filter_map(|object| world.warning(object));
        let unheard = objects().filter_map(|object| no_affinity(object, &by_request));
        warnings.extend(old.chain(unheard).map(|warning| part.located(&warning)));
    }
    Ok(Loaded { model, warnings })
}

/// Services that ask for affinity, each with an HTTPRoute that refers to it: there they do not get it.
fn chosen_by_request(model: &Model) -> BTreeMap<ObjectName, ObjectName> {
    let asks = |name: &ObjectName| model.services.get(name).is_some_and(|s| s.affinity != Affinity::None);
    let mut found = BTreeMap::new();
    if model.services.values().all(|service| service.affinity == Affinity::None) {
        return found;
    }
    for (route, object) in &model.http_routes {
        for backend in object.rules.iter().flat_map(|rule| &rule.backends) {
            let namespace = backend.namespace.as_ref().unwrap_or(&route.namespace).clone();
            let name = ObjectName { namespace, name: backend.name.clone() };
            if backend.kind.group.is_empty() && backend.kind.kind == "Service" && asks(&name) {
                found.entry(name).or_insert_with(|| route.clone());
            }
        }
    }
    found
}

/// A Service that asks for affinity where there is none.
fn no_affinity(object: &Object, by_request: &BTreeMap<ObjectName, ObjectName>) -> Option<Diagnostic> {
    let route = by_request.get(&object.meta.name).filter(|_| object.kind == Kind::Service)?;
    Some(Diagnostic {
        line: object.at.line,
        column: object.at.column,
        object: format!("Service {}", object.meta.name),
        field: "spec.sessionAffinity".to_owned(),
        value: "\"ClientIP\"".to_owned(),
        message: format!(
            "it works for TCPRoutes and UDPRoutes alone, and has no effect on HTTPRoute {route}: each of its requests \
             goes to an endpoint by itself"
        ),
        ..Diagnostic::default()
    })
}

/// An object that is there twice.
fn twice(object: &Object, origin: Origin, other: &Part, first: &Object) -> Diagnostic {
    let (kind, name) = (object.kind.name(), &object.meta.name);
    let at = match other.origin {
        Origin::Store(_) => "in the store".to_owned(),
        Origin::File | Origin::Applied(_) => {
            format!("at {}:{}", other.file, first.at.line + other.lines_before)
        }
    };
    let remedy = match (origin, other.origin) {
        (Origin::File, Origin::Store(_)) => {
            let namespace =
                if name.namespace.is_empty() { String::new() } else { format!(" -n {}", name.namespace) };
            format!("remove it here, or from the store with `sluice delete {kind} {}{namespace}`", name.name)
        }
        (Origin::Applied(_) | Origin::Store(_), Origin::File) => {
            "that file is the agent's own input: change the object there, or remove it there first".to_owned()
        }
        _ => "keep one of them".to_owned(),
    };
    Diagnostic {
        line: object.at.line,
        column: object.at.column,
        object: format!("{kind} {name}"),
        message: format!("is there already, {at}"),
        remedy,
        ..Diagnostic::default()
    }
}

/// Adds an object to the model; an HTTPRoute, of which there may be thousands, to a list: a map that is made at once is made
/// in a fraction of the time.
fn add(model: &mut Model, routes: &mut Vec<(ObjectName, Arc<HttpRoute>)>, object: &Object, generation: i64) {
    let name = object.meta.name.clone();
    let with = |meta: &mut Meta| meta.generation = generation;
    match object.body.clone() {
        Body::Class(mut class) => {
            with(&mut class.meta);
            model.classes.insert(name.name, class);
        }
        Body::Parameters(mut parameters) => {
            with(&mut parameters.meta);
            model.parameters.insert(name, parameters);
        }
        Body::Gateway(mut gateway) => {
            with(&mut gateway.meta);
            model.gateways.insert(name, gateway);
        }
        Body::Http(mut route) => {
            if route.meta.generation != generation {
                with(&mut Arc::make_mut(&mut route).meta);
            }
            routes.push((name, route));
        }
        Body::L4(mut route) => {
            with(&mut route.meta);
            model.l4_routes.insert((route.transport, name), route);
        }
        Body::Unbuilt(mut route) => {
            with(&mut route.meta);
            model.unbuilt_routes.insert((object.kind.name(), name), route);
        }
        Body::ListenerSet(mut set) => {
            with(&mut set.meta);
            model.listener_sets.insert(name, set);
        }
        Body::BackendTls(mut policy) => {
            with(&mut policy.meta);
            model.backend_tls.insert(name, policy);
        }
        Body::Grant(mut grant) => {
            with(&mut grant.meta);
            model.grants.insert(name, grant);
        }
        Body::Service(mut service) => {
            with(&mut service.meta);
            model.services.insert(name, service);
        }
        Body::Slice(mut slice) => {
            with(&mut slice.meta);
            model.slices.insert(name, slice);
        }
        Body::Secret(mut secret) => {
            with(&mut secret.meta);
            model.secrets.insert(name, secret);
        }
        Body::Namespace => {
            let mut labels = object.labels.clone();
            labels.insert("kubernetes.io/metadata.name".to_owned(), name.name.to_string());
            model.namespaces.insert(name.name, labels);
        }
        Body::Unused => {}
    }
}

/// Adds what a flag says: a slice with the endpoint, and a Service and its port if flags `made` it.
fn endpoint(model: &mut Model, flag: &EndpointFlag, made: bool) -> Result<(), Box<Diagnostic>> {
    let service = model.services.entry(flag.service.clone()).or_insert_with(|| Service {
        meta: Meta { name: flag.service.clone(), generation: 1, created: None },
        external_name: None,
        affinity: Affinity::None,
        ports: Vec::new(),
    });
    let wanted = flag.port.or_else(|| (made && service.ports.is_empty()).then_some(flag.address.port()));
    if let Some(port) = wanted
        && made
        && service.ports.iter().all(|have| have.port != port)
    {
        service.ports.extend(Transport::ALL.map(|transport| ServicePort {
            name: port_name(transport, port).into(),
            port,
            protocol: transport.name().into(),
            app_protocol: None,
        }));
    }
    let ports: Vec<_> = (service.ports.iter())
        .filter(|port| wanted.is_none_or(|wanted| port.port == wanted))
        .map(|port| (port.name.clone(), Some(flag.address.port()), port.protocol.clone()))
        .collect();
    if ports.is_empty() {
        return Err(Box::new(flag.no_such_port(service.ports.iter().map(|port| port.port))));
    }
    let name = (0..)
        .map(|n| ObjectName::new(&flag.service.namespace, &format!("{}-endpoint-{n}", flag.service.name)))
        .find(|name| !model.slices.contains_key(name));
    let Some(name) = name else { return Ok(()) };
    let address = flag.address.ip();
    let endpoint = Endpoint { address, ready: true, serving: true, terminating: false };
    let slice = EndpointSlice {
        meta: Meta { name: name.clone(), generation: 1, created: None },
        service: flag.service.name.clone(),
        endpoints: vec![endpoint],
        ports,
    };
    model.slices.insert(name, slice);
    Ok(())
}
