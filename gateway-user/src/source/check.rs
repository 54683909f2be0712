//! Checks a tree against a schema, as the API server would, and fills in defaults.
//!
//! Owns every structural message. Must not know which fields mean what; what becomes of a field is read off the
//! schema.

use std::collections::HashSet;

use super::Diagnostic;
use super::coverage::{Cover, Level};
use super::node::{Node, Place, Value};
use super::rules;
use super::schema::{Format, Schema, Type};
use super::suggest;
use crate::core::model::Refusal;

/// What came of checking an object.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) errors: Vec<Diagnostic>,
    pub(super) warnings: Vec<Diagnostic>,
    pub(super) refusals: Vec<(Level, Refusal)>,
    /// Required fields that may be missing all the same.
    pub(super) excused: Vec<&'static str>,
}

/// Patterns of the API in words.
const MEANT: [(&str, &str); 5] = [
    (r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "write a-z, 0-9 and -, such as my-name"),
    (
        r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
        "write a-z, 0-9, - and dots, such as my-name or my.name",
    ),
    (
        r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
        "write a hostname in lower case, such as a.example.com or *.example.com",
    ),
    (
        r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\.?$",
        "write a DNS name in lower case, such as db.example.org",
    ),
    (r"^([0-9]{1,5}(h|m|s|ms)){1,4}$", "write whole numbers with h, m, s or ms, such as 1m30s"),
];

/// Checks the tree and fills in defaults. `null_is_absent` is how Kubernetes' own kinds see it; in the others a null
/// must have a default that takes its place.
pub(super) fn check(
    root: &mut Node,
    schema: &Schema,
    path: &str,
    null_is_absent: bool,
    findings: &mut Findings,
) {
    let mut check = Check { path: path.to_owned(), null_is_absent, findings, quiet: false };
    check.node(root, schema);
}

struct Check<'a> {
    path: String,
    null_is_absent: bool,
    findings: &'a mut Findings,
    /// Within something that is refused already.
    quiet: bool,
}

