//! What aya 0.14 lacks, by raw system calls: links inspected, switched to another program and detached, test runs,
//! the grace period, maps' memory, and frames.
//!
//! Owns every unsafe block of the agent's side of the kernel. Must not decide anything: each function is one call
//! (or the few that only make sense together), its arguments checked by types.
#![expect(
    unsafe_code,
    reason = "bpf(2), mmap(2) and packet sockets have no safe binding for what is done here"
)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use bytemuck::{Pod, Zeroable};

const BPF_MAP_CREATE: u32 = 0;
const BPF_MAP_UPDATE_ELEM: u32 = 2;
const BPF_OBJ_GET: u32 = 7;
const BPF_PROG_TEST_RUN: u32 = 10;
const BPF_OBJ_GET_INFO_BY_FD: u32 = 15;
const BPF_LINK_UPDATE: u32 = 29;
const BPF_LINK_DETACH: u32 = 34;

const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_MAP_TYPE_ARRAY_OF_MAPS: u32 = 12;
const BPF_LINK_TYPE_NETNS: u32 = 5;
const BPF_LINK_TYPE_TCX: u32 = 11;

/// `bpf(2)` with the part of `union bpf_attr` that the command reads.
fn bpf<A: Pod>(command: u32, attribute: &mut A) -> io::Result<u32> {
    // SAFETY: the kernel reads and writes `size` bytes of the attribute, which is borrowed exclusively; pointers
    // within it are to memory that the callers below keep borrowed over the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attribute), size_of::<A>()) };
    u32::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn owned(fd: u32) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows its number.
    unsafe { OwnedFd::from_raw_fd(fd.cast_signed()) }
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// Opens what is pinned at a path.
pub(super) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    #[repr(C)]
    #[derive(Clone, Copy, Pod, Zeroable)]
    struct Attribute {
        path: u64,
        fd: u32,
        flags: u32,
    }
    let path = CString::new(path.as_os_str().as_bytes())?;
    bpf(BPF_OBJ_GET, &mut Attribute { path: path.as_ptr() as u64, fd: 0, flags: 0 }).map(owned)
}

/// What the kernel says of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// To a network namespace: its inode number; 0 if that is gone.
    Namespace(u32),
    /// To an interface, by tcx: its index; 0 if that is gone, or the link detached.
    Interface(u32),
    /// Of another kind.
    Other,
}

/// What is known of a link.
pub(super) fn link(link: BorrowedFd<'_>) -> io::Result<Link> {
    #[repr(C)]
    #[derive(Clone, Copy, Pod, Zeroable)]
    struct Info {
        kind: u32,
        id: u32,
        program: u32,
        pad: u32,
        target: u32,
        attach_type: u32,
        rest: [u64; 8],
    }
    #[repr(C)]
    #[derive(Clone, Copy, Pod, Zeroable)]
    struct Attribute {
        fd: u32,
        length: u32,
        info: u64,
    }
    let mut info = Info::zeroed();
    let length = size_of::<Info>() as u32;
    let info_address = std::ptr::from_mut(&mut info) as u64;
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut Attribute { fd: raw(link), length, info: info_address })?;
    Ok(match info.kind {
        BPF_LINK_TYPE_NETNS => Link::Namespace(info.target),
        BPF_LINK_TYPE_TCX => Link::Interface(info.target),
        _ => Link::Other,
    })
}

/// Switches a link to another program: packets see the one or the other, never none.
pub(super) fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    #[repr(C)]
    #[derive(Clone, Copy, Pod, Zeroable)]
    struct Attribute {
        link: u32,
        program: u32,
        flags: u32,
        old: u32,
    }
    bpf(BPF_LINK_UPDATE, &mut Attribute { link: raw(link), program: raw(program), flags: 0, old: 0 })
        .map(drop)
}

/// Detaches a link at once, whoever else holds it.
pub(super) fn detach_link(link: BorrowedFd<'_>) -> io::Result<()> {
    bpf(BPF_LINK_DETACH, &mut raw(link)).map(drop)
}

/// The context of `sk_lookup` as user space gives it (`struct bpf_sk_lookup`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub(super) struct SkLookup {
    /// Out: cookie of the socket that was assigned; 0 for none.
    pub(super) cookie: u64,
    /// `AF_INET` or `AF_INET6`.
    pub(super) family: u32,
    /// IP protocol number.
    pub(super) protocol: u32,
    /// The client's IPv4 address in wire order.
    pub(super) remote_ip4: [u8; 4],
    /// The client's IPv6 address in wire order.
    pub(super) remote_ip6: [u8; 16],
    /// The client's port in wire order.
    pub(super) remote_port: [u8; 2],
    /// Always zero.
    pub(super) pad: [u8; 2],
    /// The IPv4 address asked for, in wire order.
    pub(super) local_ip4: [u8; 4],
    /// The IPv6 address asked for, in wire order.
    pub(super) local_ip6: [u8; 16],
    /// The port asked for, in the host's order.
    pub(super) local_port: u32,
    /// Must be zero in a test run.
    pub(super) interface: u32,
    /// Always zero.
    pub(super) tail: u32,
}

