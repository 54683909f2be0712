//! UDP clients: a few datagrams on their way from each socket, another for each answer.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use mio::{Events, Interest, Poll, Token, net::UdpSocket};

use super::{
    ANSWER, KEEP, REQUEST, To,
    drive::{Tally, Window},
};

/// Datagrams of a socket that are on their way at a time.
const FLIGHT: u32 = 4;
/// After so long without an answer, all that were on their way are lost.
const PATIENCE: Duration = Duration::from_millis(100);

struct Flow {
    socket: UdpSocket,
    /// The last answer, or when the flight began.
    heard: Instant,
}

/// Asks from some sockets, given by their numbers, until the window ends.
pub(super) fn ask(to: &To, numbers: &[usize], window: Window) -> Result<Tally> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(256);
    let mut tally = Tally::default();
    let mut flows = Vec::new();
    for (token, &number) in numbers.iter().enumerate() {
        let flow = open(to, number, token, &poll)?;
        send(&flow.socket, FLIGHT, &mut tally)?;
        flows.push(flow);
    }
    let mut swept = Instant::now();
    while let Some(left) = window.left(Instant::now()) {
        match poll.poll(&mut events, Some(left.min(PATIENCE))) {
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        }
        for event in &events {
            hear(&mut flows[event.token().0], &window, &mut tally)?;
        }
        let now = Instant::now();
        if now - swept > PATIENCE {
            swept = now;
            for flow in &mut flows {
                if now - flow.heard > PATIENCE {
                    for _ in 0..FLIGHT {
                        tally.failure("no answer to a datagram")?;
                    }
                    flow.heard = now;
                    send(&flow.socket, FLIGHT, &mut tally)?;
                }
            }
        }
    }
    Ok(tally)
}

/// Takes every answer that is there, and asks again for each. The time of an answer is that since the one before it:
/// with several on their way that is no latency, and nobody shows it as one.
fn hear(flow: &mut Flow, window: &Window, tally: &mut Tally) -> Result<()> {
    let mut buffer = [0; 2 * ANSWER];
    loop {
        match flow.socket.recv(&mut buffer) {
            Ok(ANSWER) => {
                let now = Instant::now();
                tally.answer(window, flow.heard, now);
                flow.heard = now;
                send(&flow.socket, 1, tally)?;
            }
            Ok(n) => tally.failure(&format!("an answer of {n} bytes"))?,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(e) => tally.failure(&e.to_string())?,
        }
    }
}

fn send(socket: &UdpSocket, count: u32, tally: &mut Tally) -> Result<()> {
    for _ in 0..count {
        if let Err(e) = socket.send(&[KEEP; REQUEST]) {
            tally.failure(&e.to_string())?;
        }
    }
    Ok(())
}

fn open(to: &To, number: usize, token: usize, poll: &Poll) -> Result<Flow> {
    let any =
        if to.to.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let source = SocketAddr::new(to.source(number).unwrap_or(any), 0);
    let mut socket = UdpSocket::bind(source).with_context(|| format!("cannot bind to {source}"))?;
    socket.connect(to.to).with_context(|| format!("cannot connect to {}", to.to))?;
    poll.registry().register(&mut socket, Token(token), Interest::READABLE)?;
    Ok(Flow { socket, heard: Instant::now() })
}
