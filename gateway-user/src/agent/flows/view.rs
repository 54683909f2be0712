//! A flow as it is shown.

use std::sync::Arc;

use gateway_ebpf::abi::UDP;
use gateway_ebpf::flow::Flow;
use gateway_ebpf::life::{LIVE, state};

use crate::admin::view::FlowView;
use crate::core::flows::ending::ending;
use crate::core::flows::ledger::Ledger;
use crate::core::flows::names::Labels;
use crate::core::flows::{asked, backend, client, generation, node, protocol, traffic_key};

/// What a flow is called. A name that is of another endpoint came later than the flow: its ids were given away.
pub(super) fn labels(flow: &Flow, ledger: &Ledger) -> Arc<Labels> {
    let labels = ledger.name(&traffic_key(flow));
    if labels.backend.is_none_or(|at| at == backend(flow)) { labels } else { Arc::default() }
}

/// A flow, at a time.
pub(super) fn flow(flow: &Flow, labels: &Labels, now: u64) -> FlowView {
    let (bits, over) = (flow.life as u32, flow.life as u32 & LIVE == 0);
    let now = if over { flow.ended } else { now };
    let since = |then: u64| now.saturating_sub(then) / 1_000_000;
    let node = node(flow);
    FlowView {
        // No two that live have the client's tuple in common, and one after the other seldom the place's generation.
        id: format!("{:016x}-{}", flow.client.key.hash(), generation(flow)),
        state: state(bits | LIVE).name().to_owned(),
        protocol: if protocol(flow) == UDP { "UDP" } else { "TCP" }.to_owned(),
        client: client(flow).to_string(),
        address: asked(flow).to_string(),
        listener: labels.listener.to_string(),
        route: labels.route.to_string(),
        service: labels.service.to_string(),
        backend: backend(flow).to_string(),
        path: if node.is_some() { "snat" } else { "local" }.to_owned(),
        source: node.map(|at| at.to_string()),
        tries: flow.tries,
        age_milliseconds: since(flow.begun),
        idle_milliseconds: since(flow.seen),
        packets_in: flow.packets[0],
        packets_out: flow.packets[1],
        bytes_in: flow.bytes[0],
        bytes_out: flow.bytes[1],
        close: over.then(|| ending(bits).name().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use gateway_ebpf::life::{ANSWERED, ESTABLISHED, IS_TCP, SNAT, WITHDRAWN};

    use super::*;
    use crate::core::flows::testing;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_living_flow_and_one_that_is_over() {
        let bits = IS_TCP | SNAT | ANSWERED | ESTABLISHED;
        let living = Flow {
            begun: 10 * SECOND,
            seen: 12 * SECOND,
            packets: [3, 2],
            bytes: [300, 200],
            ..testing::flow("203.0.113.7:40000", "192.0.2.1:80", "10.0.0.2:8080", "10.0.0.1:60000", bits)
        };
        let labels = Labels { route: "default/db".into(), ..Labels::default() };
        let view = flow(&living, &labels, 15 * SECOND);
        assert_eq!(
            (&*view.state, &*view.protocol, &*view.client, &*view.address, &*view.backend, &*view.route),
            ("established", "TCP", "203.0.113.7:40000", "192.0.2.1:80", "10.0.0.2:8080", "default/db")
        );
        assert_eq!((&*view.path, view.source.as_deref()), ("snat", Some("10.0.0.1:60000")));
        assert_eq!((view.age_milliseconds, view.idle_milliseconds, view.close), (5_000, 3_000, None));
        assert_eq!((view.packets_in, view.packets_out, view.bytes_in, view.bytes_out), (3, 2, 300, 200));
        let life = (living.life & !u64::from(LIVE)) | u64::from(WITHDRAWN);
        let over = flow(&Flow { life, ended: 13 * SECOND, ..living }, &labels, 99 * SECOND);
        assert_eq!((over.age_milliseconds, over.idle_milliseconds), (3_000, 1_000));
        assert_eq!((over.close.as_deref(), &*over.state, over.id), (Some("withdrawn"), "reset", view.id));
    }

    #[test]
    fn a_name_that_came_later_is_not_the_flows() {
        let mut ledger = Ledger::default();
        let names = crate::core::flows::names::testing::names(&["0 *:80/tcp 0"], &["0 0 10.0.0.9:80"]);
        ledger.turn(
            names,
            &std::collections::BTreeMap::new(),
            &crate::core::flows::living::Living::default(),
        );
        let of = |backend| {
            let flow = testing::flow("203.0.113.7:1", "192.0.2.1:80", backend, "203.0.113.7:1", IS_TCP);
            labels(&flow, &ledger).binding.to_string()
        };
        assert_eq!((of("10.0.0.9:80"), of("10.0.0.8:80")), ("*:80/tcp".to_owned(), String::new()));
    }
}
