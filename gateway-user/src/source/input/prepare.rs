//! What documents come to when they are applied over what is stored.
//!
//! Owns the way from given text to the objects that would be stored, each with the text, its outcome, and itself as a
//! part of the input. Changes nothing. Must not know how objects are kept.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::file::secret_in_the_open;
use super::{
    Diagnostic, Difference, Document, EndpointFlag, Given, Input, Kept, Key, ObjectRef, Origin, Outcome,
    Part, Read, Refused, endpoints, object, parts,
};

/// A change, before it is judged.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    /// The files, and what was given.
    pub(super) parts: Vec<Part>,
    /// Objects that were given, in their order.
    pub(super) changes: Vec<Change>,
    /// Objects to be removed.
    pub(super) gone: BTreeSet<Key>,
    pub(super) warnings: Vec<Diagnostic>,
}

/// An object that was given.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) key: Key,
    pub(super) outcome: Outcome,
    /// As it is to be stored.
    pub(super) text: String,
    pub(super) kept: Kept,
    before: Option<Document>,
    after: Document,
}

impl Prepared {
    /// What is not taken from the store any longer.
    pub(super) fn replaced(&self) -> BTreeSet<Key> {
        let given = self.changes.iter().map(|change| change.key.clone());
        given.chain(self.gone.iter().cloned()).collect()
    }

    /// What is different, as text. What is gone comes last, and without its text.
    pub(super) fn differences(&self) -> Vec<Difference> {
        let changed = self.changes.iter().filter(|change| change.outcome != Outcome::Unchanged);
        let changed = changed.map(|change| Difference {
            object: ObjectRef::of(&change.key),
            outcome: change.outcome,
            before: change.before.as_ref().map_or(String::new(), |before| before.shown(None)),
            after: change.after.shown(change.before.as_ref()),
        });
        let gone = self.gone.iter().map(|key| Difference {
            object: ObjectRef::of(key),
            outcome: Outcome::Deleted,
            before: String::new(),
            after: String::new(),
        });
        changed.chain(gone).collect()
    }
}

impl Input {
    /// Prepares what is given to be applied.
    pub(super) fn prepare(
        &mut self,
        given: &[Given],
        flags: &[EndpointFlag],
        now: &str,
    ) -> Result<Prepared, Refused> {
        let files = self.files.parts(&mut |_, _| ());
        let mut read: Vec<Part> = Vec::new();
        for given in given {
            let parts: Vec<_> = parts(given, object::read_whole).collect();
            if given.open {
                read.extend(parts.iter().find_map(|part| secret_in_the_open(&part.file, &part.read.objects)));
            }
            read.extend(parts);
        }
        let mut prepared = Prepared::default();
        if !flags.is_empty() {
            let before = self.stored(&BTreeSet::new());
            let all: Vec<&Part> = read.iter().chain(&files).chain(&before).collect();
            let made = endpoints::documents(flags, &all).map_err(|error| Refused::Input(vec![*error]))?;
            let mut made: Vec<_> = parts(&made, object::read_whole).collect();
            prepared.gone = endpoints::left_over(flags, &made, &before);
            read.append(&mut made);
        }
        let mut revision = self.store.next_revision();
        for part in &read {
            let mut errors = part.read.errors.clone();
            for object in &part.read.objects {
                if let Some(error) = cannot_be_kept(object) {
                    errors.push(error);
                    continue;
                }
                let Some(mut given) = Document::of(object) else { continue };
                let stored = self.document(&given.key())?;
                let unknown = given.restore_secrets(stored.as_ref());
                errors.extend(unknown.into_iter().map(|field| not_the_secret(object, field)));
                let uid = || uuid::Uuid::new_v4().to_string();
                let (mut after, outcome) = given.over(stored.as_ref(), now, uid);
                if outcome != Outcome::Unchanged {
                    after.set_revision(revision);
                    revision += 1;
                }
                let (text, generation) = (after.text(), after.stamp().generation);
                let mut again = object::read(&text);
                again.objects.iter_mut().for_each(|again| again.at = object.at);
                let kept = Kept { read: Arc::new(again), generation };
                prepared.parts.push(Part {
                    file: Arc::clone(&part.file),
                    lines_before: part.lines_before,
                    read: Arc::clone(&kept.read),
                    origin: Origin::Applied(generation),
                });
                let key = after.key();
                prepared.changes.push(Change { key, outcome, text, kept, before: stored, after });
            }
            prepared.warnings.extend(part.warnings());
            prepared.parts.push(Part {
                file: Arc::clone(&part.file),
                lines_before: part.lines_before,
                read: Arc::new(Read { errors, ..Read::default() }),
                origin: part.origin,
            });
        }
        for change in &prepared.changes {
            prepared.gone.remove(&change.key);
        }
        prepared.parts.splice(0..0, files);
        Ok(prepared)
    }
}

/// What the store cannot say as the file does.
fn cannot_be_kept(object: &object::Object) -> Option<Diagnostic> {
    let old = object.old.as_deref()?;
    let (field, message, remedy) = if !old.selections.is_empty() {
        (
            "spec.listeners[].routes",
            "chooses the routes that may attach, which today's form cannot say; the store keeps that form alone",
            "write allowedRoutes instead",
        )
    } else if old.was_chosen() {
        (
            "spec.gateways",
            "lets Gateways choose this route, which today's form cannot say; the store keeps that form alone",
            "name the Gateways in parentRefs",
        )
    } else {
        return None;
    };
    Some(Diagnostic {
        line: object.at.line,
        column: object.at.column,
        object: format!("{} {}", object.kind.name(), object.meta.name),
        field: field.to_owned(),
        message: message.to_owned(),
        remedy: format!(
            "{remedy} (`sluice check --upgrade` does it for all objects together), or leave the object in a file and give \
             it to `sluice run -f`"
        ),
        ..Diagnostic::default()
    })
}

/// A secret that was shown redacted, and is not in the store.
fn not_the_secret(object: &object::Object, field: String) -> Diagnostic {
    Diagnostic {
        line: object.at.line,
        column: object.at.column,
        object: format!("{} {}", object.kind.name(), object.meta.name),
        field,
        message: "stands for a value that is not in the store".to_owned(),
        remedy: "write the value itself".to_owned(),
        ..Diagnostic::default()
    }
}
