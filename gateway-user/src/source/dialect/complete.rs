//! Today's form of what one object alone does not tell: parentRefs, allowedRoutes as narrow as they can be, hostnames.
//!
//! Owns how a choice is written down, and what a person is told of it. Must not know files or text.

use std::collections::BTreeSet;

use super::attach::{NAME_LABEL, World, names, parents};
use super::{Converted, Named};
use crate::core::model::{Gateway, NamedRoute, ParentRef};
use crate::source::Diagnostic;
use crate::source::node::{Key, Node, Place, Value};
use crate::source::object::Object;
use crate::source::translate::Body;

/// What is to be said about an object in today's form.
#[derive(Debug, Default)]
pub(in crate::source) struct Remarks {
    /// For a comment.
    pub(in crate::source) lines: Vec<String>,
    /// What today's form demands and the input does not tell.
    pub(in crate::source) lacks: Option<Diagnostic>,
}

impl World<'_> {
    /// Completes an object's tree, which is in today's form already, by what only the others tell.
    pub(in crate::source) fn today(&self, object: &Object, tree: &mut Node) -> Remarks {
        let mut remarks = Remarks::default();
        if let Some(old) = object.old.as_deref() {
            remarks.lines.extend(old.notes.iter().map(|note| (*note).to_owned()));
        }
        match &object.body {
            Body::Gateway(gateway) => self.allowed_today(object, gateway, tree, &mut remarks),
            body if parents(body).is_some() => {
                match self.parents(object) {
                    Some(parents) => add_parents(object, &parents, tree, &mut remarks),
                    None => self.keep_out(object, tree, &mut remarks),
                }
                if object.old.as_deref().is_some_and(|old| old.excused.contains(&"spec.hostnames")) {
                    self.hostnames(object, tree, &mut remarks);
                }
            }
            _ => {}
        }
        remarks
    }

    fn allowed_today(&self, object: &Object, gateway: &Gateway, tree: &mut Node, remarks: &mut Remarks) {
        let Some(old) = object.old.as_deref() else { return };
        for selection in old.selections.iter().filter(|selection| !selection.only.is_empty()) {
            let Some(listener) = gateway.listeners.get(selection.listener) else { continue };
            let chosen: Vec<_> = selection.only.iter().map(described).collect();
            let narrowed = self.narrowed(object, gateway, selection.listener);
            let place = match &narrowed {
                Some(names) if names.len() == 1 && names.contains(&*object.meta.name.namespace) => {
                    "of the Gateway's own namespace ".to_owned()
                }
                Some(names) => {
                    let names: Vec<_> = names.iter().map(String::as_str).collect();
                    format!("of the namespace {} ", names.join(" or "))
                }
                None => String::new(),
            };
            remarks.lines.push(format!("Listener {} took only {}.", listener.name, chosen.join(", ")));
            remarks.lines.push(format!(
                "Today's form has no such list: a route {place}that names this Gateway may attach."
            ));
            let allowed = (tree.get_mut("spec").and_then(|spec| spec.get_mut("listeners")))
                .and_then(|listeners| listeners.items_mut().get_mut(selection.listener))
                .and_then(|listener| listener.get_mut("allowedRoutes"));
            if let (Some(allowed), Some(names)) = (allowed, narrowed) {
                let at = allowed.get("namespaces").map_or(allowed.at, |namespaces| namespaces.at);
                allowed.set("namespaces", namespaces(&names, &object.meta.name.namespace, at));
            }
        }
    }

    /// Takes out, or narrows to single listeners, what would attach to listeners that did not name the route.
    fn keep_out(&self, route: &Object, tree: &mut Node, remarks: &mut Remarks) {
        let written = parents(&route.body).unwrap_or_default();
        let Some(list) = tree.get_mut("spec").and_then(|spec| spec.get_mut("parentRefs")) else { return };
        let Value::List(items) = &mut list.value else { return };
        let mut kept = Vec::with_capacity(items.len());
        for (parent, item) in written.iter().zip(items.drain(..)) {
            let named =
                self.gateways.iter().find(|(object, _, old)| old.is_some() && names(parent, route, object));
            let Some((object, gateway, old)) = named else {
                kept.push(item);
                continue;
            };
            let meant = (gateway.listeners.iter().enumerate())
                .filter(|(_, listener)| {
                    parent.section.as_ref().is_none_or(|section| *section == listener.name)
                        && parent.port.is_none_or(|port| port == listener.port)
                })
                .map(|(i, _)| i);
            let today: Vec<usize> = meant.filter(|i| self.admits(object, gateway, *i, route, true)).collect();
            let took: Vec<usize> =
                today.iter().copied().filter(|i| self.took(object, gateway, *old, *i, route)).collect();
            if took == today {
                kept.push(item);
                continue;
            }
            let sections: Vec<_> = took.iter().map(|i| gateway.listeners[*i].name.clone()).collect();
            remarks.lines.push(if sections.is_empty() {
                format!(
                    "No listener of Gateway {} named this route, so it was not attached there, and is not named here.",
                    object.meta.name
                )
            } else {
                format!("Of Gateway {}, only {} named this route.", object.meta.name, sections.join(", "))
            });
            kept.extend(sections.iter().map(|section| {
                let mut item = item.clone();
                item.take("port");
                item.set("sectionName", Node::text(section, item.at));
                item
            }));
        }
        if kept.is_empty() {
            if let Some(spec) = tree.get_mut("spec") {
                spec.take("parentRefs");
            }
        } else {
            list.value = Value::List(kept);
        }
    }

    /// The hostnames of a TLSRoute that had none: those of its listeners.
    fn hostnames(&self, route: &Object, tree: &mut Node, remarks: &mut Remarks) {
        let found = self.parents(route);
        let parents = found.as_deref().or(parents(&route.body)).unwrap_or_default();
        let mut hostnames = BTreeSet::new();
        let mut all = !parents.is_empty();
        for parent in parents {
            let gateway = self.gateways.iter().find(|(object, ..)| names(parent, route, object));
            let Some((object, gateway, old)) = gateway else {
                all = false;
                continue;
            };
            for (i, listener) in gateway.listeners.iter().enumerate() {
                let meant = parent.section.as_ref().is_none_or(|section| *section == listener.name)
                    && parent.port.is_none_or(|port| port == listener.port)
                    && self.took(object, gateway, *old, i, route);
                if meant {
                    all &= listener.hostname.is_some();
                    hostnames.extend(listener.hostname.as_deref());
                }
            }
        }
        let Some(spec) = tree.get_mut("spec") else { return };
        if all && !hostnames.is_empty() {
            let at = spec.at;
            let list = hostnames.iter().map(|name| Node::text(name, at)).collect();
            spec.set("hostnames", Node::list_of(list, at));
            remarks.lines.push("Today a TLSRoute has hostnames; these are its listeners'.".to_owned());
        } else {
            remarks
                .lines
                .push("Today a TLSRoute has hostnames: add those that its clients ask for.".to_owned());
            remarks.lacks = Some(Diagnostic {
                line: spec.at.line,
                column: spec.at.column,
                object: format!("{} {}", route.kind.name(), route.meta.name),
                field: "spec.hostnames".to_owned(),
                message: "is required today, and no listener of this input tells which they are".to_owned(),
                remedy: "add the names that its clients ask for".to_owned(),
                ..Diagnostic::default()
            });
        }
    }
}

