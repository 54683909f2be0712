//! The maps as the agent writes them: the plan's steps done, and everything read back.
//!
//! Owns the order of writes within one step. Must not know the order of steps: that is `core::plan`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, PerCpuValues, SockMap};
use gateway_ebpf::abi::{
    ANY, Action, Address, BACKEND_LOCAL, BACKEND_ROUTABLE, Backend, Binding, BindingKey, Load, Lookups, Meta,
    NO_SERVICE, ServiceWord, wire,
};
use gateway_ebpf::names::{
    BACKENDS, BINDINGS, LOADS, LOCAL, LOOKUPS, MAPS, MAX_BINDINGS, MAX_SERVICES, MAX_SLOTS, META, SERVICES,
    SLOTS, SOCKETS,
};

use super::pins::Pins;
use super::program::Programs;
use super::sys::{Grace, Words};
use super::{Error, reader};
use crate::core::load::{Loads, WorkerLoad};
use crate::core::plan::{Have, Op};
use crate::core::snapshot::{BackendKey, BindingImage, MapImage, Path, ServiceImage};

/// A `BindingKey` as aya takes it.
pub(super) type RawKey = [u8; size_of::<BindingKey>()];
/// A `Binding` as aya takes it.
pub(super) type RawBinding = [u8; size_of::<Binding>()];

const BACKEND_WORDS: usize = size_of::<Backend>() / 8;
/// The word of a backend that holds its flags: without them nobody goes by the way that it names.
const FLAGS_WORD: usize = std::mem::offset_of!(Backend, flags) / 8;
const LOAD_WORDS: usize = size_of::<Load>() / 8;

/// Every map, opened for writing.
pub(super) struct Maps {
    bindings: HashMap<MapData, RawKey, RawBinding>,
    services: Arc<Words>,
    slots: Part,
    backends: Part,
    sockets: SockMap<MapData>,
    registered: Arc<AtomicU32>,
    loads: Arc<LoadWords>,
    lookups: PerCpuArray<MapData, Lookups>,
    meta: Array<MapData, u64>,
    /// Only if there is forwarding.
    local: Option<HashMap<MapData, Address, u32>>,
    grace: Grace,
}

impl fmt::Debug for Maps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Maps").finish_non_exhaustive()
    }
}

/// A large mmapable array, mapped by the part.
#[derive(Clone)]
pub(super) struct Part {
    name: &'static str,
    map: Arc<MapData>,
    capacity: u32,
    words_each: usize,
}

impl Part {
    fn open(pins: &Pins, name: &'static str, words_each: usize) -> Result<Self, Error> {
        Ok(Self { name, map: Arc::new(Programs::map(pins, name)?), capacity: capacity(name), words_each })
    }

    /// Maps some values.
    fn values(&self, first: usize, count: usize) -> Result<Words, Error> {
        if first + count > self.capacity as usize {
            let index = (first + count) as u64;
            return Err(Error::OutOfRange { map: self.name, index, capacity: self.capacity });
        }
        Words::map(self.map.fd().as_fd(), first * self.words_each, count * self.words_each)
            .map_err(Error::io(format!("cannot map the memory of {}", self.name)))
    }

    fn all(&self) -> Result<Words, Error> {
        self.values(0, self.capacity as usize)
    }

    /// Writes values from the `first` on. All are mapped by the first call, for those that follow.
    fn write(
        &self,
        mapped: &mut Option<Words>,
        first: u32,
        words: impl ExactSizeIterator<Item = u64>,
    ) -> Result<(), Error> {
        for (to, from) in self.room(mapped, first, words.len())?.iter().zip(words) {
            to.store(from, Ordering::Relaxed);
        }
        Ok(())
    }

    /// So many words from the value `first` on.
    fn room<'m>(
        &self,
        mapped: &'m mut Option<Words>,
        first: u32,
        words: usize,
    ) -> Result<&'m [AtomicU64], Error> {
        let all = match mapped {
            Some(all) => all,
            None => mapped.insert(self.all()?),
        };
        let begin = first as usize * self.words_each;
        all.get().get(begin..begin + words).ok_or(Error::OutOfRange {
            map: self.name,
            index: first.into(),
            capacity: self.capacity,
        })
    }
}

/// LOADS, mapped.
struct LoadWords(Words);

impl Loads for LoadWords {
    fn worker(&self, worker: usize) -> WorkerLoad<'_> {
        let words = &self.0.get()[worker * LOAD_WORDS..];
        WorkerLoad {
            open: &words[std::mem::offset_of!(Load, open) / 8],
            settled: &words[std::mem::offset_of!(Load, settled) / 8],
            assigned: &words[std::mem::offset_of!(Load, assigned) / 8],
        }
    }
}

