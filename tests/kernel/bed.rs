//! The programs loaded in a namespace of their own, with sockets in the place of workers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use gateway_ebpf::abi::{ANY, Action, Address, BindingKey, ServiceWord, TCP, UDP};
use gateway_tests::bpffs::BpfFs;
use gateway_tests::netns::NetNs;
use gateway_user::core::plan::Op;
use gateway_user::core::snapshot::{BackendKey, BindingImage, MapImage, ServiceImage};
use gateway_user::dataplane::{Config, Dataplane, LogLevel};
use socket2::{Domain, Protocol, Socket, Type};

/// Worker, whether it is of IPv6, IP protocol number → its socket.
pub(crate) type Sockets = BTreeMap<(u32, bool, u8), Socket>;

pub(crate) struct Bed {
    // In the order in which they must go: the programs' holder, then the pins, then the namespace.
    pub(crate) dataplane: Dataplane,
    pub(crate) sockets: Sockets,
    pub(crate) fs: BpfFs,
    pub(crate) ns: NetNs,
}

/// What comes at once on an idle machine. Emulated, with others on its processor, it takes its time.
pub(crate) const WAIT: Duration = Duration::from_secs(30);

/// Waits until something holds that is on its way.
pub(crate) fn wait(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + WAIT;
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

impl Bed {
    /// Everything attached, and listening TCP sockets of `workers` workers registered.
    pub(crate) fn new(name: &str, workers: u32) -> Self {
        let ns = NetNs::new(&format!("kernel-{name}"));
        let fs = BpfFs::new();
        let (dataplane, sockets) = start(&ns, &config(&fs, workers));
        Self { dataplane, sockets, fs, ns }
    }

    /// Puts what an empty map lacks of the image.
    pub(crate) fn install(&mut self, image: &MapImage) {
        self.dataplane.apply(&ops(image)).unwrap();
    }

    /// Whether a worker of this family accepts what `connect` sends; its number.
    pub(crate) fn accepted(&self, v6: bool) -> u32 {
        let end = Instant::now() + WAIT;
        while Instant::now() < end {
            for ((worker, socket_v6, protocol), socket) in &self.sockets {
                if *socket_v6 == v6 && *protocol == TCP && socket.accept().is_ok() {
                    return *worker;
                }
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("no worker was given the connection");
    }
}

pub(crate) fn config(fs: &BpfFs, workers: u32) -> Config {
    Config { pin_dir: pin_dir(fs), workers, log_level: LogLevel::Off }
}

pub(crate) fn pin_dir(fs: &BpfFs) -> PathBuf {
    fs.path().join("sluice")
}

/// Opens, registers and attaches, as the agent does.
pub(crate) fn start(ns: &NetNs, config: &Config) -> (Dataplane, Sockets) {
    ns.enter(|| {
        let mut dataplane = Dataplane::open(config).unwrap();
        let sockets = sockets(config.workers, &[TCP]);
        register(&mut dataplane, &sockets);
        dataplane.attach().unwrap();
        (dataplane, sockets)
    })
}

pub(crate) fn register(dataplane: &mut Dataplane, sockets: &Sockets) {
    let sockets: Vec<_> = sockets.iter().map(|((worker, v6, _), s)| (*worker, *v6, s.as_fd())).collect();
    dataplane.register(&sockets).unwrap();
}

/// Sockets as the workers make them: of each family and protocol one a worker, all in one SO_REUSEPORT group.
pub(crate) fn sockets(workers: u32, protocols: &[u8]) -> Sockets {
    let mut sockets = Sockets::new();
    for &protocol in protocols {
        for v6 in [false, true] {
            let mut at = SocketAddr::new(loopback(v6), 0);
            for worker in 0..workers {
                let kind = if protocol == UDP { Type::DGRAM } else { Type::STREAM };
                let ip = if protocol == UDP { Protocol::UDP } else { Protocol::TCP };
                let socket = Socket::new(Domain::for_address(at), kind, Some(ip)).unwrap();
                socket.set_reuse_port(true).unwrap();
                socket.set_nonblocking(true).unwrap();
                socket.bind(&at.into()).unwrap();
                if protocol == TCP {
                    socket.listen(1024).unwrap();
                }
                at = socket.local_addr().unwrap().as_socket().unwrap();
                sockets.insert((worker, v6, protocol), socket);
            }
        }
    }
    sockets
}

/// Closes sockets of this thread's network namespace, and waits until the kernel has let go of them: a child that
/// another test has just forked holds a copy of every descriptor until it executes its program.
pub(crate) fn close(sockets: Vec<Socket>) {
    let inodes: BTreeSet<_> = sockets
        .iter()
        .map(|socket| fs::metadata(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap().ino())
        .collect();
    drop(sockets);
    let listed = || {
        let tables = ["tcp", "tcp6", "udp", "udp6"]
            .map(|table| fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap());
        // The tenth column, proc_pid_net(5).
        let inode = |line: &str| line.split_whitespace().nth(9)?.parse().ok();
        tables.iter().flat_map(|table| table.lines()).filter_map(inode).collect::<BTreeSet<u64>>()
    };
    wait("a closed socket stays", || listed().is_disjoint(&inodes));
}

pub(crate) fn loopback(v6: bool) -> IpAddr {
    if v6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() }
}

pub(crate) fn address(ip: IpAddr) -> Address {
    match ip {
        IpAddr::V4(v4) => gateway_ebpf::abi::mapped(v4.octets()),
        IpAddr::V6(v6) => v6.octets(),
    }
}

pub(crate) fn key(ip: Option<IpAddr>, port: u16, protocol: u8) -> BindingKey {
    BindingKey { address: ip.map_or(ANY, address), port, protocol, pad: 0 }
}

/// An image of bindings without services, their ids in the order given.
pub(crate) fn image(bindings: &[(BindingKey, Action)]) -> MapImage {
    let bindings = (0..)
        .zip(bindings)
        .map(|(id, (key, action))| (*key, BindingImage { action: *action, id, service: None, idle: None }));
    MapImage { bindings: bindings.collect(), ..MapImage::default() }
}

/// The steps from nothing to an image, slots one after the other.
pub(crate) fn ops(image: &MapImage) -> Vec<Op> {
    let mut ops: Vec<_> = image
        .backends
        .iter()
        .map(|(id, key)| Op::PutBackend(*id, *key, image.ways.paths.get(id).copied()))
        .collect();
    let mut offset = 0;
    for (id, ServiceImage { slots, affinity }) in &image.services {
        let class = slots.len().trailing_zeros() as u8;
        ops.push(Op::WriteSlots { offset, slots: slots.clone() });
        ops.push(Op::PutService(*id, ServiceWord::new(offset, class, *affinity, 1)));
        offset += slots.len() as u32;
    }
    ops.extend(image.bindings.iter().map(|(key, binding)| Op::PutBinding(*key, *binding)));
    ops
}

/// The steps from an image to nothing.
pub(crate) fn undo(image: &MapImage) -> Vec<Op> {
    let mut ops: Vec<_> = image.bindings.keys().map(|key| Op::DeleteBinding(*key)).collect();
    ops.extend(image.services.keys().map(|id| Op::DeleteService(*id)));
    ops.push(Op::GracePeriod);
    ops.extend(image.backends.keys().map(|id| Op::DeleteBackend(*id)));
    ops
}

pub(crate) fn backend_key(at: &str) -> BackendKey {
    BackendKey { at: at.parse().unwrap(), protocol: TCP }
}
