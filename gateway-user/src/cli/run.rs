//! `sluice run`: the agent.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use ipnet::IpNet;

use super::log::{self, Format, Level};
use super::{Exit, PlaceArgs};
use crate::agent;
use crate::dataplane::LogLevel;
use crate::source::EndpointFlag;

/// Run the agent: serve the input, and follow its changes, until SIGTERM or SIGINT.
///
/// The input is the files, and the objects that `sluice apply` keeps in the state directory. Connections are then drained; a second signal cuts them. SIGHUP reads the input again and reopens the access log.
/// Programs and maps stay pinned when the agent stops; `sluice uninstall` removes them.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// File, or directory of *.yaml, *.yml and *.json files, with Kubernetes objects; `-` is standard input.
    /// Can be repeated: all of it is one input, together with what was applied
    #[arg(short, long = "file", value_name = "FILE|DIR")]
    files: Vec<PathBuf>,
    /// An endpoint for a Service, for a quick try. Makes the Service if it is not in the input. Can be repeated
    #[arg(long = "endpoint", value_name = "NAMESPACE/SERVICE[:PORT]=ADDRESS:PORT")]
    endpoints: Vec<EndpointFlag>,
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
    /// How long a UDP flow may be quiet before it ends: `60s`, `5m`
    #[arg(long, value_name = "DURATION", default_value = "60s", env = "SLUICE_UDP_IDLE", value_parser = duration)]
    udp_idle: Duration,
}

pub(super) fn run(args: Args) -> Result<Exit> {
    log::start(args.log_level, args.log_format);
    agent::run(&agent::Config {
        files: args.files,
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
        udp_idle: args.udp_idle,
    })?;
    Ok(Exit::Yes)
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

/// Parses a duration such as `30s`.
pub(super) fn duration(text: &str) -> Result<Duration> {
    text.parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| anyhow!("`{text}` is no duration; write it as 30s or 5m"))
}
