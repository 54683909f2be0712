//! Addresses that the host does not own: reachable from another namespace once brought up, announced, never a
//! source, found again after a crash, and gone when they shall be.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use gateway_tests::bpffs::BpfFs;
use gateway_tests::netns::NetNs;
use gateway_user::dataplane::{Addresses, Dataplane};

use crate::bed::{WAIT, config, wait};

/// On the link, on no link; of each family.
const WANTED: [&str; 4] = ["10.78.0.100", "fd78::100", "192.0.2.55", "2001:db8:55::5"];

/// A gateway and a client on one link. The client sends what is not on the link to the gateway.
fn pair() -> (NetNs, NetNs) {
    let (gateway, client) = (NetNs::new("addresses-gateway"), NetNs::new("addresses-client"));
    gateway.veth("lan", &client, "eth0");
    for (ns, device, host) in [(&gateway, "lan", 1), (&client, "eth0", 2)] {
        ns.address(device, format!("10.78.0.{host}").parse().unwrap(), 24);
        ns.address(device, format!("fd78::{host}").parse().unwrap(), 64);
    }
    client.default_route("10.78.0.1".parse().unwrap());
    client.default_route("fd78::1".parse().unwrap());
    (gateway, client)
}

fn set(addresses: &[&str]) -> BTreeSet<IpAddr> {
    addresses.iter().map(|a| a.parse().unwrap()).collect()
}

/// What the namespace has of addresses and routes, one line each; without link-local ones, which come up by themselves
/// after a second.
fn state(ns: &NetNs) -> BTreeSet<String> {
    ["ip -o address show", "ip -4 route show table all", "ip -6 route show table all"]
        .into_iter()
        .flat_map(|command| ns.run(command).lines().map(str::to_owned).collect::<Vec<_>>())
        .filter(|line| !line.contains("fe80:") && !line.contains("ff00:"))
        .collect()
}

/// Whether somebody answers there: nobody listens, so the answer is a reset. `true` is waited for, `false` not as long
/// as until the client asks again.
fn answers(client: &NetNs, address: &str, expected: bool) -> bool {
    let at = SocketAddr::new(address.parse().unwrap(), 9);
    let patience = if expected { WAIT } else { Duration::from_millis(300) };
    let result = client.enter(|| TcpStream::connect_timeout(&at, patience));
    result.expect_err("nobody listens").kind() == ErrorKind::ConnectionRefused
}

/// Opens, does something, and goes without removing anything, as a killed agent does.
fn with<T: Send>(ns: &NetNs, f: impl AsyncFnOnce(&mut Addresses) -> T + Send) -> T {
    ns.enter(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut addresses = Addresses::open().await.unwrap();
            f(&mut addresses).await
        })
    })
}

fn sync(ns: &NetNs, want: &[&str]) {
    let want = set(want);
    let failed = with(ns, async |addresses| addresses.sync(&want).await);
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn addresses_come_up_and_go_again() {
    let (gateway, client) = pair();
    let before = state(&gateway);
    for address in WANTED {
        assert!(!answers(&client, address, false), "{address} before");
    }
    sync(&gateway, &WANTED);
    for address in WANTED {
        assert!(answers(&client, address, true), "{address}");
    }
    // IPv4 on the link by a route; a /128, deprecated, for IPv6.
    let now = state(&gateway);
    let new: Vec<_> = now.difference(&before).collect();
    assert!(
        new.iter().any(|l| l.contains("local 10.78.0.100 dev lo") && l.contains("proto 115")),
        "{new:#?}"
    );
    assert!(new.iter().any(|l| l.contains("fd78::100/128") && l.contains("deprecated")), "{new:#?}");

    // A change: one stays, the others go, one comes.
    sync(&gateway, &["10.78.0.100", "fd78::101"]);
    for (address, up) in [
        ("10.78.0.100", true),
        ("fd78::101", true),
        ("fd78::100", false),
        ("192.0.2.55", false),
        ("2001:db8:55::5", false),
    ] {
        assert_eq!(answers(&client, address, up), up, "{address}");
    }
    sync(&gateway, &[]);
    assert_eq!(state(&gateway), before);
}

#[test]
fn they_are_never_a_source_by_default() {
    let (gateway, _client) = pair();
    // Brought up before the host's own address of that family is used for the first time.
    sync(&gateway, &WANTED);
    for (peer, source) in [("10.78.0.2:9", "10.78.0.1"), ("[fd78::2]:9", "fd78::1")] {
        let peer: SocketAddr = peer.parse().unwrap();
        let any: IpAddr = if peer.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() };
        let chosen = gateway.enter(|| {
            let socket = UdpSocket::bind((any, 0)).unwrap();
            socket.connect(peer).unwrap();
            socket.local_addr().unwrap().ip()
        });
        assert_eq!(chosen, source.parse::<IpAddr>().unwrap());
    }
}

