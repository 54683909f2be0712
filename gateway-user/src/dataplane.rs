//! The kernel's side of the gateway, as the agent handles it: programs loaded, pinned and attached, maps read and
//! written, sockets registered, lookups counted, Gateway addresses brought up.
//!
//! Owns every use of aya and of `bpf(2)`. Must not know why a map shall hold what it shall hold: that is
//! `core::compile` and `core::plan`.

pub mod address;
mod error;
mod flows;
mod forward;
pub mod host;
mod level;
mod maps;
pub mod network;
mod pins;
mod program;
mod reader;
mod sink;
mod sys;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use gateway_ebpf::VERSION;
use gateway_ebpf::abi::{Meta, TCP, UDP, sink_index, socket_index};
use gateway_ebpf::names::{MAX_WORKERS, SOCKETS};
use socket2::{Protocol, SockRef};

pub use address::Addresses;
pub use error::Error;
pub use flows::{FlowCounts, FlowEvents, FlowReader};
pub use forward::hook::{Hook, Wanted, at_ingress};
pub use forward::table::FlowTable;
pub use forward::{Forwarding, Tables};
pub use level::{LogLevel, NotALevel};
pub use network::{NetworkReader, Networks};
pub use reader::{Counts, MapUse, Reader};
pub use sys::SkBuff;

use crate::core::load::Loads;
use crate::core::plan::{Have, Op};
use forward::Forward;
use level::LogThread;
use maps::Maps;
use pins::Pins;
use program::Programs;
use sink::Sink;

/// What a [`Dataplane`] is opened with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Directory under a BPF filesystem that is ours alone.
    pub pin_dir: PathBuf,
    /// Number of workers, 1 to [`MAX_WORKERS`].
    pub workers: u32,
    /// What the programs log.
    pub log_level: LogLevel,
}

/// The programs and maps of one agent. When this goes, they stay: pinned, attached, and with nobody's sockets, so
/// that clients see a reset until an agent is back.
#[derive(Debug)]
pub struct Dataplane {
    programs: Programs,
    log: Option<LogThread>,
    maps: Maps,
    reader: Reader,
    link: Option<OwnedFd>,
    forward: Option<Forward>,
    sinks: Vec<Sink>,
    workers: u32,
    // Last: the lock is let go of after everything else.
    pins: Pins,
}

impl Dataplane {
    /// Takes the pin directory for this process, loads the programs, reopens the maps that are pinned there or
    /// makes them. Nothing is attached yet.
    ///
    /// # Errors
    /// Another agent holds the directory; it is not on the host's BPF filesystem; what is pinned there is of
    /// another contract; the kernel refuses a map or a program.
    pub fn open(config: &Config) -> Result<Self, Error> {
        if !(1..=MAX_WORKERS).contains(&config.workers) {
            return Err(Error::Workers(config.workers));
        }
        let pins = Pins::take(&config.pin_dir)?;
        let mut programs = Programs::load(&pins, config.log_level)?;
        let log = start_log(&mut programs, config.log_level)?;
        let mut maps = Maps::open(&pins)?;
        match maps.meta(Meta::Version)? {
            VERSION => {}
            // Nobody has written it yet: the maps are new.
            0 => maps.set_meta(Meta::Version, VERSION)?,
            found => {
                let path = pins.directory().to_owned();
                return Err(Error::Version { path, found, expected: VERSION });
            }
        }
        maps.clear_loads();
        let reader = Reader::open(&pins, &maps, config.workers)?;
        let workers = config.workers;
        Ok(Self { programs, log, maps, reader, link: None, forward: None, sinks: Vec::new(), workers, pins })
    }

