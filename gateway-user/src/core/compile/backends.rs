//! Backends: what a backendRef leads to.
//!
//! Owns kinds, ReferenceGrants, Services and their endpoints. Must not know rules.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use gateway_ebpf::abi::Affinity;
use rustc_hash::FxHashMap;

use super::condition::{self, Problem, problem};
use super::external::Guard;
use super::grants::permits;
use crate::core::model::{
    BackendRef, BackendTlsPolicy, EndpointSlice, Model, ObjectName, ReferenceGrant, Service, ServicePort,
};
use crate::core::route::Target;
use crate::core::status::ExternalName;
use crate::core::transport::Transport;

/// A backendRef, resolved.
#[derive(Clone)]
pub(super) struct Resolved {
    /// `NAMESPACE/SERVICE:PORT`.
    pub(super) name: Arc<str>,
    pub(super) target: Target,
    /// What its Service asks for, if the route may refer to it.
    pub(super) affinity: Affinity,
    /// Every endpoint that is listed for it, ready or not; none if it is invalid.
    pub(super) listed: Arc<[SocketAddr]>,
    /// Why it is invalid.
    pub(super) problem: Option<Problem>,
}

/// What a backend must speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Spoken {
    /// HTTP/1.1 in clear.
    Http,
    /// Whatever the client does.
    Any(Transport),
}

impl Spoken {
    fn transport(self) -> Transport {
        match self {
            Self::Http => Transport::Tcp,
            Self::Any(transport) => transport,
        }
    }
}

/// Resolves backendRefs, each Service's port once.
pub(super) struct Resolver<'m> {
    model: &'m Model,
    guard: Guard<'m>,
    /// The ExternalName Services among them.
    pub(super) external: BTreeMap<ObjectName, ExternalName>,
    slices: FxHashMap<(&'m str, &'m str), Vec<&'m EndpointSlice>>,
    grants: FxHashMap<&'m str, Vec<&'m ReferenceGrant>>,
    tls: FxHashMap<(&'m str, &'m str), Vec<&'m BackendTlsPolicy>>,
    known: FxHashMap<(&'m str, &'m str, Option<u16>, Spoken), Resolved>,
}

const SERVICE: &str = "Service";

impl<'m> Resolver<'m> {
    pub(super) fn new(model: &'m Model, guard: Guard<'m>) -> Self {
        let mut slices: FxHashMap<_, Vec<_>> = FxHashMap::default();
        for slice in model.slices.values() {
            slices.entry((&*slice.meta.name.namespace, &*slice.service)).or_default().push(slice);
        }
        let mut grants: FxHashMap<_, Vec<_>> = FxHashMap::default();
        for grant in model.grants.values() {
            grants.entry(&*grant.meta.name.namespace).or_default().push(grant);
        }
        let mut tls: FxHashMap<_, Vec<_>> = FxHashMap::default();
        for policy in model.backend_tls.values() {
            let targets = policy.targets.iter().filter(|t| t.kind.group.is_empty() && t.kind.kind == SERVICE);
            for target in targets {
                tls.entry((&*policy.meta.name.namespace, &*target.name)).or_default().push(policy);
            }
        }
        Self { model, guard, external: BTreeMap::new(), slices, grants, tls, known: FxHashMap::default() }
    }

    /// Resolves a reference of a route of this kind and namespace.
    pub(super) fn resolve(
        &mut self,
        backend: &'m BackendRef,
        kind: &'static str,
        from: &'m str,
        spoken: Spoken,
    ) -> Resolved {
        let namespace = backend.namespace.as_deref().unwrap_or(from);
        if !backend.kind.group.is_empty() || backend.kind.kind != SERVICE {
            let (group, kind) = (&backend.kind.group, &backend.kind.kind);
            let message = format!("kind {kind} of group \"{group}\" is not supported (refer to a Service)");
            return invalid(namespace, backend, problem("InvalidKind", message));
        }
        if namespace != from && !self.granted(namespace, backend, kind, from) {
            let message = format!(
                "Service {namespace}/{}: no ReferenceGrant in namespace \"{namespace}\" allows {kind}s of namespace \"{from}\" to refer to it (add one)",
                backend.name
            );
            return invalid(namespace, backend, problem("RefNotPermitted", message));
        }
        let key = (namespace, &*backend.name, backend.port, spoken);
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let name = ObjectName {
            namespace: backend.namespace.clone().unwrap_or_else(|| namespace.into()),
            name: backend.name.clone(),
        };
        let service = self.model.services.get(&name);
        let affinity = service.map_or(Affinity::None, |service| service.affinity);
        let resolved = match self.service(&name, service, namespace, backend, spoken) {
            Ok((target, listed)) => {
                Resolved { name: label(namespace, backend), target, affinity, listed, problem: None }
            }
            Err(problem) => Resolved { affinity, ..invalid(namespace, backend, problem) },
        };
        self.known.insert(key, resolved.clone());
        resolved
    }

