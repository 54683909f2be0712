//! The tree of a document: values that know where they were written.
//!
//! Owns the tree, how a value is shown to a person, and its hash. Must not know YAML's syntax nor any schema.

use std::fmt::{self, Write as _};
use std::hash::{Hash, Hasher};

use serde::ser::{Serialize, SerializeMap as _, SerializeSeq as _, Serializer};

/// Line and column in characters, both from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) line: u32,
    pub(super) column: u32,
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) at: Place,
    /// False for what a default filled in.
    pub(super) written: bool,
}

/// A value of JSON's kinds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    String(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) at: Place,
}

impl From<serde_json::Value> for Node {
    /// The value without a place. A number that is neither an `i64` nor a `f64` becomes the nearest `f64`.
    fn from(value: serde_json::Value) -> Self {
        let at = Place::default();
        let value = match value {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(value) => Value::Bool(value),
            serde_json::Value::Number(number) => {
                number.as_i64().map_or_else(|| Value::Float(number.as_f64().unwrap_or_default()), Value::Int)
            }
            serde_json::Value::String(text) => Value::String(text),
            serde_json::Value::Array(items) => Value::List(items.into_iter().map(Self::from).collect()),
            serde_json::Value::Object(fields) => {
                let entry = |(name, value)| (Key { name, at }, Self::from(value));
                Value::Map(fields.into_iter().map(entry).collect())
            }
        };
        Self::new(value, at)
    }
}

impl Node {
    pub(super) fn new(value: Value, at: Place) -> Self {
        Self { value, at, written: true }
    }

    /// A text that stands there.
    pub(super) fn text(text: &str, at: Place) -> Self {
        Self::new(Value::String(text.to_owned()), at)
    }

    /// A map that stands there, as do its keys.
    pub(super) fn map(entries: Vec<(&str, Self)>, at: Place) -> Self {
        let entry = |(name, node): (&str, Self)| (Key { name: name.to_owned(), at }, node);
        Self::new(Value::Map(entries.into_iter().map(entry).collect()), at)
    }

    /// A list that stands there.
    pub(super) fn list_of(items: Vec<Self>, at: Place) -> Self {
        Self::new(Value::List(items), at)
    }

    /// The field of a map.
    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|(key, _)| key.name == name).map(|(_, node)| node),
            _ => None,
        }
    }

    /// The field of a map, to be changed.
    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut Self> {
        match &mut self.value {
            Value::Map(entries) => entries.iter_mut().find(|(key, _)| key.name == name).map(|(_, node)| node),
            _ => None,
        }
    }

    /// Takes a field out of a map.
    pub(super) fn take(&mut self, name: &str) -> Option<(Key, Self)> {
        let Value::Map(entries) = &mut self.value else { return None };
        let found = entries.iter().position(|(key, _)| key.name == name)?;
        Some(entries.remove(found))
    }

    /// Puts a field into a map, in place of one of that name; does nothing to what is no map.
    pub(super) fn set(&mut self, name: &str, node: Self) {
        let Value::Map(entries) = &mut self.value else { return };
        match entries.iter_mut().find(|(key, _)| key.name == name) {
            Some((_, old)) => *old = node,
            None => entries.push((Key { name: name.to_owned(), at: node.at }, node)),
        }
    }

    /// Puts a field under a new name in the place of an old one.
    pub(super) fn replace(&mut self, old: &str, name: &str, node: Self) {
        let Value::Map(entries) = &mut self.value else { return };
        match entries.iter_mut().find(|(key, _)| key.name == old) {
            Some((key, value)) => {
                name.clone_into(&mut key.name);
                *value = node;
            }
            None => self.set(name, node),
        }
    }

    /// The elements of a list, to be changed.
    pub(super) fn items_mut(&mut self) -> &mut [Self] {
        match &mut self.value {
            Value::List(items) => items,
            _ => &mut [],
        }
    }

    /// Gives a field another name, in its place; does nothing if there is none.
    pub(super) fn rename(&mut self, old: &str, name: &str) -> bool {
        let Value::Map(entries) = &mut self.value else { return false };
        let found = entries.iter_mut().find(|(key, _)| key.name == old);
        found.map(|(key, _)| name.clone_into(&mut key.name)).is_some()
    }

    /// The elements of the list in a field, to be changed.
    pub(super) fn list_mut(&mut self, name: &str) -> &mut [Self] {
        self.get_mut(name).map_or(&mut [][..], Self::items_mut)
    }

    /// What follows the dots in `path`.
    pub(super) fn find(&self, path: &str) -> Option<&Self> {
        path.split('.').try_fold(self, |node, name| node.get(name))
    }

    /// The elements of a list; none for anything else.
    pub(super) fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// The entries of a map; none for anything else.
    pub(super) fn entries(&self) -> &[(Key, Self)] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The elements of the list at `path`.
    pub(super) fn list(&self, path: &str) -> &[Self] {
        self.find(path).map_or(&[], Self::items)
    }

    /// The text, if it is one.
    pub(super) fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The text at `path`.
    pub(super) fn str(&self, path: &str) -> Option<&str> {
        self.find(path)?.as_str()
    }

    /// The number at `path`.
    pub(super) fn int(&self, path: &str) -> Option<i64> {
        match self.find(path)?.value {
            Value::Int(number) => Some(number),
            _ => None,
        }
    }

    /// The truth value at `path`.
    pub(super) fn bool(&self, path: &str) -> Option<bool> {
        match self.find(path)?.value {
            Value::Bool(truth) => Some(truth),
            _ => None,
        }
    }

    /// How it is shown in a message: flow style, shortened.
    pub(super) fn shown(&self) -> String {
        const LONGEST: usize = 80;
        let mut out = Shortened { text: String::new(), room: LONGEST };
        if write!(out, "{self}").is_err() {
            out.text.push('…');
        }
        out.text
    }
}

