//! What the host has: its addresses and who listens on it, in the network namespace of the thread that asks.
//!
//! Owns the reading of interfaces and of /proc. Must not decide anything about it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use nix::ifaddrs::getifaddrs;
use procfs::net::{TcpNetEntries, TcpState, UdpNetEntries, UdpState};
use procfs::prelude::FromBufReadSI;
use procfs::process::{FDTarget, Process, all_processes};
use socket2::{Domain, Socket, Type};

use crate::core::host::{Host, Listening};
use crate::core::transport::Transport;

/// The host as it is now. `own` are the addresses that the agent itself brought up: they are left out. What cannot
/// be read is taken as absent, with a warning. Of UDP only `udp_ports` are looked at: every client of a name server is
/// a bound socket.
#[must_use]
pub fn host(own: &BTreeSet<IpAddr>, udp_ports: &BTreeSet<u16>) -> Host {
    let mut listening = listening(Transport::Tcp, entries("tcp").chain(entries("tcp6")));
    if !udp_ports.is_empty() {
        let bound = udp_entries("udp").chain(udp_entries("udp6"));
        listening
            .extend(self::listening(Transport::Udp, bound.filter(|(at, _)| udp_ports.contains(&at.port()))));
    }
    Host { interfaces: interfaces(own), listening, ..Host::default() }
}

fn interfaces(own: &BTreeSet<IpAddr>) -> BTreeMap<Arc<str>, BTreeSet<IpAddr>> {
    let mut interfaces: BTreeMap<Arc<str>, BTreeSet<IpAddr>> = BTreeMap::new();
    let found = getifaddrs().map_err(|e| tracing::warn!("cannot list the host's addresses: {e}"));
    for interface in found.into_iter().flatten() {
        let Some(address) = interface.address else { continue };
        let v4 = address.as_sockaddr_in().map(|v4| v4.ip().into());
        let v6 = || address.as_sockaddr_in6().map(|v6| v6.ip().into());
        if let Some(address) = v4.or_else(v6).filter(|address| !own.contains(address)) {
            interfaces.entry(interface.interface_name.into()).or_default().insert(address);
        }
    }
    interfaces
}

/// Sockets that are not ours, out of those at these addresses and with these inodes.
fn listening(transport: Transport, found: impl Iterator<Item = (SocketAddr, u64)>) -> Vec<Listening> {
    let found: Vec<(SocketAddr, u64)> = found.collect();
    let owners = owners(&found.iter().map(|(_, inode)| *inode).collect());
    let mut listening = BTreeSet::new();
    for (at, inode) in found {
        if let Some(Owner::Process(name)) = owners.get(&inode) {
            listening.insert((at, name.clone()));
        }
    }
    // A socket on [::] listens on IPv4, too, unless it says otherwise, which /proc does not tell.
    let both: Vec<_> = listening
        .iter()
        .filter(|(at, _)| at.ip() == IpAddr::from([0u16; 8]))
        .map(|(at, process)| (SocketAddr::from((Ipv4Addr::UNSPECIFIED, at.port())), process.clone()))
        .filter(|(v4, _)| !listening.iter().any(|(at, _)| at == v4) && is_taken(transport, *v4))
        .collect();
    listening.extend(both);
    listening.into_iter().map(|(at, process)| Listening { transport, at, process }).collect()
}

/// Listening TCP sockets, the first in their table: of a busy gateway's connections, many thousands in TIME_WAIT, not
/// one is read.
fn entries(table: &str) -> impl Iterator<Item = (SocketAddr, u64)> + use<> {
    let lines = |path: &Path| lines_while(path, |state| state == "0A");
    let TcpNetEntries(entries) = read(table, lines).unwrap_or(TcpNetEntries(Vec::new()));
    let entries = entries.into_iter().filter(|entry| entry.state == TcpState::Listen);
    entries.map(|entry| (entry.local_address, entry.inode))
}

