//! Connections to TCP listeners, flows to UDP listeners.
//!
//! Owns nothing but the putting together.

use std::num::NonZeroU32;

use gateway_ebpf::abi::{Affinity, wire};

use super::parts::{candidate, endpoint, listener, object, place};
use super::{Live, kernel, skips};
use crate::admin::view::{AnswerView, BackendView, EndsView};
use crate::core::explain::{self, L4, Outcome, Scene, Shares, tuple};
use crate::core::snapshot::{BoundListeners, BoundService};
use crate::core::steer::{self, Answer};
use crate::core::transport::Transport;

/// What becomes of a connection or flow.
pub(super) fn answer(
    scene: &Scene<'_>,
    live: Option<&Live>,
    transport: Transport,
    &EndsView { to, from }: &EndsView,
) -> AnswerView {
    let packet = tuple(transport, (wire(from.ip()), from.port()), (wire(to.ip()), to.port()));
    let image = &scene.snapshot.image;
    let bound = steer::binding(image, &packet).and_then(|(key, _)| scene.snapshot.bindings.get(&key));
    let Some(bound) = bound else {
        return AnswerView::default().failed(explain::no_binding(scene, transport, Some(to.ip()), to.port()));
    };
    let mut answer = AnswerView {
        binding: Some(place(bound)),
        kernel: Some(kernel(scene.snapshot, &bound.key, live)),
        served: true,
        ..AnswerView::default()
    };
    let steered =
        live.map(|live| steer::steer(image, &live.workers, &packet, to.ip().to_canonical().is_ipv6()));
    if let (Some(kernel), Some(steered)) = (&mut answer.kernel, steered) {
        kernel.verdict = steered.counted().map(|(_, verdict)| verdict.name().to_owned());
        kernel.worker = worker(steered);
    }
    if let BoundService::Http(_) = bound.service {
        answer.message = "the connection goes to a worker, which routes each of its requests by itself \
                          (`sluice explain http` tells where to)"
            .to_owned();
    } else {
        let l4 = explain::l4(scene, bound, &packet);
        answer = put(answer, &l4, bound, live);
        if let Some(outcome) = l4.outcome(scene, &bound.label) {
            return answer.failed(outcome);
        }
        answer.order = l4.order.iter().map(|backend| backend.at).collect();
        // As the relay does: those that fail are left out, unless all do.
        let fails = |at: &std::net::SocketAddr| match (live, steered.and_then(worker)) {
            (Some(live), Some(worker)) if transport == Transport::Tcp => skips(live, worker, *at),
            _ => false,
        };
        answer.pick = answer.order.iter().find(|at| !fails(at)).or(answer.order.first()).copied();
    }
    match steered {
        Some(Answer::Refused { verdict, .. }) => answer.failed(Outcome {
            status: None,
            message: format!("the kernel refuses it: {}", verdict.name()),
            remedy: "see `sluice status` and `sluice maps`: do the workers run?".to_owned(),
        }),
        _ => answer.all_skipped(live),
    }
}

fn worker(answer: Answer) -> Option<u32> {
    match answer {
        Answer::Worker { worker, .. } => Some(worker),
        Answer::Untouched | Answer::Swallowed { .. } | Answer::Refused { .. } => None,
    }
}

/// What becomes of a request that is sent to a TCP listener: its bytes are relayed.
pub(super) fn of_a_request(
    scene: &Scene<'_>,
    live: Option<&Live>,
    bound: &BoundListeners,
    answer: AnswerView,
) -> AnswerView {
    let nobody = ([0; 16], 0);
    let l4 = explain::l4(scene, bound, &tuple(Transport::Tcp, nobody, (bound.key.address, bound.key.port)));
    let mut answer = put(answer, &l4, bound, live);
    match (&bound.service, l4.outcome(scene, &bound.label)) {
        (BoundService::Reject, Some(outcome)) => answer.failed(outcome),
        _ => {
            answer.served = true;
            let by = match l4.affinity {
                Affinity::None => "address and port",
                Affinity::ClientIp => "address",
            };
            answer.message = format!(
                "the listener is of protocol TCP: bytes are relayed as they are, to a backend that depends on the \
                 client's {by} (`sluice explain tcp` names it)"
            );
            answer.all_skipped(live)
        }
    }
}

fn put(mut answer: AnswerView, l4: &L4, bound: &BoundListeners, live: Option<&Live>) -> AnswerView {
    answer.listener = Some(listener(&bound.label, None));
    answer.route = l4.route.as_deref().map(|route| object(l4.transport.route(), route));
    answer.rule = l4.rule.as_deref().map(str::to_owned);
    answer.affinity = (l4.affinity == Affinity::ClientIp).then(|| "ClientIP".to_owned());
    answer.idle_seconds = l4.idle.map(NonZeroU32::get);
    answer.backends = l4.shares.iter().map(|shares| backend(shares, l4, live)).collect();
    answer.candidates = l4.lost.iter().map(candidate).collect();
    answer
}

fn backend(shares: &Shares, l4: &L4, live: Option<&Live>) -> BackendView {
    let slots = l4.slots;
    let own: usize = shares.endpoints.iter().map(|(_, slots)| slots).sum();
    let nowhere = shares.endpoints.is_empty() && shares.weight > 0;
    BackendView {
        name: shares.name.to_string(),
        weight: Some(shares.weight),
        share: if slots == 0 { 0.0 } else { super::parts::percent(own as f64 / slots as f64) },
        status: None,
        message: if nowhere {
            match l4.transport {
                Transport::Tcp => "leads nowhere: its part of the connections is reset".to_owned(),
                Transport::Udp => "leads nowhere: its part of the datagrams is dropped".to_owned(),
            }
        } else {
            String::new()
        },
        filters: Vec::new(),
        endpoints: shares.endpoints.iter().map(|(at, _)| endpoint(*at, live)).collect(),
    }
}
