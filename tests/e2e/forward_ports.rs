//! More connections than source ports, one after the other: a port serves the next one soon after its own has ended.

use std::{
    collections::BTreeSet,
    net::TcpListener,
    ops::RangeInclusive,
    thread,
    time::{Duration, Instant},
};

use gateway_ebpf::flow::Reason;
use gateway_tests::agent::Agent;

use super::forward_bed::{Bed, CASES, Case, alive, close, connect, count};

const PORTS: RangeInclusive<u16> = 30_000..=30_063;
const FLAGS: [&str; 2] = ["--snat-ports", "30000-30063"];
/// How long a port rests if the client has ended its connection: half a second, and some ticks of a slow clock.
const REST: Duration = Duration::from_millis(550);

fn relayed(agent: &Agent<'_>) -> u64 {
    agent.metric("sluice_connections_total") as u64
}

/// A connection that is made, used and ended, by the client or by the endpoint first; the port that the endpoint saw.
fn short(bed: &Bed, case: &Case, listener: &TcpListener, by_client: bool) -> u16 {
    let (near, far, seen) = connect(&bed.lab.client, case.asked(), listener);
    alive(&near, &far);
    if by_client {
        close(&near, &far);
    } else {
        close(&far, &near);
    }
    seen.port()
}

#[test]
fn a_port_serves_again_soon_after_its_client_has_ended() {
    let bed = Bed::new("ports");
    let listeners = bed.listeners();
    for (case, listener) in CASES.iter().zip(&listeners).filter(|(case, _)| !case.local) {
        let agent = bed.agent(&FLAGS);
        let begin = Instant::now();
        for round in 0..5 {
            let ports: BTreeSet<_> = PORTS.map(|_| short(&bed, case, listener, true)).collect();
            assert!(ports.iter().all(|port| PORTS.contains(port)), "{case:?}: {ports:?}");
            assert_eq!(ports.len(), PORTS.len(), "{case:?}: round {round}: each in turn");
            // The last one's as well.
            thread::sleep(REST);
        }
        // They would rest for 5 s else.
        assert!(begin.elapsed() < Duration::from_secs(5 * 4), "{:?}", begin.elapsed());
        assert_eq!((relayed(&agent), count(&agent, Reason::NoPort)), (0, 0), "{case:?}");
    }
}

#[test]
fn a_port_whose_endpoint_waits_serves_nobody_and_the_relay_does() {
    const MORE: u64 = 40;
    let bed = Bed::new("rest");
    let listeners = bed.listeners();
    for (case, listener) in CASES.iter().zip(&listeners).filter(|(case, _)| !case.local) {
        let agent = bed.agent(&FLAGS);
        let ports: BTreeSet<_> = PORTS.map(|_| short(&bed, case, listener, false)).collect();
        assert_eq!(ports.len(), PORTS.len(), "{case:?}");
        assert_eq!((relayed(&agent), count(&agent, Reason::NoPort)), (0, 0), "{case:?}");
        thread::sleep(REST);
        for _ in 0..MORE {
            short(&bed, case, listener, false);
        }
        assert_eq!((relayed(&agent), count(&agent, Reason::NoPort)), (MORE, MORE), "{case:?}");
    }
}
