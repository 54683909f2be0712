//! A UDP echo that tells who answered and what it saw, and a client that hears only what it was asked for to hear.

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crate::{netns::NetNs, uninterrupted};

/// The largest datagram that UDP over IPv4 carries.
pub const LARGEST: usize = 65_507;

/// A running echo; dropping it closes its socket.
#[derive(Debug)]
pub struct UdpEcho {
    /// Where it is bound.
    pub address: SocketAddr,
    datagrams: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

/// Answers every datagram by `NAME CLIENT` and a line end, then what was sent; `mute` not at all, `raw…` by itself, and
/// `empty` by a datagram without a byte.
///
/// # Panics
/// If the address cannot be bound.
pub fn echo(ns: &NetNs, at: SocketAddr, name: &str) -> UdpEcho {
    let socket = ns.enter(|| UdpSocket::bind(at)).unwrap_or_else(|e| panic!("cannot bind {at}: {e}"));
    socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
    let address = socket.local_addr().expect("a bound socket has an address");
    let (datagrams, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let (count, end, name) = (Arc::clone(&datagrams), Arc::clone(&stop), name.to_owned());
    let thread = thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while !end.load(Ordering::Relaxed) {
            let (length, client) = match uninterrupted(|| socket.recv_from(&mut buffer)) {
                Ok(received) => received,
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
                Err(e) => panic!("the echo {name} cannot read: {e}"),
            };
            count.fetch_add(1, Ordering::Relaxed);
            let data = &buffer[..length];
            let answer = match data {
                b"mute" => continue,
                b"empty" => Vec::new(),
                [b'r', b'a', b'w', ..] => data.to_vec(),
                _ => [format!("{name} {client}\n").as_bytes(), data].concat(),
            };
            // Whoever asked may have gone.
            drop(socket.send_to(&answer, client));
        }
    });
    UdpEcho { address, datagrams, stop, thread: Some(thread) }
}

impl UdpEcho {
    /// Datagrams received so far.
    pub fn datagrams(&self) -> u64 {
        self.datagrams.load(Ordering::Relaxed)
    }
}

impl Drop for UdpEcho {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !thread::panicking() {
                ended.expect("the echo");
            }
        }
    }
}

/// A client whose socket is connected: it hears only what comes from the very address and port that it asked, and is
/// told of ICMP errors.
#[derive(Debug)]
pub struct UdpClient(UdpSocket);

/// An answer of [`echo`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Echo {
    /// Who answered.
    pub name: String,
    /// Whom it answered, as it saw it.
    pub client: SocketAddr,
    /// What was sent.
    pub data: Vec<u8>,
}

impl UdpClient {
    /// A client in `ns`, on a port that the system chooses.
    ///
    /// # Panics
    /// If there is no way to the address.
    pub fn new(ns: &NetNs, to: SocketAddr) -> Self {
        let any: IpAddr = if to.is_ipv6() { [0; 16].into() } else { [0; 4].into() };
        Self::from(ns, (any, 0).into(), to)
    }

    /// A client at an address and port.
    ///
    /// # Panics
    /// If they are taken, or there is no way to the other address.
    pub fn from(ns: &NetNs, from: SocketAddr, to: SocketAddr) -> Self {
        let make = || {
            let socket = UdpSocket::bind(from)?;
            socket.connect(to)?;
            io::Result::Ok(socket)
        };
        Self(ns.enter(make).unwrap_or_else(|e| panic!("no client from {from} to {to}: {e}")))
    }

    /// Its own address.
    ///
    /// # Panics
    /// Never: it is bound.
    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("a bound socket has an address")
    }

    /// Sends a datagram.
    ///
    /// # Errors
    /// Those of the system, ICMP errors for earlier ones among them.
    pub fn send(&self, data: &[u8]) -> io::Result<usize> {
        self.0.send(data)
    }

    /// The next datagram, within a time.
    ///
    /// # Errors
    /// `WouldBlock` after that time, and ICMP errors.
    ///
    /// # Panics
    /// If the time is zero.
    pub fn receive(&self, within: Duration) -> io::Result<Vec<u8>> {
        self.0.set_read_timeout(Some(within)).expect("a time above zero");
        let mut buffer = vec![0; 65_536];
        let length = uninterrupted(|| self.0.recv(&mut buffer))?;
        buffer.truncate(length);
        Ok(buffer)
    }

    /// Sends a datagram and waits for its echo.
    ///
    /// # Errors
    /// Those of sending and receiving.
    ///
    /// # Panics
    /// If the answer is no echo's.
    pub fn ask(&self, data: &[u8], within: Duration) -> io::Result<Echo> {
        self.send(data)?;
        let answer = self.receive(within)?;
        let end = answer.iter().position(|byte| *byte == b'\n').expect("a line end");
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let (name, client) = head.split_once(' ').expect("NAME CLIENT");
        let client = client.parse().expect("an address");
        Ok(Echo { name: name.to_owned(), client, data: answer[end + 1..].to_vec() })
    }
}
