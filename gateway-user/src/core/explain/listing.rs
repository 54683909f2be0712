//! What is served where: every match of every binding, in the order in which they are tried.
//!
//! Owns the order. Reads the snapshot alone: what is not served is not in here.

use std::net::SocketAddr;
use std::sync::Arc;

use gateway_ebpf::abi::BindingKey;

use super::Matched;
use crate::core::compile::HTTP_ROUTE;
use crate::core::headers::HeaderFilters;
use crate::core::redirect::Redirect;
use crate::core::route::Unserved;
use crate::core::snapshot::{BoundService, Snapshot};
use crate::core::transport::Transport;

/// A match that is served, or a TCP or UDP listener.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The binding.
    pub binding: BindingKey,
    /// Whether TLS ends here.
    pub tls: bool,
    /// `NAMESPACE/GATEWAY/LISTENER`.
    pub listener: Arc<str>,
    /// The listener's hostname; `None`: every one.
    pub listener_hostname: Option<String>,
    /// Kind of the route.
    pub kind: &'static str,
    /// `NAMESPACE/NAME` of the route; empty: none, every connection is reset, every datagram dropped.
    pub route: Arc<str>,
    /// The rule's name, or its position.
    pub rule: Arc<str>,
    /// The match; `None` for TCP and UDP.
    pub matched: Option<Matched>,
    /// Where clients are sent instead.
    pub redirect: Option<Arc<Redirect>>,
    /// What the rule does to headers.
    pub headers: Option<Arc<HeaderFilters>>,
    /// What is answered instead by whichever backend; `None`: a backend answers, or the rule redirects.
    pub unserved: Option<Unserved>,
    /// Backends.
    pub backends: Vec<ListedBackend>,
}

/// A backend of a rule.
#[derive(Clone, Debug)]
pub struct ListedBackend {
    /// `NAMESPACE/SERVICE:PORT`.
    pub name: Arc<str>,
    /// Its weight; `None`: the slots know none.
    pub weight: Option<u32>,
    /// Its part of the slots, 0–1, where these decide.
    pub part: f64,
    /// What is done to headers on the way to it and back, by the rule and by the backendRef.
    pub headers: Option<Arc<HeaderFilters>>,
    /// Its endpoints.
    pub endpoints: Vec<SocketAddr>,
    /// Why it has none.
    pub unserved: Option<Unserved>,
}

/// Everything that a snapshot serves, by address and port.
#[must_use]
pub fn listing(snapshot: &Snapshot) -> Vec<Listed> {
    let mut bindings: Vec<_> = snapshot.bindings.values().collect();
    bindings.sort_by_key(|bound| (bound.key.port, bound.key.protocol, bound.key.address));
    let mut all = Vec::new();
    for bound in bindings {
        let l4 = |route: &Arc<str>, backends| Listed {
            binding: bound.key,
            tls: false,
            listener: bound.label.clone(),
            listener_hostname: None,
            kind: Transport::of(bound.key.protocol).route(),
            route: route.clone(),
            rule: "0".into(),
            matched: None,
            redirect: None,
            headers: None,
            unserved: None,
            backends,
        };
        match &bound.service {
            BoundService::Reject => all.push(l4(&"".into(), Vec::new())),
            BoundService::L4(service) => {
                let mut backends: Vec<ListedBackend> = Vec::new();
                for (id, backend) in &service.backends {
                    let slots = service.slots.iter().filter(|slot| *slot == id).count();
                    let part = slots as f64 / service.slots.len().max(1) as f64;
                    match backends.iter_mut().find(|b| b.name == backend.name) {
                        Some(known) => {
                            known.endpoints.push(backend.at);
                            known.part += part;
                        }
                        None => backends.push(ListedBackend {
                            name: backend.name.clone(),
                            weight: None,
                            part,
                            headers: None,
                            endpoints: vec![backend.at],
                            unserved: None,
                        }),
                    }
                }
                all.push(l4(&service.route, backends));
            }
            BoundService::Http(table) => {
                for entry in table.inspect("").entries() {
                    let rule = &entry.candidate.rule;
                    let backends = rule.backends.iter().map(|backend| ListedBackend {
                        name: backend.name.clone(),
                        weight: Some(backend.weight),
                        part: 0.0,
                        headers: backend.headers.clone(),
                        endpoints: backend.target.endpoints().map_or_else(|_| Vec::new(), |e| e.to_vec()),
                        unserved: backend.target.endpoints().err(),
                    });
                    all.push(Listed {
                        binding: bound.key,
                        tls: bound.tls.is_some(),
                        listener: entry.listener.label.clone(),
                        listener_hostname: entry.listener.hostname.clone(),
                        kind: HTTP_ROUTE,
                        route: rule.route.clone(),
                        rule: rule.rule.clone(),
                        matched: Some(Matched {
                            at: entry.candidate.at,
                            hostname: entry.hostname.map(str::to_owned),
                            text: entry.text(),
                        }),
                        redirect: rule.redirect.clone(),
                        headers: rule.headers.clone(),
                        unserved: super::http::unserved(rule),
                        backends: backends.collect(),
                    });
                }
            }
        }
    }
    all
}
