//! Hooks: a stub at the ingress of an interface, before whatever else is there.
//!
//! Owns attaching, finding again, confirming and detaching. By a tcx link where the kernel has them (6.6), pinned by
//! the interface's index; else by a filter of the clsact qdisc at a fixed priority and handle, which nobody owns. Both
//! outlive the process, and the next one switches the program without detaching. Must not decide where: that is
//! `core::locality`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use aya::Ebpf;
use aya::programs::links::FdLink;
use aya::programs::tc::{
    NlOptions, SchedClassifierLink, TcAttachOptions, TcAttachType, TcError, TcHandle, qdisc_add_clsact,
    qdisc_detach_program,
};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier};
use aya::sys::SyscallError;
use gateway_ebpf::names::{STUB_ETHERNET, STUB_RAW};
use nix::ifaddrs::getifaddrs;

use super::{Error, classifier, failed};
use crate::core::locality::Stub;
use crate::dataplane::pins::Pins;
use crate::dataplane::sys::{self, Link};

/// Pins of links are called so, and then the interface's index.
const PIN: &str = "link_tc_";
/// Of clsact's filters the lowest priority comes first.
const PRIORITY: u16 = 1;
/// Ours among the filters of that priority.
const HANDLE: TcHandle = TcHandle::new(0, 0x51);

/// An interface that is to be hooked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// What is attached.
    pub stub: Stub,
}

/// How an interface is hooked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// By a tcx link.
    Tcx,
    /// By a filter of the clsact qdisc.
    Clsact,
}

impl Hook {
    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

/// What is attached by this process, or was found and taken over.
#[derive(Debug)]
pub(super) struct Hooks {
    /// The kernel has no tcx, or shall not use it.
    clsact: bool,
    links: BTreeMap<u32, OwnedFd>,
    /// Interfaces with a filter of ours; `None`: not known yet.
    filters: Option<Vec<String>>,
}

impl Hooks {
    pub(super) fn new(clsact: bool) -> Self {
        Self { clsact, links: BTreeMap::new(), filters: None }
    }

    /// Attaches and confirms what is wanted, detaches the rest.
    pub(super) fn sync(
        &mut self,
        pins: &Pins,
        ebpf: &mut Ebpf,
        wanted: &BTreeMap<u32, Wanted>,
    ) -> Result<BTreeMap<u32, Result<Hook, Error>>, Error> {
        let hooks =
            wanted.iter().map(|(index, want)| (*index, self.ensure(pins, ebpf, *index, want))).collect();
        for (index, path) in pinned(pins)? {
            // One by the other way would see each packet a second time.
            if !wanted.contains_key(&index) || self.clsact {
                unpin(&path)?;
                self.links.remove(&index);
            }
        }
        // What an agent before left is not known: it is looked for everywhere, once.
        let names = self.filters.take().unwrap_or_else(interfaces);
        let kept = |name: &str| self.clsact && wanted.values().any(|want| want.name == name);
        for name in names.iter().filter(|name| !kept(name)) {
            remove_filter(name)?;
        }
        let filtered = wanted.values().filter(|_| self.clsact);
        self.filters = Some(filtered.map(|want| want.name.clone()).collect());
        Ok(hooks)
    }

    fn ensure(&mut self, pins: &Pins, ebpf: &mut Ebpf, index: u32, want: &Wanted) -> Result<Hook, Error> {
        let name = match want.stub {
            Stub::Ethernet => STUB_ETHERNET,
            Stub::Raw => STUB_RAW,
        };
        let program = classifier(ebpf, name)?;
        let hooked = if self.clsact { Ok(false) } else { self.link(pins, program, index, want) };
        match hooked {
            Ok(true) => Ok(Hook::Tcx),
            Ok(false) => {
                self.clsact = true;
                filter(program, &want.name)
                    .map(|()| Hook::Clsact)
                    .map_err(|source| Error::Hook { interface: want.name.clone(), source: Box::new(source) })
            }
            Err(e) => Err(e),
        }
    }

    /// False: the kernel has no tcx.
    fn link(
        &mut self,
        pins: &Pins,
        program: &mut SchedClassifier,
        index: u32,
        want: &Wanted,
    ) -> Result<bool, Error> {
        let path = pins.path(&format!("{PIN}{index}"));
        let examine = |link: &OwnedFd| {
            sys::link(link.as_fd()).map_err(Error::io(format!("cannot examine the link {}", path.display())))
        };
        if let Some(link) = self.links.get(&index) {
            if examine(link)? == Link::Interface(index) {
                return Ok(true);
            }
            tracing::warn!(interface = want.name, "somebody else detached the hook; it is attached again");
            self.links.remove(&index);
            unpin(&path)?;
        } else {
            match sys::open_pin(&path) {
                Ok(link) if examine(&link)? == Link::Interface(index) => {
                    let stub = program.fd().map_err(failed("the stub", "finding it"))?;
                    sys::update_link(link.as_fd(), stub.as_fd())
                        .map_err(Error::io(format!("cannot switch the pinned link {}", path.display())))?;
                    self.links.insert(index, link);
                    return Ok(true);
                }
                // Its interface is gone, and another has its index.
                Ok(_) => unpin(&path)?,
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::io(format!("cannot open the pin {}", path.display()))(e)),
            }
        }
        let refused = |source| Error::Hook { interface: want.name.clone(), source: Box::new(source) };
        let order = TcAttachOptions::TcxOrder(LinkOrder::first());
        let id = match program.attach_with_options(&want.name, TcAttachType::Ingress, order) {
            Ok(id) => id,
            Err(ProgramError::SyscallError(SyscallError { io_error, .. }))
                if self.links.is_empty() && io_error.raw_os_error() == Some(libc::EINVAL) =>
            {
                return Ok(false);
            }
            Err(e) => return Err(refused(e)),
        };
        let link = program.take_link(id).map_err(refused)?;
        let link: FdLink =
            link.try_into().map_err(|e| Error::io(format!("{e}"))(io::ErrorKind::Other.into()))?;
        link.pin(&path).map_err(|e| Error::Pin { path: path.clone(), source: Box::new(e) })?;
        let link =
            sys::open_pin(&path).map_err(Error::io(format!("cannot open the pin {}", path.display())))?;
        self.links.insert(index, link);
        Ok(true)
    }
}

