//! Connections and flows whose listener or endpoint left the configuration: which those are, and when their time is over.
//!
//! Owns that judgement. It goes by addresses and ports, which a flow holds itself: ids are given to others sooner or later.
//! Must not know where flows are, nor end one. Time is an argument, in any unit.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use gateway_ebpf::abi::{ANY, BindingKey};
use gateway_ebpf::flow::{Flow, bytes};
use gateway_ebpf::life::{LIVE, WITHDRAWN};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{backend, protocol};
use crate::core::snapshot::Snapshot;

/// What a client asked for, and the endpoint that it was led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Led {
    /// The address, port and protocol: never any address.
    pub asked: BindingKey,
    /// The endpoint.
    pub to: SocketAddr,
}

impl Led {
    fn of(flow: &Flow) -> Self {
        let key = &flow.client.key;
        let (address, port) = (bytes(&key.destination), key.destination_port());
        Self { asked: BindingKey { address, port, protocol: protocol(flow), pad: 0 }, to: backend(flow) }
    }
}

/// What is configured: endpoints by binding.
#[derive(Clone, Debug, Default)]
pub struct Configured(FxHashMap<BindingKey, Arc<FxHashSet<SocketAddr>>>);

impl Configured {
    /// That of a snapshot.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Self {
        // Bindings of one route share its endpoints.
        let mut shared: FxHashMap<*const [SocketAddr], Arc<FxHashSet<SocketAddr>>> = FxHashMap::default();
        let of = |listed: &Arc<[SocketAddr]>| {
            let set = shared.entry(Arc::as_ptr(listed));
            Arc::clone(set.or_insert_with(|| Arc::new(listed.iter().copied().collect())))
        };
        Self(snapshot.listed.keys().copied().zip(snapshot.listed.values().map(of)).collect())
    }

    /// Whether a client of this binding, or of any address's, may be led to this endpoint still.
    #[must_use]
    pub fn has(&self, led: &Led) -> bool {
        let any = BindingKey { address: ANY, ..led.asked };
        [led.asked, any].iter().any(|key| self.0.get(key).is_some_and(|listed| listed.contains(&led.to)))
    }

    /// Whether something of it is not in another one.
    fn exceeds(&self, other: &Self) -> bool {
        self.0.iter().any(|(key, listed)| match other.0.get(key) {
            None => !listed.is_empty(),
            Some(same) => !listed.is_subset(same),
        })
    }
}

/// What flows lead where nothing is configured any more, and since when.
#[derive(Debug)]
pub struct Removed {
    grace: u64,
    configured: Configured,
    since: BTreeMap<Led, u64>,
    /// Looks at all flows that are due.
    looks: u32,
}

/// One now, and one for flows that were being made while the configuration changed.
const LOOKS: u32 = 2;

impl Removed {
    /// Nothing is known yet. `grace`: how long flows go on.
    #[must_use]
    pub fn new(grace: u64) -> Self {
        Self { grace, configured: Configured::default(), since: BTreeMap::new(), looks: 0 }
    }

    /// A configuration serves from now on. `first`: whatever there was before is not known.
    pub fn turn(&mut self, configured: Configured, first: bool) {
        self.since.retain(|led, _| !configured.has(led));
        if first || self.configured.exceeds(&configured) {
            self.looks = LOOKS;
        }
        self.configured = configured;
    }

    /// Whether it is time to look at all flows.
    #[must_use]
    pub fn is_due(&self, now: u64) -> bool {
        self.looks > 0 || self.since.values().any(|since| self.is_over(*since, now))
    }

    fn is_over(&self, since: u64, now: u64) -> bool {
        now >= since.saturating_add(self.grace)
    }

    /// Begins a look at all flows.
    #[must_use]
    pub fn look(&mut self, now: u64) -> Look<'_> {
        let (since, known) = (std::mem::take(&mut self.since), FxHashMap::default());
        Look { since, removed: self, now, known, done: false }
    }
}

/// A look at all flows.
#[derive(Debug)]
pub struct Look<'a> {
    removed: &'a mut Removed,
    since: BTreeMap<Led, u64>,
    now: u64,
    /// Whether the time of such flows is over.
    known: FxHashMap<Led, bool>,
    done: bool,
}

