//! Certificates: what a listener's certificateRefs lead to.
//!
//! Owns kinds, ReferenceGrants from Gateways, and what a bad reference means for its listener. How a Secret is read is
//! the source's. Must not know any route.

use std::collections::BTreeMap;
use std::sync::Arc;

use gateway_ebpf::abi::BindingKey;
use rustc_hash::FxHashMap;

use super::condition::{self, Problem, problem};
use super::gateways::{GatewayWork, ListenerId};
use super::grants::permits;
use crate::core::model::{Gateway, Listener, Model, ObjectName, Protocol};
use crate::core::tls::{Certificate, CertificateRef, Certificates};

const SECRET: &str = "Secret";

/// What a listener has to show.
///
/// One bad reference of several does not take the listener down: it is served with the others, and ResolvedRefs says
/// which one is bad. The specification leaves more than one reference to implementations, and asks but for
/// ResolvedRefs=False if at least one is invalid; where it allows several certificates of an authority
/// (`caCertificateRefs`), too, the listener is refused only if all are bad. Clients that ask for a name of a good
/// certificate lose nothing by another that is missing.
pub(super) struct Tls {
    /// The good ones; none: nothing is served.
    pub(super) certificates: Certificates,
    /// What is wrong with the others.
    pub(super) problem: Option<Problem>,
    /// Another listener that has some of its names, too.
    pub(super) overlap: Option<Arc<str>>,
}

/// Finds the certificates of every HTTPS listener.
pub(super) fn resolve(model: &Model, gateways: &mut [GatewayWork<'_>]) {
    for work in gateways {
        for listener in &mut work.listeners {
            if listener.listener.protocol == Protocol::Https {
                listener.tls = Some(of_listener(model, work.gateway, listener.listener));
            }
        }
    }
}

fn of_listener(model: &Model, gateway: &Gateway, listener: &Listener) -> Tls {
    let (mut good, mut reason, mut messages) = (Vec::new(), None, Vec::new());
    for (at, reference) in listener.certificates.iter().enumerate() {
        match one(model, gateway, reference) {
            Ok(certificate) => good.push(certificate),
            Err(why) => {
                reason.get_or_insert(why.reason);
                messages.push(format!("tls.certificateRefs[{at}]: {}", why.message));
            }
        }
    }
    if listener.certificates.is_empty() {
        reason = Some(INVALID);
        messages.push("tls.certificateRefs: none is given (refer to a Secret with a certificate)".to_owned());
    }
    let problem = reason.map(|reason| problem(reason, condition::join(&messages)));
    Tls { certificates: good.into(), problem, overlap: None }
}

/// Notes which listeners of a port have names in common, so that a connection that was made for the one might be used for
/// the other (OverlappingTLSConfig, Listener conditions).
pub(super) fn overlaps(gateways: &mut [GatewayWork<'_>]) {
    let mut ports: BTreeMap<BindingKey, Vec<ListenerId>> = BTreeMap::new();
    for (g, gateway) in gateways.iter().enumerate() {
        for (l, work) in gateway.listeners.iter().enumerate().filter(|(_, work)| work.tls.is_some()) {
            for key in &work.keys {
                ports.entry(*key).or_default().push((g, l));
            }
        }
    }
    for listeners in ports.values().filter(|listeners| listeners.len() > 1) {
        let hostname = |&(g, l): &ListenerId| gateways[g].listeners[l].listener.hostname.as_deref();
        let suffix = |id: &ListenerId| hostname(id).map_or(Some(""), |name| name.strip_prefix("*."));
        // Those of wildcards by what follows `*.`, and the one of all names by nothing.
        let wide: FxHashMap<&str, ListenerId> =
            listeners.iter().filter_map(|id| Some((suffix(id)?, *id))).collect();
        let mut found: Vec<(ListenerId, ListenerId)> = Vec::new();
        for id in listeners {
            let Some(name) = hostname(id) else { continue };
            let name = name.strip_prefix("*.").unwrap_or(name);
            let dots = name.bytes().enumerate().filter(|(_, byte)| *byte == b'.').map(|(at, _)| at + 1);
            // `*.a.org` is within `*.org`, and neither within itself; a name is not within a wildcard of its own.
            let around = dots.map(|at| &name[at..]).chain([""]).find_map(|suffix| wide.get(suffix));
            found.extend(around.map(|other| (*id, *other)));
        }
        for (a, b) in found {
            for (own, other) in [(a, b), (b, a)] {
                let label = gateways[other.0].listeners[other.1].label.clone();
                if let Some(tls) = &mut gateways[own.0].listeners[own.1].tls {
                    tls.overlap.get_or_insert(label);
                }
            }
        }
    }
}

const INVALID: &str = "InvalidCertificateRef";

fn one(model: &Model, gateway: &Gateway, reference: &CertificateRef) -> Result<Arc<Certificate>, Problem> {
    let (own, CertificateRef { kind, namespace, name }) = (&gateway.meta.name.namespace, reference);
    let name = ObjectName { namespace: namespace.as_ref().unwrap_or(own).clone(), name: name.clone() };
    if !kind.group.is_empty() || kind.kind != SECRET {
        let message = format!(
            "kind {} of group \"{}\" is not supported (refer to a Secret of the core group, \"\")",
            kind.kind, kind.group
        );
        return Err(problem(INVALID, message));
    }
    // Before anything is said of the Secret: who may not refer to it must not learn whether it is there.
    if name.namespace != *own && !granted(model, own, &name) {
        let message = format!(
            "Secret {name}: no ReferenceGrant in namespace \"{}\" allows Gateways of namespace \"{own}\" to refer to it (add one)",
            name.namespace
        );
        return Err(problem("RefNotPermitted", message));
    }
    let Some(secret) = model.secrets.get(&name) else {
        let message = format!("there is no Secret {name} (create it, or correct the reference)");
        return Err(problem(INVALID, message));
    };
    secret.certificate.clone().map_err(|why| problem(INVALID, format!("Secret {name}: {why}")))
}

fn granted(model: &Model, from: &str, to: &ObjectName) -> bool {
    let mut grants = model.grants.values().filter(|grant| grant.meta.name.namespace == to.namespace);
    grants.any(|grant| permits(grant, ("Gateway", from), (SECRET, &to.name)))
}
