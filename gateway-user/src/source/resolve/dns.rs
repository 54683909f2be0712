//! One question to the name servers, and its answer.
//!
//! Owns which servers are asked and how long. Must not know what was answered before.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, TokioResolver, system_conf};
use tokio::sync::Mutex;
use tokio::time::timeout;

/// For a question with all of its tries.
const PATIENCE: Duration = Duration::from_secs(5);
/// For one try, so that there is time for another.
const TRY: Duration = Duration::from_secs(2);

/// What the system's configuration is read from.
pub(super) const FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// The answer to a question for one family's addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Addresses, and how long they are good for.
    Found(BTreeSet<IpAddr>, Duration),
    /// There is none.
    None {
        /// Whether the name exists.
        exists: bool,
        /// For how long this holds, if the server says so.
        ttl: Option<Duration>,
    },
    /// The name servers give no answer: why, for a person.
    Failed(String),
}

/// Asks name servers.
#[derive(Debug)]
pub(super) struct Dns {
    /// Those that are asked in place of the system's.
    server: Option<SocketAddr>,
    /// In place of [`FILES`].
    files: [PathBuf; 2],
    client: Mutex<Option<(Stamp, TokioResolver)>>,
}

/// What tells one state of the files from another.
type Stamp = [Option<(SystemTime, u64, u64)>; FILES.len()];

impl Dns {
    pub(super) fn new(server: Option<SocketAddr>, files: [PathBuf; 2]) -> Self {
        Self { server, files, client: Mutex::default() }
    }

    /// A and AAAA of a name. The name is absolute, as the target of a CNAME is: no search domain is put behind it.
    pub(super) async fn look_up(&self, name: &str) -> [Answer; 2] {
        let failed = |why: String| [Answer::Failed(why.clone()), Answer::Failed(why)];
        let name = match Name::from_ascii(format!("{name}.")) {
            Ok(name) => name,
            Err(error) => return failed(format!("this is no DNS name: {error}")),
        };
        let client = match self.client().await {
            Ok(client) => client,
            Err(why) => return failed(why),
        };
        let ask = async |kind| match timeout(PATIENCE, client.lookup(name.clone(), kind)).await {
            Ok(Ok(found)) => {
                let ttl = found.answers().iter().map(|record| record.ttl).min().unwrap_or_default();
                let addresses: BTreeSet<IpAddr> =
                    found.answers().iter().filter_map(|record| record.data.ip_addr()).collect();
                let ttl = Duration::from_secs(ttl.into());
                if addresses.is_empty() {
                    Answer::None { exists: true, ttl: Some(ttl) }
                } else {
                    Answer::Found(addresses, ttl)
                }
            }
            Ok(Err(error)) => self.no_answer(&error),
            Err(_) => self.no_answer(&NetError::Timeout),
        };
        let (v4, v6) = tokio::join!(ask(RecordType::A), ask(RecordType::AAAA));
        [v4, v6]
    }

    fn no_answer(&self, error: &NetError) -> Answer {
        let why = match error {
            NetError::Dns(DnsError::NoRecordsFound(none))
                if matches!(none.response_code, ResponseCode::NXDomain | ResponseCode::NoError) =>
            {
                return Answer::None {
                    exists: none.response_code != ResponseCode::NXDomain,
                    ttl: none.negative_ttl.map(|seconds| Duration::from_secs(seconds.into())),
                };
            }
            NetError::Dns(DnsError::NoRecordsFound(none)) => said(none.response_code),
            NetError::Dns(DnsError::ResponseCode(code)) => said(*code),
            NetError::Timeout => "did not answer in time".to_owned(),
            NetError::NoConnections => "cannot be reached".to_owned(),
            NetError::Io(error) => format!("cannot be reached: {error}"),
            other => format!("cannot be asked: {other}"),
        };
        Answer::Failed(match self.server {
            Some(server) => format!("the name server {server} {why}"),
            None => format!("the name servers of {} {why}", self.files[0].display()),
        })
    }

    /// The client, made anew if the system's configuration has changed.
    async fn client(&self) -> Result<TokioResolver, String> {
        let mut kept = self.client.lock().await;
        // A file system that hangs must not hold up this runtime's other tasks.
        let system = self.server.is_none();
        let stamp = if system {
            let files = self.files.clone();
            let stamp = tokio::task::spawn_blocking(move || files.each_ref().map(|path| stamp(path))).await;
            stamp.map_err(|error| error.to_string())?
        } else {
            Stamp::default()
        };
        if let Some((before, client)) = &*kept
            && *before == stamp
        {
            return Ok(client.clone());
        }
        let (server, files) = (self.server, self.files.clone());
        let client = tokio::task::spawn_blocking(move || build(server, &files));
        let client = client.await.map_err(|error| error.to_string())??;
        *kept = Some((stamp, client.clone()));
        Ok(client)
    }
}

fn said(code: ResponseCode) -> String {
    format!("answered \"{code}\"")
}

fn stamp(path: &Path) -> Option<(SystemTime, u64, u64)> {
    let meta = fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len(), meta.ino()))
}

fn build(server: Option<SocketAddr>, files: &[PathBuf; 2]) -> Result<TokioResolver, String> {
    let (config, mut options) = match server {
        Some(server) => {
            let port = |mut connection: ConnectionConfig| {
                connection.port = server.port();
                connection
            };
            let connections = vec![port(ConnectionConfig::udp()), port(ConnectionConfig::tcp())];
            let servers = vec![NameServerConfig::new(server.ip(), true, connections)];
            (ResolverConfig::from_name_servers(servers), ResolverOpts::default())
        }
        None => fs::read(&files[0])
            .map_err(NetError::from)
            .and_then(system_conf::parse_resolv_conf)
            .map_err(|error| {
                format!("cannot read {} ({error}); name a server with --resolver", files[0].display())
            })?,
    };
    // Expiry is ours: a second cache would only make answers older.
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    options.timeout = options.timeout.min(TRY);
    options.max_active_requests = 4 * super::AT_ONCE;
    let mut client = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        .with_options(options)
        .build()
        .map_err(|error| format!("cannot ask name servers: {error}"))?;
    // A host without the file has no such names.
    if let (None, Ok(file)) = (server, fs::File::open(&files[1])) {
        let mut hosts = Hosts::default();
        hosts
            .read_hosts_conf(file)
            .map_err(|error| format!("cannot read {} ({error})", files[1].display()))?;
        client.set_hosts(Arc::new(hosts));
    }
    Ok(client)
}
