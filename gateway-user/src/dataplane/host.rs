//! What the host has: its addresses and who listens on it, in the network namespace of the thread that asks.
//!
//! Owns the reading of interfaces and of /proc. Must not decide anything about it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use nix::ifaddrs::getifaddrs;
use procfs::net::{TcpNetEntries, TcpNetEntry, TcpState};
use procfs::prelude::FromBufReadSI as _;
use procfs::process::{FDTarget, Process, all_processes};
use socket2::{Domain, Socket, Type};

use crate::core::host::{Host, Listening};

/// The host as it is now. `own` are the addresses that the agent itself brought up: they are left out. What cannot
/// be read is taken as absent, with a warning.
#[must_use]
pub fn host(own: &BTreeSet<IpAddr>) -> Host {
    let mut addresses = addresses();
    addresses.retain(|address| !own.contains(address));
    Host { addresses, listening: listening(), ..Host::default() }
}

fn addresses() -> BTreeSet<IpAddr> {
    let interfaces = match getifaddrs() {
        Ok(interfaces) => interfaces,
        Err(e) => {
            tracing::warn!("cannot list the host's addresses: {e}");
            return BTreeSet::new();
        }
    };
    interfaces
        .filter_map(|interface| interface.address)
        .filter_map(|address| {
            let v4 = address.as_sockaddr_in().map(|v4| v4.ip().into());
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| v6.ip().into()))
        })
        .collect()
}

fn listening() -> Vec<Listening> {
    let found: Vec<(SocketAddr, u64)> = ["tcp", "tcp6"]
        .into_iter()
        .flat_map(entries)
        .filter(|entry| entry.state == TcpState::Listen)
        .map(|entry| (entry.local_address, entry.inode))
        .collect();
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
        .filter(|(v4, _)| !listening.iter().any(|(at, _)| at == v4) && is_taken(*v4))
        .collect();
    listening.extend(both);
    listening.into_iter().map(|(at, process)| Listening { at, process }).collect()
}

/// Listening sockets. /proc/net is the namespace of the process's first thread; this one may be in another.
fn entries(table: &str) -> Vec<TcpNetEntry> {
    let path = format!("/proc/thread-self/net/{table}");
    let read = listening_lines(Path::new(&path))
        .map_err(procfs::ProcError::from)
        .and_then(|text| TcpNetEntries::from_buf_read(text.as_bytes(), procfs::current_system_info()));
    match read {
        Ok(TcpNetEntries(entries)) => entries,
        // A host without IPv6 has no such file.
        Err(_) if !Path::new(&path).exists() => Vec::new(),
        Err(e) => {
            tracing::warn!("cannot read {path}: {e}");
            Vec::new()
        }
    }
}

/// The heading and the lines of listening sockets, which the kernel lists first: of a busy gateway's connections,
/// many thousands in TIME_WAIT, not one is read.
fn listening_lines(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    for line in BufReader::new(File::open(path)?).lines() {
        let line = line?;
        // The heading's fourth column is `st`; 0A is LISTEN.
        if !matches!(line.split_whitespace().nth(3), Some("st" | "0A")) && !text.is_empty() {
            break;
        }
        text += &line;
        text.push('\n');
    }
    Ok(text)
}

/// Whether a listening socket holds an address: it cannot be bound, even by one that shares with TIME_WAIT. The
/// attempt is over at once and never listens.
fn is_taken(at: SocketAddr) -> bool {
    let bind = || {
        let socket = Socket::new(Domain::for_address(at), Type::STREAM, None)?;
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
