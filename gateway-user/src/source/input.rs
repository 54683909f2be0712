//! All that an agent serves: files and the store, as one input.
//!
//! Owns that both are read as one, so that nothing is there twice, and that what is applied or deleted is judged with
//! all the rest before it is kept. Must not know what the objects are used for.

mod endpoints;
mod prepare;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::assemble::{Origin, Part, THE_STORE};
use super::document::{Document, Outcome};
use super::kind::{Kind, ObjectKind};
use super::object::{self, Object, Read};
use super::store::{Key, Real, Store, StoreError};
use super::{Diagnostic, EndpointFlag, Error, FileSource, Given, Loaded, Watch, yaml};
use prepare::Prepared;

/// Files and the store.
#[derive(Debug)]
pub struct Input {
    files: FileSource,
    store: Store<Real>,
    /// What the store holds, read.
    kept: BTreeMap<Key, Kept>,
}

/// An object of the store.
#[derive(Clone, Debug)]
struct Kept {
    read: Arc<Read>,
    generation: i64,
}

/// An object by its names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectRef {
    /// Kind, `HTTPRoute`.
    pub kind: &'static str,
    /// Namespace; empty for a kind without one.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl ObjectRef {
    fn of((kind, name): &Key) -> Self {
        Self { kind: kind.name(), namespace: name.namespace.to_string(), name: name.name.to_string() }
    }
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Something of the input is wrong.
    #[error("the input is refused and nothing was changed")]
    Input(Vec<Diagnostic>),
    /// It cannot be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What came of applying or deleting.
#[derive(Debug)]
pub struct Applied {
    /// All that is to be served now; `None` if nothing has changed.
    pub loaded: Option<Loaded>,
    /// What became of each object, in the order in which they were given.
    pub objects: Vec<(ObjectRef, Outcome)>,
    /// What should have been deleted and is not in the store.
    pub missing: Vec<ObjectRef>,
    /// What a person should know.
    pub warnings: Vec<Diagnostic>,
}

/// What applying would do to an object.
#[derive(Debug)]
pub struct Difference {
    /// The object.
    pub object: ObjectRef,
    /// What would become of it.
    pub outcome: Outcome,
    /// As YAML, without secrets; empty if it is not there.
    pub before: String,
    /// As YAML, without secrets; empty if it would not be there.
    pub after: String,
}

/// Which objects to look for.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Kinds; none: every one.
    pub kinds: Vec<ObjectKind>,
    /// Namespace; does not matter to kinds without one. `None`: all.
    pub namespace: Option<String>,
    /// Name. `None`: all.
    pub name: Option<String>,
}

impl Wanted {
    fn fits(&self, kind: Kind, name: &crate::core::model::ObjectName) -> bool {
        (self.kinds.is_empty() || self.kinds.iter().any(|wanted| wanted.0 == kind))
            && self.name.as_deref().is_none_or(|wanted| *name.name == *wanted)
            && self
                .namespace
                .as_deref()
                .is_none_or(|wanted| name.namespace.is_empty() || *name.namespace == *wanted)
    }
}

/// An object that was found.
#[derive(Debug)]
pub struct FoundObject {
    /// Its names.
    pub object: ObjectRef,
    /// The file it is in, or `None` for the store.
    pub file: Option<String>,
    /// As an API server shows it, without status and without secrets.
    pub value: Value,
}

