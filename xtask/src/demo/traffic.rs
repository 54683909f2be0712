//! The demo's clients: they check each answer, and count what they sent by who answered.

use std::{
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Context, Result, anyhow, ensure};
use gateway_tests::{
    client::{self, Http},
    lab::Lab,
};

use super::{Counts, GATEWAYS};

/// Clients at once, half of them over IPv6.
const CLIENTS: usize = 8;

/// What was sent.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) counts: Counts,
}

impl Tally {
    /// All HTTP requests.
    pub(super) fn requests(&self) -> u64 {
        self.counts.iter().filter(|(name, _)| name.starts_with("requests")).map(|(_, count)| count).sum()
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (name, count) in &other.counts {
            *self.counts.entry(name).or_default() += count;
        }
    }

    fn one(&mut self, name: &'static str) {
        *self.counts.entry(name).or_default() += 1;
    }
}

/// So many rounds by each client, TCP connections, and a connection to a port without a binding.
pub(super) fn rounds(lab: &Lab, rounds: usize) -> Result<Tally> {
    let mut sent = clients(lab, |round| round < rounds, || ())?.0;
    for ip in GATEWAYS {
        for size in [0, 1, 100_000, 1_000_000] {
            let name =
                client::tcp(&lab.client, SocketAddr::new(ip, 5432), size).context("TCP by the gateway")?;
            ensure!(name.starts_with("db "), "{name} answered instead of db");
            sent.one("TCP connections to db");
            // The endpoint is of IPv6: what comes by IPv6 is forwarded before any lookup, the rest is relayed.
            if ip.is_ipv4() {
                sent.one("lookups for *:5432, at least");
            }
        }
        ensure!(Http::connect(&lab.client, SocketAddr::new(ip, 81)).is_err(), "something answers on port 81");
        sent.one("lookups without a binding, at least");
    }
    Ok(sent)
}

/// Traffic while `work` runs.
pub(super) fn during<T>(lab: &Lab, work: impl FnOnce() -> T) -> Result<(Tally, T)> {
    let done = AtomicBool::new(false);
    clients(
        lab,
        |_| !done.load(Ordering::Relaxed),
        || {
            let result = work();
            done.store(true, Ordering::Relaxed);
            result
        },
    )
}

/// Runs the clients, and something beside them.
fn clients<T>(
    lab: &Lab,
    go_on: impl Fn(usize) -> bool + Sync,
    beside: impl FnOnce() -> T,
) -> Result<(Tally, T)> {
    thread::scope(|scope| {
        let go_on = &go_on;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| scope.spawn(move || one(lab, GATEWAYS[number % GATEWAYS.len()], go_on)))
            .collect();
        let result = beside();
        let mut sent = Tally::default();
        for client in clients {
            sent.add(&client.join().map_err(|_| anyhow!("a client panicked"))??);
        }
        Ok((sent, result))
    })
}

/// One client: a connection that is kept, and on it round after round of requests.
fn one(lab: &Lab, ip: IpAddr, go_on: impl Fn(usize) -> bool) -> Result<Tally> {
    let mut sent = Tally::default();
    let mut connection =
        Http::connect(&lab.client, SocketAddr::new(ip, 80)).context("HTTP by the gateway")?;
    sent.one("lookups for *:80, at least");
    for round in (0..).take_while(|&round| go_on(round)) {
        for path in ["/orders", "/orders/7?full=yes", "/shop", "/shop/cart", "/ordersx"] {
            let answer =
                connection.get("shop.example", path).with_context(|| format!("{path}, round {round}"))?;
            let name = match (path, answer.status, answer.backend()) {
                ("/orders" | "/orders/7?full=yes", 200, "orders") => "requests to orders",
                ("/shop" | "/shop/cart", 200, "shop-v1") => "requests to shop-v1",
                ("/shop" | "/shop/cart", 200, "shop-v2") => "requests to shop-v2",
                ("/ordersx", 404, "") => "requests without a route (404)",
                (path, status, backend) => {
                    return Err(anyhow!("{path} over {ip} got {status} from {backend:?}"));
                }
            };
            if answer.status == 200 {
                ensure!(
                    answer.echo().path == path,
                    "{path} reached {} as {}",
                    answer.backend(),
                    answer.echo().path
                );
            }
            sent.one(name);
        }
    }
    Ok(sent)
}
