//! Pools of addresses: which addresses they hold, and which Gateway gets which of them.
//!
//! Owns the forms in which ranges are written, and the assignment: what a Gateway had it keeps, a new one gets the
//! lowest that is free. Must not know conditions, nor where it is kept who had which address.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;
use rustc_hash::FxHashMap;

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Addresses of one family, from the first to the last: never empty, and each could be a Gateway's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range {
    first: IpAddr,
    last: IpAddr,
}

/// Why a text is no range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// It has none of the forms.
    #[error("is no network, range or address")]
    Form,
    /// Its ends are of different families.
    #[error("mixes the families: it begins with IPv4 and ends with IPv6, or the other way round")]
    Mixed,
    /// Its last address is below its first.
    #[error("is empty: {last} is below {first}")]
    Empty {
        /// As written.
        first: IpAddr,
        /// As written.
        last: IpAddr,
    },
    /// A network with bits behind its prefix.
    #[error("is no network: it has bits set behind the prefix")]
    HostBits {
        /// The network that the address is in.
        network: IpNet,
        /// The address.
        address: IpAddr,
    },
    /// It has addresses that no Gateway can have.
    #[error("has addresses that no Gateway can have: {first}-{last} is {what}")]
    Unusable {
        /// The first of these.
        first: IpAddr,
        /// The last of these.
        last: IpAddr,
        /// What they are for.
        what: &'static str,
    },
}

impl RangeError {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Form => {
                "write a network such as 192.0.2.0/28, a range such as 192.0.2.10-192.0.2.20, or one address"
                    .to_owned()
            }
            Self::Mixed => "write a range for each family".to_owned(),
            Self::Empty { first, last } => format!("write {last}-{first}"),
            Self::HostBits { network, address } => {
                format!("write {network} for the network, or {address} for this address alone")
            }
            Self::Unusable { .. } => "use addresses that hosts can have".to_owned(),
        }
    }
}

/// What no Gateway can have.
const UNUSABLE: [(IpAddr, IpAddr, &str); 9] = {
    const fn v4(first: [u8; 4], last: [u8; 4], what: &str) -> (IpAddr, IpAddr, &str) {
        let [a, b, c, d] = first;
        let [e, f, g, h] = last;
        (IpAddr::V4(Ipv4Addr::new(a, b, c, d)), IpAddr::V4(Ipv4Addr::new(e, f, g, h)), what)
    }
    const fn v6(first: u128, last: u128, what: &str) -> (IpAddr, IpAddr, &str) {
        (IpAddr::V6(Ipv6Addr::from_bits(first)), IpAddr::V6(Ipv6Addr::from_bits(last)), what)
    }
    [
        v4([0, 0, 0, 0], [0, 255, 255, 255], "unspecified"),
        v4([127, 0, 0, 0], [127, 255, 255, 255], "loopback"),
        v4([224, 0, 0, 0], [239, 255, 255, 255], "multicast"),
        v4([240, 0, 0, 0], [255, 255, 255, 255], "reserved, and broadcast at its end"),
        v6(0, 0, "unspecified"),
        v6(1, 1, "loopback"),
        v6(0xffff << 32, (0xffff << 32) + 0xffff_ffff, "IPv4 in the form of IPv6, to be written as IPv4"),
        v6(0xfe80 << 112, (0xfec0 << 112) - 1, "link-local"),
        v6(0xff00 << 112, u128::MAX, "multicast"),
    ]
};

impl Range {
    fn new(first: IpAddr, last: IpAddr) -> Result<Self, RangeError> {
        if Family::of(first) != Family::of(last) {
            return Err(RangeError::Mixed);
        }
        if last < first {
            return Err(RangeError::Empty { first, last });
        }
        let range = Self { first, last };
        match UNUSABLE.into_iter().find(|&(first, last, _)| range.overlaps(&Self { first, last })) {
            Some((first, last, what)) => Err(RangeError::Unusable { first, last, what }),
            None => Ok(range),
        }
    }

