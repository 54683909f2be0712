//! What is left when the agent is gone, and what is not when it is uninstalled.

use std::{fs, io::ErrorKind, net::TcpStream};

use gateway_tests::netns::NetNs;
use gateway_user::dataplane::at_ingress;

use super::forward_bed::{Bed, CASES, alive, all_forwarded, close, connect};

const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

fn reserved(ns: &NetNs) -> String {
    ns.enter(|| fs::read_to_string(RESERVED)).expect("it can be read").trim().to_owned()
}

/// What is attached to the interfaces that lead to clients and endpoints.
fn hooks(ns: &NetNs) -> String {
    let links = |device: &str| ns.enter(|| at_ingress(device)).unwrap_or_default();
    ["client", "backend"]
        .map(|device| {
            format!("{:?}{}", links(device), ns.run(&format!("tc filter show dev {device} ingress")))
        })
        .concat()
}

/// What forwards by itself, and where to.
fn routing(ns: &NetNs) -> String {
    let settings = ns.enter(|| {
        ["ipv4/ip_forward", "ipv6/conf/all/forwarding", "ipv6/conf/client/forwarding"]
            .map(|key| fs::read_to_string(format!("/proc/sys/net/{key}")).expect("it can be read"))
    });
    let routes = [4, 6].map(|family| ns.run(&format!("ip -{family} route show table all")));
    format!("{settings:?} {}", routes.concat())
}

#[test]
fn a_killed_agent_leaves_what_forwards_and_an_uninstalled_one_nothing() {
    let bed = Bed::new("end");
    bed.lab.gateway.sysctl("ipv4/ip_local_reserved_ports", "9000-9009");
    let gateway = &bed.lab.gateway;
    let before = (hooks(gateway), routing(gateway));
    let listeners = bed.listeners();
    let mut agent = bed.agent(&[]);
    let client = &bed.lab.client;
    let flows: Vec<_> = CASES
        .iter()
        .zip(&listeners)
        .map(|(case, listener)| connect(client, case.asked(), listener))
        .collect();
    assert_eq!(reserved(gateway), "9000-9009,30000-59999");
    assert_ne!(hooks(gateway), before.0);
    assert_eq!(routing(gateway), before.1);
    let pins = agent.bpffs().pins();
    agent.kill();
    assert_eq!(agent.bpffs().pins(), pins);
    for ((near, far, _), (case, listener)) in flows.iter().zip(CASES.iter().zip(&listeners)) {
        alive(near, far);
        let (near, far, seen) = connect(client, case.asked(), listener);
        assert!(case.fits(seen, near.local_addr().expect("an address")), "{case:?}: {seen}");
        alive(&near, &far);
        close(&near, &far);
    }
    agent.launch();
    agent.wait_ready();
    all_forwarded(&agent);
    assert!(agent.stop().success(), "{}", agent.log());
    for (near, far, _) in &flows {
        alive(near, far);
    }
    let out = agent.sluice(&["uninstall"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(agent.bpffs().pins(), Vec::<std::path::PathBuf>::new());
    assert_eq!((hooks(gateway), routing(gateway)), before);
    assert_eq!(reserved(gateway), "9000-9009");
    for case in &CASES {
        let refused =
            client.enter(|| TcpStream::connect(case.asked())).expect_err("nobody forwards any more");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{case:?}");
    }
}