/// Bound UDP sockets that are not connected.
fn udp_entries(table: &str) -> impl Iterator<Item = (SocketAddr, u64)> + use<> {
    let UdpNetEntries(entries) =
        read(table, |path| std::fs::read_to_string(path)).unwrap_or(UdpNetEntries(Vec::new()));
    let entries = entries.into_iter().filter(|entry| entry.state == UdpState::Close);
    entries.map(|entry| (entry.local_address, entry.inode))
}

/// A table of sockets. /proc/net is the namespace of the process's first thread; this one may be in another.
fn read<T: FromBufReadSI>(table: &str, lines: impl Fn(&Path) -> io::Result<String>) -> Option<T> {
    let path = format!("/proc/thread-self/net/{table}");
    let read = lines(Path::new(&path))
        .map_err(procfs::ProcError::from)
        .and_then(|text| T::from_buf_read(text.as_bytes(), procfs::current_system_info()));
    match read {
        Ok(entries) => Some(entries),
        // A host without IPv6 has no such file.
        Err(_) if !Path::new(&path).exists() => None,
        Err(e) => {
            tracing::warn!("cannot read {path}: {e}");
            None
        }
    }
}

/// The heading and the lines after it while a socket's state is the wanted one.
fn lines_while(path: &Path, wanted: impl Fn(&str) -> bool) -> io::Result<String> {
    let mut text = String::new();
    for line in BufReader::new(File::open(path)?).lines() {
        let line = line?;
        let state = line.split_whitespace().nth(3).unwrap_or_default();
        if !text.is_empty() && !wanted(state) {
            break;
        }
        text += &line;
        text.push('\n');
    }
    Ok(text)
}

/// Whether a socket that listens holds an address: it cannot be bound, even by one that shares with TIME_WAIT. The
/// attempt is over at once and never listens.
fn is_taken(transport: Transport, at: SocketAddr) -> bool {
    let bind = || {
        let kind = if transport == Transport::Udp { Type::DGRAM } else { Type::STREAM };
        let socket = Socket::new(Domain::for_address(at), kind, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&at.into())
    };
    bind().is_err_and(|e| e.raw_os_error() == Some(libc::EADDRINUSE))
}

/// Inodes of a process's sockets.
fn sockets(process: &Process) -> impl Iterator<Item = u64> {
    let files = process.fd().into_iter().flatten().flatten();
    files.filter_map(|file| if let FDTarget::Socket(inode) = file.target { Some(inode) } else { None })
}

/// Whose a socket is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Owner {
    Us,
    /// `name (pid N)`; empty if it cannot be seen.
    Process(String),
}

/// Owners of the listening sockets that were seen last, by inode. To find one, the files of every process are read;
/// that is done for what is new, since a change of the configuration must not take longer for each process of the
/// host and each connection of ours.
static KNOWN: Mutex<BTreeMap<u64, Owner>> = Mutex::new(BTreeMap::new());

fn owners(wanted: &BTreeSet<u64>) -> BTreeMap<u64, Owner> {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.retain(|inode, _| wanted.contains(inode));
    let mut new: BTreeSet<u64> = wanted.iter().filter(|inode| !known.contains_key(inode)).copied().collect();
    if let (false, Ok(me)) = (new.is_empty(), Process::myself()) {
        for inode in sockets(&me).filter(|inode| new.remove(inode)).collect::<Vec<_>>() {
            known.insert(inode, Owner::Us);
        }
    }
    for process in all_processes().into_iter().flatten().flatten() {
        if new.is_empty() {
            break;
        }
        for inode in sockets(&process).filter(|inode| new.remove(inode)).collect::<Vec<_>>() {
            let name = process.stat().map_or_else(|_| "a process".into(), |stat| stat.comm);
            known.insert(inode, Owner::Process(format!("{name} (pid {})", process.pid())));
        }
    }
    known.extend(new.into_iter().map(|inode| (inode, Owner::Process(String::new()))));
    known.clone()
}