    /// What a network gives out: all but its own address and broadcast in IPv4, all but the subnet routers' anycast
    /// address in IPv6 (RFC 4291, section 2.6.1); of a link between two, or of one address, all.
    fn network(network: IpNet) -> Result<Self, RangeError> {
        let whole = Self::new(network.network(), network.broadcast())?;
        Ok(match network {
            IpNet::V4(net) if net.prefix_len() < 31 => Self {
                first: Ipv4Addr::from_bits(net.network().to_bits() + 1).into(),
                last: Ipv4Addr::from_bits(net.broadcast().to_bits() - 1).into(),
            },
            IpNet::V6(net) if net.prefix_len() < 127 => {
                Self { first: Ipv6Addr::from_bits(net.network().to_bits() + 1).into(), ..whole }
            }
            IpNet::V4(_) | IpNet::V6(_) => whole,
        })
    }

    fn contains(&self, ip: IpAddr) -> bool {
        // Addresses are ordered by family first.
        (self.first..=self.last).contains(&ip)
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl FromStr for Range {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let ip = |text: &str| text.parse::<IpAddr>().map_err(|_| RangeError::Form);
        if let Some((first, last)) = text.split_once('-') {
            return Self::new(ip(first)?, ip(last)?);
        }
        if !text.contains('/') {
            let address = ip(text)?;
            return Self::new(address, address);
        }
        let network: IpNet = text.parse().map_err(|_| RangeError::Form)?;
        if network.trunc() == network {
            Self::network(network)
        } else {
            Err(RangeError::HostBits { network: network.trunc(), address: network.addr() })
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// Ranges that do not overlap: at least one, the lowest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pools {
    ranges: Vec<Range>,
}

impl Pools {
    /// Pools of these ranges; `None` if there are none.
    ///
    /// # Errors
    /// Two ranges overlap: their positions, the one written later at the end.
    pub fn new(ranges: &[Range]) -> Result<Option<Self>, (usize, usize)> {
        let mut sorted: Vec<(Range, usize)> = ranges.iter().copied().zip(0..).collect();
        sorted.sort_unstable();
        for pair in sorted.windows(2) {
            let [(one, a), (other, b)] = pair else { continue };
            if one.overlaps(other) {
                return Err((*a.min(b), *a.max(b)));
            }
        }
        let ranges: Vec<Range> = sorted.into_iter().map(|(range, _)| range).collect();
        Ok((!ranges.is_empty()).then_some(Self { ranges }))
    }

    /// Whether an address, in its canonical form, is in one of them.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        let after = self.ranges.partition_point(|range| range.first <= ip);
        after.checked_sub(1).is_some_and(|at| self.ranges[at].contains(ip))
    }

    /// The ranges of a family.
    pub fn of(&self, family: Family) -> impl Iterator<Item = &Range> {
        self.ranges.iter().filter(move |range| Family::of(range.first) == family)
    }
}

impl fmt::Display for Pools {
    /// The first ranges; beyond the fourth they are counted.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 4;
        for (at, range) in self.ranges.iter().take(SHOWN).enumerate() {
            write!(f, "{}{range}", if at == 0 { "" } else { ", " })?;
        }
        match self.ranges.len().checked_sub(SHOWN) {
            Some(more) if more > 0 => write!(f, " and {more} more"),
            _ => Ok(()),
        }
    }
}

/// What a Gateway wants out of pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish<'p> {
    /// Nothing.
    Nothing,
    /// An address of each family that the pools have.
    From(&'p Pools),
    /// What it had, from whatever pools, and nothing new: it is not served now, and may be again.
    Keep,
}

/// What a Gateway asks for.
#[derive(Clone, Debug)]
pub struct Request<'p> {
    /// Static addresses, in their canonical form.
    pub fixed: Vec<IpAddr>,
    /// What it wants out of pools.
    pub wish: Wish<'p>,
    /// The addresses that it had until now, static ones too.
    pub had: &'p [IpAddr],
}

