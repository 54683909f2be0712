//! TCP clients that ask as fast as they are answered: one request at a time over each connection, which may be
//! renewed.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::SocketAddr,
    time::Instant,
};

use anyhow::{Context, Result};
use mio::{Events, Interest, Poll, Token, net::TcpStream};
use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use socket2::{Domain, Protocol, Socket, Type};

use super::{
    ANSWER, CLOSE, KEEP, REQUEST, To,
    drive::{Tally, Window},
};

struct Connection {
    stream: TcpStream,
    /// When it was asked.
    asked: Instant,
    connected: bool,
    got: usize,
    /// Requests that it is still good for, the one that is on its way included.
    left: u32,
}

/// What became of a connection at an event.
enum Step {
    Stays,
    Ended,
    Failed(String),
}

/// Asks over some connections, given by their numbers, until the window ends; a connection is good for `renew`
/// requests.
pub(super) fn ask(to: &To, numbers: &[usize], renew: Option<u32>, window: Window) -> Result<Tally> {
    let uses = renew.unwrap_or(u32::MAX).max(1);
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(256);
    let mut tally = Tally::default();
    let mut connections = Vec::new();
    for (token, &number) in numbers.iter().enumerate() {
        connections.push(open(to, number, token, uses, &poll)?);
    }
    while let Some(left) = window.left(Instant::now()) {
        match poll.poll(&mut events, Some(left)) {
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        }
        for event in &events {
            let token = event.token().0;
            let connection = &mut connections[token];
            let step = step(connection, &window, &mut tally).unwrap_or_else(|e| Step::Failed(e.to_string()));
            match step {
                Step::Stays => continue,
                Step::Ended => {}
                Step::Failed(why) => tally.failure(&why)?,
            }
            // The old one closes as it is replaced, which takes it out of the poll.
            *connection = open(to, numbers[token], token, uses, &poll)?;
        }
    }
    Ok(tally)
}

/// Goes on with one connection as far as it will. Events are edges, so it reads until nothing is left.
fn step(connection: &mut Connection, window: &Window, tally: &mut Tally) -> io::Result<Step> {
    if !connection.connected {
        if let Some(e) = connection.stream.take_error()? {
            return Err(e);
        }
        match connection.request() {
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                return Ok(Step::Stays);
            }
            other => other?,
        }
        connection.connected = true;
    }
    let mut buffer = [0; 4 * ANSWER];
    loop {
        let n = match connection.stream.read(&mut buffer) {
            Ok(0) if connection.left == 0 => return Ok(Step::Ended),
            Ok(0) => return Ok(Step::Failed("the connection ended before its answer".to_owned())),
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(Step::Stays),
            Err(e) => return Err(e),
        };
        connection.got += n;
        if connection.got == ANSWER {
            tally.answer(window, connection.asked, Instant::now());
            (connection.got, connection.left) = (0, connection.left - 1);
            // After the last one the server closes.
            if connection.left > 0 {
                connection.request()?;
                // No byte can be there yet that the next edge does not tell.
                return Ok(Step::Stays);
            }
        } else if connection.got > ANSWER || connection.left == 0 {
            return Ok(Step::Failed(format!("an answer of more than {ANSWER} bytes")));
        }
    }
}

impl Connection {
    fn request(&mut self) -> io::Result<()> {
        self.asked = Instant::now();
        whole(self.stream.write(&[if self.left == 1 { CLOSE } else { KEEP }; REQUEST])?, REQUEST)
    }
}

/// A buffer that is empty takes a small write whole.
fn whole(written: usize, length: usize) -> io::Result<()> {
    if written == length { Ok(()) } else { Err(io::Error::other("a small write was cut short")) }
}

fn open(to: &To, number: usize, token: usize, uses: u32, poll: &Poll) -> Result<Connection> {
    let socket = socket(to, number)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&to.to.into()) {
        Err(e) if e.raw_os_error() == Some(nix::errno::Errno::EINPROGRESS as i32) => {}
        other => other.with_context(|| format!("cannot connect to {}", to.to))?,
    }
    let mut stream = TcpStream::from_std(socket.into());
    poll.registry().register(&mut stream, Token(token), Interest::READABLE | Interest::WRITABLE)?;
    Ok(Connection { stream, asked: Instant::now(), connected: false, got: 0, left: uses })
}

/// A socket bound to the client's address, its port left to `connect`, which may take one that is in use elsewhere.
fn socket(to: &To, number: usize) -> Result<Socket> {
    let socket = Socket::new(Domain::for_address(to.to), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(source) = to.source(number) {
        setsockopt(&socket, IpBindAddressNoPort, &true)?;
        socket
            .bind(&SocketAddr::new(source, 0).into())
            .with_context(|| format!("cannot bind to {source}"))?;
    }
    Ok(socket)
}

/// A connection that blocks.
pub(super) fn connect(to: &To, number: usize) -> Result<std::net::TcpStream> {
    let socket = socket(to, number)?;
    socket.connect(&to.to.into())?;
    Ok(socket.into())
}

/// Opens connections, uses each once, and holds them until the input ends.
pub(super) fn idle(to: &To, connections: usize) -> Result<()> {
    let mut held = Vec::new();
    for number in 0..connections {
        let stream = open_idle(to, number).with_context(|| format!("connection {number} to {}", to.to))?;
        held.push(stream);
    }
    println!("open");
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn open_idle(to: &To, number: usize) -> Result<std::net::TcpStream> {
    let mut stream = connect(to, number)?;
    stream.write_all(&[KEEP; REQUEST])?;
    stream.read_exact(&mut [0; ANSWER])?;
    Ok(stream)
}