impl Input {
    /// Opens the store in its folder. Reads no file yet.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn open(
        files: Vec<PathBuf>,
        endpoints: Vec<EndpointFlag>,
        folder: &Path,
    ) -> Result<Self, StoreError> {
        let (store, texts) = Store::open(Real, folder)?;
        let kept = texts.into_iter().map(|(key, text)| (key, Kept::of(&text))).collect();
        Ok(Self { files: FileSource::new(files, endpoints), store, kept })
    }

    /// Reads everything. Blocks: the time goes with what has changed in files, not with all there is.
    ///
    /// # Errors
    /// Everything that is wrong: then nothing of it may be used.
    pub fn load(&mut self) -> Result<Loaded, Vec<Diagnostic>> {
        let mut parts = self.stored(&BTreeSet::new());
        parts.extend(self.files.parts(&mut |_, _| ()));
        self.files.assemble(&parts)
    }

    /// Starts to watch the files, as [`FileSource::watch`] does.
    ///
    /// # Errors
    /// If the kernel's watch cannot be set up.
    pub fn watch(&self) -> Result<Watch, Error> {
        self.files.watch()
    }

    /// How many objects the store holds.
    #[must_use]
    pub fn stored_objects(&self) -> usize {
        self.kept.len()
    }

    /// Stores objects, all or none. `now` is the time, RFC 3339. With `dry_run` nothing is stored.
    ///
    /// # Errors
    /// If anything is wrong with the objects, the files or the two together, or they cannot be kept.
    pub fn apply(
        &mut self,
        given: &[Given],
        endpoints: &[EndpointFlag],
        now: &str,
        dry_run: bool,
    ) -> Result<Applied, Refused> {
        let prepared = self.prepare(given, endpoints, now)?;
        self.keep(prepared, dry_run)
    }

    /// What applying would change.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn diff(
        &mut self,
        given: &[Given],
        endpoints: &[EndpointFlag],
        now: &str,
    ) -> Result<(Vec<Difference>, Vec<Diagnostic>), Refused> {
        let prepared = self.prepare(given, endpoints, now)?;
        let warnings = prepared.warnings.clone();
        let mut differences = prepared.differences();
        for (difference, key) in differences.iter_mut().rev().zip(prepared.gone.iter().rev()) {
            difference.before = self.document(key)?.map_or(String::new(), |gone| gone.shown(None));
        }
        self.keep(prepared, true)?;
        Ok((differences, warnings))
    }

    /// Removes objects from the store, all that are there or none. What is in a file is an error.
    ///
    /// # Errors
    /// If an object is in a file, what remains is wrong, or it cannot be kept.
    pub fn delete(&mut self, objects: &[(ObjectKind, Option<String>, String)]) -> Result<Applied, Refused> {
        let keys = objects.iter().map(|(kind, namespace, name)| kind.key(namespace.as_deref(), name));
        self.delete_keys(keys.collect(), Vec::new())
    }

    /// Removes the objects that documents name, as [`delete`](Self::delete) does.
    ///
    /// # Errors
    /// As [`delete`](Self::delete), or if the documents have errors.
    pub fn delete_given(&mut self, given: &[Given]) -> Result<Applied, Refused> {
        let (mut keys, mut errors, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
        for part in given.iter().flat_map(|given| parts(given, object::read)) {
            errors.extend(part.diagnostics());
            warnings.extend(part.warnings());
            keys.extend(part.read.objects.iter().map(key_of));
        }
        if errors.is_empty() { self.delete_keys(keys, warnings) } else { Err(Refused::Input(errors)) }
    }

    fn delete_keys(&mut self, keys: Vec<Key>, warnings: Vec<Diagnostic>) -> Result<Applied, Refused> {
        let mut prepared = Prepared { warnings, ..Prepared::default() };
        let files = self.files.parts(&mut |_, _| ());
        let mut missing = Vec::new();
        let mut errors = Vec::new();
        for key in keys {
            if self.kept.contains_key(&key) {
                prepared.gone.insert(key);
                continue;
            }
            let holds = |part: &&Part| part.read.objects.iter().any(|object| key_of(object) == key);
            match files.iter().find(holds) {
                Some(part) => errors.push(Diagnostic {
                    file: part.file.to_string(),
                    object: format!("{} {}", key.0.name(), key.1),
                    message: "this file is the agent's own input, and not in the store".to_owned(),
                    remedy: "remove the object from the file".to_owned(),
                    ..Diagnostic::default()
                }),
                None => missing.push(ObjectRef::of(&key)),
            }
        }
        if !errors.is_empty() {
            return Err(Refused::Input(errors));
        }
        prepared.parts = files;
        Ok(Applied { missing, ..self.keep(prepared, false)? })
    }

    /// Judges a change together with all the rest, and keeps it.
    fn keep(&mut self, prepared: Prepared, dry_run: bool) -> Result<Applied, Refused> {
        let mut parts = self.stored(&prepared.replaced());
        parts.extend(prepared.parts);
        let loaded = self.files.assemble(&parts).map_err(Refused::Input)?;
        let mut objects: Vec<_> =
            prepared.changes.iter().map(|change| (ObjectRef::of(&change.key), change.outcome)).collect();
        objects.extend(prepared.gone.iter().map(|key| (ObjectRef::of(key), Outcome::Deleted)));
        let (missing, warnings) = (Vec::new(), prepared.warnings);
        let mut changes: Vec<(Key, Option<String>)> = Vec::new();
        let mut kept = Vec::new();
        for change in prepared.changes.into_iter().filter(|change| change.outcome != Outcome::Unchanged) {
            changes.push((change.key.clone(), Some(change.text)));
            kept.push((change.key, change.kept));
        }
        changes.extend(prepared.gone.iter().map(|key| (key.clone(), None)));
        if dry_run || changes.is_empty() {
            return Ok(Applied { loaded: None, objects, missing, warnings });
        }
        self.store.commit(&changes)?;
        self.kept.retain(|key, _| !prepared.gone.contains(key));
        self.kept.extend(kept);
        Ok(Applied { loaded: Some(loaded), objects, missing, warnings })
    }

    /// The store's objects but for these, as parts of the input.
    fn stored(&self, without: &BTreeSet<Key>) -> Vec<Part> {
        let file: Arc<str> = THE_STORE.into();
        let kept = self.kept.iter().filter(|(key, _)| !without.contains(*key));
        kept.map(|(_, Kept { read, generation })| Part {
            file: Arc::clone(&file),
            lines_before: 0,
            read: Arc::clone(read),
            origin: Origin::Store(*generation),
        })
        .collect()
    }

    /// An object of the store.
    fn document(&self, key: &Key) -> Result<Option<Document>, StoreError> {
        let text = self.store.get(key)?;
        Ok(text.and_then(|text| object::read_whole(&text).objects.first().and_then(Document::of)))
    }

    /// Looks for objects in store and files. What is wrong with the files since they were read last is told, too:
    /// then they show what may not serve.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn find(&mut self, wanted: &Wanted) -> Result<(Vec<FoundObject>, Vec<Diagnostic>), StoreError> {
        let mut found = Vec::new();
        for (kind, name) in self.kept.keys().filter(|(kind, name)| wanted.fits(*kind, name)) {
            let document = self.document(&(*kind, name.clone()))?;
            found.extend(document.map(|document| (document, None)));
        }
        let fits = |object: &Object| wanted.fits(object.kind, &object.meta.name);
        let mut in_files = Vec::new();
        let parts = self.files.parts(&mut |part, text| {
            if part.read.objects.iter().any(fits) {
                let whole = object::read_whole(text);
                let fitting = whole.objects.iter().filter(|object| fits(object)).filter_map(Document::of);
                in_files.extend(fitting.map(|document| (document, part.file.to_string())));
            }
        });
        for (mut document, file) in in_files {
            document.forget_stamp(self.files.generation(&document.key()));
            found.push((document, Some(file)));
        }
        found.sort_by_key(|(document, _)| document.key());
        let found = found.into_iter().map(|(document, file)| FoundObject {
            object: ObjectRef::of(&document.key()),
            file,
            value: document.without_secrets(None).json(true),
        });
        Ok((found.collect(), parts.iter().flat_map(Part::diagnostics).collect()))
    }
}

impl Kept {
    fn of(text: &str) -> Self {
        let whole = object::read_whole(text);
        let generation =
            whole.objects.first().and_then(Document::of).map_or(1, |document| document.stamp().generation);
        Self { read: Arc::new(without_whole(whole)), generation }
    }
}

/// What was read, without what is not needed any longer.
fn without_whole(mut read: Read) -> Read {
    read.objects.iter_mut().for_each(|object| object.whole = None);
    read
}

fn key_of(object: &Object) -> Key {
    (object.kind, object.meta.name.clone())
}

/// The parts of a file that was given.
fn parts(given: &Given, read: impl Fn(&str) -> Read) -> impl Iterator<Item = Part> {
    let file: Arc<str> = given.file.as_str().into();
    yaml::split(&given.text).into_iter().map(move |(lines_before, text)| Part {
        file: Arc::clone(&file),
        lines_before,
        read: Arc::new(read(text)),
        origin: Origin::Applied(1),
    })
}
