//! Which set of tables is in force: one word of META says so, so that one write replaces all of them.
//!
//! Owns the pins of tables, those of other sets among them, which a change that was cut short has left. Must not know what
//! is in the tables.

use std::fs;
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use aya::maps::{MapData, MapInfo};
use gateway_ebpf::abi::Meta;
use gateway_ebpf::flow::{CURSOR_ENTRIES, LAYOUT};
use gateway_ebpf::names::{CURSORS, FLOWS, OPENING, TABLES};

use crate::dataplane::Error;
use crate::dataplane::maps::Maps;
use crate::dataplane::pins::Pins;
use crate::dataplane::sys::Words;

/// A set of tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    /// Capacity of FLOWS.
    pub flows: u32,
    /// Capacity of OPENING.
    pub opening: u32,
    /// Its number.
    set: u32,
    /// The layout of its flows.
    layout: u32,
}

impl Tables {
    /// The first ones.
    pub(super) fn new(flows: u32, opening: u32) -> Self {
        Self { flows, opening, set: 0, layout: LAYOUT }
    }

    /// Those that take the place of these, of this program's layout.
    pub(super) fn next(&self, flows: u32, opening: u32) -> Self {
        Self { flows, opening, set: self.set.wrapping_add(1), layout: LAYOUT }
    }

    /// The set that is in force; `None`: there are no tables.
    pub(super) fn in_force(pins: &Pins, maps: &Maps) -> Result<Option<Self>, Error> {
        let word = maps.meta(Meta::Tables)?;
        let mut tables = Self { flows: 0, opening: 0, set: word as u32, layout: (word >> 32) as u32 };
        // One that is not whole was about to be removed.
        if tables.layout == 0 || !TABLES.iter().all(|name| tables.path(pins, name).exists()) {
            return Ok(None);
        }
        let capacity = |name| {
            let info =
                MapInfo::from_pin(tables.path(pins, name)).map_err(Error::map(name, "opening its pin"))?;
            Ok(info.max_entries())
        };
        (tables.flows, tables.opening) = (capacity(FLOWS)?, capacity(OPENING)?);
        Ok(Some(tables))
    }

    /// Puts the set in force.
    pub(super) fn enforce(&self, maps: &mut Maps) -> Result<(), Error> {
        maps.set_meta(Meta::Opening, self.opening.into())?;
        maps.set_meta(Meta::Tables, u64::from(self.set) | (u64::from(self.layout) << 32))
    }

    pub(super) fn layout(&self) -> u32 {
        self.layout
    }

    /// Whether it has this program's layout and these capacities.
    pub(super) fn fits(&self, flows: u32, opening: u32) -> bool {
        (self.layout, self.flows, self.opening) == (LAYOUT, flows, opening)
    }

    /// Where a map is pinned, one of the tables or another.
    pub(super) fn path(&self, pins: &Pins, name: &str) -> PathBuf {
        if self.set == 0 || !TABLES.contains(&name) {
            return pins.path(name);
        }
        pins.path(&format!("{name}_{}", self.set))
    }

    /// The places for flows, in memory; a flow has so many words.
    pub(super) fn places(&self, pins: &Pins, words: usize) -> Result<Words, Error> {
        Words::map(self.map(pins, FLOWS)?.fd().as_fd(), 0, self.flows as usize * words)
            .map_err(Error::io(format!("cannot map the memory of {FLOWS}")))
    }

    /// CURSORS, in memory.
    pub(in crate::dataplane) fn cursors(&self, pins: &Pins) -> Result<Words, Error> {
        Words::map(self.map(pins, CURSORS)?.fd().as_fd(), 0, CURSOR_ENTRIES as usize)
            .map_err(Error::io(format!("cannot map the memory of {CURSORS}")))
    }

    /// A map, to be opened once.
    pub(in crate::dataplane) fn map(&self, pins: &Pins, name: &'static str) -> Result<MapData, Error> {
        MapData::from_pin(self.path(pins, name)).map_err(Error::map(name, "opening it"))
    }
}

/// No set is in force any more.
pub(in crate::dataplane) fn none(maps: &mut Maps) -> Result<(), Error> {
    maps.set_meta(Meta::Tables, 0)
}

/// Removes the pins of all tables but those of one set; returns what was removed.
pub(super) fn remove_others(pins: &Pins, kept: Option<&Tables>) -> Result<Vec<String>, Error> {
    let list = || Error::io(format!("cannot list {}", pins.directory().display()));
    let mut removed = Vec::new();
    for entry in fs::read_dir(pins.directory()).map_err(list())? {
        let path = entry.map_err(list())?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(name) = table(&file) else { continue };
        if kept.is_some_and(|kept| kept.path(pins, name) == path) {
            continue;
        }
        fs::remove_file(&path).map_err(Error::io(format!("cannot remove the pin {}", path.display())))?;
        removed.push(path.display().to_string());
    }
    Ok(removed)
}

/// The table that a pin is of.
fn table(pin: &str) -> Option<&'static str> {
    let of = |name: &&str| match pin.strip_prefix(*name) {
        Some("") => true,
        Some(rest) => rest.strip_prefix('_').is_some_and(|set| set.parse::<u32>().is_ok()),
        None => false,
    };
    TABLES.into_iter().find(of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_known_by_its_name() {
        for (pin, name) in [
            ("FLOWS", Some(FLOWS)),
            ("FLOWS_7", Some(FLOWS)),
            ("OPENING_4294967295", Some(OPENING)),
            ("FLOWS_", None),
            ("FLOWS_x", None),
            ("FLOWSX", None),
            ("PROGRAMS", None),
            ("link_tc_4", None),
        ] {
            assert_eq!(table(pin), name, "{pin}");
        }
    }
}
