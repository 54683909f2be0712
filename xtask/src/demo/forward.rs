//! The demo's last part: a TCPRoute that the kernel forwards. The backend sees the client itself, and neither a transfer
//! nor a new connection needs the agent.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use gateway_tests::{
    agent::Agent,
    client,
    lab::{CLIENT6, GATEWAY6, Lab},
};

/// The transfer's bytes each way: seconds of it.
const LARGE: usize = 2 << 30;
/// How long a moment may be.
const PATIENCE: Duration = Duration::from_secs(20);

/// Shows it. `db` has an endpoint of IPv6, so this is IPv6.
pub(super) fn show(lab: &Lab, agent: &mut Agent<'_>) -> Result<()> {
    let db = SocketAddr::new(GATEWAY6, 5432);
    let ask = |size| client::tcp(&lab.client, db, size).context("TCP by the gateway");
    let client = format!("db {CLIENT6}");
    let seen = ask(1)?;
    ensure!(seen == client, "the backend says {seen:?}, not {client:?}");
    println!("the kernel forwards what comes for db: it sees {CLIENT6}, the client's own address");
    let moved = |agent: &Agent<'_>| agent.metric("sluice_forward_bytes_total");
    let before = moved(agent);
    thread::scope(|scope| {
        let transfer = scope.spawn(|| ask(LARGE));
        let start = Instant::now();
        while moved(agent) < before + 1e6 {
            ensure!(start.elapsed() < PATIENCE, "the transfer does not begin");
            thread::sleep(Duration::from_millis(2));
        }
        let pid = agent.pid();
        agent.kill();
        ensure!(!transfer.is_finished(), "the transfer was over before the agent was killed");
        println!("the agent (pid {pid}) is killed with -9 while {} GiB go each way …", LARGE >> 30);
        ensure!(ask(1000)? == client, "another backend answered");
        println!("a new connection is made without it");
        let seen = transfer.join().map_err(|_| anyhow!("the transfer panicked"))??;
        ensure!(seen == client, "the backend says {seen:?}, not {client:?}");
        println!(
            "the transfer has finished after {:.1} s, every byte as it was sent",
            start.elapsed().as_secs_f64()
        );
        Ok(())
    })?;
    agent.launch();
    agent.wait_ready();
    ensure!(ask(1000)? == client, "another backend answered");
    // Of what went while nobody looked, nothing is missing.
    agent.wait("the transfer to be counted", || moved(agent) > before + 2.0 * LARGE as f64);
    println!("the next agent goes on with the same flows and counters");
    Ok(())
}
