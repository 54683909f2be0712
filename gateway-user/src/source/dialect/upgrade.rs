//! Whole inputs in today's form.
//!
//! Owns which documents change, and in what order they stand. Must not know what any field means, nor YAML's syntax.

use super::attach::World;
use super::convert;
use super::emit::emit;
use crate::core::model::ObjectName;
use crate::source::Diagnostic;
use crate::source::kind::Kind;
use crate::source::node::{Node, Value};
use crate::source::object::{self, DEFAULT_NAMESPACE, Identity, Object};
use crate::source::yaml;

/// A part of a file: what it says, and what came of reading it.
pub(in crate::source) struct Page<'a> {
    pub(in crate::source) text: &'a str,
    pub(in crate::source) objects: &'a [Object],
}

/// A part in today's form: as it stands if nothing in it is old.
pub(in crate::source) fn upgrade(page: &Page<'_>, world: &World<'_>, lacks: &mut Vec<Diagnostic>) -> String {
    let (documents, _) = yaml::parse(page.text);
    let mut changed = false;
    let trees: Vec<_> = (documents.into_iter())
        .map(|document| {
            let mut tree = document.clone();
            let mut remarks = Vec::new();
            take(&mut tree, page.objects, world, &mut remarks, lacks);
            changed |= tree != document;
            (remarks, tree)
        })
        .collect();
    if changed { emit(page.text, &trees) } else { page.text.to_owned() }
}

/// Turns an object, or the items of a list, into today's form.
fn take(
    root: &mut Node,
    objects: &[Object],
    world: &World<'_>,
    remarks: &mut Vec<String>,
    lacks: &mut Vec<Diagnostic>,
) {
    let (Some(kind), version) = (root.str("kind"), root.str("apiVersion")) else { return };
    if kind.ends_with("List") && root.get("items").is_some_and(|items| matches!(items.value, Value::List(_)))
    {
        for item in root.list_mut("items") {
            take(item, objects, world, remarks, lacks);
        }
        return;
    }
    let version = version.unwrap_or_default().to_owned();
    let Identity::Known(kind, old) = object::identify(kind, &version) else { return };
    let Some(object) = find(kind, root, objects) else { return };
    convert(kind, old.then_some(&*version), root);
    let said = world.today(object, root);
    remarks.extend(said.lines);
    lacks.extend(said.lacks);
}

fn find<'a>(kind: Kind, root: &Node, objects: &'a [Object]) -> Option<&'a Object> {
    let namespace = root.str("metadata.namespace").unwrap_or(DEFAULT_NAMESPACE);
    let namespace = if kind.file().namespaced { namespace } else { "" };
    let name = ObjectName::new(namespace, root.str("metadata.name")?);
    objects.iter().find(|object| object.kind == kind && object.meta.name == name)
}
