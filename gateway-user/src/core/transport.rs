//! The protocols that are forwarded as they are, TCP and UDP, and all that differs between their routes by name.
//!
//! Owns these names. Must not know what is done with either.

use gateway_ebpf::abi;

/// A protocol of layer 4: of a listener, a route, a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Tcp, Self::Udp];

    /// The one with this IP protocol number; whatever is not UDP is TCP, since nothing else is ever bound.
    #[must_use]
    pub const fn of(number: u8) -> Self {
        if number == abi::UDP { Self::Udp } else { Self::Tcp }
    }

    /// Its IP protocol number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => abi::TCP,
            Self::Udp => abi::UDP,
        }
    }

    /// Its name, as Services and listeners write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }

    /// Its name in labels and in the access log.
    #[must_use]
    pub const fn lower(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// The kind of its routes.
    #[must_use]
    pub const fn route(self) -> &'static str {
        match self {
            Self::Tcp => "TCPRoute",
            Self::Udp => "UDPRoute",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_found_by_its_number() {
        for transport in Transport::ALL {
            assert_eq!(Transport::of(transport.number()), transport);
        }
    }
}
