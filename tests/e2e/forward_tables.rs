//! Flows move to other tables while they carry bytes: of another layout, as an upgrade brings it, and of another capacity.

use std::{
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use gateway_tests::{
    agent::{Agent, other_layout},
    lab::{BACKEND4, BACKEND6, CLIENT4, CLIENT6, GATEWAY4, GATEWAY6, Lab},
    objects::{gateway, udp_route, udp_service},
    uninterrupted,
};

use super::forward_bed::{Bed, CASES, Load, PORTS, alive, all_forwarded, connect};
use super::forward_figures::metrics;
use super::{WORKERS, at};

/// What the agent says when it has moved flows.
const MOVED: &str = "flows moved to new tables";

/// Ends the agent under load and starts it as `change` has it, which says whether the flows are to move; so many times.
/// Returns the agent, and how many connections were made.
fn changes<'bed>(
    bed: &'bed Bed,
    args: &[&str],
    times: usize,
    end: fn(&mut Agent<'_>),
    mut change: impl FnMut(&mut Agent<'_>, usize) -> bool,
) -> (Agent<'bed>, u64) {
    let _echoes = bed.echoes();
    let mut agent = bed.agent(args);
    let load = Load::start(&bed.lab.client, CASES.map(|case| case.asked()));
    let mut moves = 0;
    for time in 0..times {
        load.more(50);
        end(&mut agent);
        load.more(20);
        moves += usize::from(change(&mut agent, time));
        agent.launch();
        agent.wait_ready();
        assert_eq!(agent.log().matches(MOVED).count(), moves, "{}", agent.log());
        all_forwarded(&agent);
    }
    load.more(50);
    // And a transfer for each case.
    let made = load.finish() + CASES.len() as u64;
    all_forwarded(&agent);
    assert_eq!(agent.metric("sluice_forward_connections_total"), made as f64);
    (agent, made)
}

#[test]
fn no_connection_fails_when_flows_are_laid_out_anew() {
    let bed = Bed::new("layout");
    let kill = |agent: &mut Agent<'_>| {
        agent.kill();
    };
    // There is no way back: another agent begins anew.
    for _ in 0..3 {
        changes(&bed, &[], 2, kill, |agent, time| {
            agent.replace(&other_layout());
            // Within the other layout they stay.
            time == 0
        });
    }
}

#[test]
fn no_connection_fails_when_tables_grow_and_shrink_and_each_has_its_line_or_is_counted() {
    let bed = Bed::new("capacity");
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("access.log");
    let logging = ["--access-log", log.to_str().expect("a path")];
    let ports = format!("{}-{}", PORTS.start(), PORTS.end());
    // Killed, it would not write the lines that it has just read.
    let stop = |agent: &mut Agent<'_>| assert!(agent.stop().success(), "{}", agent.log());
    let (agent, made) = changes(&bed, &logging, 5, stop, |agent, time| {
        let (flows, opening) = [("262144", "8192"), ("65536", "1024")][time % 2];
        let tables = ["--flows", flows, "--opening-flows", opening, "--snat-ports", &ports];
        agent.set_args(&[WORKERS, &tables, &logging].concat());
        true
    });
    // While no agent runs, the buffer holds so many ends: each beyond them is counted.
    let lost = || agent.metric_with("sluice_forward_notes_total", &["reason=\"event_lost\""]) as u64;
    let lines = || std::fs::read_to_string(&log).unwrap_or_default().lines().count() as u64;
    agent.wait("every line", || lines() + lost() >= made);
    assert_eq!(lines() + lost(), made);
}

#[test]
fn nothing_that_is_carried_meanwhile_is_lost_or_counted_twice() {
    for (own, backend, near, header) in [(GATEWAY4, BACKEND4, CLIENT4, 28), (GATEWAY6, BACKEND6, CLIENT6, 48)]
    {
        let lab = Lab::new("moved");
        let endpoint = at(backend, 5353);
        let server = lab.backend.enter(|| UdpSocket::bind(endpoint)).expect("a socket");
        let yaml = [
            gateway("dns", None, ["udp UDP 53"]),
            udp_service("one", &[endpoint]),
            udp_route("one", &["dns/udp"], &["one"]),
        ]
        .concat();
        let mut agent = Agent::start(&lab.gateway, &yaml, WORKERS);
        let clients: Vec<UdpSocket> =
            (0..50).map(|_| lab.client.enter(|| UdpSocket::bind(at(near, 0))).expect("a socket")).collect();
        for socket in clients.iter().chain([&server]) {
            socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout can be set");
        }
        let ask = move |client: &UdpSocket| {
            let mut buffer = [0; 64];
            client.send_to(&buffer[..10], at(own, 53)).expect("it is sent");
            let (_, from) = uninterrupted(|| server.recv_from(&mut buffer)).expect("it arrives");
            server.send_to(&buffer[..20], from).expect("it is sent");
            uninterrupted(|| client.recv_from(&mut buffer)).expect("it comes back");
        };
        // Every flow is there before the first change: what begins meanwhile is dropped.
        clients.iter().for_each(&ask);
        let count = clients.len() as u64;
        let stop = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&stop);
        let asking = thread::spawn(move || {
            let mut rounds = 1;
            while !end.load(Ordering::Relaxed) {
                clients.iter().for_each(&ask);
                rounds += 1;
            }
            rounds
        });
        let other = other_layout();
        for (flows, opening, binary, moves) in [
            ("4096", "500", None, 1),
            // Too few for those that there are.
            ("64", "30", None, 1),
            ("70000", "500", None, 2),
            ("70000", "500", Some(&other), 3),
            ("1000", "500", None, 4),
        ] {
            agent.kill();
            agent.set_args(&[WORKERS, &["--flows", flows, "--opening-flows", opening]].concat());
            if let Some(binary) = binary {
                agent.replace(binary);
            }
            agent.launch();
            agent.wait_ready();
            assert_eq!(agent.log().matches(MOVED).count(), moves, "{}", agent.log());
        }
        assert_eq!(agent.log().matches("would not fit well").count(), 1, "{}", agent.log());
        stop.store(true, Ordering::Relaxed);
        let sent: u64 = asking.join().expect("no datagram is lost") * count;
        assert_eq!(metrics(&agent), (count, [sent, sent, sent * (10 + header), sent * (20 + header)]));
    }
}

#[test]
fn a_layout_that_is_not_known_is_left_as_it_is() {
    let bed = Bed::new("unknown");
    let listeners = bed.listeners();
    let mut agent = bed.agent(&[]);
    agent.kill();
    let this = gateway_tests::agent::binary();
    agent.replace(&other_layout());
    agent.launch();
    agent.wait_ready();
    let flows: Vec<_> = CASES
        .iter()
        .zip(&listeners)
        .map(|(case, listener)| connect(&bed.lab.client, case.asked(), listener))
        .collect();
    all_forwarded(&agent);
    agent.kill();
    agent.replace(this);
    agent.launch();
    agent.wait_ready();
    assert!(agent.log().contains("which this program does not know"), "{}", agent.log());
    for (near, far, _) in &flows {
        alive(near, far);
    }
    // The relay has what is new.
    for (case, listener) in CASES.iter().zip(&listeners) {
        let (near, far, _) = connect(&bed.lab.client, case.asked(), listener);
        alive(&near, &far);
    }
    assert_eq!(agent.metric("sluice_connections_total"), CASES.len() as f64);
}