#[test]
fn an_interface_that_ignores_arp_gets_the_address_itself() {
    let (gateway, client) = pair();
    let before = state(&gateway);
    sync(&gateway, &["10.78.0.100"]);
    gateway.sysctl("ipv4/conf/lan/arp_ignore", "1");
    sync(&gateway, &["10.78.0.100"]);
    let addresses = gateway.run("ip -o -4 address show dev lan");
    assert!(addresses.contains("10.78.0.100/32"), "{addresses}");
    assert!(answers(&client, "10.78.0.100", true));
    sync(&gateway, &[]);
    assert_eq!(state(&gateway), before);
}

#[test]
fn what_the_host_owns_is_left_alone() {
    let (gateway, _client) = pair();
    let before = state(&gateway);
    sync(&gateway, &["10.78.0.1", "fd78::1", "127.0.0.1", "::1"]);
    assert_eq!(state(&gateway), before);
    // What was ours and becomes the host's is no longer ours, and stays.
    sync(&gateway, &["10.78.0.100"]);
    gateway.address("lan", "10.78.0.100".parse().unwrap(), 24);
    sync(&gateway, &["10.78.0.100"]);
    assert_eq!(with(&gateway, async |addresses| addresses.own()), BTreeSet::new());
    sync(&gateway, &[]);
    assert!(gateway.run("ip -o -4 address show dev lan").contains("10.78.0.100/24"));
    assert!(gateway.run("ip -4 route show table local").contains("10.78.0.100 dev lan"));
}

#[test]
fn neighbours_forget_whom_they_remembered() {
    let (gateway, client) = pair();
    let wanted = &WANTED[..2];
    for address in wanted {
        client.run(&format!("ip neigh replace {address} lladdr 02:00:00:00:00:99 dev eth0 nud reachable"));
    }
    sync(&gateway, wanted);
    let link = gateway.run("ip -o link show lan");
    let (_, mac) = link.split_once("link/ether ").unwrap();
    let mac = mac.split_whitespace().next().unwrap();
    for address in wanted {
        wait(&format!("{address} is remembered where it was"), || {
            let entry = client.run(&format!("ip neigh show {address} dev eth0"));
            !entry.contains("02:00:00:00:00:99") && entry.contains(mac)
        });
    }
}

#[test]
fn a_killed_agent_leaves_what_the_next_one_finds() {
    let (gateway, client) = pair();
    let before = state(&gateway);
    sync(&gateway, &WANTED);
    assert_eq!(with(&gateway, async |addresses| addresses.own()), set(&WANTED));
    with(&gateway, async |addresses| addresses.remove_all().await);
    assert_eq!(state(&gateway), before);

    sync(&gateway, &WANTED);
    let fs = BpfFs::new();
    let mut removed = gateway.enter(|| Dataplane::uninstall(&config(&fs, 1)).unwrap());
    removed.sort();
    let mut expected: Vec<_> = WANTED.iter().map(|a| format!("address {a}")).collect();
    expected.sort();
    assert_eq!(removed, expected);
    assert_eq!(state(&gateway), before);
    assert!(!answers(&client, WANTED[0], false));
}

#[test]
fn what_cannot_come_up_says_why() {
    let gateway = NetNs::new("addresses-down");
    gateway.run("ip link set lo down");
    // IPv4 takes a route over a loopback that is down; IPv6 does not.
    let want = set(&WANTED[3..]);
    let failed = with(&gateway, async |addresses| addresses.sync(&want).await);
    assert_eq!(failed.keys().copied().collect::<BTreeSet<_>>(), want);
    for (address, why) in failed {
        assert!(why.contains(&address.to_string()) && why.contains("down"), "{why}");
    }
}
