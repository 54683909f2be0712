//! What the kernel does with a packet that asks for a socket: the same answer as the `sk_lookup` program's, out of
//! the image instead of the maps.
//!
//! Owns the answer as a specification that the loaded program is held against (`tests/kernel/differential.rs`). Must
//! not be asked on the data path.

use gateway_ebpf::abi::{ANY, Action, BindingKey, REJECT_BACKEND, TCP, Verdict};
use gateway_ebpf::select::{self, Tuple};

use super::snapshot::{BindingImage, MapImage};

/// The workers, as the kernel sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workers {
    /// Open connections of each.
    pub loads: Vec<u64>,
    /// Which sockets there are: worker, whether it is of IPv6, IP protocol number.
    pub sockets: std::collections::BTreeSet<(u32, bool, u8)>,
}

/// What becomes of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// No binding: the host's own sockets are asked.
    Untouched,
    /// It goes to a worker.
    Worker {
        /// The binding's id.
        binding: u32,
        /// The worker.
        worker: u32,
    },
    /// It is dropped without an answer (UDP).
    Swallowed {
        /// The binding's id.
        binding: u32,
    },
    /// It is refused: TCP is answered with a reset, UDP with port unreachable.
    Refused {
        /// The binding's id.
        binding: u32,
        /// What it is counted as.
        verdict: Verdict,
    },
}

impl Answer {
    /// What is counted: a binding's id and verdict; `None` for a miss.
    #[must_use]
    pub const fn counted(self) -> Option<(u32, Verdict)> {
        match self {
            Self::Untouched => None,
            Self::Worker { binding, .. } => Some((binding, Verdict::Steered)),
            Self::Swallowed { binding } => Some((binding, Verdict::Rejected)),
            Self::Refused { binding, verdict } => Some((binding, verdict)),
        }
    }
}

/// The answer for a packet of either family.
#[must_use]
pub fn steer(image: &MapImage, workers: &Workers, packet: &Tuple, v6: bool) -> Answer {
    let Some((_, binding)) = binding(image, packet) else {
        return Answer::Untouched;
    };
    let id = binding.id;
    let hash = select::hash(packet);
    let refused = |verdict| Answer::Refused { binding: id, verdict };
    let reject = || {
        if packet.protocol == TCP { refused(Verdict::Rejected) } else { Answer::Swallowed { binding: id } }
    };
    match binding.action {
        Action::Reject => return reject(),
        Action::Forward => {
            let Some(service) = binding.service.and_then(|id| image.services.get(&id)) else {
                return refused(Verdict::Failed);
            };
            if service.backend(packet, 0) == REJECT_BACKEND {
                return reject();
            }
        }
        Action::Steer => {}
    }
    let pair = select::two_workers(hash, workers.loads.len() as u32);
    let load = |worker: u32| workers.loads.get(worker as usize).copied().unwrap_or(0);
    let (first, second) = select::workers(pair, packet.protocol, load(pair.0), load(pair.1));
    [first, second]
        .into_iter()
        .find(|worker| workers.sockets.contains(&(*worker, v6, packet.protocol)))
        .map_or(refused(Verdict::NoSocket), |worker| Answer::Worker { binding: id, worker })
}

/// The binding that a packet asks for: that of the exact address, then that of any.
#[must_use]
pub fn binding(image: &MapImage, packet: &Tuple) -> Option<(BindingKey, BindingImage)> {
    [packet.destination, ANY].into_iter().find_map(|address| {
        let key = BindingKey { address, port: packet.destination_port, protocol: packet.protocol, pad: 0 };
        image.bindings.get(&key).map(|binding| (key, *binding))
    })
}
