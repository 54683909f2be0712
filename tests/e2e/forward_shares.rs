//! Who gets a connection: forwarded or relayed, the same endpoint; and another one where that does not answer.

use std::{io, net::SocketAddr, thread};

use gateway_ebpf::flow::Reason;
use gateway_tests::{
    agent::Agent,
    client,
    objects::{gateway, service, tcp_route},
    peers::echo,
};

use super::at;
use super::forward_bed::{Bed, CASES, Case, PORT, all_forwarded, count, objects, ways};

/// Client ports.
const CLIENTS: std::ops::Range<u16> = 7000..7200;

/// Who answers each of the clients' ports; `None`: refused.
fn answers(bed: &Bed, case: &Case, to: SocketAddr) -> Vec<Option<String>> {
    let answer = |port| match client::connect_from(&bed.lab.client, at(case.client, port), to)
        .and_then(|stream| client::exchange(stream, 10))
    {
        Ok(name) => Some(name),
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => None,
        Err(e) => panic!("{case:?}: from port {port}: {e}"),
    };
    CLIENTS.map(answer).collect()
}

#[test]
fn forwarded_or_relayed_a_connection_goes_to_the_same_endpoint() {
    let bed = Bed::new("shares");
    bed.lab.client.sysctl("ipv4/tcp_max_tw_buckets", "0");
    let names = ["two", "one", "nothing"];
    let echoes: Vec<_> = CASES
        .iter()
        .flat_map(|case| {
            let bed = &bed;
            names.iter().zip(PORT..).map(move |(name, port)| {
                echo::tcp(bed.ns(case), at(case.endpoint, port), &format!("{}-{name}", case.name))
            })
        })
        .collect();
    // For each case a listener on shares, and one that has no endpoints.
    let mut yaml = gateway(
        "db",
        None,
        CASES.iter().flat_map(|case| {
            [
                format!("{} TCP {}", case.name, case.port),
                format!("{}-none TCP {}", case.name, case.port + 100),
            ]
        }),
    );
    for case in &CASES {
        for (name, port) in names.iter().zip(PORT..) {
            yaml += &service(&format!("{}-{name}", case.name), &[at(case.endpoint, port)]);
        }
        yaml += &service(&format!("{}-none", case.name), &[]);
        let shares =
            ["two 2", "one 1", "nothing 0", "missing 1"].map(|share| format!("{}-{share}", case.name));
        let shares: Vec<_> = shares.iter().map(String::as_str).collect();
        yaml += &tcp_route(case.name, &[&format!("db/{}", case.name)], &shares);
        let none = format!("{}-none", case.name);
        yaml += &tcp_route(&none, &[&format!("db/{none}")], &[&none]);
    }
    let all = || {
        CASES.map(|case| {
            let none = answers(&bed, &case, at(case.own, case.port + 100));
            assert!(none.iter().all(Option::is_none), "{case:?}: {none:?}");
            answers(&bed, &case, case.asked())
        })
    };
    let agent = bed.agent_on(&yaml, &[]);
    let forwarded = all();
    // What is refused comes to no worker either.
    all_forwarded(&agent);
    drop(agent);
    let agent = Agent::start(&bed.lab.gateway, &yaml, &["--workers", "2", "--forward", "off"]);
    assert_eq!(forwarded, all());
    let accepted = forwarded.iter().flatten().flatten().count();
    agent.wait("them to be counted", || agent.metric("sluice_connections_total") == accepted as f64);
    for (case, answers) in CASES.iter().zip(&forwarded) {
        let of = |name: &str| {
            let name = format!("{}-{name}", case.name);
            answers.iter().filter(|answer| answer.as_ref() == Some(&name)).count()
        };
        let refused = answers.iter().filter(|answer| answer.is_none()).count();
        // By hash: binomial around 100, 50 and 50 of 200; each within five standard deviations.
        let (two, one) = (of("two"), of("one"));
        assert!((65..136).contains(&two), "{case:?}: {two} {one} {refused}");
        assert!((20..81).contains(&one) && (20..81).contains(&refused), "{case:?}: {two} {one} {refused}");
        assert_eq!(of("nothing"), 0, "{case:?}");
    }
    drop(echoes);
}

#[test]
fn a_client_that_gets_no_answer_goes_on_to_the_next_endpoint() {
    const CONNECTIONS: u16 = 16;
    let bed = Bed::new("mute");
    let _echoes = bed.echoes();
    // Nothing comes back from these ports, not even a refusal.
    for ns in [&bed.lab.backend, &bed.behind] {
        ns.run("nft add table inet mute");
        ns.run("nft add chain inet mute in { type filter hook input priority 0 ; }");
        ns.run(&format!("nft add rule inet mute in tcp dport {} drop", PORT + 1));
    }
    let yaml = objects(|case| vec![at(case.endpoint, PORT), at(case.endpoint, PORT + 1)]);
    let agent = bed.agent_on(&yaml, &[]);
    ways(&agent);
    // All at once: each that meets the one that is mute waits for a second.
    thread::scope(|scope| {
        for case in &CASES {
            for _ in 0..CONNECTIONS {
                let client = &bed.lab.client;
                scope.spawn(move || {
                    let name =
                        client::tcp(client, case.asked(), 100).unwrap_or_else(|e| panic!("{case:?}: {e}"));
                    assert_eq!(name, case.name);
                });
            }
        }
    });
    // None of 64 by chance: one in 2⁶⁴.
    assert!(count(&agent, Reason::NextBackend) > 0);
    all_forwarded(&agent);
}
