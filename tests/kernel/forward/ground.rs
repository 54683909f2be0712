//! What packets meet: interfaces, routes and sockets in a namespace, and the answers that the kernel gives because of
//! them.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use gateway_ebpf::abi::UDP;
use gateway_tests::netns::NetNs;
use gateway_user::core::forward::Way;
use socket2::{Domain, Protocol, Socket, Type};

/// An interface.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interface {
    pub(crate) index: u32,
    pub(crate) mac: [u8; 6],
    /// Whether the kernel forwards what arrives there.
    forwards: bool,
}

pub(crate) struct Ground {
    _peers: Vec<NetNs>,
    /// Clients come by the first two, the one of which does not forward.
    pub(crate) interfaces: [Interface; 3],
    _sockets: Vec<Box<dyn Send>>,
}

/// The Gateway's addresses, the second of which is never local, and a port that the host has connections on.
pub(crate) const ASKED: [&str; 5] = ["10.9.1.1", "192.0.2.9", "10.9.2.1", "fd09:1::1", "2001:db8::9"];
pub(crate) const CONNECTED_PORT: u16 = 8080;
/// Clients with such a connection: TCP, then UDP.
pub(crate) const CONNECTED: [[&str; 2]; 2] =
    [["10.9.1.2:5555", "[fd09:1::2]:5555"], ["10.9.1.2:5556", "[fd09:1::2]:5556"]];
/// Clients, by what leads back to them.
pub(crate) const CLIENTS: [&str; 14] = [
    "10.9.1.2",
    "10.9.1.3",
    "8.0.7.7",
    "10.9.2.2",
    "10.9.2.3",
    "10.20.0.7",
    "10.21.0.7",
    "10.66.0.7",
    "fd09:1::2",
    "2001:db8:86dd::7",
    "fd09:2::2",
    "fd20::7",
    "fd66::7",
    "fd09:2::3",
];
/// Endpoints' network, which is on the third interface.
pub(crate) const ENDPOINTS: [&str; 8] =
    ["10.9.3.2", "10.9.3.3", "10.9.3.4", "10.9.3.5", "fd09:3::2", "fd09:3::3", "fd09:3::4", "fd09:3::5"];

impl Ground {
    /// In a namespace where nothing is bound yet: its own connections are made first.
    pub(crate) fn new(ns: &NetNs) -> Self {
        let names = ["front", "routed", "pods"];
        let mut peers = Vec::new();
        for (at, name) in names.iter().enumerate() {
            let peer = NetNs::new(&format!("forward-{name}"));
            ns.veth(name, &peer, "eth0");
            ns.run(&format!("ip link set {name} address 02:00:00:00:0{at}:01"));
            for (device, end, who) in [(*name, ns, 1), ("eth0", &peer, 2)] {
                end.address(device, format!("10.9.{}.{who}", at + 1).parse().unwrap(), 24);
                end.address(device, format!("fd09:{}::{who}", at + 1).parse().unwrap(), 64);
            }
            peers.push(peer);
        }
        ns.run("ip link set routed mtu 1400");
        for family in ["ipv4", "ipv6"] {
            ns.sysctl(&format!("{family}/conf/all/forwarding"), "0");
            ns.sysctl(&format!("{family}/conf/routed/forwarding"), "1");
        }
        // What is forwarded minds a route's MTU only if it is locked (`ip_mtu_from_fib_result`).
        for route in [
            "10.20.0.0/16 via 10.9.2.2 mtu lock 1300",
            "10.21.0.0/16 via inet6 fd09:2::2",
            "blackhole 10.66.0.0/16",
            "fd20::/16 via fd09:2::2 mtu lock 1300",
            "unreachable fd66::/16",
        ] {
            ns.run(&format!("ip route add {route}"));
        }
        // Neighbours that are known; of the others it is not.
        ns.run("ip neigh replace 10.9.2.2 lladdr 02:00:00:00:01:02 dev routed nud permanent");
        ns.run("ip neigh replace fd09:2::2 lladdr 02:00:00:00:01:02 dev routed nud permanent");
        let sockets = connect(ns, &peers[0]);
        let interfaces = std::array::from_fn(|at| {
            let index = ns.enter(|| nix::net::if_::if_nametoindex(names[at]).unwrap());
            Interface { index, mac: [2, 0, 0, 0, at as u8, 1], forwards: at == 1 }
        });
        Self { _peers: peers, interfaces, _sockets: sockets }
    }

