//! The sockets that swallow refused datagrams (see `abi::sink_index`).
//!
//! Owns them: bound to loopback so that the map takes them, with a filter that lets nothing in.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::Error;

/// A socket of one family.
#[derive(Debug)]
pub(super) struct Sink(Socket);

impl Sink {
    /// Makes one in the network namespace of this thread; `None` if that has no such family.
    pub(super) fn new(v6: bool) -> Result<Option<Self>, Error> {
        let (domain, address) = if v6 {
            (Domain::IPV6, SocketAddr::from((Ipv6Addr::LOCALHOST, 0)))
        } else {
            (Domain::IPV4, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        };
        let socket = match Socket::new(domain, Type::DGRAM, Some(Protocol::UDP)) {
            Err(e) if e.raw_os_error() == Some(libc::EAFNOSUPPORT) => return Ok(None),
            other => other.map_err(Error::io("cannot make the socket that swallows datagrams"))?,
        };
        if v6 {
            socket.set_only_v6(true).map_err(Error::io("cannot set IPV6_V6ONLY"))?;
        }
        // BPF_RET | BPF_K, 0: of every datagram, keep nothing.
        let nothing = SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0);
        socket
            .attach_filter(&[nothing])
            .map_err(Error::io("cannot set the filter that swallows datagrams"))?;
        match socket.bind(&address.into()) {
            Ok(()) => Ok(Some(Self(socket))),
            // The family is switched off (disable_ipv6).
            Err(e) if e.raw_os_error() == Some(libc::EADDRNOTAVAIL) => Ok(None),
            Err(e) => Err(Error::io(format!("cannot bind {address}"))(e)),
        }
    }
}

impl AsFd for Sink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