/// What a Gateway gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignment {
    /// Its static addresses.
    pub fixed: Vec<IpAddr>,
    /// Static addresses that it does not get, with the position of the request that has each out of a pool.
    pub taken: Vec<(IpAddr, usize)>,
    /// Addresses out of pools.
    pub given: Vec<IpAddr>,
    /// Families of which there is none left for it.
    pub missing: Vec<Family>,
}

/// Gives each request its addresses; earlier ones come first. `own` are addresses that nobody gets who did not have
/// them before: the host's. Without `new` nobody gets any but what it had.
///
/// - What was given out of a pool stays where it is, for as long as the pools have it.
/// - A static address may be several requests', and is none that is given to anybody. A request that asks for it
///   after somebody else got it out of a pool does not get it.
#[must_use]
pub fn assign(requests: &[Request<'_>], own: &BTreeSet<IpAddr>, new: bool) -> Vec<Assignment> {
    let fixed = || requests.iter().flat_map(|r| r.fixed.iter().map(move |ip| (*ip, r)));
    let settled: BTreeSet<IpAddr> = fixed().filter(|(ip, r)| r.had.contains(ip)).map(|(ip, _)| ip).collect();
    let mut holders: BTreeMap<IpAddr, usize> = BTreeMap::new();
    let mut assignments = vec![Assignment::default(); requests.len()];
    for (at, request) in requests.iter().enumerate() {
        for ip in request.had {
            let given = &mut assignments[at].given;
            let kept = match request.wish {
                Wish::Nothing => false,
                Wish::From(pools) => {
                    pools.contains(*ip) && given.iter().all(|have| Family::of(*have) != Family::of(*ip))
                }
                Wish::Keep => !request.fixed.contains(ip),
            };
            if kept && !settled.contains(ip) && !holders.contains_key(ip) {
                holders.insert(*ip, at);
                given.push(*ip);
            }
        }
    }
    let mut used: BTreeSet<IpAddr> = own.iter().copied().chain(fixed().map(|(ip, _)| ip)).collect();
    for (request, assignment) in requests.iter().zip(&mut assignments) {
        for ip in &request.fixed {
            match holders.get(ip) {
                Some(holder) => assignment.taken.push((*ip, *holder)),
                None => assignment.fixed.push(*ip),
            }
        }
    }
    used.extend(holders.keys());
    let mut free = Free { used, from: FxHashMap::default() };
    for (request, assignment) in requests.iter().zip(&mut assignments) {
        let Wish::From(pools) = request.wish else { continue };
        for family in Family::ALL {
            let has = assignment.given.iter().any(|ip| Family::of(*ip) == family);
            if has || pools.of(family).next().is_none() {
                continue;
            }
            match new.then(|| free.take(pools, family)).flatten() {
                Some(ip) => assignment.given.push(ip),
                None => assignment.missing.push(family),
            }
        }
        assignment.given.sort_unstable();
    }
    assignments
}

/// What is free: a pool may have more addresses than there is memory.
struct Free {
    used: BTreeSet<IpAddr>,
    /// What of a range is not looked at yet; `None`: it is all used.
    from: FxHashMap<Range, Option<IpAddr>>,
}

impl Free {
    /// Takes the lowest address of a family.
    fn take(&mut self, pools: &Pools, family: Family) -> Option<IpAddr> {
        for range in pools.of(family) {
            let from = self.from.entry(*range).or_insert(Some(range.first));
            while let Some(ip) = *from {
                *from = after(ip).filter(|next| range.contains(*next));
                if self.used.insert(ip) {
                    return Some(ip);
                }
            }
        }
        None
    }
}

/// The address after this one.
fn after(ip: IpAddr) -> Option<IpAddr> {
    Some(match ip {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits().checked_add(1)?).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits().checked_add(1)?).into(),
    })
}

#[cfg(test)]
mod tests;
