//! Hooks on interfaces: attached first, found again, confirmed, repaired, removed; by tcx and by clsact.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use gateway_ebpf::names::{FORWARD_MAPS, STUB_ETHERNET, STUB_RAW};
use gateway_tests::bpffs::BpfFs;
use gateway_tests::netns::NetNs;
use gateway_user::core::locality::{Stub, path, stub, ways};
use gateway_user::core::network::{Answer, Kind, Medium, Network};
use gateway_user::core::plan::{Op, follow};
use gateway_user::core::snapshot::MapImage;
use gateway_user::dataplane::{Dataplane, Forwarding, Hook, Networks, Wanted, at_ingress};

use crate::bed::{Bed, backend_key, config, image, pin_dir, start, wait};

/// Small, since the machines that this runs on may be.
fn forwarding(clsact: bool) -> Forwarding {
    Forwarding {
        flows: 256,
        opening: 64,
        ports: 40_000..=40_999,
        tcp_idle: Duration::from_secs(7200),
        udp_idle: Duration::from_secs(120),
        clsact,
    }
}

/// Whether the kernel has tcx: since Linux 6.6.
fn has_tcx() -> bool {
    let version = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = version.split(['.', '-']).map(|n| n.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap(), numbers.next().unwrap()) >= (6, 6)
}

/// The kinds of hooks to test here.
fn kinds() -> Vec<(bool, Hook)> {
    let tcx = has_tcx().then_some((false, Hook::Tcx));
    tcx.into_iter().chain([(true, Hook::Clsact)]).collect()
}

fn network(ns: &NetNs, endpoints: &[&str]) -> Network {
    let endpoints: BTreeSet<IpAddr> = endpoints.iter().map(|ip| ip.parse().unwrap()).collect();
    ns.block_on(async move || Networks::open().unwrap().reader().read(&endpoints).await.unwrap())
}

fn index(network: &Network, name: &str) -> u32 {
    *network.links.iter().find(|(_, link)| link.name == name).unwrap().0
}

/// What the agent would hook.
fn wanted(network: &Network) -> BTreeMap<u32, Wanted> {
    let links = network.links.iter();
    links
        .filter_map(|(index, link)| {
            let stub = stub(link, network, &[]).ok()?;
            Some((*index, Wanted { name: link.name.clone(), stub }))
        })
        .collect()
}

/// Hooks what the agent would; what became of each, by name.
fn hook(ns: &NetNs, dataplane: &mut Dataplane) -> BTreeMap<String, Hook> {
    let wanted = wanted(&network(ns, &[]));
    let hooked = ns.enter(|| dataplane.hook(&wanted)).unwrap();
    hooked.into_iter().map(|(index, hook)| (wanted[&index].name.clone(), hook.unwrap())).collect()
}

/// A namespace with a veth `v` to another one.
fn pair(name: &str) -> (NetNs, NetNs) {
    let (ns, other) = (NetNs::new(name), NetNs::new(&format!("{name}-other")));
    ns.veth("v", &other, "eth0");
    ns.address("v", Ipv4Addr::new(10, 8, 0, 1).into(), 24);
    other.address("eth0", Ipv4Addr::new(10, 8, 0, 2).into(), 24);
    (ns, other)
}

fn open(ns: &NetNs, fs: &BpfFs, clsact: bool) -> Dataplane {
    let (mut dataplane, _sockets) = start(ns, &config(fs, 1));
    ns.enter(|| dataplane.forward(&forwarding(clsact))).unwrap();
    dataplane
}

/// Ids of the programs at an interface's ingress: by tcx in their order, then filters.
fn programs(ns: &NetNs, device: &str) -> Vec<u64> {
    let links = if has_tcx() { ns.enter(|| at_ingress(device)).unwrap() } else { Vec::new() };
    let shown = ns.run(&format!("tc -j filter show dev {device} ingress"));
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let filters = shown.as_array().unwrap().iter().filter_map(|f| f["options"]["prog"]["id"].as_u64());
    links.into_iter().map(u64::from).chain(filters).collect()
}

