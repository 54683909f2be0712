//! What outlives a restart: the dense ids, so that what keeps its identity keeps its counters, the counters' baselines,
//! which Gateway has which address, and what the ids of flows stand for.
//!
//! Owns the state directory. The kernel counts for as long as its maps are pinned, and by id; an id may have belonged
//! to another binding before. The baseline of a binding is what its id had counted when the binding came into the
//! configuration, so what is shown begins at zero with the binding and goes on over restarts of the agent. Where the
//! kernel shows less than a baseline when the agent starts, its maps were made anew (after a boot, or `uninstall`),
//! and the baseline falls.

mod flows;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use gateway_ebpf::abi::BindingKey;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use tracing::warn;

use self::flows::KeptFlows;
use crate::core::flows::ledger;
use crate::core::model::ObjectName;
use crate::core::snapshot::{BackendKey, Ids, MapImage};
use crate::core::transport::Transport;

const FILE: &str = "state.json";
const LOCK: &str = "lock";
/// Version of the file.
const VERSION: u32 = 1;

/// What the counters of each binding id are shown as a difference from, by verdict.
pub(super) type Baselines = BTreeMap<u32, [u64; 4]>;

/// Why there is no memory.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused.
    #[error("state directory {}: {action}; run as root, or choose another with --state-dir", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Another agent holds it.
    #[error("state directory {}: another agent uses it; stop it, or choose another with --state-dir", path.display())]
    Taken {
        /// The directory.
        path: PathBuf,
    },
}

/// The state directory, for this process alone.
#[derive(Debug)]
pub(super) struct Memory {
    directory: PathBuf,
    _lock: Flock<File>,
    pub(super) ids: Ids,
    pub(super) baselines: Baselines,
    pub(super) flows: ledger::Kept,
    /// Whether `flows` is not written yet.
    changed: bool,
}

impl Memory {
    /// Takes the directory, making it where it is missing, and reads what is there. What cannot be read is begun
    /// anew, with a warning.
    pub(super) fn open(directory: &Path) -> Result<Self, Error> {
        let io = |action| move |source| Error::Io { path: directory.to_owned(), action, source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(io("cannot make it"))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(directory.join(LOCK))
            .map_err(io("cannot open its lock"))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock)
            .map_err(|_| Error::Taken { path: directory.to_owned() })?;
        let path = directory.join(FILE);
        let (ids, baselines, flows) = match read(&path) {
            Ok(kept) => kept.unwrap_or_default(),
            Err(problem) => {
                warn!(
                    file = %path.display(),
                    problem,
                    "what was kept from the last run cannot be read; ids begin anew, and counters may jump once"
                );
                (Ids::default(), Baselines::new(), ledger::Kept::default())
            }
        };
        let directory = directory.to_owned();
        Ok(Self { directory, _lock: lock, ids, baselines, flows, changed: false })
    }

    /// To be called once, when the agent starts, with what the maps hold and have counted. Where nothing was kept, the
    /// ids are those that the kernel has; bindings that it has not are forgotten; baselines that are above what it counted are dropped.
    pub(super) fn compare(&mut self, image: &MapImage, counted: &BTreeMap<u32, [u64; 4]>) {
        if self.ids == Ids::default() {
            self.ids.bindings = image.bindings.iter().map(|(key, binding)| (*key, binding.id)).collect();
            self.ids.bound =
                image.bindings.iter().filter_map(|(key, binding)| Some((*key, binding.service?))).collect();
            self.ids.backends = image.backends.iter().map(|(id, key)| (*key, *id)).collect();
        }
        // What the kernel has no longer (after a boot, or `uninstall`) is not ours any more: whoever listens there by
        // now came first.
        self.ids.bindings.retain(|key, _| image.bindings.contains_key(key));
        self.baselines.retain(|id, baseline| {
            let now = counted.get(id).copied().unwrap_or_default();
            baseline.iter().zip(now).all(|(baseline, now)| *baseline <= now)
        });
    }