    /// Whether the host has a connection with this client, which asks for this address and port.
    pub(crate) fn connected(&self, protocol: u8, client: SocketAddr, asked: SocketAddr) -> bool {
        let host = if client.is_ipv4() { ASKED[0] } else { ASKED[3] };
        let clients = CONNECTED[usize::from(protocol == UDP)];
        asked == SocketAddr::new(host.parse().unwrap(), CONNECTED_PORT)
            && clients.iter().any(|connected| connected.parse() == Ok(client))
    }

    /// The way back to a client whose packet came in by an interface.
    pub(crate) fn back(&self, arrival: Interface, client: IpAddr) -> Option<Way> {
        if !arrival.forwards {
            return Some(Way { interface: arrival.index, next_hop: None, mtu: 1500 });
        }
        let [front, routed, pods] = self.interfaces.map(|interface| interface.index);
        let router: IpAddr = if client.is_ipv4() { "10.9.2.2" } else { "fd09:2::2" }.parse().unwrap();
        let text = client.to_string();
        let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| text.starts_with(prefix));
        if starts(&["10.9.1.1", "10.9.2.1", "10.9.3.1", "fd09:1::1", "fd09:2::1", "fd09:3::1"]) {
            return None;
        }
        let (interface, next_hop, mtu) = match () {
            () if starts(&["10.9.1.", "fd09:1::"]) => (front, Some(client), 1500),
            () if starts(&["10.9.2.", "fd09:2::"]) => (routed, Some(client), 1400),
            () if starts(&["10.9.3.", "fd09:3::"]) => (pods, Some(client), 1500),
            () if starts(&["10.20.", "fd20:"]) => (routed, Some(router), 1300),
            // A router of the other family.
            () if starts(&["10.21."]) => (routed, None, 1400),
            () => return None,
        };
        Some(Way { interface, next_hop, mtu })
    }
}

/// Connections of the host's own with clients on the first interface.
fn connect(ns: &NetNs, clients: &NetNs) -> Vec<Box<dyn Send>> {
    let mut sockets: Vec<Box<dyn Send>> = Vec::new();
    for [tcp, udp] in [[CONNECTED[0][0], CONNECTED[1][0]], [CONNECTED[0][1], CONNECTED[1][1]]] {
        let [tcp, udp]: [SocketAddr; 2] = [tcp.parse().unwrap(), udp.parse().unwrap()];
        let asked = if tcp.is_ipv4() { ASKED[0] } else { ASKED[3] };
        let asked = SocketAddr::new(asked.parse().unwrap(), CONNECTED_PORT);
        let listener = ns.enter(|| TcpListener::bind(asked).unwrap());
        let client = clients.enter(|| {
            let socket = Socket::new(Domain::for_address(tcp), Type::STREAM, Some(Protocol::TCP)).unwrap();
            socket.bind(&tcp.into()).unwrap();
            socket.connect(&asked.into()).unwrap();
            TcpStream::from(socket)
        });
        let accepted = listener.accept().unwrap().0;
        let datagrams = ns.enter(|| {
            let socket = UdpSocket::bind(asked).unwrap();
            socket.connect(udp).unwrap();
            socket
        });
        sockets.extend([
            Box::new(listener) as Box<dyn Send>,
            Box::new(client),
            Box::new(accepted),
            Box::new(datagrams),
        ]);
    }
    sockets
}
