//! What all living flows come to.
//!
//! Owns the sums. Must not know where the flows are.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use gateway_ebpf::flow::{Flow, TrafficKey};
use gateway_ebpf::life::State;
use rustc_hash::FxHashMap;

use super::ledger::Carried;
use super::{backend, node, protocol, state_of, traffic_key};

/// Sums over living flows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Living {
    /// How many there are, by [`State::ALL`].
    pub states: [u64; State::ALL.len()],
    /// What they carried so far. A key with a flow that carried nothing is in here, too.
    pub carried: FxHashMap<TrafficKey, Carried>,
    /// Source ports in use, by backend and IP protocol number.
    pub ports: BTreeMap<(SocketAddr, u8), u64>,
}

impl Living {
    /// Adds a flow, if it lives.
    pub fn add(&mut self, flow: &Flow) {
        let state = state_of(flow);
        let Some(at) = State::ALL.iter().position(|known| *known == state) else { return };
        self.states[at] += 1;
        self.carried
            .entry(traffic_key(flow))
            .or_default()
            .add(&Carried { packets: flow.packets, bytes: flow.bytes });
        if node(flow).is_some() {
            *self.ports.entry((backend(flow), protocol(flow))).or_default() += 1;
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.states.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use gateway_ebpf::abi::TCP;
    use gateway_ebpf::life::{ANSWERED, ESTABLISHED, IS_TCP, SNAT};

    use super::*;
    use crate::core::flows::testing::flow;

    #[test]
    fn sums_are_of_what_lives() {
        let mut living = Living::default();
        let made = |port: u16, bits, packets| Flow {
            packets,
            bytes: [packets[0] * 100, packets[1] * 1000],
            backend: 3,
            ..flow(&format!("10.0.0.9:{port}"), "10.0.0.1:80", "10.0.1.2:8080", "10.0.1.1:60000", bits)
        };
        living.add(&made(1, IS_TCP | SNAT, [1, 0]));
        living.add(&made(2, IS_TCP | SNAT | ANSWERED | ESTABLISHED, [5, 4]));
        living.add(&made(3, IS_TCP | ANSWERED | ESTABLISHED, [2, 2]));
        let over = made(4, IS_TCP | SNAT, [9, 9]);
        living.add(&Flow { life: over.life & !1, ..over });
        assert_eq!((living.states, living.count()), ([1, 2, 0, 0, 0], 3));
        let key = TrafficKey { binding: 0, service: 0, backend: 3, pad: 0 };
        let carried = Carried { packets: [8, 6], bytes: [800, 6000] };
        assert_eq!(living.carried, [(key, carried)].into_iter().collect());
        assert_eq!(living.ports, [(("10.0.1.2:8080".parse().unwrap(), TCP), 2)].into());
    }
}