    fn granted(&self, namespace: &str, backend: &BackendRef, kind: &str, from: &str) -> bool {
        let mut grants = self.grants.get(namespace).into_iter().flatten();
        grants.any(|grant| permits(grant, (kind, from), (SERVICE, &backend.name)))
    }

    fn service(
        &mut self,
        name: &ObjectName,
        service: Option<&'m Service>,
        namespace: &'m str,
        backend: &'m BackendRef,
        spoken: Spoken,
    ) -> Result<(Target, Arc<[SocketAddr]>), Problem> {
        let protocol = spoken.transport().name();
        let Some(service) = service else {
            let message = format!("there is no Service {name} (create it, or correct the reference)");
            return Err(problem("BackendNotFound", message));
        };
        let external;
        let port = match (&service.external_name, backend.port) {
            // Its ports need not be listed: the name has whatever ports it has.
            (Some(_), Some(number)) if service.ports.iter().all(|p| p.port != number) => {
                let protocol = protocol.into();
                external = ServicePort { name: "".into(), port: number, protocol, app_protocol: None };
                &external
            }
            _ => port_of(service, name, backend.port, protocol)?,
        };
        if spoken == Spoken::Http
            && let Some(spoken) = port.app_protocol.as_deref().filter(|p| !speaks_http(p))
        {
            let message = format!(
                "Service {name}, port {}: appProtocol \"{spoken}\" is not supported (use \"http\", or leave it out)",
                port.port
            );
            return Err(problem("UnsupportedProtocol", message));
        }
        if let Some(policy) = self.policy(namespace, backend, port) {
            let message = format!(
                "BackendTLSPolicy {} asks for TLS to Service {name}, which is not supported, and it is not reached without (remove the policy)",
                policy.meta.name
            );
            return Err(problem("UnsupportedProtocol", message));
        }
        let (endpoints, listed) = match &service.external_name {
            Some(external) => {
                let endpoints: Arc<[_]> = self.outside(name, external, port)?.into();
                (endpoints.clone(), endpoints)
            }
            None => self.endpoints(namespace, &backend.name, port),
        };
        let target = if endpoints.is_empty() { Target::Unavailable } else { Target::Endpoints(endpoints) };
        Ok((target, listed))
    }

    /// The endpoints that an ExternalName Service's name resolves to. A name without addresses has none, as a Service
    /// without endpoints; one that leads where it may not is no valid reference.
    fn outside(
        &mut self,
        service: &ObjectName,
        name: &Arc<str>,
        port: &ServicePort,
    ) -> Result<Vec<SocketAddr>, Problem> {
        if name.parse::<IpAddr>().is_ok() {
            let message = format!(
                "Service {service}: spec.externalName: \"{name}\" is an address, which Kubernetes takes for a name of digits that nobody can resolve (write an EndpointSlice)"
            );
            return Err(problem("BackendNotFound", message));
        }
        let external = self.guard.judge(service, name);
        let (addresses, refused) = (external.addresses.clone(), external.refused);
        let left_out: Vec<String> =
            external.left_out.iter().map(|(ip, why)| format!("{ip}: {why}")).collect();
        self.external.insert(service.clone(), external);
        if addresses.is_empty() && refused {
            let message =
                format!("Service {service}: \"{name}\" may not be used: {}", condition::join(&left_out));
            return Err(problem("RefNotPermitted", message));
        }
        Ok(addresses.into_iter().map(|ip| SocketAddr::new(ip, port.port)).collect())
    }

