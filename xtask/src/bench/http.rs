//! `bench http`: keep-alive requests, new connections, and CPU of the gateway per request.

use anyhow::Result;

use super::{Rounds, Site, at, peer, table, table::Measure};

const CONNECTIONS: u32 = 32;

pub(super) fn run(rounds: &Rounds) -> Result<()> {
    let site = Site::new(rounds)?;
    let sluice = site.sluice()?;
    let nginx = site.nginx()?;
    let haproxy = site.haproxy()?;
    let sluice_pid = u32::try_from(sluice.pid())?;
    let contenders =
        [("Sluice", 8003, sluice_pid), ("nginx", 8001, nginx.pid()), ("HAProxy", 8002, haproxy.pid())];
    let names = contenders.map(|(name, ..)| name);
    let mut rate = Measure::new("keep-alive, 32 connections", "requests/s", 1.0, false, &names);
    let mut cost = Measure::new("CPU of the gateway, keep-alive", "µs/request", 1.0, true, &names);
    let mut fresh = Measure::new("a new connection each", "connections/s", 1.0, false, &names);
    let mut fresh_cost =
        Measure::new("CPU of the gateway, new connections", "µs/connection", 1.0, true, &names);
    for (_, port, _) in contenders {
        peer::wrk(&site.lab.client, at(port), CONNECTIONS, std::time::Duration::from_secs(1), false)?;
    }
    for round in 0..usize::from(rounds.rounds) {
        for turn in 0..contenders.len() {
            let (name, port, pid) = contenders[(round + turn) % contenders.len()];
            for (rate, cost, close) in [(&mut rate, &mut cost, false), (&mut fresh, &mut fresh_cost, true)] {
                let before = peer::cpu(pid)?;
                let (per_second, requests) =
                    peer::wrk(&site.lab.client, at(port), CONNECTIONS, rounds.time(), close)?;
                let used = peer::cpu(pid)? - before;
                rate.add(name, per_second);
                cost.add(name, used * 1e6 / requests as f64);
            }
        }
        eprintln!("round {} of {}", round + 1, rounds.rounds);
    }
    table::show("http", usize::from(rounds.rounds), &[rate, cost, fresh, fresh_cost])
}
