//! The server: every thread has a listener, a datagram socket and a poll of its own, all on one port.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Ipv6Addr, SocketAddr},
    thread,
};

use anyhow::{Result, anyhow};
use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream, UdpSocket},
};
use socket2::{Domain, Protocol, Socket, Type};

use super::{ANSWER, CLOSE, REQUEST, WHO};

const LISTENER: Token = Token(0);
const DATAGRAMS: Token = Token(1);
/// The first connection's token.
const FIRST: usize = 2;

/// Serves for ever.
pub(super) fn run(port: u16, threads: u8) -> Result<()> {
    let servers: Vec<_> = (0..threads).map(|_| Server::new(port)).collect::<Result<_>>()?;
    let threads: Vec<_> = servers.into_iter().map(|server| thread::spawn(move || server.run())).collect();
    for thread in threads {
        thread.join().map_err(|_| anyhow!("a thread panicked"))??;
    }
    Ok(())
}

struct Server {
    poll: Poll,
    listener: TcpListener,
    datagrams: UdpSocket,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
}

struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    /// Bytes of the request that have come, and its first one.
    got: usize,
    wants: u8,
}

impl Server {
    fn new(port: u16) -> Result<Self> {
        let at = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
        let socket = |kind, protocol| -> io::Result<Socket> {
            let socket = Socket::new(Domain::IPV6, kind, Some(protocol))?;
            socket.set_only_v6(false)?;
            socket.set_reuse_port(true)?;
            socket.set_reuse_address(true)?;
            socket.set_nonblocking(true)?;
            socket.bind(&at.into())?;
            Ok(socket)
        };
        let listener = socket(Type::STREAM, Protocol::TCP)?;
        listener.listen(4096)?;
        let mut listener = TcpListener::from_std(listener.into());
        let mut datagrams = UdpSocket::from_std(socket(Type::DGRAM, Protocol::UDP)?.into());
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        poll.registry().register(&mut datagrams, DATAGRAMS, Interest::READABLE)?;
        Ok(Self { poll, listener, datagrams, connections: Vec::new(), free: Vec::new() })
    }

    fn run(mut self) -> Result<()> {
        let mut events = Events::with_capacity(256);
        loop {
            match self.poll.poll(&mut events, None) {
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    DATAGRAMS => self.answer_datagrams(),
                    Token(token) => self.serve(token - FIRST),
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let (mut stream, peer) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::ConnectionAborted => continue,
                Err(e) => return Err(e),
            };
            let index = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            self.poll.registry().register(&mut stream, Token(index + FIRST), Interest::READABLE)?;
            self.connections[index] = Some(Connection { stream, peer, got: 0, wants: 0 });
        }
    }

    /// Answers what a connection asks; one that ends or fails is closed.
    fn serve(&mut self, index: usize) {
        // An event may be left of a connection that has just been closed.
        if let Some(connection) = self.connections.get_mut(index).and_then(Option::as_mut)
            && !connection.serve().unwrap_or(false)
        {
            self.connections[index] = None;
            self.free.push(index);
        }
    }

    fn answer_datagrams(&self) {
        let mut buffer = [0; 2 * REQUEST];
        while let Ok((n, peer)) = self.datagrams.recv_from(&mut buffer) {
            if n == REQUEST
                && let Err(e) = self.datagrams.send_to(&answer(buffer[0], peer), peer)
            {
                eprintln!("cannot answer {peer}: {e}");
            }
        }
    }
}

impl Connection {
    /// Whether it stays. Events are edges, so it reads until nothing is left.
    fn serve(&mut self) -> io::Result<bool> {
        let mut buffer = [0; REQUEST];
        loop {
            let n = match self.stream.read(&mut buffer[self.got..]) {
                Ok(0) => return Ok(false),
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(e) => return Err(e),
            };
            if self.got == 0 {
                self.wants = buffer[0];
            }
            self.got += n;
            if self.got == REQUEST {
                self.got = 0;
                if self.stream.write(&answer(self.wants, self.peer))? != ANSWER || self.wants == CLOSE {
                    return Ok(false);
                }
            }
        }
    }
}

fn answer(wants: u8, peer: SocketAddr) -> [u8; ANSWER] {
    let mut answer = [b' '; ANSWER];
    if wants == WHO {
        let text = SocketAddr::new(peer.ip().to_canonical(), peer.port()).to_string();
        answer[..text.len()].copy_from_slice(text.as_bytes());
    }
    answer
}
