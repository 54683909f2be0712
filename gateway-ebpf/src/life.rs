//! A flow's life: what has been seen of it, the state that follows, and when it is over.
//!
//! Owns these decisions for kernel and agent. What was seen is a set that only grows, so packets of both directions may
//! be met by two CPUs at once, in either order.

use crate::abi::TCP;

/// Somebody has this place.
pub const LIVE: u32 = 1;
/// The backend has sent a packet.
pub const ANSWERED: u32 = 1 << 1;
/// After that, so has the client.
pub const ESTABLISHED: u32 = 1 << 2;
/// The client has sent a FIN.
pub const CLIENT_FIN: u32 = 1 << 3;
/// The backend has sent a FIN.
pub const BACKEND_FIN: u32 = 1 << 4;
/// The backend's FIN came first: its socket will be the one in TIME_WAIT.
pub const BACKEND_FIRST: u32 = 1 << 5;
/// The client has sent a reset.
pub const CLIENT_RESET: u32 = 1 << 6;
/// The backend has sent a reset.
pub const BACKEND_RESET: u32 = 1 << 7;
/// The backend sees an address and a port of this node.
pub const SNAT: u32 = 1 << 8;
/// The configuration ended it.
pub const WITHDRAWN: u32 = 1 << 9;
/// It is TCP.
pub const IS_TCP: u32 = 1 << 10;
/// It made room for a newer one while it was half open.
pub const EVICTED: u32 = 1 << 11;

/// It is over by the configuration, and both sides have been sent a reset.
pub const TOLD: u32 = 1 << 12;

/// TCP flags, byte 13 of the header (RFC 9293, 3.1).
pub const FIN: u8 = 1;
/// SYN.
pub const SYN: u8 = 1 << 1;
/// RST.
pub const RST: u8 = 1 << 2;
/// ACK.
pub const ACK: u8 = 1 << 4;

/// A second, in nanoseconds.
pub const SECOND: u64 = 1_000_000_000;

/// A flow's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Nobody's place.
    Free,
    /// One side only has been heard, or the client not yet again.
    Opening,
    /// Both sides talk.
    Established,
    /// One side has sent its FIN.
    HalfClosed,
    /// Both have.
    Closing,
    /// One side has sent a reset, or the configuration has ended it.
    Reset,
}

impl State {
    /// Every state that a flow can have.
    pub const ALL: [Self; 5] =
        [Self::Opening, Self::Established, Self::HalfClosed, Self::Closing, Self::Reset];

    /// Its name in metrics and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Opening => "opening",
            Self::Established => "established",
            Self::HalfClosed => "half_closed",
            Self::Closing => "closing",
            Self::Reset => "reset",
        }
    }
}

/// The state that follows from what was seen.
#[inline(always)]
#[must_use]
pub const fn state(bits: u32) -> State {
    if bits & LIVE == 0 {
        State::Free
    } else if bits & (CLIENT_RESET | BACKEND_RESET | WITHDRAWN) != 0 {
        State::Reset
    } else if bits & (CLIENT_FIN | BACKEND_FIN) == CLIENT_FIN | BACKEND_FIN {
        State::Closing
    } else if bits & (CLIENT_FIN | BACKEND_FIN) != 0 {
        State::HalfClosed
    } else if bits & ESTABLISHED != 0 {
        State::Established
    } else {
        State::Opening
    }
}

/// What is new about a flow with a packet: bits to be added. `flags` are those of TCP, 0 for UDP.
#[inline(always)]
#[must_use]
pub const fn learn(bits: u32, reply: bool, flags: u8) -> u32 {
    let mut new = 0;
    if reply {
        new |= ANSWERED;
        if flags & FIN != 0 {
            new |= BACKEND_FIN;
            if bits & (CLIENT_FIN | BACKEND_FIN) == 0 {
                new |= BACKEND_FIRST;
            }
        }
        if flags & RST != 0 {
            new |= BACKEND_RESET;
        }
    } else {
        // A repeated SYN that crosses the answer is not the client's reaction to it.
        if bits & ANSWERED != 0 && flags & SYN == 0 {
            new |= ESTABLISHED;
        }
        if flags & FIN != 0 {
            new |= CLIENT_FIN;
        }
        if flags & RST != 0 {
            new |= CLIENT_RESET;
        }
    }
    new & !bits
}

