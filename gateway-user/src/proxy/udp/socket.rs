//! The sockets of UDP: the one of a worker and family that new flows come in by, and the pair of each flow.
//!
//! Owns their options. Must not know what a datagram is for.

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage};
use nix::sys::socket::{recvmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

/// What may wait at a worker's socket: the first datagrams of flows, from everybody.
const WAITING: usize = 4 * 1024 * 1024;

fn new(v6: bool) -> io::Result<Socket> {
    let domain = if v6 { Domain::IPV6 } else { Domain::IPV4 };
    let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    if v6 {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// A socket for each worker, all on one port of loopback.
pub(in crate::proxy) fn group(workers: usize, v6: bool) -> io::Result<Vec<UdpSocket>> {
    let loopback = if v6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
    let mut at = SocketAddr::new(loopback, 0);
    let mut group = Vec::new();
    for _ in 0..workers {
        let socket = new(v6)?;
        socket.set_reuse_port(true)?;
        // So that the socket of a flow can have this very port, if that is what its client asked for.
        socket.set_reuse_address(true)?;
        if v6 {
            setsockopt(&socket, sockopt::Ipv6OrigDstAddr, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv4OrigDstAddr, &true)?;
        }
        // Without the privilege it is what the system allows.
        if setsockopt(&socket, sockopt::RcvBufForce, &WAITING).is_err() {
            socket.set_recv_buffer_size(WAITING)?;
        }
        socket.bind(&at.into())?;
        let socket = UdpSocket::from(socket);
        at = socket.local_addr()?;
        group.push(socket);
    }
    Ok(group)
}

/// A datagram as it arrived at a worker's socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) client: SocketAddr,
    /// The address and port that the client asked for.
    pub(super) asked: SocketAddr,
    /// Its length.
    pub(super) length: usize,
}

/// Receives without waiting. `None`: a datagram that does not tell whence or where to.
pub(super) fn receive(socket: &impl AsRawFd, buffer: &mut [u8]) -> io::Result<Option<Arrival>> {
    let mut slices = [IoSliceMut::new(buffer)];
    let mut control = nix::cmsg_space!(libc::sockaddr_in6);
    let flags = MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags)?;
    let asked = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4OrigDstAddr(at) => Some(SocketAddr::from(SockaddrIn::from(at))),
        ControlMessageOwned::Ipv6OrigDstAddr(at) => Some(SocketAddr::from(SockaddrIn6::from(at))),
        _ => None,
    });
    let client = message.address.and_then(|from| {
        let v4 = from.as_sockaddr_in().map(|v4| SocketAddr::from(*v4));
        v4.or_else(|| from.as_sockaddr_in6().map(|v6| SocketAddr::from(*v6)))
    });
    let length = message.bytes;
    Ok(client.zip(asked).map(|(client, asked)| Arrival { client, asked, length }))
}

/// A flow's socket on the client's side: answers leave from the address and port that the client asked for, and what
/// the client sends from now on comes here. Until it is connected the kernel gives it nothing while there is a binding,
/// since `sk_lookup` is asked before sockets that are not connected; what it gets all the same, or in the moment between
/// the two calls, is not the client's and must be looked at by whoever reads.
pub(super) fn downstream(asked: SocketAddr, client: SocketAddr) -> io::Result<tokio::net::UdpSocket> {
    let socket = new(asked.is_ipv6())?;
    socket.set_reuse_address(true)?;
    socket.bind(&asked.into())?;
    socket.connect(&client.into())?;
    tokio::net::UdpSocket::from_std(socket.into())
}

/// A flow's socket on the backend's side.
pub(super) fn upstream(backend: SocketAddr) -> io::Result<tokio::net::UdpSocket> {
    let socket = new(backend.is_ipv6())?;
    socket.connect(&backend.into())?;
    tokio::net::UdpSocket::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arrival_tells_whence_and_where_to() {
        for v6 in [false, true] {
            let group = group(2, v6).unwrap();
            let at = group[0].local_addr().unwrap();
            assert!(group.iter().all(|socket| socket.local_addr().unwrap() == at));
            let client = UdpSocket::bind((at.ip(), 0)).unwrap();
            let mut buffer = [0; 16];
            for sent in [&b"hello"[..], b""] {
                client.send_to(sent, at).unwrap();
                let arrival = loop {
                    let mut all = group.iter().map(|socket| receive(socket, &mut buffer));
                    if let Some(arrival) = all.find_map(Result::ok) {
                        break arrival.unwrap();
                    }
                };
                assert_eq!((arrival.client, arrival.asked), (client.local_addr().unwrap(), at));
                assert_eq!(&buffer[..arrival.length], sent);
            }
        }
    }
}
