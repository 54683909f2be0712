//! Tuples that meet: a pod that is its own endpoint, one client port for several connections, and ports that are used
//! again while the other side still remembers them.

use std::net::TcpListener;

use gateway_ebpf::flow::Reason;
use gateway_tests::client;
use socket2::{Domain, Socket, Type};

use super::at;
use super::forward_bed::{
    Bed, CASES, Case, PORT, PORTS, accepted, alive, all_forwarded, close, connect, count, objects,
};

#[test]
fn a_pod_can_be_its_own_endpoint() {
    let bed = Bed::new("itself");
    let locals = CASES.iter().filter(|case| case.local);
    for case in locals {
        let endpoint = at(case.client, PORT);
        let listener = bed.lab.client.enter(|| TcpListener::bind(endpoint)).expect("a listener");
        let agent = bed.agent_on(&objects(|_| vec![endpoint]), &[]);
        let (near, far, seen) = connect(&bed.lab.client, case.asked(), &listener);
        // An answer to its own address would never leave it.
        assert!(seen.ip() != case.client && PORTS.contains(&seen.port()), "{case:?}: {seen}");
        alive(&near, &far);
        close(&near, &far);
        all_forwarded(&agent);
    }
}

#[test]
fn one_client_port_leads_to_two_bindings_and_the_endpoint_itself_is_refused_meanwhile() {
    let bed = Bed::new("one-port");
    // Who talks to an endpoint directly is routed through the gateway.
    bed.lab.gateway.sysctl("ipv4/ip_forward", "1");
    bed.lab.gateway.sysctl("ipv6/conf/all/forwarding", "1");
    // Both ways of a family lead to the same endpoint here.
    let endpoint =
        |case: &Case| CASES.iter().find(|c| c.local && c.own == case.own).expect("a local one").endpoint;
    let agent = bed.agent_on(&objects(|case| vec![at(endpoint(case), PORT)]), &[]);
    for pair in [[&CASES[0], &CASES[2]], [&CASES[1], &CASES[3]]] {
        let [case, other] = pair;
        let listener = bed.listener(case, PORT);
        let from = at(case.client, 7000);
        let open = |to| client::connect_from(&bed.lab.client, from, to);
        let (near, far, seen) = accepted(open(case.asked()).expect("a connection"), &listener);
        assert_eq!(seen, from);
        let (second, second_far, seen) = accepted(open(other.asked()).expect("a connection"), &listener);
        assert!(seen.ip() != from.ip() && PORTS.contains(&seen.port()), "{seen}: the client's own is taken");

        let before = count(&agent, Reason::Collision);
        let direct = bed.lab.client.enter(|| {
            let socket = Socket::new(Domain::for_address(from), Type::STREAM, None).expect("a socket");
            socket.set_reuse_address(true).expect("an option");
            socket.set_nonblocking(true).expect("an option");
            socket.bind(&from.into()).expect("the port");
            let pending = socket.connect(&at(case.endpoint, PORT).into()).expect_err("it takes a while");
            assert_eq!(pending.raw_os_error(), Some(nix::libc::EINPROGRESS));
            socket
        });
        agent.wait("the direct connection to be refused", || count(&agent, Reason::Collision) > before);
        for (near, far) in [(&near, &far), (&second, &second_far)] {
            alive(near, far);
        }
        assert!(direct.peer_addr().is_err(), "it is not connected");
        drop(direct);
        // From any other port it is.
        let (direct, direct_far, seen) = connect(&bed.lab.client, at(case.endpoint, PORT), &listener);
        assert_eq!(seen, direct.local_addr().expect("an address"));
        for (near, far) in [(&direct, &direct_far), (&near, &far), (&second, &second_far)] {
            alive(near, far);
            close(near, far);
        }
    }
    all_forwarded(&agent);
}

#[test]
fn endpoints_may_answer_with_syn_cookies() {
    let bed = Bed::new("cookies");
    bed.lab.backend.sysctl("ipv4/tcp_syncookies", "2");
    bed.behind.sysctl("ipv4/tcp_syncookies", "2");
    let _echoes = bed.echoes();
    let agent = bed.agent(&[]);
    for case in &CASES {
        for _ in 0..50 {
            assert_eq!(client::tcp(&bed.lab.client, case.asked(), 100).expect("an echo"), case.name);
        }
    }
    all_forwarded(&agent);
}

#[test]
fn ports_are_used_again_while_a_side_is_in_time_wait() {
    const PORTS_USED: std::ops::Range<u16> = 7000..7080;
    let bed = Bed::new("time-wait");
    // What is tested is the gateway and the endpoint: the client itself remembers nothing.
    bed.lab.client.sysctl("ipv4/tcp_max_tw_buckets", "0");
    let listeners = bed.listeners();
    // No wider than what is needed: a port is the next one's soon.
    let agent = bed.agent(&["--snat-ports", "30000-30099"]);
    for endpoint_first in [true, false] {
        for (case, listener) in CASES.iter().zip(&listeners) {
            for round in 0..3 {
                for port in PORTS_USED {
                    let near = client::connect_from(&bed.lab.client, at(case.client, port), case.asked())
                        .unwrap_or_else(|e| panic!("{case:?}: port {port} in round {round}: {e}"));
                    let (near, far, seen) = accepted(near, listener);
                    assert!(case.fits(seen, at(case.client, port)), "{case:?}: {seen}");
                    alive(&near, &far);
                    let (first, second) = if endpoint_first { (&far, &near) } else { (&near, &far) };
                    close(first, second);
                }
            }
        }
    }
    all_forwarded(&agent);
}
