//! Random bindings and random packets: the loaded `sk_lookup` program and the pure function give the same answer,
//! and the program counts what it answered.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::atomic::Ordering;

use fastrand::Rng;
use gateway_ebpf::abi::{Action, Affinity, Lookups, TCP, UDP};
use gateway_ebpf::select::Tuple;
use gateway_user::core::snapshot::{BindingImage, MapImage, ServiceImage};
use gateway_user::core::steer::{Answer, Workers, steer};

use crate::bed::{Bed, address, backend_key, close, key, ops, register, sockets, undo};

const IMAGES: usize = 40;
const PACKETS: usize = 500;
const SERVICES: u32 = 6;

const ADDRESSES: [&str; 8] =
    ["192.0.2.1", "192.0.2.2", "10.0.0.1", "127.0.0.1", "2001:db8::1", "2001:db8::2", "fe80::1", "::1"];
pub(crate) const PORTS: [u16; 4] = [1, 80, 443, 65535];

pub(crate) fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.usize(..from.len())]
}

pub(crate) fn ip(rng: &mut Rng) -> IpAddr {
    pick(rng, &ADDRESSES).parse().unwrap()
}

/// Some services are referred to and missing, as no plan leaves them: the program must fail closed.
fn random_image(rng: &mut Rng) -> MapImage {
    let mut image = MapImage::default();
    for id in 0..SERVICES - 1 {
        let slots = (0..1usize << rng.u8(0..6)).map(|_| rng.u32(0..4)).collect();
        let affinity = pick(rng, &[Affinity::None, Affinity::ClientIp]);
        image.services.insert(id, ServiceImage { slots, affinity });
    }
    for id in 1..4 {
        image.backends.insert(id, backend_key(&format!("198.51.100.{id}:80")));
    }
    for id in 0..rng.u32(0..24) {
        let at = if rng.u8(..3) == 0 { None } else { Some(ip(rng)) };
        let key = key(at, pick(rng, &PORTS), pick(rng, &[TCP, UDP]));
        let action = pick(rng, &[Action::Forward, Action::Forward, Action::Steer, Action::Reject]);
        let service = (action == Action::Forward).then(|| rng.u32(0..SERVICES));
        let idle = NonZeroU32::new(rng.u32(..3));
        image.bindings.insert(key, BindingImage { action, id, service, idle });
    }
    image
}

/// The client and what it asks for, of one family.
pub(crate) fn random_packet(rng: &mut Rng) -> (SocketAddr, SocketAddr, u8) {
    let asked = ip(rng);
    let client = loop {
        let client = if asked.is_ipv4() { IpAddr::from(rng.u32(..).to_be_bytes()) } else { ip(rng) };
        if client.is_ipv4() == asked.is_ipv4() {
            break client;
        }
    };
    let asked = SocketAddr::new(asked, pick(rng, &PORTS));
    (SocketAddr::new(client, rng.u16(1..)), asked, pick(rng, &[TCP, UDP]))
}

fn tuple(client: SocketAddr, asked: SocketAddr, protocol: u8) -> Tuple {
    Tuple {
        source: address(client.ip()),
        destination: address(asked.ip()),
        source_port: client.port(),
        destination_port: asked.port(),
        protocol,
    }
}

#[test]
fn the_program_answers_as_the_pure_function_does() {
    let seed = std::env::var("SLUICE_SEED").map_or_else(|_| fastrand::u64(..), |s| s.parse().unwrap());
    println!("to repeat: SLUICE_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let mut seen = BTreeMap::<&str, u32>::new();
    for workers in 1..=4 {
        let mut bed = Bed::new("differential", workers);
        for _ in 0..IMAGES / 4 {
            one_image(&mut bed, workers, &mut rng, &mut seen);
        }
    }
    // A test that never gets to an answer does not test it.
    let all = ["untouched", "worker", "swallowed", "rejected", "no_socket", "failed"];
    assert_eq!(seen.keys().copied().collect::<BTreeSet<_>>(), all.into(), "{seen:?}");
    assert!(seen.values().sum::<u32>() >= 10_000);
    println!("{seen:?}");
}

fn one_image(bed: &mut Bed, workers: u32, rng: &mut Rng, seen: &mut BTreeMap<&'static str, u32>) {
    let mut all = bed.ns.enter(|| sockets(workers, &[TCP, UDP]));
    bed.ns.enter(|| register(&mut bed.dataplane, &all));
    bed.sockets.clear();
    // What is closed is gone from the map.
    let closed = all.keys().copied().filter(|_| rng.u8(..8) == 0).collect::<Vec<_>>();
    let closed = closed.into_iter().map(|at| all.remove(&at).unwrap()).collect();
    bed.ns.enter(|| close(closed));
    let cookies: BTreeMap<_, _> = all.iter().map(|(at, socket)| (socket.cookie().unwrap(), *at)).collect();
    let loads: Vec<u64> = (0..workers).map(|_| rng.u64(..3)).collect();
    let shared = bed.dataplane.loads();
    for (worker, load) in loads.iter().enumerate() {
        // What was on its way before is settled.
        let words = shared.worker(worker);
        words.settled.store(words.assigned.load(Ordering::Relaxed), Ordering::Relaxed);
        words.open.store(*load, Ordering::Relaxed);
    }
    let mut view = Workers { loads, sockets: cookies.values().copied().collect() };
    let image = random_image(rng);
    bed.dataplane.apply(&ops(&image)).unwrap();
    assert_eq!(bed.dataplane.have().unwrap().image, image, "what was written is read back");

    let misses = bed.dataplane.reader().counts().unwrap().misses;
    let mut lookups: BTreeMap<u32, Lookups> =
        image.bindings.values().map(|b| (b.id, Lookups::default())).collect();
    let mut missed = 0;
    for _ in 0..PACKETS {
        let (client, asked, protocol) = random_packet(rng);
        let v6 = asked.is_ipv6();
        let want = steer(&image, &view, &tuple(client, asked, protocol), v6);
        let probe = bed.dataplane.probe(client, asked, protocol).unwrap();
        let worker = cookies.get(&probe.cookie);
        let context = format!("{client} to {asked} ({protocol}): {want:?}, {probe:?}, {worker:?}");
        match want {
            Answer::Untouched => assert!(probe.passed && probe.cookie == 0, "{context}"),
            Answer::Worker { worker: picked, .. } => {
                assert!(probe.passed && worker == Some(&(picked, v6, protocol)), "{context}");
            }
            Answer::Swallowed { .. } => {
                assert!(probe.passed && probe.cookie != 0 && worker.is_none(), "{context}");
            }
            Answer::Refused { .. } => assert!(!probe.passed, "{context}"),
        }
        if let Answer::Worker { worker, .. } = want
            && protocol == TCP
        {
            view.loads[worker as usize] += 1;
        }
        match want.counted() {
            None => missed += 1,
            Some((id, verdict)) => {
                lookups.get_mut(&id).unwrap()[verdict as usize] += 1;
            }
        }
        let name = match want {
            Answer::Untouched => "untouched",
            Answer::Worker { .. } => "worker",
            Answer::Swallowed { .. } => "swallowed",
            Answer::Refused { verdict, .. } => verdict.name(),
        };
        *seen.entry(name).or_default() += 1;
    }
    let counts = bed.dataplane.reader().counts().unwrap();
    assert_eq!(counts.lookups, lookups);
    assert_eq!(counts.misses - misses, missed);
    bed.dataplane.apply(&undo(&image)).unwrap();
    assert_eq!(bed.dataplane.have().unwrap().image, MapImage::default());
}