/// How long a flow may go without a packet, in nanoseconds. `idle` is its own time, in seconds, once it is established.
#[inline(always)]
#[must_use]
pub const fn timeout(bits: u32, idle: u32) -> u64 {
    match state(bits) {
        State::Free => 0,
        // Clients repeat a SYN after 1, 3, 7, 15 and 31 s.
        State::Opening => 40 * SECOND,
        State::Established | State::HalfClosed => idle as u64 * SECOND,
        // The backend's TIME_WAIT (60 s on Linux): until then it may mistake another client's SYN from the same port of
        // ours. Else what is late: repeated FINs and their acknowledgements.
        State::Closing if bits & (SNAT | BACKEND_FIRST) == SNAT | BACKEND_FIRST => 60 * SECOND,
        State::Closing => 5 * SECOND,
        // Its sides hear of it when one of them sends something, and then once more if that one's reset is lost.
        State::Reset if bits & (WITHDRAWN | IS_TCP | TOLD) == WITHDRAWN | IS_TCP => idle as u64 * SECOND,
        State::Reset => 2 * SECOND,
    }
}

/// Whether a flow is over. `full`: somebody needs its place, and what has ended need not wait for what is late.
#[inline(always)]
#[must_use]
pub const fn is_over(bits: u32, idle: u32, seen: u64, now: u64, full: bool) -> bool {
    let quiet = now.saturating_sub(seen);
    let ended = matches!(state(bits), State::Closing | State::Reset);
    if full && ended && quiet > SECOND / 2 {
        return true;
    }
    quiet > timeout(bits, idle)
}

/// Whether another flow may take the source port of this node that a flow has: both its sides have ended it, nothing was
/// on its way for so long that a FIN which was not acknowledged would have been repeated, and the backend's socket is not
/// in TIME_WAIT. `quiet`: nanoseconds since its last packet.
#[inline(always)]
#[must_use]
pub const fn gives_port(bits: u32, quiet: u64) -> bool {
    let rest = match state(bits) {
        State::Closing if bits & BACKEND_FIRST != 0 => timeout(bits, 0),
        // Its backend has not been told yet, and would take a SYN for one of its connection.
        State::Reset if bits & (WITHDRAWN | IS_TCP | TOLD) == WITHDRAWN | IS_TCP => return false,
        State::Closing | State::Reset => SECOND / 2,
        _ => return false,
    };
    bits & SNAT != 0 && quiet > rest
}

/// What is to be done with a packet of a known flow, before anything of it is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Translate it.
    Forward,
    /// The flow has ended and the client opens a new one on the same ports: end the old one, and open.
    Anew,
    /// The backend does not answer and the client asks again: end the flow, and open one to another backend.
    Retry,
    /// Drop it: another connection has this tuple.
    Collision,
    /// Drop it: the flow was ended by the configuration.
    Withdrawn,
}

/// Until a SYN is repeated the client has waited a second (RFC 6298); what comes earlier is a copy.
const REPEATED: u64 = SECOND / 2;

