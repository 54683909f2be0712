//! The plan on the real maps: it leads to what is wanted, from whatever was there, and at no step does a packet meet
//! a binding that points at what is not there.

use std::num::NonZeroU32;
use std::sync::Arc;

use fastrand::Rng;
use gateway_ebpf::abi::{Action, Affinity, TCP, UDP, Verdict};
use gateway_user::core::plan::plan;
use gateway_user::core::snapshot::{BindingImage, MapImage, ServiceImage};

use crate::bed::{Bed, backend_key, config, key, start};
use crate::differential::{PORTS, ip, pick, random_packet};

/// An image as a compilation yields it: what is referred to is there, and nothing else.
fn consistent_image(rng: &mut Rng) -> MapImage {
    let mut image = MapImage::default();
    let mut ids: Vec<u32> = (0..40).collect();
    rng.shuffle(&mut ids);
    for id in ids.into_iter().take(rng.usize(0..24)) {
        let at = if rng.bool() { None } else { Some(ip(rng)) };
        let key = key(at, pick(rng, &PORTS), pick(rng, &[TCP, UDP]));
        let action = pick(rng, &[Action::Forward, Action::Forward, Action::Steer, Action::Reject]);
        let service = (action == Action::Forward).then(|| rng.u32(0..12));
        let idle = NonZeroU32::new(rng.u32(..3));
        image.bindings.insert(key, BindingImage { action, id, service, idle });
    }
    for service in image.bindings.values().filter_map(|b| b.service).collect::<Vec<_>>() {
        let slots: Arc<[u32]> = (0..1usize << rng.u8(0..8)).map(|_| rng.u32(0..30)).collect();
        for id in slots.iter().filter(|id| **id != 0) {
            let at =
                if id % 2 == 0 { format!("198.51.100.{id}:80") } else { format!("[2001:db8::{id}]:{id}") };
            image.backends.insert(*id, backend_key(&at));
        }
        let affinity = pick(rng, &[Affinity::None, Affinity::ClientIp]);
        image.services.entry(service).or_insert(ServiceImage { slots, affinity });
    }
    let used: Vec<u32> = image.services.values().flat_map(|s| s.slots.iter().copied()).collect();
    image.backends.retain(|id, _| used.contains(id));
    image
}

/// Lookups that met what the contract does not know.
fn failures(bed: &Bed) -> u64 {
    let lookups = bed.dataplane.reader().lookups().unwrap();
    lookups.values().map(|verdicts| verdicts[Verdict::Failed as usize]).sum()
}

#[test]
fn plans_lead_to_what_is_wanted_and_break_nothing_on_the_way() {
    let seed = std::env::var("SLUICE_SEED").map_or_else(|_| fastrand::u64(..), |s| s.parse().unwrap());
    println!("to repeat: SLUICE_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let mut bed = Bed::new("plans", 2);
    let mut steps = 0;
    for round in 0..40 {
        let want = consistent_image(&mut rng);
        let plan = plan(&bed.dataplane.have().unwrap(), &want).unwrap();
        for op in plan.withdraw.iter().chain(&plan.install) {
            bed.dataplane.apply(std::slice::from_ref(op)).unwrap();
            for _ in 0..10 {
                let (client, asked, protocol) = random_packet(&mut rng);
                bed.dataplane.probe(client, asked, protocol).unwrap();
            }
            assert_eq!(failures(&bed), 0, "round {round}: after {op:?}");
            steps += 1;
        }
        assert_eq!(bed.dataplane.have().unwrap().image, want, "round {round}");
        // Done again, it changes nothing.
        bed.dataplane.apply(&plan.withdraw).unwrap();
        bed.dataplane.apply(&plan.install).unwrap();
        assert_eq!(bed.dataplane.have().unwrap().image, want, "round {round}, again");
        if round % 10 == 9 {
            bed = restart(bed);
        }
    }
    assert!(steps > 400, "{steps} steps");
}

/// As after kill -9: the maps are what the next agent finds.
fn restart(bed: Bed) -> Bed {
    let Bed { dataplane, sockets, fs, ns } = bed;
    drop((dataplane, sockets));
    let (dataplane, sockets) = start(&ns, &config(&fs, 2));
    Bed { dataplane, sockets, fs, ns }
}
