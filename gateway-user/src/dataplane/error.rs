//! What can go wrong between agent and kernel.
//!
//! Owns the messages: each names the object, the value and the remedy.

use std::io;
use std::path::PathBuf;

/// An error of the dataplane.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The number of workers is out of range.
    #[error("workers: {0} is out of range (use 1 to {max})", max = gateway_ebpf::names::MAX_WORKERS)]
    Workers(u32),
    /// The pin directory is on no BPF filesystem.
    #[error(
        "{} is not on a BPF filesystem (mount one on the host: mount -t bpf bpf /sys/fs/bpf; in a container, share \
         the host's /sys/fs/bpf)", .0.display()
    )]
    NotBpffs(PathBuf),
    /// The BPF filesystem dies with this mount namespace.
    #[error(
        "the BPF filesystem of {} is private to this process's mount namespace, so that every pin would be lost with \
         it (use the host's /sys/fs/bpf: in a container share it from the host, in a unit leave its mounts alone, \
         and enter network namespaces with `nsenter --net`, not `ip netns exec`)", .0.display()
    )]
    PrivateMount(PathBuf),
    /// Another agent has the directory.
    #[error(
        "{} is in use by another agent{holder} (stop that one, or give this one a --pin-dir of its own)",
        .path.display()
    )]
    InUse {
        /// The pin directory.
        path: PathBuf,
        /// ` (pid N)`; empty if it cannot be seen.
        holder: String,
    },
    /// The pinned maps speak another contract.
    #[error(
        "the maps pinned in {} are of contract version {found}, this program speaks version {expected} (remove them \
         with `sluice uninstall`; established connections live on, new ones wait for the restart)", .path.display()
    )]
    Version {
        /// The pin directory.
        path: PathBuf,
        /// What META holds.
        found: u64,
        /// What this program speaks.
        expected: u64,
    },
    /// A pinned map is not what the contract says.
    #[error(
        "the pinned map {}: {what} is {found}, this program needs {expected} (remove the pins with `sluice \
         uninstall`)", .path.display()
    )]
    Incompatible {
        /// The pin.
        path: PathBuf,
        /// Which property differs.
        what: &'static str,
        /// What the kernel says.
        found: String,
        /// What the contract says.
        expected: String,
    },
    /// The pinned flows are laid out as no version before this one did.
    #[error(
        "the flows in the pinned map {} have layout {found}, which this program does not know: it has layout {expected} (go \
         on with the version that made them; or end them with `sluice uninstall`)", .path.display()
    )]
    Layout {
        /// The pin.
        path: PathBuf,
        /// The number of their layout.
        found: u32,
        /// This program's.
        expected: u32,
    },
    /// The pinned link is attached elsewhere.
    #[error(
        "the pinned link {} is attached to another network namespace (inode {found}, this one is {expected}; start \
         the agent there, or give this one a --pin-dir of its own)", .path.display()
    )]
    OtherNamespace {
        /// The pin.
        path: PathBuf,
        /// Inode of the namespace that it is attached to.
        found: u32,
        /// Inode of this thread's.
        expected: u64,
    },
    /// A map holds what this contract does not know.
    #[error("{map}[{entry}]: {value} is unknown to this contract (remove the pins with `sluice uninstall`)")]
    Unknown {
        /// The map.
        map: &'static str,
        /// Its entry.
        entry: String,
        /// What is unknown.
        value: String,
    },
    /// An operation names an entry that the map does not have.
    #[error("{map}[{index}]: the map has {capacity} entries")]
    OutOfRange {
        /// The map.
        map: &'static str,
        /// The index.
        index: u64,
        /// Its capacity.
        capacity: u32,
    },
    /// A system call failed.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A map operation failed.
    #[error("map {map}: {what} failed")]
    Map {
        /// The map.
        map: &'static str,
        /// What was tried.
        what: &'static str,
        /// The cause.
        #[source]
        source: Box<aya::maps::MapError>,
    },
    /// The object was refused.
    #[error(
        "the BPF object could not be loaded (needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN, and Linux 6.1 or later)"
    )]
    Load(#[source] Box<aya::EbpfError>),
    /// The program was refused.
    #[error(
        "the BPF program {name}: {what} failed (needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN, and Linux 6.1 or later)"
    )]
    Program {
        /// Its name.
        name: &'static str,
        /// What was tried.
        what: &'static str,
        /// The cause.
        #[source]
        source: Box<aya::programs::ProgramError>,
    },
    /// An interface could not be hooked, or not any more.
    #[error("interface {interface}: the kernel refuses the hook (see `bpftool net show dev {interface}`)")]
    Hook {
        /// The interface.
        interface: String,
        /// The cause.
        #[source]
        source: Box<aya::programs::ProgramError>,
    },
    /// Forwarding is not on.
    #[error("forwarding is off (start the agent with --forward auto)")]
    NotForwarding,
    /// The link could not be pinned.
    #[error("cannot pin {}", .path.display())]
    Pin {
        /// Where.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Box<aya::pin::PinError>,
    },
    /// The object lacks what the contract names: a build that does not fit together.
    #[error("the embedded BPF object has no {0} (build again)")]
    Missing(&'static str),
    /// The programs' log cannot be read.
    #[error("the programs' log cannot be read")]
    Log(#[source] Box<aya_log::Error>),
    /// Netlink failed.
    #[error("netlink: {what}: {message}")]
    Netlink {
        /// What was tried.
        what: String,
        /// What the kernel said.
        message: String,
    },
}

impl Error {
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what: what.into(), source }
    }

    pub(super) fn map(map: &'static str, what: &'static str) -> impl FnOnce(aya::maps::MapError) -> Self {
        move |source| Self::Map { map, what, source: Box::new(source) }
    }
}
