//! Certificates: what a listener's certificateRefs lead to.
//!
//! Owns kinds, ReferenceGrants from Gateways, and what a bad reference means for its listener. How a Secret is read is
//! the source's. Must not know any route.

use std::sync::Arc;

use super::condition::{self, Problem, problem};
use super::gateways::GatewayWork;
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
    Tls { certificates: good.into(), problem }
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