impl Check<'_> {
    fn error(&mut self, at: Place, value: String, message: impl Into<String>, remedy: impl Into<String>) {
        self.findings.errors.push(self.diagnostic(at, value, message.into(), remedy.into()));
    }

    fn diagnostic(&self, at: Place, value: String, message: String, remedy: String) -> Diagnostic {
        let field = self.path.clone();
        Diagnostic {
            line: at.line,
            column: at.column,
            field,
            value,
            message,
            remedy,
            ..Diagnostic::default()
        }
    }

    /// Does something with a field added to the path.
    fn within<R>(&mut self, name: &str, act: impl FnOnce(&mut Self) -> R) -> R {
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        let result = act(self);
        self.path.truncate(length);
        result
    }

    fn node(&mut self, node: &mut Node, schema: &Schema) {
        let quiet = self.quiet;
        self.cover(node, schema);
        let before = self.findings.errors.len();
        match (schema.kind, &node.value) {
            (Some(Type::Object), Value::Map(_)) => self.map(node, schema),
            (Some(Type::Array), Value::List(_)) => self.list(node, schema),
            (Some(Type::String | Type::Integer), value) if !allowed(value, schema) => {
                self.not_allowed(node, schema);
            }
            (Some(Type::String), Value::String(_)) => self.text(node, schema),
            (Some(Type::Integer), Value::Int(number)) => self.number(*number, node, schema),
            (Some(Type::IntOrString), Value::Int(_) | Value::String(_))
            | (Some(Type::Boolean), Value::Bool(_)) => {}
            (Some(Type::Any) | None, _) => {}
            (Some(kind), _) => self.wrong_type(node, kind),
        }
        if before == self.findings.errors.len() {
            self.rules(node, schema);
        }
        self.quiet = quiet;
    }

    /// Notes what is refused or has no effect.
    fn cover(&mut self, node: &Node, schema: &Schema) {
        let default = schema.default.as_ref().is_some_and(|default| same(default, &node.value));
        if self.quiet || !node.written || default {
            return;
        }
        match schema.cover {
            Some(Cover::Refused { level, unless, message }) => {
                if unless.is_empty() || node.as_str() != Some(unless) {
                    let refusal = Refusal { field: self.path.clone(), message: message.to_owned() };
                    self.findings.refusals.push((level, refusal));
                    self.quiet = true;
                }
            }
            Some(Cover::Noted(message)) => {
                let warning = self.diagnostic(node.at, node.shown(), message.to_owned(), String::new());
                self.findings.warnings.push(warning);
            }
            Some(Cover::Works | Cover::Unbuilt | Cover::Aside) | None => {}
        }
    }

    fn map(&mut self, node: &mut Node, schema: &Schema) {
        let (at, written) = (node.at, node.written);
        let Value::Map(entries) = &mut node.value else { return };
        if let Some(most) = schema.max_properties.filter(|most| entries.len() > *most) {
            self.error(at, entries.len().to_string(), format!("has more than {most} entries"), "");
        }
        if let Some(values) = &schema.additional_properties {
            for (key, value) in entries {
                let length = self.path.len();
                self.path.push_str(&format!("[{:?}]", key.name));
                self.node(value, values);
                self.path.truncate(length);
            }
            return;
        }
        entries.retain(|(key, value)| {
            let Some(field) = schema.properties.get(&key.name) else { return true };
            value.value != Value::Null || !(self.null_is_absent || field.default.is_some())
        });
        for (name, field) in &schema.properties {
            if let Some(default) = &field.default
                && !entries.iter().any(|(key, _)| key.name == *name)
            {
                let key = super::node::Key { name: name.clone(), at };
                entries.push((key, from_json(default, at)));
            }
        }
        for name in &schema.required {
            if !entries.iter().any(|(key, _)| key.name == *name) {
                let at = if written { at } else { Place::default() };
                self.within(name, |this| {
                    if !this.findings.excused.contains(&&*this.path) {
                        this.error(at, String::new(), "is required", "add it");
                    }
                });
            }
        }
        for (key, value) in entries {
            self.within(&key.name, |this| match schema.properties.get(&key.name) {
                Some(field) => this.node(value, field),
                None => {
                    let remedy = suggest::field(&key.name, schema.properties.keys().map(String::as_str));
                    this.error(key.at, value.shown(), "unknown field", remedy);
                }
            });
        }
    }

    fn list(&mut self, node: &mut Node, schema: &Schema) {
        let at = node.at;
        let Value::List(items) = &mut node.value else { return };
        if let Some(least) = schema.min_items.filter(|least| items.len() < *least) {
            let message = format!("has {} items and needs at least {least}", items.len());
            self.error(at, String::new(), message, "");
        }
        if let Some(most) = schema.max_items.filter(|most| items.len() > *most) {
            let message = format!("has {} items, more than {most}", items.len());
            self.error(at, String::new(), message, "split it up");
            return;
        }
        let Some(schema_of_item) = &schema.items else { return };
        let mut seen = HashSet::new();
        for (i, item) in items.iter_mut().enumerate() {
            let length = self.path.len();
            self.path.push_str(&format!("[{i}]"));
            self.node(item, schema_of_item);
            if !schema.keys.is_empty() {
                let key: Vec<_> = schema.keys.iter().map(|key| item.get(key).map(Node::shown)).collect();
                if !seen.insert(key) {
                    let names = schema.keys.join(" and ");
                    let message = format!("another item has the same {names}");
                    self.error(item.at, item.shown(), message, format!("give each its own {names}"));
                }
            } else if schema.set && !seen.insert(vec![Some(item.to_string())]) {
                self.error(item.at, item.shown(), "is there already", "keep one of them");
            }
            self.path.truncate(length);
        }
    }

    fn not_allowed(&mut self, node: &Node, schema: &Schema) {
        let values = schema.one_of_values.iter();
        let values: Vec<_> =
            values.map(|value| value.as_str().map_or(value.to_string(), str::to_owned)).collect();
        let message = format!("is none of {}", values.join(", "));
        let remedy = suggest::value(node.as_str().unwrap_or_default(), values.iter().map(String::as_str));
        self.error(node.at, node.shown(), message, remedy);
    }

    fn text(&mut self, node: &Node, schema: &Schema) {
        let Some(text) = node.as_str() else { return };
        let (at, shown) = (node.at, || node.shown());
        let length = text.chars().count();
        if schema.min_length.is_some_and(|least| length < least) {
            self.error(at, shown(), "must not be empty", "");
        } else if let Some(most) = schema.max_length.filter(|most| length > *most) {
            self.error(at, shown(), format!("has {length} characters, more than {most}"), "");
        } else if let Some(pattern) = &schema.pattern
            && !pattern.regex().is_some_and(|regex| regex.is_match(text))
        {
            let meant =
                MEANT.iter().find(|(known, _)| *known == pattern.text).map_or("", |(_, meant)| *meant);
            self.error(at, shown(), format!("must match {}", pattern.text), meant);
        }
    }

    fn number(&mut self, number: i64, node: &Node, schema: &Schema) {
        let int32 = schema.format == Some(Format::Int32);
        let least = schema.minimum.or(int32.then_some(i32::MIN.into())).unwrap_or(i64::MIN);
        let most = schema.maximum.or(int32.then_some(i32::MAX.into())).unwrap_or(i64::MAX);
        if !(least..=most).contains(&number) {
            self.error(node.at, number.to_string(), format!("must be from {least} to {most}"), "");
        }
    }

    fn wrong_type(&mut self, node: &Node, kind: Type) {
        let wanted = match kind {
            Type::Object => "an object",
            Type::Array => "a list",
            Type::String => "text",
            Type::Integer => "a whole number",
            Type::Boolean => "true or false",
            Type::IntOrString => "a number or text",
            Type::Any => "anything",
        };
        let (got, remedy) = match (&node.value, kind) {
            (Value::Null, _) => ("empty", "give it a value, or remove it"),
            (Value::Bool(_), Type::String) => ("true or false", "put it in quotes"),
            (Value::Int(_) | Value::Float(_), Type::String) => ("a number", "put it in quotes"),
            (Value::Float(_), Type::Integer) => ("a fraction or too large", ""),
            (Value::String(text), Type::Integer) if text.parse::<i64>().is_ok() => {
                ("text", "remove the quotes")
            }
            (Value::String(text), Type::Boolean) if text == "true" || text == "false" => {
                ("text", "remove the quotes")
            }
            (Value::String(_), _) => ("text", ""),
            (Value::Bool(_), _) => ("true or false", ""),
            (Value::Int(_) | Value::Float(_), _) => ("a number", ""),
            (Value::List(_), _) => ("a list", ""),
            (Value::Map(_), Type::Array) => ("an object", "put `- ` in front of each item"),
            (Value::Map(_), _) => ("an object", ""),
        };
        let shown = if node.value == Value::Null { String::new() } else { node.shown() };
        self.error(node.at, shown, format!("must be {wanted}, and is {got}"), remedy);
    }

    /// CEL rules and alternatives: only for what is sound otherwise.
    fn rules(&mut self, node: &Node, schema: &Schema) {
        if !schema.one_of.is_empty() && schema.one_of.iter().filter(|one| fits(node, one)).count() != 1 {
            let message = "an address of type IPAddress needs an IPv4 or IPv6 address as value";
            self.error(node.at, node.shown(), message, "");
        }
        if schema.rules.is_empty() {
            return;
        }
        let this = rules::value(node);
        for rule in &schema.rules {
            if !rules::holds(rule.program.get_or_init(|| rules::compile(&rule.rule)), &this) {
                self.error(node.at, node.shown(), rule.message.clone(), "");
            }
        }
    }
}

