//! `load`, which no help names: the two ends that `bench l4` measures between, in processes of their own.
//!
//! Neither wrk nor nginx can do what they are here for: many client addresses, UDP, thousands of connections held
//! open, p99.9, and a backend that tells whom it sees. Requests and answers are of a fixed length, so that nothing is
//! parsed and the path between the ends is most of the cost. It knows nothing of gateways.

mod drive;
mod pace;
mod serve;
mod tcp;
mod udp;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::Result;
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

/// A request's length in bytes. Its first byte says what is wanted: [`KEEP`], [`CLOSE`] or [`WHO`].
pub(crate) const REQUEST: usize = 64;
/// An answer's length in bytes.
pub(crate) const ANSWER: usize = 128;
/// An answer, and the connection stays.
pub(crate) const KEEP: u8 = b'k';
/// An answer, and the server closes.
pub(crate) const CLOSE: u8 = b'c';
/// An answer that holds the client's address as the server sees it; the connection stays.
pub(crate) const WHO: u8 = b'w';

/// Which end.
#[derive(Subcommand)]
pub(crate) enum Load {
    /// Answers over TCP and UDP until it is killed.
    Serve {
        /// The port, of both.
        #[arg(long)]
        port: u16,
        /// Threads, each with sockets of its own.
        #[arg(long)]
        threads: u8,
    },
    /// Asks as often as it can and prints an [`Outcome`] as JSON.
    Run(Run),
    /// Opens connections, prints `open`, and holds them until its input ends.
    Idle {
        #[command(flatten)]
        to: To,
        /// How many.
        #[arg(long)]
        connections: usize,
    },
}

/// Where to, and where from.
#[derive(Args, Clone)]
pub(crate) struct To {
    /// The server, or what stands before it.
    #[arg(long)]
    to: SocketAddr,
    /// The first of the client's addresses; without it the kernel picks one.
    #[arg(long)]
    from: Option<Ipv4Addr>,
    /// How many of them, in a row.
    #[arg(long, default_value_t = 1)]
    sources: u8,
}

impl To {
    /// The client's addresses, one for each connection in turn.
    fn source(&self, connection: usize) -> Option<IpAddr> {
        let step = u32::try_from(connection % usize::from(self.sources)).expect("less than 256");
        Some(Ipv4Addr::from_bits(self.from?.to_bits() + step).into())
    }
}

/// How to ask.
#[derive(Args, Clone)]
pub(crate) struct Run {
    #[command(flatten)]
    to: To,
    /// Connections (UDP: sockets), each with one request at a time (UDP: a few).
    #[arg(long)]
    connections: usize,
    /// Milliseconds that count, after some that do not.
    #[arg(long)]
    milliseconds: u64,
    /// Threads, unless each connection needs one.
    #[arg(long)]
    threads: u8,
    /// TCP: a new connection after so many requests.
    #[arg(long)]
    renew: Option<u32>,
    /// TCP: so many requests a second over all connections, and not as many as can be.
    #[arg(long, conflicts_with = "renew")]
    rate: Option<u32>,
    /// UDP.
    #[arg(long, conflicts_with_all = ["renew", "rate"])]
    udp: bool,
}

/// What came of it.
#[derive(Serialize, Deserialize, Clone, Copy, Debug)]
pub(crate) struct Outcome {
    /// Seconds that count.
    pub(crate) seconds: f64,
    /// Answers in that time.
    pub(crate) answers: u64,
    /// Connections that failed (UDP: datagrams that got no answer), over the whole time.
    pub(crate) failed: u64,
    /// Nanoseconds from request to answer: half of them took no longer.
    pub(crate) p50: u32,
    /// 99 of 100 took no longer.
    pub(crate) p99: u32,
    /// 999 of 1,000 took no longer.
    pub(crate) p999: u32,
}

/// Time that does not count, at the beginning.
pub(crate) const WARM_UP: Duration = Duration::from_millis(200);

/// The subcommand.
pub(crate) fn run(load: Load) -> Result<()> {
    match load {
        Load::Serve { port, threads } => serve::run(port, threads),
        Load::Run(run) => {
            println!("{}", serde_json::to_string(&drive::run(&run)?)?);
            Ok(())
        }
        Load::Idle { to, connections } => tcp::idle(&to, connections),
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    #[test]
    fn both_ends_understand_each_other() {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has ports");
        let at = free.local_addr().expect("it is bound");
        drop(free);
        // It ends with the process.
        thread::spawn(move || serve::run(at.port(), 2));
        while std::net::TcpStream::connect(at).is_err() {
            thread::yield_now();
        }
        let to = To { to: at, from: Some(Ipv4Addr::new(127, 0, 0, 8)), sources: 4 };
        let plain = Run {
            to: to.clone(),
            connections: 5,
            milliseconds: 500,
            threads: 2,
            renew: None,
            rate: None,
            udp: false,
        };
        for run in [
            plain.clone(),
            Run { renew: Some(1), ..plain.clone() },
            Run { renew: Some(3), ..plain.clone() },
            Run { rate: Some(200), ..plain.clone() },
            Run { udp: true, ..plain.clone() },
        ] {
            let out = drive::run(&run).expect("the server answers");
            assert!(out.answers > 0 && out.p50 <= out.p99 && out.p99 <= out.p999, "{out:?}");
            assert!(run.udp || out.failed == 0, "{out:?}");
            assert!(
                run.rate.is_none() || out.answers <= 110,
                "200 a second are 100 in half a second: {out:?}"
            );
        }
        let nobody = To { to: "127.0.0.1:1".parse().expect("an address"), ..to };
        assert!(drive::run(&Run { to: nobody, ..plain }).is_err());
    }

    #[test]
    fn sources_are_used_in_turn() {
        let to = To {
            to: "127.0.0.1:1".parse().expect("an address"),
            from: Some(Ipv4Addr::new(10, 0, 0, 254)),
            sources: 3,
        };
        let all: Vec<_> = (0..4).filter_map(|n| to.source(n)).map(|ip| ip.to_string()).collect();
        assert_eq!(all, ["10.0.0.254", "10.0.0.255", "10.0.1.0", "10.0.0.254"]);
        assert_eq!(To { from: None, ..to }.source(0), None);
    }
}
