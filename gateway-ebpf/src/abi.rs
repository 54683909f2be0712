//! Keys and values of the maps.
//!
//! Owns their layout. Must not decide anything: that is `select`.

use core::net::IpAddr;

/// An address as the maps hold it: 16 bytes in wire order, IPv4 mapped into `::ffff:0:0/96`. All zero bytes mean
/// any local address of either family.
pub type Address = [u8; 16];

/// Any local address.
pub const ANY: Address = [0; 16];

/// IP protocol number of TCP (RFC 9293).
pub const TCP: u8 = 6;
/// IP protocol number of UDP (RFC 768).
pub const UDP: u8 = 17;

/// An IPv4 address in wire order, mapped (RFC 4291, 2.5.5.2).
#[inline(always)]
#[must_use]
pub const fn mapped(v4: [u8; 4]) -> Address {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, v4[0], v4[1], v4[2], v4[3]]
}

/// An address as the maps hold it. An IPv4 one that came in by an IPv6 socket is an IPv4 one.
#[must_use]
pub const fn wire(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(v4) => mapped(v4.octets()),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// Where a binding listens: key of `BINDINGS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct BindingKey {
    /// The address, or [`ANY`].
    pub address: Address,
    /// The port, in the host's byte order.
    pub port: u16,
    /// [`TCP`] or [`UDP`].
    pub protocol: u8,
    /// Always zero: part of the hashed key.
    pub pad: u8,
}

/// What is done with traffic for a binding: value of `BINDINGS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Binding {
    /// An [`Action`] as its number.
    pub action: u32,
    /// Dense id of the binding: index of its counters.
    pub id: u32,
    /// Dense id of the service whose slots name the backends; [`NO_SERVICE`] where the worker routes (HTTP).
    pub service: u32,
    /// Seconds that an established flow of the binding may go without a packet; 0: as [`Meta`] says.
    pub idle: u32,
}

/// [`Binding::service`] of a binding that has none.
pub const NO_SERVICE: u32 = u32::MAX;

/// The action of a binding.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Forwarded by TC; what TC leaves is steered.
    Forward = 1,
    /// Steered to a worker.
    Steer = 2,
    /// Refused: TCP clients see a reset at once.
    Reject = 3,
}

impl Action {
    /// The action with this number; `None` for a number of another contract.
    #[inline(always)]
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Forward),
            2 => Some(Self::Steer),
            3 => Some(Self::Reject),
            _ => None,
        }
    }
}

/// What the backend of a service's flow is picked by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Affinity {
    /// The 5-tuple: each flow by itself.
    #[default]
    None,
    /// The client's address alone: all flows of a client have the same backend.
    ClientIp,
}

/// A service's slots as one word, so that it is never read torn: value of `SERVICES`.
/// Bits 0–31: index of its first slot; 32–39: base-2 logarithm of the number of slots; 40: set if the service
/// exists; 41: set for [`Affinity::ClientIp`]; 42–63: generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ServiceWord(pub u64);

/// The largest size class: 65,536 slots.
pub const MAX_SIZE_CLASS: u8 = 16;

impl ServiceWord {
    /// The word for `1 << size_class` slots from `offset` on.
    #[must_use]
    pub const fn new(offset: u32, size_class: u8, affinity: Affinity, generation: u32) -> Self {
        let affinity = match affinity {
            Affinity::None => 0,
            Affinity::ClientIp => 1 << 41,
        };
        let generation = (generation as u64 & 0x3f_ffff) << 42;
        Self(offset as u64 | ((size_class as u64) << 32) | (1 << 40) | affinity | generation)
    }
    /// Index of the first slot.
    #[inline(always)]
    #[must_use]
    pub const fn offset(self) -> u32 {
        self.0 as u32
    }
    /// Base-2 logarithm of the number of slots.
    #[inline(always)]
    #[must_use]
    pub const fn size_class(self) -> u8 {
        (self.0 >> 32) as u8
    }
    /// Whether there is such a service.
    #[inline(always)]
    #[must_use]
    pub const fn exists(self) -> bool {
        self.0 & (1 << 40) != 0
    }
    /// What a backend is picked by.
    #[inline(always)]
    #[must_use]
    pub const fn affinity(self) -> Affinity {
        if self.0 & (1 << 41) == 0 { Affinity::None } else { Affinity::ClientIp }
    }
    /// The word for the same slots, picked by something else.
    #[must_use]
    pub const fn with(self, affinity: Affinity) -> Self {
        Self::new(self.offset(), self.size_class(), affinity, self.generation().wrapping_add(1))
    }
    /// Counts changes, 22 bits.
    #[must_use]
    pub const fn generation(self) -> u32 {
        (self.0 >> 42) as u32
    }
}