/// Writes down the Gateways that chose a route.
fn add_parents(route: &Object, parents: &[ParentRef], tree: &mut Node, remarks: &mut Remarks) {
    if parents.is_empty() {
        if !route.old.as_deref().is_some_and(Converted::was_chosen) {
            return;
        }
        let line =
            "No Gateway of this input chose this route; today it would name its Gateways in parentRefs.";
        remarks.lines.push(line.to_owned());
        return;
    }
    let Some(Node { value: Value::Map(entries), at, .. }) = tree.get_mut("spec") else { return };
    let at = *at;
    let item = |parent: &ParentRef| {
        let mut fields = vec![("name", Node::text(&parent.name, at))];
        if let Some(namespace) = parent.namespace.as_ref().filter(|n| **n != route.meta.name.namespace) {
            fields.push(("namespace", Node::text(namespace, at)));
        }
        if let Some(section) = &parent.section {
            fields.push(("sectionName", Node::text(section, at)));
        }
        Node::map(fields, at)
    };
    let list = Node::list_of(parents.iter().map(item).collect(), at);
    let key = Key { name: "parentRefs".to_owned(), at };
    entries.insert(0, (key, list));
}

/// allowedRoutes.namespaces that admits just these.
fn namespaces(names: &BTreeSet<String>, own: &str, at: Place) -> Node {
    let text = |text: &str| Node::text(text, at);
    let mut fields = Vec::new();
    if names.len() == 1 && names.contains(own) {
        fields.push(("from", text("Same")));
    } else {
        fields.push(("from", text("Selector")));
        let list = Node::list_of(names.iter().map(|name| text(name)).collect(), at);
        let selector = match names.first() {
            Some(only) if names.len() == 1 => ("matchLabels", Node::map(vec![(NAME_LABEL, text(only))], at)),
            _ => {
                let parts = vec![("key", text(NAME_LABEL)), ("operator", text("In")), ("values", list)];
                ("matchExpressions", Node::list_of(vec![Node::map(parts, at)], at))
            }
        };
        fields.push(("selector", Node::map(vec![selector], at)));
    }
    Node::map(fields, at)
}

/// A choice in words.
fn described(named: &Named) -> String {
    match named {
        Named::Route(NamedRoute { kind, name: None, namespace: None }) => format!("every {kind}"),
        Named::Route(NamedRoute { kind, name, namespace }) => {
            let namespace = namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
            format!("{kind} {namespace}{}", name.as_deref().unwrap_or("*"))
        }
        Named::Labels(kind, selector) => {
            let labels = selector.labels.iter().map(|(key, value)| format!("{key}={value}"));
            let more = selector.expressions.iter().map(|requirement| {
                format!("{} {:?} ({})", requirement.key, requirement.operator, requirement.values.join(", "))
            });
            let all: Vec<_> = labels.chain(more).collect();
            if all.is_empty() {
                format!("every {kind}")
            } else {
                format!("the {kind}s with {}", all.join(", "))
            }
        }
    }
}
