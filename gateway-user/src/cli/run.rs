//! `sluice run`: the agent.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use clap::ValueEnum;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use gateway_ebpf::names::{FLOW_CAPACITY, OPENING_CAPACITY};
use ipnet::IpNet;

use super::log::{self, Format, Level};
use super::{Exit, PlaceArgs};
use crate::agent;
use crate::dataplane::{Forwarding, LogLevel};
use crate::source::{ClusterConfig, EndpointFlag, Folders};

/// Run the agent: serve the input, and follow its changes, until SIGTERM or SIGINT.
///
/// The input is the files, and the objects that `sluice apply` keeps in the state directory. Connections are then drained; a second signal cuts them. SIGHUP reads the input again and reopens the access log.
/// Programs and maps stay pinned when the agent stops; `sluice uninstall` removes them. What is forwarded in the kernel goes on without the agent, running flows and new ones, and addresses that it needs stay up.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// File, or directory of *.yaml, *.yml and *.json files, with Kubernetes objects; `-` is standard input.
    /// Can be repeated: all of it is one input, together with what was applied
    #[arg(short, long = "file", value_name = "FILE|DIR")]
    files: Vec<PathBuf>,
    /// An endpoint for a Service, for a quick try. Makes the Service if it is not in the input. Can be repeated
    #[arg(long = "endpoint", value_name = "NAMESPACE/SERVICE[:PORT]=ADDRESS:PORT")]
    endpoints: Vec<EndpointFlag>,
    /// Serve the objects of a Kubernetes cluster, in place of files and of what was applied
    #[arg(long, conflicts_with_all = ["files", "endpoints"], env = "SLUICE_KUBE")]
    kube: bool,
    /// The kubeconfig to use [default: $KUBECONFIG, ~/.kube/config, or the pod's ServiceAccount]
    #[arg(long, value_name = "FILE", requires = "kube")]
    kubeconfig: Option<PathBuf>,
    /// Namespace of the agents' Leases [default: that of the kubeconfig's context, or the pod's]
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE")]
    kube_namespace: Option<String>,
    /// What this agent is called among the agents of a cluster [default: the host's name]
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    node: Option<String>,
    #[command(flatten)]
    places: PlaceArgs,
    /// Name server for the names of ExternalName Services [default: those of /etc/resolv.conf, after /etc/hosts]
    #[arg(long, value_name = "ADDRESS:PORT", env = "SLUICE_RESOLVER")]
    resolver: Option<SocketAddr>,
    /// A network that such a name may lead to although it is the host's own, loopback, link-local or the like.
    /// Can be repeated
    #[arg(long = "allow-external-name", value_name = "CIDR", env = "SLUICE_ALLOW_EXTERNAL_NAME",
        value_delimiter = ',', value_parser = network)]
    allow_external_names: Vec<IpNet>,
    /// Where /metrics, /healthz and /readyz are served
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9464", env = "SLUICE_METRICS")]
    metrics: SocketAddr,
    /// Worker threads [default: one for each CPU]
    #[arg(long, value_name = "N", env = "SLUICE_WORKERS", value_parser = clap::value_parser!(u32)
        .range(1..=i64::from(gateway_ebpf::names::MAX_WORKERS)))]
    workers: Option<u32>,
    /// File for the access log, one JSON object a line; `-` is standard output [default: none]
    #[arg(long, value_name = "PATH", env = "SLUICE_ACCESS_LOG")]
    access_log: Option<PathBuf>,
    /// How much the agent logs, to standard error
    #[arg(long, value_name = "LEVEL", default_value = "info", env = "SLUICE_LOG_LEVEL")]
    log_level: Level,
    /// The form of the agent's log
    #[arg(long, value_name = "FORMAT", default_value = "auto", env = "SLUICE_LOG_FORMAT")]
    log_format: Format,
    /// How much the BPF programs log; `sluice set` changes it while the agent runs
    #[arg(long, value_name = "LEVEL", default_value = "off", env = "SLUICE_BPF_LOG_LEVEL",
        value_parser = bpf_log_level())]
    bpf_log_level: LogLevel,
    /// How long connections may take to end when the agent is stopped: `30s`, `5m`
    #[arg(long, value_name = "DURATION", default_value = "30s", env = "SLUICE_DRAIN_TIMEOUT",
        value_parser = duration)]
    drain_timeout: Duration,
    /// How long what runs through a TCPRoute or UDPRoute goes on when its listener or its endpoint was removed: then
    /// both sides of a TCP connection are reset, and a UDP flow ends. An endpoint that is not ready is not removed, nor
    /// one of weight 0 [default: it is never ended]
    #[arg(long, value_name = "DURATION", env = "SLUICE_RESET_REMOVED_AFTER", value_parser = duration)]
    reset_removed_after: Option<Duration>,
    #[command(flatten)]
    forward: ForwardArgs,
}