/// Decides on a packet of a known flow. `quiet`: nanoseconds since the packet before.
#[inline(always)]
#[must_use]
pub const fn next(bits: u32, reply: bool, protocol: u8, flags: u8, quiet: u64) -> Next {
    let opens = protocol == TCP && flags & (SYN | ACK | RST) == SYN;
    if opens && reply {
        // The endpoint opens a connection of its own, from the very address and port it serves with.
        return Next::Collision;
    }
    if opens {
        return match state(bits) {
            State::Closing | State::Reset => Next::Anew,
            State::Opening if bits & ANSWERED == 0 && quiet > REPEATED => Next::Retry,
            _ => Next::Forward,
        };
    }
    if bits & WITHDRAWN != 0 { Next::Withdrawn } else { Next::Forward }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::UDP;

    /// The bits after some packets: `>` is the client's, `<` the backend's, then its flags.
    fn life(packets: &str) -> u32 {
        packets.split_whitespace().fold(LIVE | IS_TCP, |bits, packet| {
            let flags = packet[1..].chars().fold(0, |flags, c| {
                flags
                    | match c {
                        'S' => SYN,
                        'A' => ACK,
                        'F' => FIN,
                        'R' => RST,
                        other => panic!("{other}"),
                    }
            });
            bits | learn(bits, packet.starts_with('<'), flags)
        })
    }

    #[test]
    fn states_follow_from_packets() {
        for (packets, want) in [
            (">S", State::Opening),
            (">S <SA", State::Opening),
            (">S <SA >S", State::Opening),
            (">S <SA >A", State::Established),
            (">S <SA >A >FA", State::HalfClosed),
            (">S <SA >A <FA", State::HalfClosed),
            (">S <SA >A <FA >FA", State::Closing),
            (">S <SA >A >FA <FA >A", State::Closing),
            (">S <RA", State::Reset),
            (">S <SA >A >R", State::Reset),
            ("> <", State::Opening),
            ("> < >", State::Established),
        ] {
            assert_eq!(state(life(packets)), want, "{packets}");
        }
        assert_eq!(state(0), State::Free);
        assert_eq!(state(LIVE | WITHDRAWN | ESTABLISHED), State::Reset);
    }

    #[test]
    fn whose_fin_came_first_is_known() {
        for (packets, first) in
            [(">S <SA >A <FA >FA", true), (">S <SA >A >FA <FA", false), (">S <SA >A <FA <FA >FA", true)]
        {
            assert_eq!(life(packets) & BACKEND_FIRST != 0, first, "{packets}");
        }
    }

    #[test]
    fn nothing_is_learned_twice() {
        let bits = life(">S <SA >A >FA <FA");
        assert_eq!(learn(bits, true, FIN | ACK), 0);
        assert_eq!(learn(bits, false, FIN | ACK), 0);
    }

    #[test]
    fn a_flow_is_over_after_its_state_s_time() {
        let snat = SNAT | life(">S <SA >A <FA >FA");
        for (bits, seconds) in [
            (life(">S"), 40),
            (life(">S <SA >A"), 100),
            (life(">S <SA >A <FA"), 100),
            (life(">S <SA >A <FA >FA"), 5),
            (SNAT | life(">S <SA >A >FA <FA"), 5),
            (snat, 60),
            (life(">S <RA"), 2),
            (WITHDRAWN | life(">S <SA >A"), 100),
            (WITHDRAWN | TOLD | life(">S <SA >A"), 2),
            (WITHDRAWN | LIVE, 2),
        ] {
            let at = 1_000 * SECOND;
            assert!(!is_over(bits, 100, at, at + seconds * SECOND, false), "{bits:b} {seconds}");
            assert!(is_over(bits, 100, at, at + seconds * SECOND + 1, false), "{bits:b} {seconds}");
            // A clock that another CPU read a little earlier.
            assert!(!is_over(bits, 100, at, at - 5, false));
        }
        assert!(is_over(snat, 100, 0, SECOND, true) && !is_over(snat, 100, 0, SECOND / 2, true));
        assert!(!is_over(life(">S <SA >A"), 100, 0, 99 * SECOND, true), "what lives is not pushed out");
    }

    #[test]
    fn a_port_is_given_to_another_once_its_flow_has_ended() {
        const NEVER: u64 = 1 << 62;
        for (packets, more, rest) in [
            (">S", 0, NEVER),
            (">S <SA >A", 0, NEVER),
            (">S <SA >A <FA", 0, NEVER),
            (">S <SA >A >FA <FA", 0, SECOND / 2),
            (">S <SA >A <FA >FA", 0, 60 * SECOND),
            (">S <RA", 0, SECOND / 2),
            (">S <SA >A >R", 0, SECOND / 2),
            // A reset ends a socket in TIME_WAIT, too.
            (">S <SA >A <FA >FA >R", 0, SECOND / 2),
            (">S <SA >A", WITHDRAWN, NEVER),
            (">S <SA >A >FA <FA", WITHDRAWN, NEVER),
            (">S <SA >A", WITHDRAWN | TOLD, SECOND / 2),
        ] {
            let bits = life(packets) | SNAT | more;
            assert!(!gives_port(bits, rest), "{packets} {more}");
            assert_eq!(gives_port(bits, rest + 1), rest != NEVER, "{packets} {more}");
            assert!(!gives_port(bits & !SNAT, rest + 1), "{packets} {more}: it has none");
        }
        let udp = LIVE | SNAT | ANSWERED | ESTABLISHED;
        assert!(!gives_port(udp, NEVER) && gives_port(udp | WITHDRAWN, SECOND));
    }

    #[test]
    fn a_packet_of_a_known_flow_is_decided_on() {
        for (packets, reply, flags, quiet, want) in [
            (">S <SA >A", false, ACK, 0, Next::Forward),
            (">S <SA >A", false, SYN, 9 * SECOND, Next::Forward),
            (">S <SA", false, SYN, 9 * SECOND, Next::Forward),
            (">S", false, SYN, SECOND / 2, Next::Forward),
            (">S", false, SYN, SECOND, Next::Retry),
            (">S <SA >A >FA <FA", false, SYN, 0, Next::Anew),
            (">S <SA >A >FA <FA", true, ACK, 0, Next::Forward),
            (">S <RA", false, SYN, 0, Next::Anew),
            (">S <SA >A", true, SYN, 0, Next::Collision),
            (">S", true, SYN | ACK, 0, Next::Forward),
        ] {
            assert_eq!(next(life(packets), reply, TCP, flags, quiet), want, "{packets} {reply} {flags}");
        }
        assert_eq!(next(LIVE, false, UDP, 0, 9 * SECOND), Next::Forward);
        assert_eq!(next(LIVE | WITHDRAWN, false, UDP, 0, 0), Next::Withdrawn);
    }
}
