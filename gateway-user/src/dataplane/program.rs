//! The programs: loaded with a log level, their maps pinned and compared with the contract, attached by a link that
//! outlives the process.
//!
//! Owns loading and attaching. Must not know what the maps hold.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use aya::maps::{MapData, MapInfo};
use aya::programs::SkLookup;
use aya::programs::links::FdLink;
use aya::{Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use gateway_ebpf::names::{MAPS, MapSpec, SK_LOOKUP, SK_LOOKUP_LINK};

use super::pins::Pins;
use super::sys::Link;
use super::{Error, LogLevel, sys};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sluice-bpf"));

/// The programs in the kernel, at one log level.
#[derive(Debug)]
pub(super) struct Programs {
    ebpf: Ebpf,
}

/// What reads the programs' log.
pub(super) type Logger = EbpfLogger<&'static dyn log::Log>;

impl Programs {
    /// Loads the programs on the maps that are pinned, or pins new ones. A pinned map that is not what the contract
    /// says is refused before anything is made.
    pub(super) fn load(pins: &Pins, level: LogLevel) -> Result<Self, Error> {
        let maps = MAPS.map(|spec| (spec, pins.path(spec.name)));
        let mut ebpf = load(OBJECT, &maps, Some(level))?;
        sk_lookup(&mut ebpf)?.load().map_err(failed("loading it"))?;
        Ok(Self { ebpf })
    }

    /// Reads what the programs log.
    pub(super) fn logger(&mut self) -> Result<Logger, Error> {
        EbpfLogger::init(&mut self.ebpf).map_err(|e| Error::Log(Box::new(e)))
    }

    /// A map, to be opened once.
    pub(super) fn map(pins: &Pins, name: &'static str) -> Result<MapData, Error> {
        MapData::from_pin(pins.path(name)).map_err(Error::map(name, "opening it"))
    }

    /// The `sk_lookup` program.
    pub(super) fn fd(&self) -> Result<BorrowedFd<'_>, Error> {
        let program: &SkLookup = self
            .ebpf
            .program(SK_LOOKUP)
            .ok_or(Error::Missing(SK_LOOKUP))?
            .try_into()
            .map_err(failed("finding its type"))?;
        Ok(program.fd().map_err(failed("finding it"))?.as_fd())
    }

    /// Attaches to the network namespace of this thread: the pinned link is switched to this program, or a new one
    /// is made and pinned.
    pub(super) fn attach(&mut self, pins: &Pins) -> Result<OwnedFd, Error> {
        let path = pins.path(SK_LOOKUP_LINK);
        let namespace = File::open("/proc/thread-self/ns/net")
            .map_err(Error::io("cannot open this thread's network namespace"))?;
        let here =
            namespace.metadata().map_err(Error::io("cannot examine this thread's network namespace"))?.ino();
        match sys::open_pin(&path) {
            Ok(link) => match reuse(&path, link.as_fd(), here)? {
                true => {
                    self.switch(link.as_fd())?;
                    return Ok(link);
                }
                // Its namespace is gone, and so is what it attached to.
                false => fs::remove_file(&path)
                    .map_err(Error::io(format!("cannot remove the pin {}", path.display())))?,
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io(format!("cannot open the pin {}", path.display()))(e)),
        }
        let program = sk_lookup(&mut self.ebpf)?;
        let id = program.attach(&namespace).map_err(failed("attaching it"))?;
        let link: FdLink = program.take_link(id).map_err(failed("attaching it"))?.into();
        link.pin(&path).map_err(|e| Error::Pin { path: path.clone(), source: Box::new(e) })?;
        sys::open_pin(&path).map_err(Error::io(format!("cannot open the pin {}", path.display())))
    }

    /// Switches a link over to this program.
    pub(super) fn switch(&self, link: BorrowedFd<'_>) -> Result<(), Error> {
        sys::update_link(link, self.fd()?)
            .map_err(Error::io(format!("cannot switch the pinned link to the new {SK_LOOKUP}")))
    }
}

/// Loads an object on the maps that are pinned there, or pins new ones, each compared with the contract.
pub(super) fn load(
    object: &[u8],
    maps: &[(MapSpec, PathBuf)],
    level: Option<LogLevel>,
) -> Result<Ebpf, Error> {
    for (spec, path) in maps.iter().filter(|(_, path)| path.exists()) {
        compare(path, spec)?;
    }
    let level = level.map(|level| level as u8);
    let mut loader = EbpfLoader::new();
    // Nothing here refers to the kernel's types, which the loader has parsed all the same: let go of them.
    loader.btf(None);
    if let Some(level) = &level {
        loader.override_global(aya_log::LEVEL, level, true);
    }
    for (spec, path) in maps {
        loader.map_pin_path(spec.name, path.as_path()).map_max_entries(spec.name, spec.max_entries);
    }
    let ebpf = loader.load(object).map_err(|e| Error::Load(Box::new(e)))?;
    // What the object made anew must be what the contract says, too.
    for (spec, path) in maps {
        compare(path, spec)?;
    }
    Ok(ebpf)
}

/// Whether a pinned link is attached here; `false` if its namespace is gone.
fn reuse(path: &Path, link: BorrowedFd<'_>, here: u64) -> Result<bool, Error> {
    let info =
        sys::link(link).map_err(Error::io(format!("cannot examine the pinned link {}", path.display())))?;
    match info {
        Link::Namespace(found) if u64::from(found) == here => Ok(true),
        Link::Namespace(0) => Ok(false),
        Link::Namespace(found) => Err(Error::OtherNamespace { path: path.to_owned(), found, expected: here }),
        Link::Interface(_) | Link::Other => Err(Error::Incompatible {
            path: path.to_owned(),
            what: "its kind",
            found: "another".into(),
            expected: "a link to a network namespace".into(),
        }),
    }
}

fn sk_lookup(ebpf: &mut Ebpf) -> Result<&mut SkLookup, Error> {
    ebpf.program_mut(SK_LOOKUP)
        .ok_or(Error::Missing(SK_LOOKUP))?
        .try_into()
        .map_err(failed("finding its type"))
}

fn failed(what: &'static str) -> impl FnOnce(aya::programs::ProgramError) -> Error {
    move |source| Error::Program { name: SK_LOOKUP, what, source: Box::new(source) }
}

/// Compares a pinned map with the contract; aya reopens by name without looking.
fn compare(path: &Path, spec: &MapSpec) -> Result<(), Error> {
    let info = MapInfo::from_pin(path).map_err(Error::map(spec.name, "opening its pin"))?;
    let kind = info.map_type().map_err(Error::map(spec.name, "reading its type"))?;
    let numbers = [
        ("its type", kind as u32, spec.kind as u32),
        ("the size of its keys", info.key_size(), spec.key_size),
        ("the size of its values", info.value_size(), spec.value_size),
        ("its capacity", info.max_entries(), spec.max_entries),
        ("its flags", info.map_flags(), spec.flags),
    ];
    match numbers.into_iter().find(|(_, found, expected)| found != expected) {
        None => Ok(()),
        Some((what, found, expected)) => Err(Error::Incompatible {
            path: path.to_owned(),
            what,
            found: found.to_string(),
            expected: expected.to_string(),
        }),
    }
}