/// Forwarding in the kernel.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Forwarding in the kernel")]
struct ForwardArgs {
    /// Whether TCPRoutes and UDPRoutes are forwarded in the kernel
    #[arg(long, value_name = "MODE", default_value = "auto", env = "SLUICE_FORWARD")]
    forward: Forward,
    /// An interface that is hooked, or a pattern such as `eth*`: what comes by others takes the relay.
    /// Can be repeated [default: every one that has packets of its own]
    #[arg(long = "interface", value_name = "NAME", env = "SLUICE_INTERFACE", value_delimiter = ',')]
    interfaces: Vec<String>,
    /// How many flows there may be at once; more take the relay. Each takes half a KiB of memory, used or not:
    /// 64 MiB by default
    #[arg(long, value_name = "N", default_value_t = FLOW_CAPACITY, env = "SLUICE_FLOWS",
        value_parser = clap::value_parser!(u32).range(16..=MOST_FLOWS))]
    flows: u32,
    /// How many of them may be half open: more, as in a flood of SYNs, push the oldest out. Each takes 8 bytes besides
    #[arg(long, value_name = "N", default_value_t = OPENING_CAPACITY, env = "SLUICE_OPENING_FLOWS",
        value_parser = clap::value_parser!(u32).range(16..=MOST_FLOWS))]
    opening_flows: u32,
    /// Source ports towards endpoints that do not see the client's address. The agent reserves them in
    /// net.ipv4.ip_local_reserved_ports
    #[arg(long, value_name = "FIRST-LAST", default_value = "40000-59999", env = "SLUICE_SNAT_PORTS",
        value_parser = ports)]
    snat_ports: RangeInclusive<u16>,
    /// How long an established TCP connection may carry nothing before it is forgotten (RFC 5382 asks for 2h4m at least)
    #[arg(long, value_name = "DURATION", default_value = "2h4m", env = "SLUICE_TCP_IDLE_TIMEOUT",
        value_parser = idle)]
    tcp_idle_timeout: Duration,
    /// The same for UDP that was answered (RFC 4787 asks for 2 minutes at least)
    #[arg(long, value_name = "DURATION", default_value = "120s", env = "SLUICE_UDP_IDLE_TIMEOUT",
        value_parser = idle)]
    udp_idle_timeout: Duration,
}

/// The most flows: 8 GiB of tables. (A place is named by 31 bits.)
const MOST_FLOWS: i64 = 1 << 24;

/// Whether there is forwarding in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Forward {
    /// Where the kernel can and a way leads to the endpoint; else the relay serves
    Auto,
    /// The relay serves everything, and no interface is hooked
    Off,
}

pub(super) fn run(args: Args) -> Result<Exit> {
    log::start(args.log_level, args.log_format);
    let forward = args.forward;
    ensure!(
        forward.opening_flows <= forward.flows,
        "--opening-flows {}: half-open flows take places of --flows {} (use at most as many)",
        forward.opening_flows,
        forward.flows
    );
    let cluster = args.kube.then(|| ClusterConfig {
        kubeconfig: args.kubeconfig,
        namespace: args.kube_namespace,
        node: args.node.unwrap_or_else(host_name),
        memory: Folders::of(&args.places.state_dir, &args.places.socket.admin_socket),
    });
    agent::run(&agent::Config {
        files: args.files,
        cluster,
        endpoints: args.endpoints,
        resolver: args.resolver,
        allow_external_names: args.allow_external_names,
        state_dir: args.places.state_dir,
        admin_socket: args.places.socket.admin_socket,
        pin_dir: args.places.pin_dir,
        metrics: args.metrics,
        workers: args.workers,
        access_log: args.access_log,
        bpf_log_level: args.bpf_log_level,
        drain_timeout: args.drain_timeout,
        reset_removed_after: args.reset_removed_after,
        udp_idle: forward.udp_idle_timeout,
        forward: (forward.forward == Forward::Auto).then_some(Forwarding {
            flows: forward.flows,
            opening: forward.opening_flows,
            ports: forward.snat_ports,
            tcp_idle: forward.tcp_idle_timeout,
            udp_idle: forward.udp_idle_timeout,
            clsact: false,
        }),
        interfaces: forward.interfaces,
    })?;
    Ok(Exit::Yes)
}

/// The host's name.
fn host_name() -> String {
    nix::unistd::gethostname()
        .map_or_else(|_| "sluice".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Parses a level of the BPF programs' log.
pub(super) fn bpf_log_level() -> impl TypedValueParser<Value = LogLevel> {
    PossibleValuesParser::new(LogLevel::ALL.map(LogLevel::name)).try_map(|name| name.parse::<LogLevel>())
}

/// Parses a network such as `10.0.0.0/8`, or an address alone.
fn network(text: &str) -> Result<IpNet> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| anyhow!("`{text}` is no network; write it as 127.0.0.0/8, fd00::/8 or 127.0.0.1"))
}

/// Parses a range of ports such as `40000-59999`.
fn ports(text: &str) -> Result<RangeInclusive<u16>> {
    let range = text.split_once('-').and_then(|(first, last)| Some(first.parse().ok()?..=last.parse().ok()?));
    range
        .filter(|range: &RangeInclusive<u16>| !range.is_empty() && *range.start() > 0)
        .ok_or_else(|| anyhow!("`{text}` is no range of ports; write it as 40000-59999"))
}

/// Parses a duration of whole seconds, one at the least.
fn idle(text: &str) -> Result<Duration> {
    let duration = duration(text)?;
    ensure!(duration.as_secs() > 0, "`{text}` is too short; use 1s at the least");
    Ok(duration)
}

/// Parses a duration such as `30s`.
pub(super) fn duration(text: &str) -> Result<Duration> {
    text.parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| anyhow!("`{text}` is no duration; write it as 30s or 5m"))
}