    /// Puts the workers' sockets where the programs find them: worker, whether it is of IPv6, socket. TCP sockets
    /// must listen, UDP sockets be bound. The kernel takes them out again when they are closed.
    ///
    /// # Errors
    /// A worker that [`Config::workers`] does not count, or a socket that the kernel does not take.
    pub fn register(&mut self, sockets: &[(u32, bool, BorrowedFd<'_>)]) -> Result<(), Error> {
        self.maps.forget_sockets();
        for (worker, v6, socket) in sockets {
            if *worker >= self.workers {
                return Err(Error::OutOfRange {
                    map: SOCKETS,
                    index: (*worker).into(),
                    capacity: self.workers,
                });
            }
            let protocol = SockRef::from(socket)
                .protocol()
                .map_err(Error::io(format!("cannot examine a socket of worker {worker}")))?;
            let protocol = if protocol == Some(Protocol::UDP) { UDP } else { TCP };
            self.maps.set_socket(socket_index(*worker, *v6, protocol), *socket)?;
        }
        self.sinks.clear();
        for v6 in [false, true] {
            if let Some(sink) = Sink::new(v6)? {
                self.maps.set_socket(sink_index(v6), sink.as_fd())?;
                self.sinks.push(sink);
            }
        }
        self.maps.set_meta(Meta::Workers, self.workers.into())
    }

    /// Attaches the programs to the network namespace of this thread, or replaces the program of the link that an
    /// agent before this one left.
    ///
    /// # Errors
    /// The kernel refuses, or the link belongs to another network namespace.
    pub fn attach(&mut self) -> Result<(), Error> {
        self.link = Some(self.programs.attach(&self.pins)?);
        Ok(())
    }

    /// Turns forwarding on: loads its programs, and switches over what an agent before left attached. Flows in tables of
    /// another capacity than asked for, or of another layout, move to new ones. Nothing new is hooked yet. To be called once attached: by then the pins
    /// are known to be of this thread's network namespace.
    ///
    /// # Errors
    /// The kernel refuses a map or a program, or knows flows of a layout that this program does not: running flows go on, new
    /// ones go to the host.
    pub fn forward(&mut self, config: &Forwarding) -> Result<Tables, Error> {
        let forward = Forward::open(&self.pins, &mut self.maps, config)?;
        self.maps.open_local(&self.pins)?;
        Ok(self.forward.insert(forward).tables().clone())
    }

    /// Turns forwarding off: removes hooks, maps and flows, also of an agent before this one. Returns what was removed.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn stop_forwarding(&mut self) -> Result<Vec<String>, Error> {
        self.forward = None;
        self.maps.close_local();
        let removed = forward::remove(&self.pins, &mut self.maps)?;
        forward::release_ports(&mut self.maps)?;
        Ok(removed)
    }

    /// Hooks what is wanted, by the interfaces' index, and nothing else; confirms each that was hooked before.
    ///
    /// # Errors
    /// Forwarding is not on, or pins cannot be read. Of each interface, why it could not be hooked.
    pub fn hook(
        &mut self,
        wanted: &BTreeMap<u32, Wanted>,
    ) -> Result<BTreeMap<u32, Result<Hook, Error>>, Error> {
        self.forward.as_mut().ok_or(Error::NotForwarding)?.hook(&self.pins, wanted)
    }

    /// Gives up the flows that are over.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn sweep(&mut self) -> Result<(), Error> {
        self.forward.as_mut().map_or(Ok(()), Forward::sweep)
    }

    /// The places for flows, in the memory that the programs work on.
    ///
    /// # Errors
    /// Forwarding is not on, or the kernel refuses.
    pub fn flow_table(&self) -> Result<FlowTable, Error> {
        self.forward.as_ref().ok_or(Error::NotForwarding)?.table(&self.pins)
    }

    /// Runs one of forwarding's programs on a packet, so many times, without sending it. What became of the packet and
    /// of its context is in their place; returned is what the program returned.
    ///
    /// # Errors
    /// Forwarding is not on, there is no such program, or the kernel refuses.
    pub fn run_packet(
        &mut self,
        program: &'static str,
        packet: &mut Vec<u8>,
        context: Option<&mut SkBuff>,
        repeat: u32,
    ) -> Result<u32, Error> {
        self.forward.as_mut().ok_or(Error::NotForwarding)?.run(program, packet, context, repeat)
    }

    /// What the maps hold.
    ///
    /// # Errors
    /// The kernel refuses, or a map holds what this contract does not know.
    pub fn have(&self) -> Result<Have, Error> {
        self.maps.have()
    }

