//! The store's index: which file holds which object. It is what a change takes effect by.
//!
//! Owns the form of the index and of the files' names. Must not know the file system, nor what is in a file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::core::model::ObjectName;
use crate::source::kind::Kind;

/// The version of the store's form that is written, and the newest that is read.
pub(in crate::source) const VERSION: u64 = 1;

/// Which object.
pub(in crate::source) type Key = (Kind, ObjectName);

/// Which file holds an object, and how it must look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) file: String,
    pub(super) bytes: usize,
    pub(super) crc32: u32,
}

impl Entry {
    pub(super) fn of(file: String, content: &[u8]) -> Self {
        Self { file, bytes: content.len(), crc32: crc32fast::hash(content) }
    }

    /// Whether a file's content is what was written.
    pub(super) fn fits(&self, content: &[u8]) -> bool {
        self.bytes == content.len() && self.crc32 == crc32fast::hash(content)
    }
}

/// Everything that is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    /// Counts the objects that were ever written: each file has a number that no other had.
    pub(super) revision: u64,
    pub(super) entries: BTreeMap<Key, Entry>,
}

/// Why an index cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// A newer version wrote it.
    Newer(u64),
    /// It is not as it was written.
    Damaged(String),
}

#[derive(Deserialize)]
struct Versioned {
    version: u64,
}

#[derive(Serialize, Deserialize)]
struct Written {
    version: u64,
    revision: u64,
    objects: Vec<WrittenEntry>,
}

#[derive(Serialize, Deserialize)]
struct WrittenEntry {
    kind: String,
    namespace: String,
    name: String,
    file: String,
    bytes: usize,
    crc32: u32,
}

impl Index {
    pub(super) fn read(content: &[u8]) -> Result<Self, Unreadable> {
        let damaged = |error: &dyn ToString| Unreadable::Damaged(error.to_string());
        let Versioned { version } = serde_json::from_slice(content).map_err(|e| damaged(&e))?;
        if version > VERSION {
            return Err(Unreadable::Newer(version));
        }
        let written: Written = serde_json::from_slice(content).map_err(|e| damaged(&e))?;
        let mut entries = BTreeMap::new();
        for WrittenEntry { kind, namespace, name, file, bytes, crc32 } in written.objects {
            let known = Kind::named(&kind).ok_or_else(|| damaged(&format!("there is no kind {kind}")))?;
            if !is_object(&file) || file.contains('/') {
                return Err(damaged(&format!("`{file}` is no file of the store")));
            }
            entries.insert((known, ObjectName::new(&namespace, &name)), Entry { file, bytes, crc32 });
        }
        Ok(Self { revision: written.revision, entries })
    }

    pub(super) fn write(&self) -> Vec<u8> {
        let objects = self.entries.iter().map(|((kind, name), entry)| WrittenEntry {
            kind: kind.name().to_owned(),
            namespace: name.namespace.to_string(),
            name: name.name.to_string(),
            file: entry.file.clone(),
            bytes: entry.bytes,
            crc32: entry.crc32,
        });
        let written = Written { version: VERSION, revision: self.revision, objects: objects.collect() };
        // A line for each object, so that a person can compare two of them.
        let mut text = serde_json::to_string(&written).unwrap_or_default().replace("},{", "},\n{");
        text.push('\n');
        text.into_bytes()
    }

    /// The next number, and the name of the file that has it: `httproute_default_my-route_7.yaml`.
    pub(super) fn next_file(&mut self, (kind, name): &Key) -> String {
        // A name may be longer than a file's may be.
        const LONGEST: usize = 128;
        self.revision += 1;
        let short: String = name.name.chars().take(LONGEST).collect();
        format!("{}_{}_{short}_{}.yaml", kind.name().to_lowercase(), name.namespace, self.revision)
    }
}

/// Whether a file in the folder is an object's, by its name.
pub(super) fn is_object(file: &str) -> bool {
    file.strip_suffix(".yaml")
        .and_then(|stem| stem.rsplit_once('_'))
        .is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}