fn show_program(id: &str) -> serde_json::Value {
    let output = Command::new("bpftool").args(["-j", "prog", "show", "id", id]).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

fn program_name(id: u64) -> String {
    show_program(&id.to_string())["name"].as_str().unwrap().to_owned()
}

#[test]
fn a_hook_outlives_its_agent_and_the_next_one_switches_it() {
    for (clsact, kind) in kinds() {
        let (ns, _other) = pair("hooks-takeover");
        let fs = BpfFs::new();
        let mut first = open(&ns, &fs, clsact);
        assert_eq!(hook(&ns, &mut first), BTreeMap::from([("v".to_owned(), kind)]));
        let before = programs(&ns, "v");
        assert_eq!(before.len(), 1, "{kind:?}");
        assert_eq!(program_name(before[0]), STUB_ETHERNET);
        // Again: it is confirmed, and nothing is attached twice.
        assert_eq!(hook(&ns, &mut first).len(), 1);
        assert_eq!(programs(&ns, "v"), before, "{kind:?}");

        drop(first);
        assert_eq!(programs(&ns, "v"), before, "{kind:?}: it stays");
        let mut second = open(&ns, &fs, clsact);
        assert_eq!(programs(&ns, "v"), before, "{kind:?}: no detour by none");
        assert_eq!(hook(&ns, &mut second), BTreeMap::from([("v".to_owned(), kind)]));
        let after = programs(&ns, "v");
        assert_eq!((after.len(), program_name(after[0])), (1, STUB_ETHERNET.to_owned()), "{kind:?}");
        assert_ne!(after, before, "{kind:?}: the new one's");

        drop(second);
        let removed = ns.enter(|| Dataplane::uninstall(&config(&fs, 1)).unwrap());
        assert!(!removed.is_empty() && fs.pins().is_empty(), "{removed:?}");
        assert_eq!(programs(&ns, "v"), Vec::<u64>::new(), "{kind:?}: nothing is left");
    }
}

#[test]
fn a_hook_that_somebody_removed_is_made_again() {
    for (clsact, kind) in kinds() {
        let (ns, _other) = pair("hooks-repair");
        let fs = BpfFs::new();
        let mut dataplane = open(&ns, &fs, clsact);
        hook(&ns, &mut dataplane);
        if clsact {
            ns.run("tc qdisc del dev v clsact");
        } else {
            let at = index(&network(&ns, &[]), "v");
            let pin = pin_dir(&fs).join(format!("link_tc_{at}"));
            let status =
                Command::new("bpftool").args(["link", "detach", "pinned"]).arg(pin).status().unwrap();
            assert!(status.success());
        }
        assert_eq!(programs(&ns, "v"), Vec::<u64>::new(), "{kind:?}");
        assert_eq!(hook(&ns, &mut dataplane), BTreeMap::from([("v".to_owned(), kind)]));
        assert_eq!(programs(&ns, "v").len(), 1, "{kind:?}");
    }
}

#[test]
fn another_kind_of_hook_takes_the_place_of_the_one_before() {
    let fs = BpfFs::new();
    let (ns, _other) = pair("hooks-kinds");
    for (clsact, kind) in kinds().into_iter().chain(kinds().into_iter().take(1)) {
        let mut dataplane = open(&ns, &fs, clsact);
        assert_eq!(hook(&ns, &mut dataplane), BTreeMap::from([("v".to_owned(), kind)]));
        assert_eq!(programs(&ns, "v").len(), 1, "{kind:?}: one of them sees each packet");
    }
}

#[test]
fn an_interface_that_comes_is_hooked_and_one_that_goes_is_forgotten() {
    for (clsact, kind) in kinds() {
        let (ns, _other) = pair("hooks-come");
        let fs = BpfFs::new();
        let mut dataplane = open(&ns, &fs, clsact);
        hook(&ns, &mut dataplane);
        let pinned = |fs: &BpfFs| {
            let pins = fs.pins().into_iter();
            pins.filter(|pin| pin.to_string_lossy().contains("link_tc_")).collect::<Vec<PathBuf>>()
        };
        let before = pinned(&fs);
        ns.run("ip link add d0 type veth peer name d1");
        assert_eq!(hook(&ns, &mut dataplane).len(), 1, "it is down");
        ns.run("ip link set d0 up");
        assert_eq!(hook(&ns, &mut dataplane).get("d0"), Some(&kind));
        assert_eq!(programs(&ns, "d0").len(), 1);
        ns.run("ip link del d0");
        assert_eq!(hook(&ns, &mut dataplane), BTreeMap::from([("v".to_owned(), kind)]));
        assert_eq!(pinned(&fs), before, "{kind:?}");
    }
}

#[test]
fn a_program_behind_ours_sees_what_is_not_ours() {
    for (clsact, kind) in kinds() {
        // Somebody else's program: for want of another, a stub of an agent elsewhere, whose runs the kernel counts.
        let (elsewhere, _there) = pair("hooks-elsewhere");
        let theirs = BpfFs::new();
        let mut another = open(&elsewhere, &theirs, clsact);
        hook(&elsewhere, &mut another);
        let id = programs(&elsewhere, "v")[0].to_string();
        let pin = theirs.path().join("theirs");
        let status = Command::new("bpftool").args(["prog", "pin", "id", &id]).arg(&pin).status().unwrap();
        assert!(status.success());

        let (ns, other) = pair("hooks-behind");
        let fs = BpfFs::new();
        ns.run("tc qdisc add dev v clsact");
        let pin = pin.display();
        ns.run(&format!("tc filter add dev v ingress pref 7 protocol all bpf da object-pinned {pin}"));
        let mut dataplane = open(&ns, &fs, clsact);
        assert_eq!(hook(&ns, &mut dataplane), BTreeMap::from([("v".to_owned(), kind)]));
        assert_eq!(programs(&ns, "v")[1].to_string(), id, "{kind:?}: it is behind");
        let _counting = RunCounts::on();
        let seen = || show_program(&id)["run_cnt"].as_u64().unwrap_or(0);
        let before = seen();
        let socket = other.enter(|| std::net::UdpSocket::bind("10.8.0.2:0").unwrap());
        socket.send_to(b"not ours", "10.8.0.1:9").unwrap();
        wait("the program behind sees nothing", || seen() > before);
        drop(dataplane);
        ns.enter(|| Dataplane::uninstall(&config(&fs, 1)).unwrap());
        assert_eq!(programs(&ns, "v").len(), 1, "{kind:?}: another's stays");
    }
}

/// The kernel counts the runs of programs while this lives; it costs each of them.
struct RunCounts(String);

impl RunCounts {
    const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

    fn on() -> Self {
        let before = std::fs::read_to_string(Self::SWITCH).unwrap();
        std::fs::write(Self::SWITCH, "1").unwrap();
        Self(before)
    }
}

impl Drop for RunCounts {
    fn drop(&mut self) {
        std::fs::write(Self::SWITCH, &self.0).unwrap();
    }
}

#[test]
fn links_are_what_they_are() {
    let (ns, _other) = pair("hooks-links");
    for line in [
        "ip link add br0 type bridge",
        "ip link add d0 type veth peer name d1",
        "ip link set d0 master br0",
        "ip link set d1 up",
        "ip link set d0 up",
        "ip link set br0 up",
        "ip tuntap add t0 mode tun",
        "ip link set t0 up",
        "ip tuntap add a0 mode tap",
        "ip link set a0 up",
    ] {
        ns.run(line);
    }
    let network = network(&ns, &[]);
    let link = |name: &str| &network.links[&index(&network, name)];
    assert_eq!(link("lo").medium, Medium::Loopback);
    assert_eq!((link("v").kind, link("v").medium, link("v").mtu), (Kind::Veth, Medium::Ethernet, 1500));
    assert_eq!((link("t0").kind, link("t0").medium), (Kind::Tun, Medium::Raw));
    assert_eq!((link("a0").kind, link("a0").medium), (Kind::Tun, Medium::Ethernet));
    assert_eq!(link("d0").master, Some(index(&network, "br0")));
    let stubs: BTreeMap<_, _> = wanted(&network).into_values().map(|want| (want.name, want.stub)).collect();
    let ethernet = ["a0", "br0", "d1", "v"].map(|name| (name.to_owned(), Stub::Ethernet));
    assert_eq!(stubs, ethernet.into_iter().chain([("t0".to_owned(), Stub::Raw)]).collect());
    let fs = BpfFs::new();
    let mut dataplane = open(&ns, &fs, !has_tcx());
    assert_eq!(hook(&ns, &mut dataplane).len(), 5);
    assert_eq!(program_name(programs(&ns, "t0")[0]), STUB_RAW);
}

#[test]
fn a_change_of_routes_changes_the_way_to_a_backend() {
    let (ns, _other) = pair("hooks-routes");
    ns.run("ip link add d0 type veth peer name d1");
    ns.run("ip link set d0 up mtu 1400");
    ns.run("ip link set d1 up");
    ns.run("ip address add 192.0.2.1/24 dev d0");
    ns.run("ip -6 address add 2001:db8::1/64 dev d0 nodad");
    ns.run("ip -6 address add fd08::1/64 dev v nodad");
    let fs = BpfFs::new();
    let mut dataplane = open(&ns, &fs, !has_tcx());
    let mut want = image(&[]);
    want.backends.insert(1, backend_key("10.8.0.2:80"));
    want.backends.insert(2, backend_key("203.0.113.9:80"));
    want.backends.insert(3, backend_key("[fd08::2]:80"));
    let endpoints = ["10.8.0.2", "203.0.113.9", "fd08::2"];
    let follow_network = |dataplane: &mut Dataplane, want: &mut MapImage| {
        let network = network(&ns, &endpoints);
        let hooked: BTreeSet<u32> =
            ns.enter(|| dataplane.hook(&wanted(&network))).unwrap().into_keys().collect();
        let before = std::mem::replace(&mut want.ways, ways(&want.backends, &network, &hooked));
        dataplane.apply(&follow(&before, want)).unwrap();
        let have = dataplane.have().unwrap().image;
        assert_eq!(have.ways, want.ways);
        (network, hooked)
    };
    for (id, key) in want.backends.clone() {
        dataplane.apply(&[Op::PutBackend(id, key, None)]).unwrap();
    }
    let (network, hooked) = follow_network(&mut dataplane, &mut want);
    let way = want.ways.paths[&1];
    assert_eq!((way.interface, way.local, way.mtu), (index(&network, "v"), true, 1500));
    assert_eq!(way.source, Some([10, 8, 0, 1].into()));
    assert!(want.ways.paths[&3].local, "IPv6 as well");
    let none = path("203.0.113.9".parse().unwrap(), &network, &hooked).unwrap_err().to_string();
    assert!(none.contains("no route") && !want.ways.paths.contains_key(&2), "{none}");
    let own: BTreeSet<IpAddr> =
        ["10.8.0.1", "192.0.2.1", "2001:db8::1", "fd08::1"].map(|ip| ip.parse().unwrap()).into();
    assert_eq!(want.ways.local, own);

    ns.run("ip route add 203.0.113.0/24 via 192.0.2.254 mtu 1300");
    ns.run("ip address del 192.0.2.1/24 dev d0");
    ns.run("ip address add 192.0.2.3/24 dev d0");
    ns.run("ip route replace 203.0.113.0/24 via 192.0.2.254 mtu 1300");
    let (network, _) = follow_network(&mut dataplane, &mut want);
    let way = want.ways.paths[&2];
    assert_eq!((way.interface, way.local, way.mtu), (index(&network, "d0"), false, 1300));
    assert_eq!((way.next_hop, way.source), ([192, 0, 2, 254].into(), Some([192, 0, 2, 3].into())));
    assert!(want.ways.local.contains(&[192, 0, 2, 3].into()));
    assert!(!want.ways.local.contains(&[192, 0, 2, 1].into()));
}

#[test]
fn a_change_of_the_network_is_told() {
    let (ns, _other) = pair("hooks-told");
    ns.block_on(async || {
        let mut networks = Networks::open().unwrap();
        for line in [
            "ip link add d0 type veth peer name d1",
            "ip link set d0 up",
            "ip route add 203.0.113.0/24 dev d0",
        ] {
            let mut words = line.split(' ');
            let status = Command::new(words.next().unwrap()).args(words).status().unwrap();
            assert!(status.success(), "{line}");
            tokio::time::timeout(crate::bed::WAIT, networks.changed()).await.unwrap();
        }
        let network = networks.reader().read(&["203.0.113.9".parse().unwrap()].into()).await.unwrap();
        assert_eq!(network.links.values().filter(|link| link.name == "d0").count(), 1);
        assert!(matches!(network.routes.first_key_value(), Some((_, Answer::Route(_)))), "{network:?}");
    });
}

#[test]
fn flows_move_to_tables_of_another_size() {
    let ns = NetNs::new("hooks-size");
    let fs = BpfFs::new();
    drop(open(&ns, &fs, false));
    let (mut dataplane, _sockets) = start(&ns, &config(&fs, 1));
    let more = Forwarding { flows: 512, opening: 128, ..forwarding(false) };
    let tables = ns.enter(|| dataplane.forward(&more)).unwrap();
    assert_eq!((tables.flows, tables.opening), (512, 128));
}

#[test]
fn turned_off_it_leaves_steering_alone() {
    for (clsact, _) in kinds() {
        let (ns, _other) = pair("hooks-off");
        let fs = BpfFs::new();
        let reserved =
            || ns.enter(|| std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_reserved_ports").unwrap());
        ns.sysctl("ipv4/ip_local_reserved_ports", "8080");
        let mut dataplane = open(&ns, &fs, clsact);
        assert_eq!(reserved().trim(), "8080,40000-40999");
        hook(&ns, &mut dataplane);
        dataplane.sweep().unwrap();
        drop(dataplane);
        let (mut dataplane, _sockets) = start(&ns, &config(&fs, 1));
        let removed = ns.enter(|| dataplane.stop_forwarding()).unwrap();
        assert!(removed.len() > FORWARD_MAPS.len(), "{removed:?}");
        assert_eq!(ns.enter(|| dataplane.stop_forwarding()).unwrap(), Vec::<String>::new());
        assert_eq!(programs(&ns, "v"), Vec::<u64>::new());
        assert_eq!(reserved().trim(), "8080");
        assert_eq!(fs.pins().len(), Bed::new("hooks-plain", 1).fs.pins().len(), "steering's are there");
        dataplane.have().unwrap();
    }
}