/// Backend id 0: the slot of an invalid backend. TCP is reset, UDP dropped.
pub const REJECT_BACKEND: u32 = 0;

/// Where a backend is and how it is reached: value of `BACKENDS`. `sk_lookup` reads only slots; this is for the
/// forwarding programs and for whoever inspects the maps.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Backend {
    /// The endpoint's address.
    pub address: Address,
    /// The address of this node that it sees, unless it is [`BACKEND_LOCAL`]; [`ANY`] if there is none.
    pub source: Address,
    /// The neighbour that packets to it are handed to: the endpoint itself or a router; [`ANY`] if unknown.
    pub next_hop: Address,
    /// Interface towards it; 0 if unknown.
    pub interface: u32,
    /// [`BACKEND_ROUTABLE`], [`BACKEND_LOCAL`].
    pub flags: u32,
    /// The endpoint's port, in the host's byte order.
    pub port: u16,
    /// [`TCP`] or [`UDP`].
    pub protocol: u8,
    /// Always zero.
    pub pad: u8,
    /// The largest IP packet on the way to it, in bytes; 0 if unknown.
    pub mtu: u32,
}

/// [`Backend::flags`]: TC may forward to it: it is not on the host itself, and interface, next hop and MTU are known.
pub const BACKEND_ROUTABLE: u32 = 1;
/// [`Backend::flags`]: it is on this node and its answers pass a hook of ours, so it may see the client's own address.
pub const BACKEND_LOCAL: u32 = 1 << 1;

/// What became of a lookup that found a binding: index within a binding's counters.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// A worker's socket was assigned.
    Steered = 0,
    /// The binding or the slot says Reject.
    Rejected = 1,
    /// No worker's socket: the agent is not running. TCP clients see a reset.
    NoSocket = 2,
    /// The kernel refused the socket, or the map holds what this contract does not know.
    Failed = 3,
}

impl Verdict {
    /// Every verdict, in the order of its number.
    pub const ALL: [Self; 4] = [Self::Steered, Self::Rejected, Self::NoSocket, Self::Failed];

    /// Its name in metrics and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Steered => "steered",
            Self::Rejected => "rejected",
            Self::NoSocket => "no_socket",
            Self::Failed => "failed",
        }
    }
}

/// A binding's lookups by [`Verdict`]: value of `LOOKUPS`, whose index is the binding's id.
pub type Lookups = [u64; Verdict::ALL.len()];

/// Entries of `META`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meta {
    /// [`crate::VERSION`] of whoever made the maps.
    Version = 0,
    /// Number of workers that `SOCKETS` and `LOADS` hold.
    Workers = 1,
    /// The first port of the range that forwarding takes source ports from.
    SnatFirst = 2,
    /// How many ports that range has.
    SnatWidth = 3,
    /// Seconds that an established TCP connection may go without a packet, if its binding says nothing else.
    TcpIdle = 4,
    /// The same for a UDP flow that was answered.
    UdpIdle = 5,
    /// Capacity of `OPENING`.
    Opening = 6,
    /// Bits 0–31: which set of `names::TABLES` is in force; 32–63: the layout of its flows (`flow::LAYOUT`), 0 as long as
    /// there is none.
    Tables = 7,
}

/// Number of entries of `META`.
pub const META_ENTRIES: u32 = Meta::Tables as u32 + 1;

/// What a worker is busy with: value of `LOADS`, a cache line that the worker writes and one that the kernel writes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Load {
    /// Connections open now. The worker's.
    pub open: u64,
    /// Of `assigned`, those that were accepted or are given up: the client went away. The worker's.
    pub settled: u64,
    /// Keeps the two sides off each other's cache line. Zero.
    pub pad: [u64; 6],
    /// TCP connections that `sk_lookup` has sent to the worker, since the agent started. The kernel's.
    pub assigned: u64,
    /// Keeps workers off each other's cache line. Zero.
    pub pad2: [u64; 7],
}