/// Takes so many characters and then no more.
struct Shortened {
    text: String,
    room: usize,
}

impl fmt::Write for Shortened {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            self.room = self.room.checked_sub(1).ok_or(fmt::Error)?;
            self.text.push(c);
        }
        Ok(())
    }
}

impl fmt::Display for Node {
    /// Nearly JSON; defaults are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Value::Null => f.write_str("null"),
            Value::Bool(truth) => write!(f, "{truth}"),
            Value::Int(number) => write!(f, "{number}"),
            Value::Float(number) => write!(f, "{number}"),
            Value::String(text) => write!(f, "{text:?}"),
            Value::List(items) => {
                for (i, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if i == 0 { "[" } else { ", " })?;
                }
                f.write_str(if items.is_empty() { "[]" } else { "]" })
            }
            Value::Map(entries) => {
                let written = entries.iter().filter(|(_, node)| node.written);
                for (i, (key, node)) in written.enumerate() {
                    write!(f, "{}{}: {node}", if i == 0 { "{" } else { ", " }, key.name)?;
                }
                f.write_str(if entries.iter().any(|(_, node)| node.written) { "}" } else { "{}" })
            }
        }
    }
}

impl Hash for Node {
    /// By what it says: neither place nor the order of keys counts.
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(&self.value).hash(state);
        match &self.value {
            Value::Null => {}
            Value::Bool(truth) => truth.hash(state),
            Value::Int(number) => number.hash(state),
            Value::Float(number) => number.to_bits().hash(state),
            Value::String(text) => text.hash(state),
            Value::List(items) => items.hash(state),
            Value::Map(entries) => {
                let mut entries: Vec<_> = entries.iter().map(|(key, node)| (&key.name, node)).collect();
                entries.sort_by_key(|(name, _)| *name);
                entries.hash(state);
            }
        }
    }
}

impl Serialize for Node {
    /// What was written; defaults are left out.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.value {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(truth) => serializer.serialize_bool(*truth),
            Value::Int(number) => serializer.serialize_i64(*number),
            Value::Float(number) => serializer.serialize_f64(*number),
            Value::String(text) => serializer.serialize_str(text),
            Value::List(items) => {
                let mut list = serializer.serialize_seq(None)?;
                for item in items.iter().filter(|item| item.written) {
                    list.serialize_element(item)?;
                }
                list.end()
            }
            Value::Map(entries) => {
                let mut map = serializer.serialize_map(None)?;
                for (key, node) in entries.iter().filter(|(_, node)| node.written) {
                    map.serialize_entry(&key.name, node)?;
                }
                map.end()
            }
        }
    }
}