impl Maps {
    /// Opens the pinned maps.
    pub(super) fn open(pins: &Pins) -> Result<Self, Error> {
        let data = |name| Programs::map(pins, name);
        let words = |name, words_each: usize| {
            let capacity = capacity(name) as usize;
            Words::map(data(name)?.fd().as_fd(), 0, capacity * words_each)
                .map_err(Error::io(format!("cannot map the memory of {name}")))
        };
        let typed = |name| Error::map(name, "finding its type");
        Ok(Self {
            bindings: Map::HashMap(data(BINDINGS)?).try_into().map_err(typed(BINDINGS))?,
            services: Arc::new(words(SERVICES, 1)?),
            slots: Part::open(pins, SLOTS, 1)?,
            backends: Part::open(pins, BACKENDS, BACKEND_WORDS)?,
            sockets: Map::SockMap(data(SOCKETS)?).try_into().map_err(typed(SOCKETS))?,
            registered: Arc::default(),
            loads: Arc::new(LoadWords(words(LOADS, LOAD_WORDS)?)),
            lookups: Map::PerCpuArray(data(LOOKUPS)?).try_into().map_err(typed(LOOKUPS))?,
            meta: Map::Array(data(META)?).try_into().map_err(typed(META))?,
            local: None,
            grace: Grace::new().map_err(Error::io("cannot make the maps that a grace period takes"))?,
        })
    }

    /// Opens what forwarding has besides.
    pub(super) fn open_local(&mut self, pins: &Pins) -> Result<(), Error> {
        let map = Map::HashMap(Programs::map(pins, LOCAL)?);
        self.local = Some(map.try_into().map_err(Error::map(LOCAL, "finding its type"))?);
        Ok(())
    }

    /// Forwarding is off: what it has besides is nobody's business any more.
    pub(super) fn close_local(&mut self) {
        self.local = None;
    }

    /// Waits until every program that runs now has ended.
    pub(super) fn wait_for_programs(&self) -> Result<(), Error> {
        self.grace.wait().map_err(Error::io("cannot wait for running programs"))
    }

    /// An entry of META.
    pub(super) fn meta(&self, entry: Meta) -> Result<u64, Error> {
        self.meta.get(&(entry as u32), 0).map_err(Error::map(META, "reading it"))
    }

    /// Writes an entry of META.
    pub(super) fn set_meta(&mut self, entry: Meta, value: u64) -> Result<(), Error> {
        self.meta.set(entry as u32, value, 0).map_err(Error::map(META, "writing it"))
    }