/// What `BPF_PROG_TEST_RUN` reads and writes.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct TestRun {
    program: u32,
    result: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch: u32,
    pad: u32,
}

/// Runs an `sk_lookup` program once; returns what it returned.
pub(super) fn test_run(program: BorrowedFd<'_>, context: &mut SkLookup) -> io::Result<u32> {
    let size = size_of::<SkLookup>() as u32;
    let address = std::ptr::from_mut(context) as u64;
    let mut attribute = TestRun {
        program: raw(program),
        repeat: 1,
        context_size_in: size,
        context_size_out: size,
        context_in: address,
        context_out: address,
        ..TestRun::zeroed()
    };
    bpf(BPF_PROG_TEST_RUN, &mut attribute)?;
    Ok(attribute.result)
}

/// The context of a TC program as user space gives it and gets it back (`struct __sk_buff`). In a test run the kernel
/// takes the mark, the priority, the interfaces, the control block, the time and the GSO's numbers, and refuses
/// anything else that is not zero.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct SkBuff {
    /// Length in bytes.
    pub length: u32,
    /// `PACKET_HOST` and the like.
    pub packet_type: u32,
    /// Its mark.
    pub mark: u32,
    /// The queue it came by.
    pub queue: u32,
    /// `EtherType`.
    pub protocol: u32,
    /// Whether there is a VLAN tag, the tag, and its protocol.
    pub vlan: [u32; 3],
    /// Its priority.
    pub priority: u32,
    /// The interface that it came in by.
    pub ingress_interface: u32,
    /// The interface whose hook runs.
    pub interface: u32,
    /// Index of its class.
    pub class_index: u32,
    /// The control block: what programs leave for one another, and for tests.
    pub control: [u32; 5],
    /// Hash, class, the data's begin and end, NAPI's id.
    pub unused: [u32; 5],
    /// Family, addresses and ports of its socket, and the metadata's begin.
    pub socket: [u32; 14],
    /// Of a flow dissector.
    pub dissector: u64,
    /// When it was received or shall be sent.
    pub time: u64,
    /// Length on the wire.
    pub wire_length: u32,
    /// How many segments it is made of.
    pub segments: u32,
    /// Its socket.
    pub sk: u64,
    /// Payload of each segment in bytes; 0: it is one packet.
    pub segment_size: u32,
    /// How `time` is to be read, and padding.
    pub time_kind: u32,
    /// The hardware's time.
    pub hardware_time: u64,
}

const _: () = assert!(size_of::<SkBuff>() == 192 && std::mem::offset_of!(SkBuff, segment_size) == 176);

/// Runs a TC program on a packet, `repeat` times; returns what it returned the last time. The packet is at least an
/// Ethernet header long; what became of it and of its context goes where they are.
pub(super) fn test_run_packet(
    program: BorrowedFd<'_>,
    packet: &mut Vec<u8>,
    context: Option<&mut SkBuff>,
    repeat: u32,
) -> io::Result<u32> {
    // A program may make a packet longer: an ICMP answer has headers of its own.
    const GROWTH: usize = 256;
    let mut out = vec![0u8; packet.len() + GROWTH];
    let size = context.as_ref().map_or(0, |_| size_of::<SkBuff>() as u32);
    let address = context.map_or(0, |context| std::ptr::from_mut(context) as u64);
    let mut attribute = TestRun {
        program: raw(program),
        data_size_in: u32::try_from(packet.len()).map_err(io::Error::other)?,
        data_size_out: u32::try_from(out.len()).map_err(io::Error::other)?,
        data_in: packet.as_ptr() as u64,
        data_out: out.as_mut_ptr() as u64,
        repeat,
        context_size_in: size,
        context_size_out: size,
        context_in: address,
        context_out: address,
        ..TestRun::zeroed()
    };
    bpf(BPF_PROG_TEST_RUN, &mut attribute)?;
    out.truncate(attribute.data_size_out as usize);
    *packet = out;
    Ok(attribute.result)
}