/// One that was cut short is begun again.
impl Drop for Look<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.removed.since.append(&mut self.since);
            self.removed.looks = LOOKS;
        }
    }
}

impl Look<'_> {
    /// All flows have been seen: what no flow leads to any more is forgotten.
    pub fn done(mut self) {
        self.removed.looks = self.removed.looks.saturating_sub(1);
        self.done = true;
    }

    /// Whether a flow has to end.
    pub fn ends(&mut self, flow: &Flow) -> bool {
        if flow.life as u32 & (LIVE | WITHDRAWN) != LIVE {
            return false;
        }
        let led = Led::of(flow);
        if let Some(known) = self.known.get(&led) {
            return *known;
        }
        let over = !self.removed.configured.has(&led) && {
            let since = self.since.get(&led).copied().unwrap_or(self.now);
            let over = self.removed.is_over(since, self.now);
            if !over {
                self.removed.since.insert(led, since);
            }
            over
        };
        self.known.insert(led, over);
        over
    }
}

#[cfg(test)]
mod tests {
    use gateway_ebpf::life::IS_TCP;

    use super::*;
    use crate::core::flows::testing::{flow, tuple};

    /// `ADDRESS:PORT/PROTOCOL ENDPOINT …` a line; the address may be `*`.
    fn configured(text: &str) -> Configured {
        let mut snapshot = Snapshot::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (binding, endpoints) = line.split_once(' ').unwrap_or((line, ""));
            let (at, protocol) = binding.split_once('/').unwrap();
            let any = at.starts_with('*');
            let protocol = if protocol == "udp" { 17 } else { 6 };
            let key = tuple("10.0.0.9:1", &at.replace('*', "0.0.0.0"), protocol);
            let address = if any { ANY } else { bytes(&key.destination) };
            let key = BindingKey { address, port: key.destination_port(), protocol, pad: 0 };
            let listed = endpoints.split_whitespace().map(|at| at.parse().unwrap()).collect();
            snapshot.listed.insert(key, listed);
        }
        Configured::of(&snapshot)
    }

    fn tcp(asked: &str, endpoint: &str) -> Flow {
        let client = if asked.starts_with('[') { "[2001:db8::7]:40000" } else { "203.0.113.7:40000" };
        flow(client, asked, endpoint, client, IS_TCP)
    }

    #[test]
    fn what_is_configured_is_a_binding_with_an_endpoint() {
        let configured = configured(
            "192.0.2.1:80/tcp 10.0.0.1:80 10.0.0.2:80
             *:81/tcp 10.0.0.1:80
             192.0.2.1:81/tcp 10.0.0.3:80
             [2001:db8::1]:80/tcp [2001:db8:1::2]:80
             192.0.2.1:82/tcp
             192.0.2.1:53/udp 10.0.0.1:53",
        );
        for (asked, endpoint, has) in [
            ("192.0.2.1:80", "10.0.0.1:80", true),
            ("192.0.2.1:80", "10.0.0.2:80", true),
            ("192.0.2.1:80", "10.0.0.2:81", false),
            ("192.0.2.1:80", "10.0.0.3:80", false),
            ("192.0.2.2:80", "10.0.0.1:80", false),
            // Of any address, whether or not there is another binding of the exact one by now.
            ("192.0.2.9:81", "10.0.0.1:80", true),
            ("192.0.2.1:81", "10.0.0.1:80", true),
            ("192.0.2.1:81", "10.0.0.3:80", true),
            ("192.0.2.9:81", "10.0.0.3:80", false),
            ("[2001:db8::1]:80", "[2001:db8:1::2]:80", true),
            ("[2001:db8::2]:80", "[2001:db8:1::2]:80", false),
            // No route, or one that refers to nothing.
            ("192.0.2.1:82", "10.0.0.1:80", false),
            // Another protocol.
            ("192.0.2.1:53", "10.0.0.1:53", false),
        ] {
            assert_eq!(configured.has(&Led::of(&tcp(asked, endpoint))), has, "{asked} {endpoint}");
        }
        let udp = flow("203.0.113.7:5", "192.0.2.1:53", "10.0.0.1:53", "203.0.113.7:5", 0);
        assert!(configured.has(&Led::of(&udp)));
    }

    /// Which of some flows have to end.
    fn ends(removed: &mut Removed, now: u64, flows: &[Flow]) -> Vec<bool> {
        let mut look = removed.look(now);
        let ends = flows.iter().map(|flow| look.ends(flow)).collect();
        look.done();
        ends
    }

    #[test]
    fn a_look_that_is_cut_short_is_made_again_and_forgets_nothing() {
        let flows = [tcp("192.0.2.1:80", "10.0.0.2:80")];
        let mut removed = Removed::new(10);
        removed.turn(configured(FIRST), true);
        assert_eq!(ends(&mut removed, 0, &flows), [false]);
        assert_eq!(ends(&mut removed, 1, &flows), [false]);
        drop(removed.look(2));
        assert!(removed.is_due(2));
        assert_eq!(ends(&mut removed, 10, &flows), [true], "since it was first seen");
    }

    const BOTH: &str = "192.0.2.1:80/tcp 10.0.0.1:80 10.0.0.2:80";
    const FIRST: &str = "192.0.2.1:80/tcp 10.0.0.1:80";

    #[test]
    fn a_flow_ends_when_it_was_removed_for_long_enough() {
        let flows = [tcp("192.0.2.1:80", "10.0.0.1:80"), tcp("192.0.2.1:80", "10.0.0.2:80")];
        let mut removed = Removed::new(10);
        assert!(!removed.is_due(0));
        removed.turn(configured(BOTH), true);
        assert!(removed.is_due(0), "an agent that starts does not know what was there before");
        assert_eq!(ends(&mut removed, 0, &flows), [false, false]);
        assert_eq!(ends(&mut removed, 1, &flows), [false, false]);
        assert!(!removed.is_due(1_000));
        removed.turn(configured(FIRST), false);
        assert_eq!(ends(&mut removed, 1_000, &flows), [false, false]);
        assert_eq!(ends(&mut removed, 1_001, &flows), [false, false]);
        assert!(!removed.is_due(1_009) && removed.is_due(1_010));
        assert_eq!(ends(&mut removed, 1_010, &flows), [false, true]);
        let withdrawn = Flow { life: flows[1].life | u64::from(WITHDRAWN), ..flows[1] };
        assert_eq!(ends(&mut removed, 1_011, &[flows[0], withdrawn]), [false, false]);
        assert!(!removed.is_due(9_999), "nothing is left to be ended");
    }

    #[test]
    fn what_comes_back_in_time_goes_on_and_its_time_begins_anew() {
        let flows = [tcp("192.0.2.1:80", "10.0.0.2:80")];
        let mut removed = Removed::new(10);
        removed.turn(configured(BOTH), true);
        removed.turn(configured(FIRST), false);
        assert_eq!(ends(&mut removed, 0, &flows), [false]);
        // And goes again, before anybody looks.
        removed.turn(configured(BOTH), false);
        removed.turn(configured(""), false);
        assert_eq!(ends(&mut removed, 9, &flows), [false]);
        assert_eq!(ends(&mut removed, 18, &flows), [false]);
        assert_eq!(ends(&mut removed, 19, &flows), [true]);
    }

    #[test]
    fn without_grace_a_flow_ends_at_the_first_look() {
        let mut removed = Removed::new(0);
        removed.turn(configured(FIRST), true);
        let flows = [tcp("192.0.2.1:80", "10.0.0.1:80"), tcp("192.0.2.1:80", "10.0.0.2:80")];
        assert_eq!(ends(&mut removed, 7, &flows), [false, true]);
    }

    #[test]
    fn a_change_that_takes_nothing_away_costs_no_look() {
        let mut removed = Removed::new(10);
        removed.turn(configured(FIRST), true);
        for now in [0, 1] {
            assert!(ends(&mut removed, now, &[]).is_empty());
        }
        for (text, looks) in [
            (BOTH, false),
            (BOTH, false),
            ("192.0.2.1:81/tcp\n192.0.2.1:80/tcp 10.0.0.2:80", true),
            ("", true),
        ] {
            removed.turn(configured(text), false);
            assert_eq!(removed.is_due(2), looks, "{text}");
            removed.looks = 0;
        }
    }
}
