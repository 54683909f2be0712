//! A client, the gateway and an endpoint, each in a namespace, in a line; nobody forwards but the programs.

use std::io::Read as _;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use gateway_ebpf::abi::{Action, TCP, UDP};
use gateway_ebpf::flow::{Flow, MARK_DECISION, MARK_INTERFACE, Reason};
use gateway_ebpf::life::LIVE;
use gateway_ebpf::names::{REASONS, STUB_ETHERNET};
use gateway_tests::bpffs::BpfFs;
use gateway_tests::netns::NetNs;
use gateway_tests::packets::{ETHERNET, ethernet};
use gateway_tests::uninterrupted;
use gateway_user::core::locality::Stub;
use gateway_user::core::plan::Op;
use gateway_user::core::snapshot::{BackendKey, BindingImage, MapImage, Path, ServiceImage};
use gateway_user::dataplane::{Dataplane, FlowTable, Forwarding, SkBuff, Wanted};
use socket2::{Domain, Protocol, Socket, Type};

use crate::bed::{Sockets, WAIT, config, key, ops, pin_dir, start};

/// `ETH_P_ALL`, in wire order.
const EVERY_PROTOCOL: i32 = 0x0003u16.to_be() as i32;

pub(crate) struct Line {
    // In the order in which they must go.
    pub(crate) dataplane: Dataplane,
    pub(crate) flows: FlowTable,
    _sockets: Sockets,
    fs: BpfFs,
    pub(crate) gateway: NetNs,
    pub(crate) client: NetNs,
    pub(crate) endpoint: NetNs,
    front: u32,
    pub(crate) back: u32,
}

/// What a test run showed.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) decision: u32,
    pub(crate) interface: u32,
    /// Link addresses: destination, source.
    pub(crate) link: [[u8; 6]; 2],
    pub(crate) ip: Vec<u8>,
}

/// Where clients ask.
pub(crate) fn asked(v6: bool) -> SocketAddr {
    if v6 { "[fd08:1::1]:80" } else { "10.8.1.1:80" }.parse().unwrap()
}

/// Where the endpoint is.
pub(crate) fn endpoint(v6: bool) -> SocketAddr {
    if v6 { "[fd08:2::2]:8080" } else { "10.8.2.2:8080" }.parse().unwrap()
}

/// A client.
pub(crate) fn client(v6: bool) -> SocketAddr {
    if v6 { "[fd08:1::2]:5000" } else { "10.8.1.2:5000" }.parse().unwrap()
}

/// The gateway's address that the endpoint sees if it does not see the client's.
pub(crate) fn node(v6: bool) -> IpAddr {
    if v6 { "fd08:2::1" } else { "10.8.2.1" }.parse().unwrap()
}

/// The link address of the gateway's first or second interface.
pub(crate) const fn mac(at: u8) -> [u8; 6] {
    [2, 0, 0, 8, at, 1]
}

impl Line {
    /// `local`: the endpoint sees the client's own address. `mtu`: what the way to it takes.
    ///
    /// Its interfaces are not hooked: on Linux 6.1 a packet that comes in may interrupt a test run, and the two
    /// would share the memory of their CPU.
    pub(crate) fn new(name: &str, local: bool, mtu: u32) -> Self {
        let space = |who: &str| NetNs::new(&format!("line-{name}-{who}"));
        let (gateway, client, endpoint_ns) = (space("gateway"), space("client"), space("endpoint"));
        for (device, peer, at) in [("front", &client, 1), ("back", &endpoint_ns, 2)] {
            gateway.veth(device, peer, "eth0");
            let mac = mac(at).map(|byte| format!("{byte:02x}")).join(":");
            gateway.run(&format!("ip link set {device} address {mac}"));
            for (ns, device, who) in [(&gateway, device, 1), (peer, "eth0", 2)] {
                ns.address(device, format!("10.8.{at}.{who}").parse().unwrap(), 24);
                ns.address(device, format!("fd08:{at}::{who}").parse().unwrap(), 64);
            }
            for via in [format!("10.8.{at}.1"), format!("fd08:{at}::1")] {
                peer.default_route(via.parse().unwrap());
            }
        }
        for family in ["ipv4", "ipv6"] {
            gateway.sysctl(&format!("{family}/conf/all/forwarding"), "0");
        }
        let index = |name: &str| gateway.enter(|| nix::net::if_::if_nametoindex(name).unwrap());
        let (front, back) = (index("front"), index("back"));
        let fs = BpfFs::new();
        let (mut dataplane, sockets) = start(&gateway, &config(&fs, 1));
        let forwarding = Forwarding {
            flows: 64,
            opening: 16,
            ports: 40_000..=40_099,
            tcp_idle: Duration::from_secs(7200),
            udp_idle: Duration::from_secs(120),
            clsact: false,
        };
        gateway.enter(|| dataplane.forward(&forwarding).unwrap());
        let image = image(back, local, mtu);
        let local = image.ways.local.iter().map(|ip| Op::PutLocal(*ip)).collect::<Vec<_>>();
        dataplane.apply(&[ops(&image), local].concat()).unwrap();
        let flows = dataplane.flow_table().unwrap();
        Self { dataplane, flows, _sockets: sockets, fs, gateway, client, endpoint: endpoint_ns, front, back }
    }