/// Waits until no program that is running now can still read what it found before.
///
/// An update of a map of maps by system call does just that: the kernel waits for running programs before it
/// returns, since it promises that none still uses the inner map that was replaced (`maybe_wait_bpf_programs`,
/// since Linux 4.18). `membarrier(MEMBARRIER_CMD_GLOBAL)` waits likewise, but fails where a CPU is isolated by
/// nohz_full, and returns at once on one CPU, where a preempted program may still be half-way.
#[derive(Debug)]
pub(super) struct Grace {
    outer: OwnedFd,
    inner: OwnedFd,
}

impl Grace {
    /// Makes the two little maps that it takes. They are not pinned.
    pub(super) fn new() -> io::Result<Self> {
        #[repr(C)]
        #[derive(Clone, Copy, Pod, Zeroable)]
        struct Attribute {
            kind: u32,
            key_size: u32,
            value_size: u32,
            max_entries: u32,
            flags: u32,
            inner: u32,
        }
        let (key_size, value_size, max_entries, flags) = (4, 4, 1, 0);
        let create = |kind, inner| {
            bpf(BPF_MAP_CREATE, &mut Attribute { kind, key_size, value_size, max_entries, flags, inner })
                .map(owned)
        };
        let inner = create(BPF_MAP_TYPE_ARRAY, 0)?;
        let outer = create(BPF_MAP_TYPE_ARRAY_OF_MAPS, inner.as_raw_fd().cast_unsigned())?;
        Ok(Self { outer, inner })
    }

    /// Waits.
    pub(super) fn wait(&self) -> io::Result<()> {
        #[repr(C)]
        #[derive(Clone, Copy, Pod, Zeroable)]
        struct Attribute {
            map: u32,
            pad: u32,
            key: u64,
            value: u64,
            flags: u64,
        }
        let (key, value) = (0u32, self.inner.as_raw_fd().cast_unsigned());
        let mut attribute = Attribute {
            map: self.outer.as_raw_fd().cast_unsigned(),
            pad: 0,
            key: std::ptr::from_ref(&key) as u64,
            value: std::ptr::from_ref(&value) as u64,
            flags: 0,
        };
        bpf(BPF_MAP_UPDATE_ELEM, &mut attribute).map(drop)
    }
}

/// The memory of an mmapable array whose values are whole u64s, or a part of it. What is mapped counts as the
/// process's own, all of it from the start: large maps are mapped by the part, and only while they are worked on.
#[derive(Debug)]
pub(super) struct Words {
    start: NonNull<AtomicU64>,
    /// Words mapped before those asked for: a mapping begins at a page.
    before: usize,
    count: usize,
}

/// Words in a page.
const PAGE_WORDS: usize = 4096 / 8;

// SAFETY: the memory belongs to the map and is reached through atomics only, from whatever thread.
unsafe impl Send for Words {}
// SAFETY: as above.
unsafe impl Sync for Words {}

impl Words {
    /// Maps `count` words of an array from the word `first` on. Fails if the map is shorter.
    pub(super) fn map(map: BorrowedFd<'_>, first: usize, count: usize) -> io::Result<Self> {
        let before = first % PAGE_WORDS;
        let offset = libc::off_t::try_from((first - before) * 8).map_err(io::Error::other)?;
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        let bytes = (before + count) * 8;
        // SAFETY: a new mapping, at an address of the kernel's choice; it fails if the map is shorter.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, map.as_raw_fd(), offset) };
        match NonNull::new(start.cast::<AtomicU64>()) {
            Some(start) if start.as_ptr().cast() != libc::MAP_FAILED => Ok(Self { start, before, count }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The words.
    pub(super) fn get(&self) -> &[AtomicU64] {
        // SAFETY: mapped for as long as `self`, page-aligned, `before + count` words long; the kernel and other
        // processes change it only by whole words.
        let all = unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.before + self.count) };
        &all[self.before..]
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: the very range that `map` mapped; every borrow of it has ended.
        unsafe { libc::munmap(self.start.as_ptr().cast(), (self.before + self.count) * 8) };
    }
}

/// Sends one Ethernet frame's payload of ARP out of an interface, to everyone.
pub(super) fn broadcast_arp(interface: u32, payload: &[u8]) -> io::Result<()> {
    let protocol = (libc::ETH_P_ARP as u16).to_be();
    // SAFETY: no memory is involved.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let socket = owned(fd.cast_unsigned());
    let to = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol,
        sll_ifindex: interface.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0],
    };
    // SAFETY: payload and address are valid for reads of the lengths given.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            payload.as_ptr().cast(),
            payload.len(),
            0,
            std::ptr::from_ref(&to).cast(),
            size_of::<libc::sockaddr_ll>() as u32,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
