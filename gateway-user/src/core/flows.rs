//! Flows that are forwarded in the kernel, as the agent shows them: who talks to whom, what they are called, what they
//! carried, and how they ended.
//!
//! Owns what is read out of a flow. Must not know how flows are read, nor how they are printed.

pub mod ending;
pub mod filter;
pub mod ledger;
pub mod living;
pub mod names;
pub mod removed;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use gateway_ebpf::flow::{Flow, TrafficKey, TupleKey, Words, bytes};
use gateway_ebpf::life::{SNAT, State, state};

/// Where the client is.
#[must_use]
pub fn client(flow: &Flow) -> SocketAddr {
    source(&flow.client.key)
}

/// Where the client connected to.
#[must_use]
pub fn asked(flow: &Flow) -> SocketAddr {
    destination(&flow.client.key)
}

/// Where its packets go.
#[must_use]
pub fn backend(flow: &Flow) -> SocketAddr {
    source(&flow.reply.key)
}

/// The address and port of this node that the backend sees; `None`: it sees the client's own.
#[must_use]
pub fn node(flow: &Flow) -> Option<SocketAddr> {
    (flow.life as u32 & SNAT != 0).then(|| destination(&flow.reply.key))
}

/// Its IP protocol number.
#[must_use]
pub const fn protocol(flow: &Flow) -> u8 {
    flow.client.key.protocol as u8
}

/// Its state; [`State::Free`]: it is over.
#[must_use]
pub const fn state_of(flow: &Flow) -> State {
    state(flow.life as u32)
}

/// Which of the flows that were ever in its place it is.
#[must_use]
pub const fn generation(flow: &Flow) -> u32 {
    (flow.life >> 32) as u32
}

/// What its figures are counted under in the kernel.
#[must_use]
pub const fn traffic_key(flow: &Flow) -> TrafficKey {
    TrafficKey { binding: flow.binding, service: flow.service, backend: flow.backend, pad: 0 }
}

fn source(key: &TupleKey) -> SocketAddr {
    SocketAddr::new(ip(&key.source), key.source_port())
}

fn destination(key: &TupleKey) -> SocketAddr {
    SocketAddr::new(ip(&key.destination), key.destination_port())
}

fn ip(words: &Words) -> IpAddr {
    Ipv6Addr::from(bytes(words)).to_canonical()
}

#[cfg(test)]
pub(crate) mod testing {
    //! Flows to test with.

    use gateway_ebpf::abi::{TCP, UDP, wire};
    use gateway_ebpf::flow::{Flow, Half, TupleKey};
    use gateway_ebpf::life::{IS_TCP, LIVE};
    use gateway_ebpf::select::Tuple;

    use super::*;

    pub(crate) fn tuple(from: &str, to: &str, protocol: u8) -> TupleKey {
        let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
        TupleKey::from(&Tuple {
            source: wire(from.ip()),
            destination: wire(to.ip()),
            source_port: from.port(),
            destination_port: to.port(),
            protocol,
        })
    }

    /// A living flow: client, asked address, backend, and what the backend sees.
    pub(crate) fn flow(client: &str, asked: &str, backend: &str, seen: &str, bits: u32) -> Flow {
        let protocol = if bits & IS_TCP != 0 { TCP } else { UDP };
        Flow {
            life: u64::from(bits | LIVE) | (7 << 32),
            client: Half { key: tuple(client, asked, protocol), ..Half::default() },
            reply: Half { key: tuple(backend, seen, protocol), ..Half::default() },
            ..Flow::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use gateway_ebpf::abi::{TCP, UDP};
    use gateway_ebpf::life::{ANSWERED, ESTABLISHED, IS_TCP};

    use super::testing::flow;
    use super::*;

    #[test]
    fn a_flow_tells_who_talks_to_whom() {
        for (from, to, at, by) in [
            ("203.0.113.7:40000", "192.0.2.1:80", "10.0.0.2:8080", "10.0.0.1:60000"),
            ("[2001:db8::7]:40000", "[2001:db8::1]:80", "[2001:db8:1::2]:8080", "[2001:db8:1::1]:60000"),
        ] {
            let snat = flow(from, to, at, by, SNAT | IS_TCP | ANSWERED | ESTABLISHED);
            let told = [client(&snat), asked(&snat), backend(&snat)].map(|at| at.to_string());
            assert_eq!(told, [from, to, at]);
            assert_eq!(node(&snat).unwrap().to_string(), by);
            assert_eq!((protocol(&snat), state_of(&snat), generation(&snat)), (TCP, State::Established, 7));
            let local = flow(from, to, at, from, 0);
            assert_eq!((node(&local), protocol(&local), state_of(&local)), (None, UDP, State::Opening));
        }
    }
}