    /// Takes over the ids of a snapshot. A binding that is new has its baseline set to what its id has counted, which
    /// is asked for only then.
    pub(super) fn adopt<E>(
        &mut self,
        ids: &Ids,
        counted: impl FnOnce() -> Result<BTreeMap<u32, [u64; 4]>, E>,
    ) -> Result<(), E> {
        if *ids == self.ids {
            self.save();
            return Ok(());
        }
        let counted = if ids.bindings == self.ids.bindings { BTreeMap::new() } else { counted()? };
        let mut baselines = Baselines::new();
        for (key, id) in &ids.bindings {
            let baseline = if self.ids.bindings.get(key) == Some(id) {
                self.baselines.get(id).copied()
            } else {
                counted.get(id).copied()
            };
            baselines.extend(baseline.filter(|b| *b != [0; 4]).map(|b| (*id, b)));
        }
        self.ids = ids.clone();
        self.baselines = baselines;
        self.changed = true;
        self.save();
        Ok(())
    }

    /// Takes over what the ids of flows stand for, to be written with what follows.
    pub(super) fn keep_flows(&mut self, flows: ledger::Kept) {
        self.changed |= self.flows != flows;
        self.flows = flows;
    }

    /// Writes what has changed.
    pub(super) fn save(&mut self) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        if let Err(error) = self.write() {
            warn!(
                directory = %self.directory.display(),
                %error,
                "what shall outlive a restart cannot be written; counters may jump at the next start"
            );
        }
    }

    fn write(&self) -> io::Result<()> {
        let text = serde_json::to_vec(&Kept::new(&self.ids, &self.baselines, &self.flows))?;
        let (path, new) = (self.directory.join(FILE), self.directory.join("state.new"));
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(new, path)
    }
}

