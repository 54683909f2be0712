//! TCP clients at a given pace: what an answer takes while nobody is at the limit.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::{
    ANSWER, KEEP, REQUEST, To,
    drive::{Tally, Window},
    tcp,
};

/// Longer than any answer takes that still is one.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks over one connection of `connections`, which share `rate` requests a second, until the window ends.
pub(super) fn ask(to: &To, number: usize, connections: usize, rate: u32, window: Window) -> Result<Tally> {
    let mut tally = Tally::default();
    let interval = Duration::from_secs_f64(connections as f64 / f64::from(rate));
    let mut stream = open(to, number)?;
    let mut answer = [0; ANSWER];
    // Not all at once.
    let mut due = Instant::now() + interval.mul_f64(number as f64 / connections as f64);
    loop {
        let now = Instant::now();
        if window.left(now).is_none() {
            return Ok(tally);
        }
        // A request that waits for the answer before it has begun when it was due. One that is late since this thread
        // was, has not.
        let mut asked = due;
        if now < due {
            thread::sleep(due - now);
            asked = Instant::now();
        }
        match stream.write_all(&[KEEP; REQUEST]).and_then(|()| stream.read_exact(&mut answer)) {
            Ok(()) => tally.answer(&window, asked, Instant::now()),
            Err(e) => {
                tally.failure(&e.to_string())?;
                stream = open(to, number)?;
            }
        }
        due += interval;
    }
}

fn open(to: &To, number: usize) -> Result<TcpStream> {
    let stream = tcp::connect(to, number).with_context(|| format!("cannot connect to {}", to.to))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}
