//! Why a flow ended.
//!
//! Owns the closed list of reasons, and how they follow from what was seen of the flow.

use gateway_ebpf::life::{
    ANSWERED, BACKEND_FIN, BACKEND_RESET, CLIENT_FIN, CLIENT_RESET, ESTABLISHED, EVICTED, WITHDRAWN,
};

/// Why a flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ending {
    /// Both sides had sent their FIN.
    Closed,
    /// The client reset it.
    ClientReset,
    /// The backend reset it, or refused it.
    BackendReset,
    /// No packet came for too long: how flows of UDP end.
    Idle,
    /// The backend never answered.
    Unanswered,
    /// It was half open, and made room for a newer one.
    Evicted,
    /// The configuration ended it.
    Withdrawn,
}

impl Ending {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::Closed,
        Self::ClientReset,
        Self::BackendReset,
        Self::Idle,
        Self::Unanswered,
        Self::Evicted,
        Self::Withdrawn,
    ];

    /// Its name in the access log and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::ClientReset => "client_reset",
            Self::BackendReset => "backend_reset",
            Self::Idle => "idle",
            Self::Unanswered => "unanswered",
            Self::Evicted => "evicted",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// Why a flow ended of which this was seen. What the gateway did itself comes first, then what the one or the other
/// side did.
#[must_use]
pub const fn ending(bits: u32) -> Ending {
    if bits & EVICTED != 0 {
        Ending::Evicted
    } else if bits & WITHDRAWN != 0 {
        Ending::Withdrawn
    } else if bits & CLIENT_RESET != 0 && (bits & BACKEND_RESET == 0 || bits & ESTABLISHED != 0) {
        // Of two resets the backend's is the later one, unless it refused the connection.
        Ending::ClientReset
    } else if bits & BACKEND_RESET != 0 {
        Ending::BackendReset
    } else if bits & ANSWERED == 0 {
        Ending::Unanswered
    } else if bits & CLIENT_FIN != 0 && bits & BACKEND_FIN != 0 {
        Ending::Closed
    } else {
        Ending::Idle
    }
}

#[cfg(test)]
mod tests {
    use gateway_ebpf::life::{IS_TCP, SNAT};

    use super::*;

    #[test]
    fn the_reason_follows_from_what_was_seen() {
        let established = IS_TCP | ANSWERED | ESTABLISHED;
        for (bits, want) in [
            (IS_TCP, Ending::Unanswered),
            (0, Ending::Unanswered),
            (IS_TCP | CLIENT_FIN, Ending::Unanswered),
            (IS_TCP | CLIENT_RESET, Ending::ClientReset),
            (IS_TCP | ANSWERED | BACKEND_RESET, Ending::BackendReset),
            (IS_TCP | ANSWERED | BACKEND_RESET | CLIENT_RESET, Ending::BackendReset),
            (established | CLIENT_RESET, Ending::ClientReset),
            (established | CLIENT_RESET | BACKEND_RESET, Ending::ClientReset),
            (established | CLIENT_FIN | BACKEND_FIN | SNAT, Ending::Closed),
            (established | CLIENT_FIN | BACKEND_FIN | CLIENT_RESET, Ending::ClientReset),
            (established | CLIENT_FIN, Ending::Idle),
            (established, Ending::Idle),
            (ANSWERED, Ending::Idle),
            (IS_TCP | EVICTED, Ending::Evicted),
            (established | WITHDRAWN | CLIENT_RESET, Ending::Withdrawn),
        ] {
            assert_eq!(ending(bits), want, "{bits:b}");
        }
    }

    #[test]
    fn each_reason_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = Ending::ALL.map(Ending::name).into();
        assert_eq!(names.len(), Ending::ALL.len());
    }
}
