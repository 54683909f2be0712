//! Why packets are not forwarded: the names and kinds of what is counted.
//!
//! Owns the list, which is a part of the contract: a number that was given stays. Must not decide which one it is.

/// What becomes of packets that forwarding does not forward, and why: index of `REASONS`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Goes to the relay: the endpoint is on the host itself, of the other family, or no route to it is known.
    NotRoutable = 0,
    /// Goes to the relay: no route leads back to the client.
    NoRouteBack = 1,
    /// Goes to the relay: every place for a flow is taken.
    TableFull = 2,
    /// Goes to the relay: no source port is free towards the endpoint.
    NoPort = 3,
    /// Goes to the relay: a socket of this host has the connection already.
    HostSocket = 4,
    /// Goes to the relay: a living flow has the tuple of the answers, and no address of this node can take its place.
    TupleTaken = 5,
    /// Dropped: larger than the route takes; its sender is told by ICMP.
    TooBig = 6,
    /// Dropped: its time to live is over; its sender is told by ICMP.
    TimeExceeded = 7,
    /// Dropped: the kernel refused to change it.
    Failed = 8,
    /// Dropped: the SYN of a connection whose tuple is that of a living flow.
    Collision = 9,
    /// Dropped: its flow was ended by the configuration; both sides of a TCP connection get a reset.
    Withdrawn = 10,
    /// Counted only: an ICMP error that quotes no flow goes to the host.
    IcmpUnknown = 11,
    /// Counted only: the end of a flow that found no room in the log's buffer.
    EventLost = 12,
    /// Counted only: what a flow carried found no room in `TRAFFIC`.
    TrafficFull = 13,
    /// Counted only: a half-open flow made room for a newer one.
    OpeningEvicted = 14,
    /// Counted only: an endpoint did not answer, and the client's next SYN went to another.
    NextBackend = 15,
    /// Dropped: it would open a flow while the flows move to other tables; TCP repeats it.
    Held = 16,
}

/// What kind of [`Reason`] it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReasonKind {
    /// The packet goes up to the host, where `sk_lookup` steers it to the relay.
    Fallback,
    /// The packet is dropped.
    Drop,
    /// Nothing happens to the packet.
    Note,
}

impl Reason {
    /// Every reason, in the order of its number.
    pub const ALL: [Self; 17] = [
        Self::NotRoutable,
        Self::NoRouteBack,
        Self::TableFull,
        Self::NoPort,
        Self::HostSocket,
        Self::TupleTaken,
        Self::TooBig,
        Self::TimeExceeded,
        Self::Failed,
        Self::Collision,
        Self::Withdrawn,
        Self::IcmpUnknown,
        Self::EventLost,
        Self::TrafficFull,
        Self::OpeningEvicted,
        Self::NextBackend,
        Self::Held,
    ];

    /// Its name in metrics and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotRoutable => "not_routable",
            Self::NoRouteBack => "no_route_back",
            Self::TableFull => "table_full",
            Self::NoPort => "no_port",
            Self::HostSocket => "host_socket",
            Self::TupleTaken => "tuple_taken",
            Self::TooBig => "too_big",
            Self::TimeExceeded => "time_exceeded",
            Self::Failed => "failed",
            Self::Collision => "collision",
            Self::Withdrawn => "withdrawn",
            Self::IcmpUnknown => "icmp_unknown",
            Self::EventLost => "event_lost",
            Self::TrafficFull => "traffic_full",
            Self::OpeningEvicted => "opening_evicted",
            Self::NextBackend => "next_backend",
            Self::Held => "held",
        }
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(self) -> ReasonKind {
        match self as u32 {
            0..=5 => ReasonKind::Fallback,
            6..=10 | 16 => ReasonKind::Drop,
            _ => ReasonKind::Note,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_in_the_order_of_their_numbers() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
    }
}