    /// Does the steps in their order; each can be repeated without harm.
    ///
    /// # Errors
    /// The step that the kernel refused; those before it stand.
    pub fn apply(&mut self, ops: &[Op]) -> Result<(), Error> {
        self.maps.apply(ops)
    }

    /// The workers' open connections, in the memory that the programs read.
    #[must_use]
    pub fn loads(&self) -> Arc<dyn Loads> {
        self.maps.loads()
    }

    /// What reads the counters, without this.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// What reads the flows, and the buffer of those that are over; `None`: forwarding is off.
    ///
    /// # Errors
    /// A map cannot be opened.
    pub fn flows(&mut self) -> Result<Option<(FlowReader, FlowEvents)>, Error> {
        let Some(forward) = &mut self.forward else { return Ok(None) };
        let reader = FlowReader::open(&self.pins, forward.tables())?;
        Ok(Some((reader, forward.events(&self.pins)?)))
    }

    /// Loads the programs again with this level and switches over to them.
    ///
    /// # Errors
    /// The kernel refuses; the programs before go on.
    pub fn set_log_level(&mut self, level: LogLevel) -> Result<(), Error> {
        let mut programs = Programs::load(&self.pins, level)?;
        let log = start_log(&mut programs, level)?;
        if let Some(link) = &self.link {
            programs.switch(link.as_fd())?;
        }
        self.programs = programs;
        // The thread before reads what is left in its buffer, and ends.
        self.log = log;
        Ok(())
    }

    /// Asks the loaded program about one packet, without sending it. The lookup is counted like any other.
    ///
    /// # Errors
    /// The addresses are of different families, or the kernel refuses.
    pub fn probe(&self, client: SocketAddr, asked: SocketAddr, protocol: u8) -> Result<Probe, Error> {
        let mut context = sys::SkLookup {
            protocol: protocol.into(),
            remote_port: client.port().to_be_bytes(),
            local_port: asked.port().into(),
            ..bytemuck::Zeroable::zeroed()
        };
        match (client.ip(), asked.ip()) {
            (IpAddr::V4(remote), IpAddr::V4(local)) => {
                context.family = libc::AF_INET as u32;
                context.remote_ip4 = remote.octets();
                context.local_ip4 = local.octets();
            }
            (IpAddr::V6(remote), IpAddr::V6(local)) => {
                context.family = libc::AF_INET6 as u32;
                context.remote_ip6 = remote.octets();
                context.local_ip6 = local.octets();
            }
            _ => {
                let what = format!("{client} and {asked} are of different families");
                return Err(Error::io(what)(std::io::ErrorKind::InvalidInput.into()));
            }
        }
        let answer = sys::test_run(self.programs.fd()?, &mut context)
            .map_err(Error::io(format!("cannot run the program on {client} to {asked}")))?;
        Ok(Probe { passed: answer == SK_PASS, cookie: context.cookie })
    }

    /// Removes links, programs, maps and the pin directory, and Gateway addresses that were brought up in the
    /// network namespace of this thread; returns what was removed.
    ///
    /// # Errors
    /// An agent is running on it, or the kernel refuses.
    pub fn uninstall(config: &Config) -> Result<Vec<String>, Error> {
        let pins = Pins::take_existing(&config.pin_dir)?;
        let mut removed = address::remove_leftovers()?;
        removed.extend(forward::uninstall(pins.as_ref())?);
        if let Some(pins) = pins {
            removed.extend(pins.remove()?);
        }
        Ok(removed)
    }
}

const SK_PASS: u32 = 1;

/// What the program answered to [`Dataplane::probe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Whether the packet goes on; if not, TCP is answered with a reset, UDP with port unreachable.
    pub passed: bool,
    /// `SO_COOKIE` of the socket that was assigned; 0 if none was, and the host's own sockets are asked.
    pub cookie: u64,
}

fn start_log(programs: &mut Programs, level: LogLevel) -> Result<Option<LogThread>, Error> {
    if level == LogLevel::Off {
        return Ok(None);
    }
    programs.logger().and_then(LogThread::start).map(Some)
}