    /// Puts a socket into SOCKETS. The kernel takes it out again when it is closed.
    pub(super) fn set_socket(&mut self, index: u32, socket: BorrowedFd<'_>) -> Result<(), Error> {
        use std::os::fd::AsRawFd as _;
        self.sockets
            .set(index, &socket.as_raw_fd(), 0)
            .map_err(Error::map(SOCKETS, "registering a socket"))?;
        self.registered.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Sockets are registered anew: those before are closed, or replaced.
    pub(super) fn forget_sockets(&self) {
        self.registered.store(0, Ordering::Relaxed);
    }

    /// How many sockets are registered. The kernel does not tell: it answers look-ups in a sockmap by system call
    /// only where values are 8 bytes, and aya makes them 4.
    pub(super) fn registered(&self) -> Arc<AtomicU32> {
        self.registered.clone()
    }

    /// The workers' open connections.
    pub(super) fn loads(&self) -> Arc<dyn Loads> {
        self.loads.clone()
    }

    /// Sets every load to zero: whose connections they were is dead.
    pub(super) fn clear_loads(&self) {
        for load in self.loads.0.get() {
            load.store(0, Ordering::Relaxed);
        }
    }

    /// The memory that a reader counts fill in.
    pub(super) fn counted(&self) -> (Arc<Words>, Part) {
        (self.services.clone(), self.backends.clone())
    }

    /// What the maps hold.
    pub(super) fn have(&self) -> Result<Have, Error> {
        let mut image = MapImage::default();
        for (key, binding) in bindings(&self.bindings)? {
            let action = Action::from_number(binding.action).ok_or_else(|| Error::Unknown {
                map: BINDINGS,
                entry: format!("{key:?}"),
                value: format!("action {}", binding.action),
            })?;
            let service = (binding.service != NO_SERVICE).then_some(binding.service);
            let idle = NonZeroU32::new(binding.idle);
            image.bindings.insert(key, BindingImage { action, id: binding.id, service, idle });
        }
        let mut words = BTreeMap::new();
        for (id, word) in (0u32..).zip(self.services.get()) {
            let word = ServiceWord(word.load(Ordering::Acquire));
            if word.exists() {
                let slots = self.slots_of(id, word)?;
                image.services.insert(id, ServiceImage { slots, affinity: word.affinity() });
                words.insert(id, word);
            }
        }
        for (id, words) in (0u32..).zip(self.backends.all()?.get().chunks_exact(BACKEND_WORDS)) {
            if !is_backend(words) {
                continue;
            }
            let words: [u64; BACKEND_WORDS] = std::array::from_fn(|i| words[i].load(Ordering::Relaxed));
            let (key, path) = parse(&bytemuck::cast(words));
            image.backends.insert(id, key);
            image.ways.paths.extend(path.map(|path| (id, path)));
        }
        for address in self.local.iter().flat_map(HashMap::keys) {
            image.ways.local.insert(unmapped(address.map_err(Error::map(LOCAL, "reading it"))?));
        }
        Ok(Have { image, words })
    }

    fn slots_of(&self, id: u32, word: ServiceWord) -> Result<Arc<[u32]>, Error> {
        let (offset, count) = (word.offset() as usize, 1 << word.size_class());
        if offset + count > MAX_SLOTS as usize {
            let (entry, value) = (id.to_string(), format!("{word:?}"));
            return Err(Error::Unknown { map: SERVICES, entry, value });
        }
        let slots = self.slots.values(offset, count)?;
        Ok(slots.get().iter().map(|slot| slot.load(Ordering::Relaxed) as u32).collect())
    }

    /// Does the steps one after the other, up to the first that fails.
    pub(super) fn apply(&mut self, ops: &[Op]) -> Result<(), Error> {
        let (mut slots, mut backends) = (None, None);
        for op in ops {
            match op {
                Op::DeleteBinding(key) => self.delete_binding(*key)?,
                Op::PutBinding(key, image) => self.put_binding(*key, *image)?,
                Op::PutBackend(id, key, path) => {
                    let words: [u64; BACKEND_WORDS] = bytemuck::cast(backend(*key, path.as_ref()));
                    let entry = self.backends.room(&mut backends, *id, BACKEND_WORDS)?;
                    for (at, word) in words.into_iter().enumerate().filter(|(at, _)| *at != FLAGS_WORD) {
                        entry[at].store(word, Ordering::Relaxed);
                    }
                    // Last: until then nobody goes by the others.
                    entry[FLAGS_WORD].store(words[FLAGS_WORD], Ordering::Release);
                }
                Op::DeletePath(id) => {
                    let entry = self.backends.room(&mut backends, *id, BACKEND_WORDS)?;
                    entry[FLAGS_WORD].store(0, Ordering::Release);
                }
                Op::DeleteBackend(id) => {
                    self.backends.write(&mut backends, *id, [0; BACKEND_WORDS].into_iter())?;
                }
                Op::WriteSlots { offset, slots: ids } => {
                    self.slots.write(&mut slots, *offset, ids.iter().map(|id| u64::from(*id)))?;
                }
                Op::PutService(id, word) => self.write_service(*id, *word)?,
                Op::DeleteService(id) => self.write_service(*id, ServiceWord::default())?,
                Op::GracePeriod => {
                    self.grace.wait().map_err(Error::io("cannot wait for the grace period"))?;
                }
                Op::PutLocal(ip) => self.put_local(*ip, true)?,
                Op::DeleteLocal(ip) => self.put_local(*ip, false)?,
            }
        }
        Ok(())
    }

    /// Without forwarding there is nothing to do.
    fn put_local(&mut self, ip: IpAddr, there: bool) -> Result<(), Error> {
        let Some(map) = &mut self.local else { return Ok(()) };
        if there {
            return map.insert(wire(ip), 1, 0).map_err(Error::map(LOCAL, "adding an address"));
        }
        match map.remove(&wire(ip)) {
            Err(e) if !is_missing(&e) => Err(Error::map(LOCAL, "deleting an address")(e)),
            _ => Ok(()),
        }
    }

    fn delete_binding(&mut self, key: BindingKey) -> Result<(), Error> {
        match self.bindings.remove(&bytemuck::cast(key)) {
            Err(e) if !is_missing(&e) => Err(Error::map(BINDINGS, "deleting a binding")(e)),
            _ => Ok(()),
        }
    }

    /// The counters of an id that comes to stand for another binding begin at zero.
    fn put_binding(&mut self, key: BindingKey, image: BindingImage) -> Result<(), Error> {
        if image.id >= MAX_BINDINGS {
            return Err(Error::OutOfRange { map: LOOKUPS, index: image.id.into(), capacity: MAX_BINDINGS });
        }
        let raw: RawKey = bytemuck::cast(key);
        let before = match self.bindings.get(&raw, 0) {
            Ok(found) => Some(bytemuck::cast::<_, Binding>(found).id),
            Err(e) if is_missing(&e) => None,
            Err(e) => return Err(Error::map(BINDINGS, "reading a binding")(e)),
        };
        if before != Some(image.id) {
            let zero = PerCpuValues::try_from(vec![Lookups::default(); reader::cpus()?])
                .map_err(Error::io("cannot count the CPUs"))?;
            self.lookups.set(image.id, zero, 0).map_err(Error::map(LOOKUPS, "clearing counters"))?;
        }
        let binding = Binding {
            action: image.action as u32,
            id: image.id,
            service: image.service.unwrap_or(NO_SERVICE),
            idle: image.idle.map_or(0, NonZeroU32::get),
        };
        let raw_binding: RawBinding = bytemuck::cast(binding);
        self.bindings.insert(raw, raw_binding, 0).map_err(Error::map(BINDINGS, "writing a binding"))
    }

    /// The word is released after the slots that it names were written.
    fn write_service(&self, id: u32, word: ServiceWord) -> Result<(), Error> {
        let out_of_range = Error::OutOfRange { map: SERVICES, index: id.into(), capacity: MAX_SERVICES };
        self.services.get().get(id as usize).ok_or(out_of_range)?.store(word.0, Ordering::Release);
        Ok(())
    }
}

/// Every binding that the map holds.
pub(super) fn bindings(
    map: &HashMap<MapData, RawKey, RawBinding>,
) -> Result<Vec<(BindingKey, Binding)>, Error> {
    map.iter()
        .map(|entry| entry.map(|(key, value)| (bytemuck::cast(key), bytemuck::cast(value))))
        .collect::<Result<_, _>>()
        .map_err(Error::map(BINDINGS, "reading it"))
}

/// How many backends there are.
pub(super) fn backends_used(backends: &Part) -> Result<u32, Error> {
    let words = backends.all()?;
    Ok(words.get().chunks_exact(BACKEND_WORDS).filter(|entry| is_backend(entry)).count() as u32)
}

/// Whether an entry holds a backend: its protocol is not zero.
fn is_backend(entry: &[AtomicU64]) -> bool {
    let at = std::mem::offset_of!(Backend, protocol);
    entry[at / 8].load(Ordering::Relaxed).to_ne_bytes()[at % 8] != 0
}

/// Whether a map operation failed for want of the entry.
pub(super) fn is_missing(error: &MapError) -> bool {
    match error {
        MapError::KeyNotFound => true,
        MapError::SyscallError(e) => e.io_error.raw_os_error() == Some(libc::ENOENT),
        _ => false,
    }
}

fn capacity(name: &str) -> u32 {
    MAPS.iter().find(|spec| spec.name == name).expect("every name is one of the contract's").max_entries
}

fn backend(key: BackendKey, path: Option<&Path>) -> Backend {
    let local = path.is_some_and(|path| path.local);
    Backend {
        address: wire(key.at.ip()),
        source: path.and_then(|path| path.source).map_or(ANY, wire),
        next_hop: path.map_or(ANY, |path| wire(path.next_hop)),
        interface: path.map_or(0, |path| path.interface),
        flags: path.map_or(0, |_| BACKEND_ROUTABLE) | if local { BACKEND_LOCAL } else { 0 },
        port: key.at.port(),
        protocol: key.protocol,
        pad: 0,
        mtu: path.map_or(0, |path| path.mtu),
    }
}

fn parse(backend: &Backend) -> (BackendKey, Option<Path>) {
    let at = SocketAddr::new(unmapped(backend.address), backend.port);
    let path = Path {
        interface: backend.interface,
        next_hop: unmapped(backend.next_hop),
        source: (backend.source != ANY).then(|| unmapped(backend.source)),
        mtu: backend.mtu,
        local: backend.flags & BACKEND_LOCAL != 0,
    };
    let key = BackendKey { at, protocol: backend.protocol };
    (key, (backend.flags & BACKEND_ROUTABLE != 0).then_some(path))
}

fn unmapped(address: Address) -> IpAddr {
    Ipv6Addr::from(address).to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_comes_back_as_it_went_in() {
        for at in ["192.0.2.1:80", "[2001:db8::1]:65535", "127.0.0.1:1", "[::1]:1"] {
            let key = BackendKey { at: at.parse().unwrap(), protocol: gateway_ebpf::abi::TCP };
            assert_eq!(parse(&backend(key, None)), (key, None), "{at}");
            for (local, source) in [(false, Some(key.at.ip())), (true, None)] {
                let path = Path { interface: 7, next_hop: key.at.ip(), source, mtu: 1280, local };
                assert_eq!(parse(&backend(key, Some(&path))), (key, Some(path)), "{at}");
            }
        }
    }
}
