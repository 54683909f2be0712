//! Changes of the configuration under traffic: no request fails, and what is wrong changes nothing.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use gateway_tests::{
    agent::Agent,
    client::{self, Http},
    lab::Lab,
    objects::{gateway, http_route, prefix, service},
};

use super::{Bed, FAMILIES, WORKERS, at};

#[test]
fn a_hundred_changes_under_traffic_fail_no_request() {
    const REQUESTS: u64 = 10_000;
    const CHANGES: usize = 100;
    let Bed { lab, one, two, services } = Bed::http("change");
    let yaml = |change: usize| {
        let backend = ["one", "two"][change % 2];
        let mut yaml = [
            gateway("web", None, ["http HTTP 80"]),
            services.clone(),
            http_route("a", &["web"], &[], &[prefix("/", &[backend])]),
        ]
        .concat();
        // Things around it come and go.
        if change.is_multiple_of(3) {
            yaml += &gateway("other", None, ["http HTTP 8080", "tcp TCP 5000"]);
            yaml += &http_route("b", &["web"], &["b.example"], &[prefix("/b", &["two 1", "one 2"])]);
        }
        yaml
    };
    let agent = Agent::start(&lab.gateway, &yaml(0), WORKERS);
    let (sent, done) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        // Half of the clients keep their connection, half open one for every few requests.
        let clients: Vec<_> = (0..8)
            .map(|number| {
                let (ip, _) = FAMILIES[number % 2];
                let each = if number % 4 < 2 { u64::MAX } else { 5 };
                let (lab, sent, done) = (&lab, &sent, &done);
                scope.spawn(move || traffic(lab, ip, each, sent, done))
            })
            .collect();
        for change in 1..=CHANGES {
            agent.change(&yaml(change));
            let backend = ["one", "two"][change % 2];
            for (ip, _) in FAMILIES {
                let answer = client::get(&lab.client, at(ip, 80), "a", "/").expect("an answer");
                assert_eq!(answer.backend(), backend, "change {change} serves once it is taken");
            }
        }
        while sent.load(Ordering::Relaxed) < REQUESTS
            && !clients.iter().any(thread::ScopedJoinHandle::is_finished)
        {
            thread::yield_now();
        }
        done.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().unwrap_or_else(|e| std::panic::resume_unwind(e));
        }
    });
    assert!(sent.load(Ordering::Relaxed) >= REQUESTS);
    assert!(one.requests() > REQUESTS / 10 && two.requests() > REQUESTS / 10, "both served");
}

/// Sends requests until told to end, and panics at the first that fails.
fn traffic(lab: &Lab, ip: IpAddr, each: u64, sent: &AtomicU64, done: &AtomicBool) {
    while !done.load(Ordering::Relaxed) {
        let mut connection = Http::connect(&lab.client, at(ip, 80)).expect("a connection");
        for _ in 0..each {
            let answer = connection.get("a", "/x").expect("an answer");
            assert_eq!(answer.status, 200, "{answer:?}");
            sent.fetch_add(1, Ordering::Relaxed);
            if done.load(Ordering::Relaxed) {
                break;
            }
        }
    }
}

#[test]
fn bad_input_keeps_the_last_good_state() {
    let Bed { lab, one: _one, two: _two, services } = Bed::http("bad");
    let yaml = |backend: &str| {
        [
            gateway("web", None, ["http HTTP 80"]),
            services.clone(),
            http_route("a", &["web"], &[], &[prefix("/", &[backend])]),
        ]
        .concat()
    };
    let agent = Agent::start(&lab.gateway, &yaml("one"), WORKERS);
    let served = |backend: &str, what: &str| {
        for (ip, _) in FAMILIES {
            let answer = client::get(&lab.client, at(ip, 80), "a", "/").expect("an answer");
            assert_eq!((answer.status, answer.backend()), (200, backend), "{what}: {ip}");
        }
    };
    let good = yaml("two");
    let bad = BTreeMap::from([
        ("broken YAML", format!("{good}\n  - {{")),
        ("a wrong type", good.replace("port: 80,", "port: [80],")),
        ("an unknown field", good.replace("parentRefs", "parentRef")),
        ("a duplicate", format!("{good}{}", service("one", &[]))),
        ("port 0", good.replace("protocol: HTTP, port: 80", "protocol: HTTP, port: 0")),
        ("a tab", format!("{good}\n\tx: y\n")),
    ]);
    for (what, text) in bad {
        assert_ne!(text, good, "{what}");
        agent.change(&text);
        assert_eq!(agent.metric("sluice_config_current"), 0.0, "{what}");
        served("one", what);
    }
    agent.change(&good);
    assert_eq!(agent.metric("sluice_config_current"), 1.0);
    served("two", "after all that");
}

#[test]
fn a_file_that_vanishes_and_comes_back_interrupts_nothing() {
    let Bed { lab, one: _one, two: _two, services } = Bed::http("vanish");
    let yaml = |backend: &str| {
        [
            gateway("web", None, ["http HTTP 80"]),
            services.clone(),
            http_route("a", &["web"], &[], &[prefix("/", &[backend])]),
        ]
        .concat()
    };
    let agent = Agent::start(&lab.gateway, &yaml("one"), WORKERS);
    std::fs::remove_file(agent.config()).expect("the file is there");
    agent.wait("the loss to be noticed", || agent.metric("sluice_config_current") == 0.0);
    for (ip, _) in FAMILIES {
        assert_eq!(client::get(&lab.client, at(ip, 80), "a", "/").expect("an answer").backend(), "one");
    }
    agent.change(&yaml("two"));
    for (ip, _) in FAMILIES {
        assert_eq!(client::get(&lab.client, at(ip, 80), "a", "/").expect("an answer").backend(), "two");
    }
}