    /// One whose interfaces are hooked, for packets that are really sent.
    pub(crate) fn hooked(name: &str, local: bool, mtu: u32) -> Self {
        let mut line = Self::new(name, local, mtu);
        let wanted = [("front", line.front), ("back", line.back)]
            .map(|(name, index)| (index, Wanted { name: name.to_owned(), stub: Stub::Ethernet }));
        let hooked = line.gateway.enter(|| line.dataplane.hook(&wanted.into()).unwrap());
        assert!(hooked.values().all(Result::is_ok), "{hooked:?}");
        line
    }

    /// What a packet becomes that comes in at the front, or at the back.
    pub(crate) fn run(&mut self, back: bool, ip: &[u8], gso_size: u32) -> Shown {
        let interface = if back { self.back } else { self.front };
        let mut bytes = ethernet(mac(if back { 2 } else { 1 }), ip);
        let mut context = SkBuff {
            interface,
            ingress_interface: interface,
            segment_size: gso_size,
            ..bytemuck::Zeroable::zeroed()
        };
        let dataplane = &mut self.dataplane;
        self.gateway
            .enter(|| dataplane.run_packet(STUB_ETHERNET, &mut bytes, Some(&mut context), 1).unwrap());
        Shown {
            decision: context.control[MARK_DECISION],
            interface: context.control[MARK_INTERFACE],
            link: [bytes[..6].try_into().unwrap(), bytes[6..12].try_into().unwrap()],
            ip: bytes.split_off(ETHERNET),
        }
    }

    /// The flows that live.
    pub(crate) fn living(&self) -> Vec<Flow> {
        self.flows.all().filter(|flow| flow.life as u32 & LIVE != 0).collect()
    }

    /// How many packets there were for a reason.
    pub(crate) fn count(&self, reason: Reason) -> u64 {
        let pin = pin_dir(&self.fs).join(REASONS);
        let shown = self.gateway.run(&format!(
            "bpftool -j map lookup pinned {} key {} 0 0 0",
            pin.display(),
            reason as u32
        ));
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        let values = shown["values"].as_array().unwrap().iter();
        // Eight bytes, the lowest first; by its type, or in hexadecimal.
        let number = |byte: &serde_json::Value| {
            u64::from_str_radix(byte.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
        };
        values
            .map(|of_cpu| {
                let bytes = of_cpu["value"].as_array().unwrap();
                bytes.iter().rev().fold(0, |sum, byte| sum << 8 | number(byte))
            })
            .sum()
    }

    /// The port that the endpoint sees, of the only flow.
    pub(crate) fn port(&self) -> u16 {
        let [flow] = self.living().try_into().unwrap();
        flow.reply.key.destination_port()
    }
}

fn image(back: u32, local: bool, mtu: u32) -> MapImage {
    let mut image = MapImage::default();
    for (number, (v6, protocol)) in (0u32..).zip([(false, TCP), (false, UDP), (true, TCP), (true, UDP)]) {
        let (asked, at) = (asked(v6), endpoint(v6));
        let binding = BindingImage { action: Action::Forward, id: number, service: Some(number), idle: None };
        image.bindings.insert(key(Some(asked.ip()), asked.port(), protocol), binding);
        image.services.insert(number, ServiceImage::new([number + 1]));
        image.backends.insert(number + 1, BackendKey { at, protocol });
        let path = Path { interface: back, next_hop: at.ip(), source: Some(node(v6)), mtu, local };
        image.ways.paths.insert(number + 1, path);
        image.ways.local.insert(asked.ip());
        image.ways.local.insert(node(v6));
    }
    image
}

/// A datagram socket that asks and hears of nobody else.
pub(crate) fn datagrams(ns: &NetNs, from: SocketAddr, to: SocketAddr) -> UdpSocket {
    ns.enter(|| {
        let socket = UdpSocket::bind(from).unwrap();
        socket.connect(to).unwrap();
        socket.set_read_timeout(Some(WAIT)).unwrap();
        socket
    })
}

/// Reads what passes in a namespace, both ways.
pub(crate) struct Capture(Socket);

impl Capture {
    pub(crate) fn new(ns: &NetNs) -> Self {
        let kind = Some(Protocol::from(EVERY_PROTOCOL));
        let socket = ns.enter(|| Socket::new(Domain::PACKET, Type::DGRAM, kind).unwrap());
        socket.set_read_timeout(Some(WAIT)).unwrap();
        Self(socket)
    }

    /// The next packet of IPv4 or IPv6 that fits; what else there is, as ARP, may look like anything.
    pub(crate) fn next(&self, v6: bool, fits: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let version = if v6 { 6 } else { 4 };
        let mut buffer = vec![0; 1 << 16];
        loop {
            let length = uninterrupted(|| (&self.0).read(&mut buffer)).expect("nothing has come that fits");
            if buffer[0] >> 4 == version && fits(&buffer[..length]) {
                return buffer[..length].to_vec();
            }
        }
    }
}