/// Puts the stub into our filter, making filter and qdisc where they are missing: whoever reset the interface's qdiscs
/// has removed both.
fn filter(program: &mut SchedClassifier, interface: &str) -> Result<(), ProgramError> {
    let ours = SchedClassifierLink::attached(interface, TcAttachType::Ingress, PRIORITY, HANDLE, None)
        .map_err(TcError::IoError)?;
    // In one step, if it is there.
    let id = match program.attach_to_link(ours) {
        Ok(id) => id,
        Err(_) => {
            // That it is there already is as well: if it cannot be made, neither can the filter.
            let _made = qdisc_add_clsact(interface);
            let options = NlOptions { priority: PRIORITY, handle: HANDLE, classid: None };
            program.attach_with_options(
                interface,
                TcAttachType::Ingress,
                TcAttachOptions::Netlink(options),
            )?
        }
    };
    // It stays when this process ends.
    let _stays = std::mem::ManuallyDrop::new(program.take_link(id)?);
    Ok(())
}

fn remove_filter(interface: &str) -> Result<bool, Error> {
    let mut removed = false;
    for stub in [STUB_ETHERNET, STUB_RAW] {
        match qdisc_detach_program(interface, TcAttachType::Ingress, stub) {
            Ok(()) => removed = true,
            // There is none, or no such interface any more.
            Err(TcError::IoError(e)) if is_gone(&e) => {}
            Err(TcError::NetlinkError(e)) if e.raw_os_error().is_some_and(is_gone_code) => {}
            Err(e) => {
                return Err(Error::Hook { interface: interface.to_owned(), source: Box::new(e.into()) });
            }
        }
    }
    Ok(removed)
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error().is_some_and(is_gone_code)
}

/// No such device, filter or qdisc.
fn is_gone_code(code: i32) -> bool {
    matches!(code.abs(), libc::ENODEV | libc::ENOENT | libc::EINVAL | libc::ENXIO | libc::EOPNOTSUPP)
}

/// Pins of links by the index of their interface.
fn pinned(pins: &Pins) -> Result<Vec<(u32, PathBuf)>, Error> {
    let list = || Error::io(format!("cannot list {}", pins.directory().display()));
    let mut found = Vec::new();
    for entry in fs::read_dir(pins.directory()).map_err(list())? {
        let path = entry.map_err(list())?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(index) = name.and_then(|name| name.strip_prefix(PIN)?.parse().ok()) {
            found.push((index, path));
        }
    }
    Ok(found)
}

/// Detaches a link at once and removes its pin.
fn unpin(path: &PathBuf) -> Result<(), Error> {
    if let Ok(link) = sys::open_pin(path)
        && matches!(sys::link(link.as_fd()), Ok(Link::Interface(1..)))
    {
        sys::detach_link(link.as_fd())
            .map_err(Error::io(format!("cannot detach the link {}", path.display())))?;
    }
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(Error::io(format!("cannot remove the pin {}", path.display()))(e))
        }
        _ => Ok(()),
    }
}

/// Names of the interfaces of this thread's network namespace.
fn interfaces() -> Vec<String> {
    let mut names: Vec<String> =
        getifaddrs().into_iter().flatten().map(|interface| interface.interface_name).collect();
    names.sort();
    names.dedup();
    names
}

/// Ids of the programs that tcx runs at an interface's ingress, in their order.
///
/// # Errors
/// The kernel has no tcx, or there is no such interface.
pub fn at_ingress(interface: &str) -> Result<Vec<u32>, Error> {
    let (_, programs) = SchedClassifier::query_tcx(interface, TcAttachType::Ingress)
        .map_err(|source| Error::Hook { interface: interface.to_owned(), source: Box::new(source) })?;
    Ok(programs.iter().map(aya::programs::ProgramInfo::id).collect())
}

/// Detaches every hook of this thread's network namespace; returns what was removed.
pub(super) fn remove_all(pins: Option<&Pins>) -> Result<Vec<String>, Error> {
    let mut removed = Vec::new();
    for (_, path) in pins.map(pinned).transpose()?.unwrap_or_default() {
        unpin(&path)?;
        removed.push(path.display().to_string());
    }
    for name in interfaces() {
        if remove_filter(&name)? {
            removed.push(format!("tc filter of {name}"));
        }
    }
    Ok(removed)
}
