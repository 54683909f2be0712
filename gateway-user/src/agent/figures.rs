//! From counters to what is shown of them: names in place of ids, differences in place of sums.

use std::net::Ipv6Addr;
use std::num::NonZeroU32;
use std::sync::Arc;

use gateway_ebpf::abi::{ANY, Action, BindingKey, UDP, Verdict};
use gateway_ebpf::flow::{Reason, ReasonKind};
use gateway_ebpf::life::State;

use super::board::Board;
use super::flows::Figures;
use crate::admin::view::{BindingView, Lookups, MapView, MapsView};
use crate::core::flows::names::binding_name;
use crate::core::snapshot::Snapshot;
use crate::core::transport::Transport;
use crate::dataplane::{self, Counts};
use crate::metrics::{
    BindingLabels, Cluster, Facts, Flows, Forward, Forwarded, Handshakes, HttpLabels, Kernel, RelayLabels,
    Relayed, Requests,
};
use crate::proxy::{BindingLabel, LATENCY_BOUNDS, RelayKey, RelayTotals, Totals};

const MICROS: f64 = 1e-6;

/// What `sluice maps` shows.
pub(super) fn maps(board: &Board) -> Result<MapsView, dataplane::Error> {
    let counts = board.reader.counts()?;
    let snapshot = Arc::clone(&board.serving.load().snapshot);
    let bindings = since_baseline(board, &snapshot, &counts)
        .map(|(key, id, action, lookups)| {
            let lookups = Lookups::from(lookups);
            BindingView {
                address: address(key),
                port: key.port,
                protocol: protocol(key).to_uppercase(),
                action: format!("{action:?}"),
                id,
                idle_seconds: snapshot.image.bindings.get(key).and_then(|b| b.idle).map(NonZeroU32::get),
                listeners: snapshot
                    .bindings
                    .get(key)
                    .map(|bound| bound.label.split(',').map(str::to_owned).collect())
                    .unwrap_or_default(),
                hits: lookups.total(),
                lookups,
            }
        })
        .collect();
    let mut all = counts.maps.clone();
    all.extend(board.flows().map_or(Ok(Vec::new()), |flows| flows.maps())?);
    let maps = all.iter().map(|map| MapView {
        name: map.name.to_owned(),
        kind: map.kind.to_owned(),
        capacity: map.capacity,
        used: map.used,
        key_bytes: map.key_bytes,
        value_bytes: map.value_bytes,
    });
    Ok(MapsView { maps: maps.collect(), bindings, misses: counts.misses })
}

/// What one scrape shows.
pub(super) fn facts(board: &Board) -> Facts {
    let snapshot = Arc::clone(&board.serving.load().snapshot);
    // Both or neither: half of it would look like the whole.
    let read = board
        .reader
        .counts()
        .and_then(|counts| Ok((counts, board.flows().map(|flows| flows.figures()).transpose()?)));
    let (counts, flows) = read.ok().map_or((None, None), |(counts, flows)| (Some(counts), flows));
    let flow_maps = flows.as_ref().map(|flows| flows.maps.clone()).unwrap_or_default();
    let kernel = counts.map(|counts| Kernel {
        lookups: since_baseline(board, &snapshot, &counts)
            .flat_map(|(key, _, _, lookups)| {
                let name: Arc<str> = binding_name(key).into();
                Verdict::ALL.into_iter().zip(lookups).map(move |(v, n)| (Arc::clone(&name), v.name(), n))
            })
            .collect(),
        misses: counts.misses,
        maps: counts.maps.iter().chain(&flow_maps).map(|map| (map.name, map.capacity, map.used)).collect(),
    });
    let totals = board.counters.read();
    Facts {
        kernel,
        forward: flows.as_ref().map(forward),
        latency_bounds: LATENCY_BOUNDS.iter().map(|micros| *micros as f64 * MICROS).collect(),
        configuration: **board.configuration.load(),
        cluster: board
            .cluster
            .as_ref()
            .map(|cluster| Cluster { leads: cluster.leads(), writes: cluster.writes().to_vec() }),
        ready: board.not_ready().is_none(),
        started: board.started,
        ..workers(totals)
    }
}

