//! What outlives a restart of the ledger of flows: what ids stand for that living flows may carry, and baselines.
//!
//! Owns its form in the state file. What it means is `core::flows::ledger`'s.

use std::net::SocketAddr;

use gateway_ebpf::flow::TrafficKey;
use serde::{Deserialize, Serialize};

use crate::core::flows::ledger::{Carried, Counts, Kept};
use crate::core::flows::names::{BindingName, Labels, Names, PartName};

/// The ledger as it is written.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct KeptFlows {
    bindings: Vec<KeptName>,
    routes: Vec<KeptRoute>,
    parts: Vec<KeptPart>,
    keys: Vec<KeptKey>,
    past: Vec<KeptPast>,
}

#[derive(Serialize, Deserialize)]
struct KeptName {
    id: u32,
    name: String,
    listener: String,
    service: u32,
}

#[derive(Serialize, Deserialize)]
struct KeptRoute {
    service: u32,
    route: String,
}

#[derive(Serialize, Deserialize)]
struct KeptPart {
    service: u32,
    backend: u32,
    name: String,
    at: SocketAddr,
}

#[derive(Serialize, Deserialize)]
struct KeptKey {
    binding: u32,
    service: u32,
    backend: u32,
    labels: KeptLabels,
    baseline: KeptCounts,
}

#[derive(Serialize, Deserialize)]
struct KeptPast {
    labels: KeptLabels,
    counts: KeptCounts,
}

#[derive(Serialize, Deserialize)]
struct KeptLabels {
    binding: String,
    listener: String,
    route: String,
    service: String,
    backend: Option<SocketAddr>,
}

#[derive(Serialize, Deserialize)]
struct KeptCounts {
    connections: u64,
    unanswered: u64,
    packets: [u64; 2],
    bytes: [u64; 2],
}

impl KeptLabels {
    fn new(labels: &Labels) -> Self {
        Self {
            binding: labels.binding.to_string(),
            listener: labels.listener.to_string(),
            route: labels.route.to_string(),
            service: labels.service.to_string(),
            backend: labels.backend,
        }
    }

    fn parts(self) -> Labels {
        Labels {
            binding: self.binding.into(),
            listener: self.listener.into(),
            route: self.route.into(),
            service: self.service.into(),
            backend: self.backend,
        }
    }
}

impl KeptCounts {
    const fn new(counts: &Counts) -> Self {
        Self {
            connections: counts.connections,
            unanswered: counts.unanswered,
            packets: counts.carried.packets,
            bytes: counts.carried.bytes,
        }
    }

    const fn parts(self) -> Counts {
        let carried = Carried { packets: self.packets, bytes: self.bytes };
        Counts { connections: self.connections, unanswered: self.unanswered, carried }
    }
}

impl KeptFlows {
    pub(super) fn new(kept: &Kept) -> Self {
        let Names { bindings, routes, parts } = &kept.names;
        Self {
            bindings: bindings
                .iter()
                .map(|(id, binding)| KeptName {
                    id: *id,
                    name: binding.name.to_string(),
                    listener: binding.listener.to_string(),
                    service: binding.service,
                })
                .collect(),
            routes: routes
                .iter()
                .map(|(service, route)| KeptRoute { service: *service, route: route.to_string() })
                .collect(),
            parts: parts
                .iter()
                .map(|((service, backend), part)| KeptPart {
                    service: *service,
                    backend: *backend,
                    name: part.name.to_string(),
                    at: part.at,
                })
                .collect(),
            keys: kept
                .keys
                .iter()
                .map(|(key, (labels, baseline))| KeptKey {
                    binding: key.binding,
                    service: key.service,
                    backend: key.backend,
                    labels: KeptLabels::new(labels),
                    baseline: KeptCounts::new(baseline),
                })
                .collect(),
            past: kept
                .past
                .iter()
                .map(|(labels, counts)| KeptPast {
                    labels: KeptLabels::new(labels),
                    counts: KeptCounts::new(counts),
                })
                .collect(),
        }
    }

    pub(super) fn parts(self) -> Kept {
        let names = Names {
            bindings: self
                .bindings
                .into_iter()
                .map(|b| {
                    let name = b.name.into();
                    (b.id, BindingName { name, listener: b.listener.into(), service: b.service })
                })
                .collect(),
            routes: self.routes.into_iter().map(|r| (r.service, r.route.into())).collect(),
            parts: self
                .parts
                .into_iter()
                .map(|p| ((p.service, p.backend), PartName { name: p.name.into(), at: p.at }))
                .collect(),
        };
        let key =
            |k: &KeptKey| TrafficKey { binding: k.binding, service: k.service, backend: k.backend, pad: 0 };
        let keys = self.keys.into_iter().map(|k| (key(&k), (k.labels.parts(), k.baseline.parts())));
        let past = self.past.into_iter().map(|p| (p.labels.parts(), p.counts.parts()));
        Kept { names, keys: keys.collect(), past: past.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::flows::names::testing::{key, names};

    #[test]
    fn a_ledger_comes_back_as_it_was_written() {
        let names =
            names(&["0 *:80/tcp 4", "7 [::1]:81/udp 5"], &["4 7 10.0.0.7:80", "5 8 [2001:db8::8]:80"]);
        let labels = names.get(&key(0, 4, 7)).unwrap();
        let carried = Carried { packets: [1, 2], bytes: [3, u64::MAX] };
        let counts = Counts { connections: 5, unanswered: 6, carried };
        let keys = [(key(9, 8, 7), (labels.clone(), counts))].into();
        let past = [(labels, counts), (Labels::default(), Counts::default())].into();
        for kept in [Kept { names, keys, past }, Kept::default()] {
            let json = serde_json::to_string(&KeptFlows::new(&kept)).unwrap();
            assert_eq!(serde_json::from_str::<KeptFlows>(&json).unwrap().parts(), kept);
        }
    }
}
