//! What does not fit into the kernel's maps: the youngest are left out, and say so.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use gateway_ebpf::names::{MAX_BINDINGS, MAX_SLOTS};

use super::{check_on, compiled};
use crate::core::compile::gateways::resolve;
use crate::core::compile::room::{Capacity, share_out};
use crate::core::compile::{Guard, Report, Resolver, Services, routes};
use crate::core::plan::{Have, plan};
use crate::core::snapshot::{Ids, Snapshot};
use crate::core::testing::model;

/// `count` weighted TCPRoutes, `r0` the oldest, each with a listener, a Service and two endpoints of its own.
fn weighted(count: usize) -> String {
    let mut text = String::from("gateway gw\n");
    for n in 0..count {
        writeln!(text, "listener l{n} TCP {}", 1000 + n).unwrap();
    }
    for n in 0..count {
        let [a, b] = [n / 250, n % 250 + 1];
        writeln!(
            text,
            "service s{n} 80\nendpoints s{n} 10.1.{a}.{b}:80\nservice t{n} 80\nendpoints t{n} 10.2.{a}.{b}:80\ntcp r{n} created={n} parent=gw#l{n}\nto s{n}:80 weight=3\nto t{n}:80"
        )
        .unwrap();
    }
    text
}

/// The size of the tables, and the routes that are left out.
fn shared(objects: &str, services: usize, slots: usize, backends: usize) -> (usize, Vec<String>) {
    let (model, host) = (model(objects), super::host(&[]));
    let mut gateways = resolve(&model, &host, &Ids::default());
    let mut resolver = Resolver::new(&model, Guard::new(&host, &gateways));
    let (mut all, mut report) = (Services::default(), Report::default());
    routes::l4(&model, &mut gateways, &mut resolver, &mut all, &mut report);
    let room = share_out(&all, Capacity { services, slots, backends });
    let left = room.left_out.iter().map(|((_, name), why)| format!("{}: {why}", name.name)).collect();
    (room.smallest, left)
}

#[test]
fn tables_shrink_before_a_route_is_left_out() {
    let ten = weighted(10);
    for (slots, size, left) in [
        (20_480, 1024, 0),
        (20_479, 512, 0),
        (5120, 256, 0),
        (2560, 128, 0),
        (1280, 128, 0),
        (1279, 128, 1),
        (128, 128, 9),
    ] {
        let (got, out) = shared(&ten, 100, slots, 100);
        assert_eq!((got, out.len()), (size, left), "{slots} slots: {out:?}");
    }
}

#[test]
fn the_youngest_are_left_out() {
    let ten = weighted(10);
    for (services, slots, backends, why) in [
        (8, 1 << 20, 100, "SERVICES has room for 8"),
        (100, 128 * 8, 100, "SLOTS has room for 0 more slots, and it takes 128"),
        (100, 1 << 20, 17, "BACKENDS has room for 1 more endpoints, and it brings 2"),
    ] {
        let (_, out) = shared(&ten, services, slots, backends);
        assert_eq!(out.len(), 2, "{out:?}");
        for (line, name) in out.iter().zip(["r8", "r9"]) {
            assert!(line.starts_with(&format!("{name}: TCPRoute default/{name} does not fit")), "{line}");
            assert!(line.contains(why), "{line}");
        }
    }
}

fn fits(snapshot: &Snapshot) {
    let plan = plan(&Have::default(), &snapshot.image).expect("what is compiled fits");
    assert!(!plan.is_empty());
}

#[test]
fn fifteen_hundred_weighted_routes_fit() {
    let snapshot = compiled(&weighted(1500), &[]);
    let sizes: BTreeMap<usize, usize> =
        snapshot.image.services.values().fold(BTreeMap::new(), |mut sizes, service| {
            *sizes.entry(service.slots.len()).or_default() += 1;
            sizes
        });
    assert_eq!(sizes, [(256, 1500)].into());
    // 3 to 1 is exact in tables of any size.
    let slots = &snapshot.image.services.values().next().unwrap().slots;
    let first = slots.iter().filter(|id| **id == slots[0]).count();
    assert!([64, 192].contains(&first), "{first}");
    fits(&snapshot);
    assert!(snapshot.report.gateways.values().all(|g| g.conditions.iter().all(|c| c.status)));
}

#[test]
fn too_many_for_the_maps_leave_the_youngest_unprogrammed() {
    let most = (MAX_SLOTS as usize - 65_536) / 128;
    let snapshot = compiled(&weighted(most + 3), &[]);
    fits(&snapshot);
    assert_eq!(snapshot.image.services.len(), most);
    let gateway = snapshot.report.gateways.values().next().unwrap();
    assert!(gateway.conditions.iter().all(|c| c.status), "{:?}", gateway.conditions);
    for (n, listener) in gateway.listeners.iter().enumerate() {
        let programmed = listener.conditions.iter().find(|c| c.kind == "Programmed").unwrap();
        assert_eq!(programmed.status, n < most, "{n}: {programmed:?}");
        if n >= most {
            assert_eq!(programmed.reason, "Pending");
            assert!(programmed.message.contains(&format!("TCPRoute default/r{n} does not fit")));
        }
    }
}

#[test]
fn bindings_too_many_are_those_of_the_youngest_gateway() {
    let mut text = String::new();
    for (gateway, ports) in
        [("old", 1..=MAX_BINDINGS - 1), ("young", MAX_BINDINGS..=MAX_BINDINGS + 1), ("last", 20_000..=20_000)]
    {
        let created = ["old", "young", "last"].iter().position(|name| *name == gateway).unwrap();
        writeln!(text, "gateway {gateway} created={created}").unwrap();
        for port in ports {
            writeln!(text, "listener l{port} HTTP {port}").unwrap();
        }
    }
    let snapshot = compiled(&text, &[]);
    fits(&snapshot);
    assert_eq!(snapshot.image.bindings.len(), MAX_BINDINGS as usize);
    check_on(
        &text,
        &[],
        "gateway old Programmed=True
         listener old/l1 Programmed=True
         gateway young Programmed=True
         listener young/l16384 Programmed=True
         listener young/l16385 Programmed=False:Pending
         listener young/l16385 Programmed says BINDINGS has room for 16384
         gateway last Programmed=False:NoResources
         listener last/l20000 Programmed=False:Pending",
    );
}
