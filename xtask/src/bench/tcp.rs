//! `bench tcp`: the relay against HAProxy in TCP mode.

use std::{process::Command, time::Duration};

use anyhow::Result;
use gateway_tests::lab::BACKEND4;

use super::{Process, Rounds, Site, at, peer, table, table::Measure};

const CONNECTIONS: u32 = 32;

pub(super) fn run(rounds: &Rounds) -> Result<()> {
    let site = Site::new(rounds)?;
    let _iperf = Process::start(&site.lab.backend, Command::new("iperf3").arg("-s"));
    peer::wait_for(&site.lab.backend, (BACKEND4, 5201).into())?;
    let sluice = site.sluice()?;
    let haproxy = site.haproxy()?;
    let sluice_pid = u32::try_from(sluice.pid())?;
    let contenders = [("Sluice", 8005, 8007, sluice_pid), ("HAProxy", 8004, 8006, haproxy.pid())];
    let names = contenders.map(|(name, ..)| name);
    let mut rate = Measure::new("32 connections", "requests/s", 1.0, false, &names);
    let mut cost = Measure::new("CPU of the gateway", "µs/request", 1.0, true, &names);
    let mut up = Measure::new("throughput to the backend", "Gbit/s", 1.2, false, &names);
    let mut down = Measure::new("throughput from the backend", "Gbit/s", 1.2, false, &names);
    for (_, port, ..) in contenders {
        peer::wrk(&site.lab.client, at(port), CONNECTIONS, Duration::from_secs(1), false)?;
    }
    for round in 0..usize::from(rounds.rounds) {
        for turn in 0..contenders.len() {
            let (name, port, iperf, pid) = contenders[(round + turn) % contenders.len()];
            let before = peer::cpu(pid)?;
            let (per_second, requests) =
                peer::wrk(&site.lab.client, at(port), CONNECTIONS, rounds.time(), false)?;
            cost.add(name, (peer::cpu(pid)? - before) * 1e6 / requests as f64);
            rate.add(name, per_second);
            up.add(name, peer::iperf(&site.lab.client, at(iperf), rounds.time(), false, None)? / 1e9);
            down.add(name, peer::iperf(&site.lab.client, at(iperf), rounds.time(), true, None)? / 1e9);
        }
        eprintln!("round {} of {}", round + 1, rounds.rounds);
    }
    table::show("tcp", usize::from(rounds.rounds), &[rate, cost, up, down])
}