    fn policy(&self, namespace: &str, backend: &BackendRef, port: &ServicePort) -> Option<&BackendTlsPolicy> {
        self.tls.get(&(namespace, &*backend.name)).into_iter().flatten().copied().find(|policy| {
            policy.targets.iter().any(|t| {
                t.name == backend.name && t.section.as_ref().is_none_or(|section| *section == port.name)
            })
        })
    }

    /// The endpoints that are ready; if none is, those that end but still serve, so that a rollout whose new pods are
    /// late loses nothing. And all that are listed.
    fn endpoints(
        &self,
        namespace: &str,
        service: &str,
        port: &ServicePort,
    ) -> (Arc<[SocketAddr]>, Arc<[SocketAddr]>) {
        let slices = self.slices.get(&(namespace, service));
        let all = || {
            slices.into_iter().flatten().flat_map(|slice| {
                let number = slice
                    .ports
                    .iter()
                    .find(|(name, _, protocol)| *name == port.name && *protocol == port.protocol);
                let number = number.and_then(|(_, number, _)| *number);
                slice.endpoints.iter().filter_map(move |endpoint| Some((endpoint, number?)))
            })
        };
        let at = |(endpoint, number): (&crate::core::model::Endpoint, u16)| {
            SocketAddr::new(endpoint.address.to_canonical(), number)
        };
        let mut list: Vec<SocketAddr> = all().filter(|(e, _)| e.ready).map(at).collect();
        if list.is_empty() {
            list = all().filter(|(e, _)| e.serving && e.terminating).map(at).collect();
        }
        let sorted = |mut list: Vec<SocketAddr>| -> Arc<[SocketAddr]> {
            list.sort_unstable();
            list.dedup();
            list.into()
        };
        let (endpoints, listed) = (sorted(list), sorted(all().map(at).collect()));
        // They are the same mostly, and held once then.
        let listed = if listed == endpoints { endpoints.clone() } else { listed };
        (endpoints, listed)
    }
}

fn port_of<'s>(
    service: &'s Service,
    name: &ObjectName,
    port: Option<u16>,
    protocol: &str,
) -> Result<&'s ServicePort, Problem> {
    let Some(number) = port else {
        return Err(problem("BackendNotFound", format!("Service {name}: no port is named (add port)")));
    };
    let mut ports = service.ports.iter().filter(|p| p.port == number).peekable();
    let other = ports.peek().copied();
    if let Some(found) = ports.find(|p| &*p.protocol == protocol) {
        return Ok(found);
    }
    Err(match other {
        Some(other) => problem(
            "UnsupportedProtocol",
            format!(
                "Service {name}, port {number}: its protocol is {}, not {protocol} (use a {protocol} port)",
                other.protocol
            ),
        ),
        None => {
            let has: Vec<String> = service.ports.iter().map(|p| p.port.to_string()).collect();
            let message = format!("Service {name} has no port {number} (it has: {})", has.join(", "));
            problem("BackendNotFound", message)
        }
    })
}

/// Whether a backend with this appProtocol (KEP-3726, IANA) understands HTTP/1.1 in clear. Names that nobody knows
/// are taken for the user's own.
fn speaks_http(protocol: &str) -> bool {
    let name = protocol.strip_prefix("kubernetes.io/").unwrap_or(protocol);
    !matches!(name, "h2c" | "ws" | "wss" | "https" | "tls" | "ssl" | "grpc" | "grpcs" | "http2")
}

/// `NAMESPACE/SERVICE:PORT`.
pub(crate) fn label(namespace: &str, backend: &BackendRef) -> Arc<str> {
    match backend.port {
        Some(port) => format!("{namespace}/{}:{port}", backend.name).into(),
        None => format!("{namespace}/{}", backend.name).into(),
    }
}

fn invalid(namespace: &str, backend: &BackendRef, problem: Problem) -> Resolved {
    Resolved {
        name: label(namespace, backend),
        target: Target::Invalid,
        affinity: Affinity::None,
        listed: Arc::default(),
        problem: Some(problem),
    }
}