/// Removes what an agent kept; the directory too, if nothing else is in it. Returns what was removed.
pub(super) fn remove(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut removed = Vec::new();
    for name in [FILE, "state.new", LOCK] {
        let path = directory.join(name);
        match fs::remove_file(&path) {
            Ok(()) => removed.push(path),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    match fs::remove_dir(directory) {
        Ok(()) => removed.push(directory.to_owned()),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {}
        Err(e) => return Err(e),
    }
    Ok(removed)
}

fn read(path: &Path) -> Result<Option<(Ids, Baselines, ledger::Kept)>, String> {
    match fs::read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e.to_string()),
        Ok(text) => {
            let kept: Kept = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
            if kept.version != VERSION {
                return Err(format!("its version is {}, this agent's is {VERSION}", kept.version));
            }
            Ok(Some(kept.parts()))
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    bindings: Vec<KeptBinding>,
    services: Vec<KeptService>,
    bound: Vec<KeptBound>,
    backends: Vec<KeptBackend>,
    next: [u32; 3],
    #[serde(default)]
    addresses: Vec<KeptAddresses>,
    #[serde(default)]
    flows: KeptFlows,
}

#[derive(Serialize, Deserialize)]
struct KeptBinding {
    id: u32,
    address: Ipv6Addr,
    port: u16,
    protocol: u8,
    baseline: [u64; 4],
}

#[derive(Serialize, Deserialize)]
struct KeptService {
    id: u32,
    namespace: String,
    name: String,
    rule: usize,
    /// IP protocol number; what older agents wrote is TCP.
    #[serde(default = "tcp")]
    protocol: u8,
}

fn tcp() -> u8 {
    Transport::Tcp.number()
}

#[derive(Serialize, Deserialize)]
struct KeptBound {
    service: u32,
    address: Ipv6Addr,
    port: u16,
    protocol: u8,
}

#[derive(Serialize, Deserialize)]
struct KeptBackend {
    id: u32,
    at: SocketAddr,
    protocol: u8,
}

#[derive(Serialize, Deserialize)]
struct KeptAddresses {
    namespace: String,
    gateway: String,
    addresses: Vec<IpAddr>,
}

fn binding_key(address: Ipv6Addr, port: u16, protocol: u8) -> BindingKey {
    BindingKey { address: address.octets(), port, protocol, pad: 0 }
}

impl Kept {
    fn new(ids: &Ids, baselines: &Baselines, flows: &ledger::Kept) -> Self {
        Self {
            version: VERSION,
            bindings: ids
                .bindings
                .iter()
                .map(|(key, id)| KeptBinding {
                    id: *id,
                    address: key.address.into(),
                    port: key.port,
                    protocol: key.protocol,
                    baseline: baselines.get(id).copied().unwrap_or_default(),
                })
                .collect(),
            services: ids
                .services
                .iter()
                .map(|((transport, name, rule), id)| KeptService {
                    id: *id,
                    namespace: name.namespace.to_string(),
                    name: name.name.to_string(),
                    rule: *rule,
                    protocol: transport.number(),
                })
                .collect(),
            bound: ids
                .bound
                .iter()
                .map(|(key, service)| KeptBound {
                    service: *service,
                    address: key.address.into(),
                    port: key.port,
                    protocol: key.protocol,
                })
                .collect(),
            backends: ids
                .backends
                .iter()
                .map(|(key, id)| KeptBackend { id: *id, at: key.at, protocol: key.protocol })
                .collect(),
            next: ids.next,
            addresses: ids
                .addresses
                .iter()
                .map(|(gateway, addresses)| KeptAddresses {
                    namespace: gateway.namespace.to_string(),
                    gateway: gateway.name.to_string(),
                    addresses: addresses.clone(),
                })
                .collect(),
            flows: KeptFlows::new(flows),
        }
    }

    fn parts(self) -> (Ids, Baselines, ledger::Kept) {
        let baselines =
            self.bindings.iter().filter(|b| b.baseline != [0; 4]).map(|b| (b.id, b.baseline)).collect();
        let ids = Ids {
            bindings: self
                .bindings
                .into_iter()
                .map(|b| (binding_key(b.address, b.port, b.protocol), b.id))
                .collect(),
            services: self
                .services
                .into_iter()
                .map(|s| {
                    let name = ObjectName::new(&s.namespace, &s.name);
                    ((Transport::of(s.protocol), name, s.rule), s.id)
                })
                .collect(),
            bound: self
                .bound
                .into_iter()
                .map(|b| (binding_key(b.address, b.port, b.protocol), b.service))
                .collect(),
            backends: self
                .backends
                .into_iter()
                .map(|b| (BackendKey { at: b.at, protocol: b.protocol }, b.id))
                .collect(),
            next: self.next,
            addresses: self
                .addresses
                .into_iter()
                .map(|a| (ObjectName::new(&a.namespace, &a.gateway), a.addresses))
                .collect(),
        };
        (ids, baselines, self.flows.parts())
    }
}

#[cfg(test)]
mod tests {
    use gateway_ebpf::abi::{ANY, Action, TCP, mapped};

    use super::*;
    use crate::core::snapshot::BindingImage;

    fn key(port: u16) -> BindingKey {
        BindingKey { address: ANY, port, protocol: TCP, pad: 0 }
    }

    fn ids(bindings: &[(u16, u32)]) -> Ids {
        Ids { bindings: bindings.iter().map(|(port, id)| (key(*port), *id)).collect(), ..Ids::default() }
    }

    fn adopt(memory: &mut Memory, ids: &Ids, counted: BTreeMap<u32, [u64; 4]>) {
        memory.adopt(ids, || Ok::<_, std::convert::Infallible>(counted)).unwrap();
    }

    #[test]
    fn ids_and_baselines_outlive_the_process() {
        let directory = tempfile::tempdir().unwrap();
        let mut wanted = ids(&[(80, 0)]);
        wanted.bindings.insert(BindingKey { address: mapped([10, 0, 0, 1]), ..key(81) }, 1);
        wanted.next = [3, 2, 1];
        for (transport, id) in Transport::ALL.into_iter().zip([7, 8]) {
            wanted.services.insert((transport, ObjectName::new("default", "l4"), 0), id);
        }
        let both = ["10.0.0.1", "2001:db8::1"].map(|ip| ip.parse().unwrap());
        wanted.addresses.insert(ObjectName::new("default", "gw"), both.to_vec());
        wanted.backends.insert(BackendKey { at: "[2001:db8::1]:5".parse().unwrap(), protocol: TCP }, 3);
        let mut memory = Memory::open(directory.path()).unwrap();
        adopt(&mut memory, &wanted, BTreeMap::from([(1, [5, 0, 0, 1])]));
        drop(memory);
        let memory = Memory::open(directory.path()).unwrap();
        assert_eq!(memory.ids, wanted);
        assert_eq!(memory.baselines, BTreeMap::from([(1, [5, 0, 0, 1])]));
    }

    #[test]
    fn a_binding_counts_from_zero_and_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let mut memory = Memory::open(directory.path()).unwrap();
        adopt(&mut memory, &ids(&[(80, 0)]), BTreeMap::new());
        assert_eq!(memory.baselines, BTreeMap::new());
        // Port 80 goes, and port 81 gets its id, which has counted 9.
        adopt(&mut memory, &ids(&[(81, 0)]), BTreeMap::from([(0, [9, 0, 0, 0])]));
        assert_eq!(memory.baselines, BTreeMap::from([(0, [9, 0, 0, 0])]));
        // Another binding comes: port 81 keeps its baseline.
        adopt(&mut memory, &ids(&[(81, 0), (82, 1)]), BTreeMap::from([(0, [12, 0, 0, 0])]));
        assert_eq!(memory.baselines, BTreeMap::from([(0, [9, 0, 0, 0])]));
        // The same maps after a restart, then new ones.
        memory.compare(&MapImage::default(), &BTreeMap::from([(0, [12, 0, 0, 0])]));
        assert_eq!(memory.baselines.len(), 1);
        memory.compare(&MapImage::default(), &BTreeMap::new());
        assert_eq!(memory.baselines, BTreeMap::new());
    }

    #[test]
    fn what_the_kernel_has_no_longer_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let mut memory = Memory::open(directory.path()).unwrap();
        adopt(&mut memory, &ids(&[(80, 0), (81, 1)]), BTreeMap::new());
        let binding = BindingImage { action: Action::Steer, id: 1, service: None, idle: None };
        let image = MapImage { bindings: BTreeMap::from([(key(81), binding)]), ..MapImage::default() };
        memory.compare(&image, &BTreeMap::new());
        assert_eq!(memory.ids.bindings, BTreeMap::from([(key(81), 1)]));
    }

    #[test]
    fn without_a_file_the_kernel_tells_the_ids() {
        let directory = tempfile::tempdir().unwrap();
        let mut memory = Memory::open(directory.path()).unwrap();
        let backend = BackendKey { at: "10.0.0.1:5".parse().unwrap(), protocol: TCP };
        let binding = BindingImage { action: Action::Forward, id: 5, service: Some(2), idle: None };
        let image = MapImage {
            bindings: BTreeMap::from([(key(80), binding)]),
            backends: BTreeMap::from([(9, backend)]),
            ..MapImage::default()
        };
        memory.compare(&image, &BTreeMap::from([(5, [1, 0, 0, 0])]));
        assert_eq!(memory.ids.bindings, BTreeMap::from([(key(80), 5)]));
        assert_eq!(memory.ids.bound, BTreeMap::from([(key(80), 2)]));
        assert_eq!(memory.ids.backends, BTreeMap::from([(backend, 9)]));
        assert_eq!(memory.baselines, BTreeMap::new(), "what the binding counted before is its own");
    }

    #[test]
    fn what_cannot_be_read_is_begun_anew() {
        for text in [
            "",
            "{",
            "[]",
            r#"{"version":99,"bindings":[],"services":[],"bound":[],"backends":[],"next":[0,0,0]}"#,
        ] {
            let directory = tempfile::tempdir().unwrap();
            fs::write(directory.path().join(FILE), text).unwrap();
            let mut memory = Memory::open(directory.path()).unwrap();
            assert_eq!(memory.ids, Ids::default(), "{text:?}");
            adopt(&mut memory, &ids(&[(80, 4)]), BTreeMap::new());
            drop(memory);
            assert_eq!(Memory::open(directory.path()).unwrap().ids, ids(&[(80, 4)]), "{text:?}");
        }
    }

    #[test]
    fn is_for_one_agent() {
        let directory = tempfile::tempdir().unwrap();
        let _first = Memory::open(directory.path()).unwrap();
        assert!(matches!(Memory::open(directory.path()), Err(Error::Taken { .. })));
    }

    #[test]
    fn removal_leaves_what_is_not_ours() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let mut memory = Memory::open(&path).unwrap();
        adopt(&mut memory, &ids(&[(80, 0)]), BTreeMap::new());
        drop(memory);
        fs::write(path.join("notes"), "mine").unwrap();
        assert_eq!(remove(&path).unwrap().len(), 2);
        assert!(path.join("notes").exists());
        fs::remove_file(path.join("notes")).unwrap();
        assert_eq!(remove(&path).unwrap(), std::slice::from_ref(&path));
        assert!(remove(&path).unwrap().is_empty());
    }
}