/// Index in `SOCKETS` of a worker's socket.
#[inline(always)]
#[must_use]
pub const fn socket_index(worker: u32, v6: bool, protocol: u8) -> u32 {
    worker * 4 + if v6 { 2 } else { 0 } + if protocol == UDP { 1 } else { 0 }
}

/// Index in `SOCKETS` of the socket that swallows refused datagrams: `sk_lookup` cannot drop one silently, since its
/// drop answers UDP with port unreachable and the specification asks for silence. A filter on the socket drops
/// whatever is assigned to it.
#[inline(always)]
#[must_use]
pub const fn sink_index(v6: bool) -> u32 {
    crate::names::MAX_WORKERS * 4 + if v6 { 1 } else { 0 }
}

const _: () = {
    assert!(size_of::<BindingKey>() == 20 && core::mem::offset_of!(BindingKey, port) == 16);
    assert!(core::mem::offset_of!(BindingKey, protocol) == 18);
    assert!(size_of::<Load>() == 128 && core::mem::offset_of!(Load, assigned) == 64);
    assert!(size_of::<Binding>() == 16 && core::mem::offset_of!(Binding, service) == 8);
    assert!(core::mem::offset_of!(Binding, idle) == 12);
    assert!(size_of::<Backend>() == 64 && core::mem::offset_of!(Backend, port) == 56);
    assert!(core::mem::offset_of!(Backend, source) == 16 && core::mem::offset_of!(Backend, interface) == 48);
    assert!(core::mem::offset_of!(Backend, protocol) == 58 && core::mem::offset_of!(Backend, mtu) == 60);
    assert!(size_of::<ServiceWord>() == 8 && size_of::<Lookups>() == 32);
    assert!(socket_index(crate::names::MAX_WORKERS - 1, true, UDP) + 1 == sink_index(false));
    assert!(sink_index(true) + 1 == crate::names::MAX_SOCKETS);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_word_gives_back_what_went_in() {
        for affinity in [Affinity::None, Affinity::ClientIp] {
            for (offset, class, generation) in
                [(0, 0, 0), (1, 1, 1), (u32::MAX, MAX_SIZE_CLASS, 0x3f_ffff), (1 << 19, 9, 0x40_0001)]
            {
                let word = ServiceWord::new(offset, class, affinity, generation);
                assert_eq!(word.offset(), offset);
                assert_eq!(word.size_class(), class);
                assert_eq!(word.affinity(), affinity);
                assert_eq!(word.generation(), generation & 0x3f_ffff, "22 bits of it");
                assert!(word.exists());
            }
        }
        assert!(!ServiceWord::default().exists());
    }

    #[test]
    fn an_action_is_its_number() {
        for action in [Action::Forward, Action::Steer, Action::Reject] {
            assert_eq!(Action::from_number(action as u32), Some(action));
        }
        for number in [0, 4, u32::MAX] {
            assert_eq!(Action::from_number(number), None);
        }
    }

    #[test]
    fn verdicts_are_in_the_order_of_their_numbers() {
        for (index, verdict) in Verdict::ALL.into_iter().enumerate() {
            assert_eq!(verdict as usize, index);
        }
    }

    #[test]
    fn every_socket_has_an_index_of_its_own() {
        let mut seen = std::collections::BTreeSet::new();
        for worker in 0..crate::names::MAX_WORKERS {
            for v6 in [false, true] {
                for protocol in [TCP, UDP] {
                    assert!(seen.insert(socket_index(worker, v6, protocol)));
                }
            }
        }
        assert!(seen.insert(sink_index(false)) && seen.insert(sink_index(true)));
        assert_eq!(seen.last(), Some(&(crate::names::MAX_SOCKETS - 1)));
    }

    #[test]
    fn ipv4_is_mapped_in_wire_order() {
        let expected = std::net::Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped().octets();
        assert_eq!(mapped([192, 0, 2, 1]), expected);
        for same in ["192.0.2.1", "::ffff:192.0.2.1"] {
            assert_eq!(wire(same.parse().unwrap()), expected, "{same}");
        }
        assert_eq!(wire("2001:db8::1".parse().unwrap())[..4], [0x20, 0x01, 0x0d, 0xb8]);
    }
}
