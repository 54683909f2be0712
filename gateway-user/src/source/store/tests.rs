//! The store on a file system that fails and loses power after every call, and on the real one.

mod crash;
mod real;
mod sim;

use std::collections::BTreeMap;
use std::path::Path;

use super::index::Key;
use super::{Disk, Store, StoreError};
use crate::core::model::ObjectName;
use crate::source::kind::Kind;

/// What a store holds.
type Contents = BTreeMap<Key, String>;

fn key(name: &str) -> Key {
    (Kind::HttpRoute, ObjectName::new("default", name))
}

/// What a store that is open says that it holds.
fn contents<D: Disk>(store: &Store<D>) -> Contents {
    let get = |key: &Key| store.get(key).unwrap().unwrap();
    store.index.entries.keys().map(|key| (key.clone(), get(key))).collect()
}

fn open<D: Disk>(disk: D) -> Result<(Store<D>, Contents), StoreError> {
    Store::open(disk, Path::new("/state/objects"))
}

/// What becomes of contents by a change.
fn changed(contents: &Contents, changes: &[(Key, Option<String>)]) -> Contents {
    let mut contents = contents.clone();
    for (key, text) in changes {
        match text {
            Some(text) => drop(contents.insert(key.clone(), text.clone())),
            None => drop(contents.remove(key)),
        }
    }
    contents
}