fn forward(figures: &Figures) -> Forward {
    let reasons = |kind: ReasonKind| {
        let all = Reason::ALL.into_iter().zip(figures.reasons);
        all.filter(|(reason, _)| reason.kind() == kind).map(|(r, count)| (r.name(), count)).collect()
    };
    let living = &figures.counts.living;
    let flows = figures.named.iter().map(|(labels, counts)| {
        let binding =
            BindingLabels { binding: Arc::clone(&labels.binding), listener: Arc::clone(&labels.listener) };
        let labels = RelayLabels {
            binding,
            route: Arc::clone(&labels.route),
            service: Arc::clone(&labels.service),
            backend: labels.backend.map(|at| at.to_string()).unwrap_or_default(),
        };
        let forwarded = Forwarded {
            connections: counts.connections,
            unanswered: counts.unanswered,
            packets: counts.carried.packets,
            bytes: counts.carried.bytes,
        };
        (labels, forwarded)
    });
    Forward {
        states: State::ALL.into_iter().map(State::name).zip(living.states).collect(),
        flows: flows.collect(),
        fallbacks: reasons(ReasonKind::Fallback),
        drops: reasons(ReasonKind::Drop),
        notes: reasons(ReasonKind::Note),
        ports: living
            .ports
            .iter()
            .map(|((at, protocol), count)| (*at, if *protocol == UDP { "udp" } else { "tcp" }, *count))
            .collect(),
        port_range: figures.ports,
        withdrawn: figures.withdrawn,
    }
}

fn workers(totals: Totals) -> Facts {
    let of_tcp = |label: &BindingLabel| label.transport == Transport::Tcp;
    let (tcp, udp): (Vec<_>, Vec<_>) = totals.relayed.into_iter().partition(|(key, _)| of_tcp(&key.binding));
    let accepted = totals.accepted.iter().filter(|(label, _)| of_tcp(label));
    Facts {
        accepted: accepted.map(|(label, count)| (binding(label), *count)).collect(),
        tcp: tcp.into_iter().map(relayed).collect(),
        udp: udp.into_iter().map(relayed).collect(),
        flows: Flows {
            open: totals.udp.open,
            ended: totals.udp.ended.into_iter().map(|(why, count)| (why.name(), count)).collect(),
            dropped: totals.udp.dropped.into_iter().map(|(why, count)| (why.name(), count)).collect(),
            errors: vec![("backend", totals.udp.backend_errors), ("client", totals.udp.client_errors)],
        },
        http: totals
            .http
            .into_iter()
            .map(|(key, t)| {
                let labels = HttpLabels {
                    listener: key.listener,
                    route: key.route,
                    rule: key.rule,
                    backend: key.backend,
                };
                let requests = Requests {
                    status: t.status,
                    latency: t.latency.buckets.to_vec(),
                    latency_sum: t.latency.sum_micros as f64 * MICROS,
                    received: t.bytes_in,
                    sent: t.bytes_out,
                };
                (labels, requests)
            })
            .collect(),
        open: totals.open,
        closed: totals.closed.into_iter().map(|(reason, count)| (reason.name(), count)).collect(),
        upstream_connects: totals.upstream_connects,
        upstream_reuses: totals.upstream_reuses,
        upstream_failures: totals.upstream_failures,
        upstream_retries: totals.upstream_retries,
        tls: Handshakes {
            done: (totals.tls.handshakes.into_iter())
                .map(|(version, resumed, count)| (version.name(), resumed, count))
                .collect(),
            failed: totals.tls.failures.into_iter().map(|(why, count)| (why.name(), count)).collect(),
        },
        accept_errors: totals.accept_errors,
        access_log_dropped: totals.log_dropped,
        ..Facts::default()
    }
}

fn relayed((key, totals): (RelayKey, RelayTotals)) -> (RelayLabels, Relayed) {
    let labels = RelayLabels {
        binding: binding(&key.binding),
        route: key.route,
        service: key.backend,
        backend: key.endpoint.map(|endpoint| endpoint.to_string()).unwrap_or_default(),
    };
    let RelayTotals { begun, bytes_in, bytes_out, datagrams_in, datagrams_out } = totals;
    let relayed = Relayed {
        begun,
        received: bytes_in,
        sent: bytes_out,
        datagrams_received: datagrams_in,
        datagrams_sent: datagrams_out,
    };
    (labels, relayed)
}

fn binding(label: &BindingLabel) -> BindingLabels {
    let name = format!("{}/{}", label.at, label.transport.lower());
    BindingLabels { binding: name.into(), listener: Arc::clone(&label.listener) }
}

/// The bindings that serve, with their lookups by verdict since they came into the configuration.
fn since_baseline<'a>(
    board: &'a Board,
    snapshot: &'a Snapshot,
    counts: &'a Counts,
) -> impl Iterator<Item = (&'a BindingKey, u32, Action, [u64; 4])> {
    let baselines = board.baselines.load_full();
    snapshot.image.bindings.iter().map(move |(key, image)| {
        let mut lookups = counts.lookups.get(&image.id).copied().unwrap_or_default();
        for (count, baseline) in lookups.iter_mut().zip(baselines.get(&image.id).copied().unwrap_or_default())
        {
            *count = count.saturating_sub(baseline);
        }
        (key, image.id, image.action, lookups)
    })
}

fn address(key: &BindingKey) -> String {
    if key.address == ANY { "*".to_owned() } else { Ipv6Addr::from(key.address).to_canonical().to_string() }
}

const fn protocol(key: &BindingKey) -> &'static str {
    Transport::of(key.protocol).lower()
}
