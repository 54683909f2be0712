//! Random configurations and random packets: the loaded TC programs and the pure function do the same with a packet and
//! with its flow.
//!
//! A test run shows every redirect alike: decision, reason and interface are in the packet's control block, the next hop
//! in FLOWS. It builds packets whose checksum is complete; what the programs do with partial ones is for traffic with
//! offloads to show (`tests/e2e`).

#[path = "forward/ground.rs"]
mod ground;
#[path = "forward/judge.rs"]
mod judge;
#[path = "forward/met.rs"]
mod met;
#[path = "forward/traffic.rs"]
mod traffic;

use std::time::Instant;

use fastrand::Rng;
use gateway_tests::netns::NetNs;
use judge::Judge;

/// Packets on this machine's kernel.
const PACKETS: u64 = 100_000;
/// Packets with one configuration.
const ROUND: u64 = 2_000;

#[test]
fn the_programs_forward_as_the_pure_function_does() {
    let seed = std::env::var("SLUICE_SEED").map_or_else(|_| fastrand::u64(..), |s| s.parse().unwrap());
    // Emulated machines take fewer.
    let packets = std::env::var("SLUICE_PACKETS").map_or(PACKETS, |s| s.parse().unwrap());
    println!("to repeat: SLUICE_SEED={seed}");
    let begin = Instant::now();
    let ns = NetNs::new("forward");
    let judge = ns.enter(|| {
        let mut judge = Judge::new(&ns, Rng::with_seed(seed));
        while judge.packets < packets {
            judge.configure();
            for _ in 0..ROUND {
                judge.packet();
            }
        }
        judge.finish();
        judge
    });
    let took = begin.elapsed();
    println!("{} packets in {took:.1?}: {:.1?} each", judge.packets, took / judge.packets as u32);
    println!("{:#?}", judge.met);
    // A test that never gets to a decision does not test it. What is seldom is met among many packets only.
    let missed: Vec<_> = met::all().filter(|what| !judge.met.contains_key(what)).collect();
    assert!(missed.is_empty() || packets < PACKETS, "never met: {missed:?}");
    for decision in ["answered: too_big", "forwarded: no reason", "next: no reason", "next: not_routable"] {
        assert!(judge.met.contains_key(&format!("IPv4 {decision}")), "never met: {decision}");
    }
}