/// Whether a value is one of those listed, if any are.
fn allowed(value: &Value, schema: &Schema) -> bool {
    schema.one_of_values.is_empty() || schema.one_of_values.iter().any(|allowed| same(allowed, value))
}

/// Whether a value fits a part of an alternative, without a word about why not.
fn fits(node: &Node, schema: &Schema) -> bool {
    let text = node.as_str().unwrap_or_default();
    let format = match schema.format {
        Some(Format::Ipv4) => text.parse::<std::net::Ipv4Addr>().is_ok(),
        Some(Format::Ipv6) => text.parse::<std::net::Ipv6Addr>().is_ok(),
        Some(Format::Int32) | None => true,
    };
    format
        && allowed(&node.value, schema)
        && (schema.any_of.is_empty() || schema.any_of.iter().any(|one| fits(node, one)))
        && schema.not.as_ref().is_none_or(|not| !fits(node, not))
        && schema.properties.iter().all(|(name, field)| node.get(name).is_none_or(|value| fits(value, field)))
}

/// A default as a tree.
fn from_json(json: &serde_json::Value, at: Place) -> Node {
    use serde_json::Value as Json;
    let value = match json {
        Json::Null => Value::Null,
        Json::Bool(truth) => Value::Bool(*truth),
        Json::Number(number) => {
            number.as_i64().map_or_else(|| Value::Float(number.as_f64().unwrap_or_default()), Value::Int)
        }
        Json::String(text) => Value::String(text.clone()),
        Json::Array(items) => Value::List(items.iter().map(|item| from_json(item, at)).collect()),
        Json::Object(fields) => Value::Map(
            fields
                .iter()
                .map(|(name, value)| (super::node::Key { name: name.clone(), at }, from_json(value, at)))
                .collect(),
        ),
    };
    Node { value, at, written: false }
}

/// Whether a value says what the default says.
fn same(default: &serde_json::Value, value: &Value) -> bool {
    use serde_json::Value as Json;
    match (default, value) {
        (Json::Null, Value::Null) => true,
        (Json::Bool(a), Value::Bool(b)) => a == b,
        (Json::Number(a), Value::Int(b)) => a.as_i64() == Some(*b),
        (Json::String(a), Value::String(b)) => a == b,
        (Json::Array(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, &b.value))
        }
        (Json::Object(a), Value::Map(b)) => {
            a.len() == b.len() && b.iter().all(|(key, b)| a.get(&key.name).is_some_and(|a| same(a, &b.value)))
        }
        _ => false,
    }
}
