//! YAML 1.2 (and with it JSON) into trees.
//!
//! Owns the syntax: documents, the core schema's scalars, duplicate keys, anchors, and the bounds on all of them.
//! Must not know what a document holds.

use std::collections::HashSet;

use rustc_hash::FxHashMap;
use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::Diagnostic;
use super::node::{Key, Node, Place, Value};

/// Deeper nesting is refused; the API's deepest field is at 12.
const DEEPEST: usize = 64;
/// So many values may come from anchors and aliases in one document; more would be a bomb.
const COPIES: usize = 100_000;
/// After so many problems the rest of the documents is not read.
const MOST_PROBLEMS: usize = 100;

/// Cuts a file at its `---` lines, so that each part can be read and remembered on its own. Each part comes with
/// the number of the lines before it.
pub(super) fn split(text: &str) -> Vec<(u32, &str)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parts = Vec::new();
    let (mut start, mut start_line, mut at) = (0, 0, 0);
    for (number, line) in (0..).zip(text.split_inclusive('\n')) {
        // A directive belongs to the document after the marker.
        if line.starts_with('%') {
            return vec![(0, text)];
        }
        let marker = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        if marker && at > start {
            parts.push((start_line, &text[start..at]));
            (start, start_line) = (at, number);
        }
        at += line.len();
    }
    if at > start {
        parts.push((start_line, &text[start..at]));
    }
    parts
}

/// Reads the documents of a text; empty ones are left out. What could be read is returned along with the problems.
pub(super) fn parse(text: &str) -> (Vec<Node>, Vec<Diagnostic>) {
    let mut builder = Builder::default();
    let mut parser = Parser::new_from_str(text);
    while let Some(next) = parser.next_event() {
        let done = match next {
            Ok((Event::StreamEnd, _)) => break,
            Ok((event, span)) => builder.event(event, span),
            Err(error) => {
                let at = place(*error.marker());
                Err(problem(at, &format!("this is no YAML: {}", error.info().to_lowercase()), ""))
            }
        };
        if let Err(fatal) = done {
            builder.problems.push(*fatal);
            break;
        }
        if builder.problems.len() >= MOST_PROBLEMS {
            break;
        }
    }
    (builder.documents, builder.problems)
}

pub(super) fn place(mark: saphyr_parser::Marker) -> Place {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Place { line: number(mark.line()), column: number(mark.col()).saturating_add(1) }
}

/// A step of the reading; an error ends it.
type Step = Result<(), Box<Diagnostic>>;

fn problem(at: Place, message: &str, remedy: &str) -> Box<Diagnostic> {
    Box::new(Diagnostic {
        line: at.line,
        column: at.column,
        message: message.to_owned(),
        remedy: remedy.to_owned(),
        ..Diagnostic::default()
    })
}

/// A list or map that is not closed yet.
struct Open {
    node: Node,
    anchor: usize,
    /// The key whose value comes next.
    key: Option<Key>,
    /// The keys so far, once there are many.
    seen: HashSet<String>,
}

#[derive(Default)]
struct Builder {
    documents: Vec<Node>,
    problems: Vec<Diagnostic>,
    open: Vec<Open>,
    anchors: FxHashMap<usize, (Node, Extent)>,
    copies: usize,
}

impl Builder {
    /// Takes an event; an error ends the reading.
    fn event(&mut self, event: Event<'_>, span: Span) -> Step {
        let at = place(span.start);
        match event {
            Event::DocumentStart(_) => {
                self.open.clear();
                self.anchors.clear();
                self.copies = 0;
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let value =
                    scalar(&text, style, tag.as_deref()).map_err(|message| problem(at, &message, ""))?;
                let is_key = self
                    .open
                    .last()
                    .is_some_and(|open| matches!(open.node.value, Value::Map(_)) && open.key.is_none());
                if is_key && anchor == 0 {
                    return self.key(text.into_owned(), at);
                }
                self.place(Node::new(value, at), anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.start(Value::List(Vec::new()), at, anchor, tag.as_deref())
            }
            Event::MappingStart(anchor, tag) => {
                self.start(Value::Map(Vec::new()), at, anchor, tag.as_deref())
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let open = self.open.pop().ok_or_else(|| problem(at, "this closes nothing", ""))?;
                self.place(open.node, open.anchor)
            }
            Event::Alias(anchor) => {
                let Some((node, extent)) = self.anchors.get(&anchor) else {
                    return Err(problem(at, "an alias within its own anchor", "write the value out"));
                };
                let (extent, mut node) = (*extent, node.clone());
                self.copy(extent, at)?;
                node.at = at;
                self.place(node, 0)
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    fn start(&mut self, value: Value, at: Place, anchor: usize, tag: Option<&Tag>) -> Step {
        self.deeper(1, at)?;
        if let Some(tag) =
            tag.filter(|tag| !(tag.is_yaml_core_schema() && ["map", "seq"].contains(&&*tag.suffix)))
        {
            return Err(unknown_tag(tag)).map_err(|message| problem(at, &message, ""));
        }
        self.open.push(Open { node: Node::new(value, at), anchor, key: None, seen: HashSet::new() });
        Ok(())
    }

    fn deeper(&self, levels: usize, at: Place) -> Step {
        if self.open.len() + levels > DEEPEST {
            return Err(problem(at, &format!("nested deeper than {DEEPEST} levels"), ""));
        }
        Ok(())
    }

    fn copy(&mut self, extent: Extent, at: Place) -> Step {
        self.deeper(extent.levels, at)?;
        self.copies += extent.values;
        if self.copies > COPIES {
            let message = format!("anchors and aliases stand for more than {COPIES} values in one document");
            return Err(problem(at, &message, "write the values out"));
        }
        Ok(())
    }

    fn key(&mut self, name: String, at: Place) -> Step {
        const MANY: usize = 16;
        let Some(Open { node: Node { value: Value::Map(entries), .. }, key, seen, .. }) =
            self.open.last_mut()
        else {
            return Err(problem(at, "a key outside of a map", ""));
        };
        let duplicate = if entries.len() < MANY {
            entries.iter().any(|(key, _)| key.name == name)
        } else {
            if seen.is_empty() {
                seen.extend(entries.iter().map(|(key, _)| key.name.clone()));
            }
            !seen.insert(name.clone())
        };
        if duplicate {
            let first = entries.iter().find(|(key, _)| key.name == name).map_or(0, |(key, _)| key.at.line);
            let message = format!("the key `{name}` is there already, in line {first}");
            self.problems.push(*problem(at, &message, "keep one of them"));
        }
        *key = Some(Key { name, at });
        Ok(())
    }

    /// Puts a finished value where it belongs.
    fn place(&mut self, node: Node, anchor: usize) -> Step {
        if anchor != 0 {
            let extent = extent(&node);
            self.copy(extent, node.at)?;
            self.anchors.insert(anchor, (node.clone(), extent));
        }
        let Some(open) = self.open.last_mut() else {
            if node.value != Value::Null {
                self.documents.push(node);
            }
            return Ok(());
        };
        match &mut open.node.value {
            Value::Map(entries) => match open.key.take() {
                Some(key) => entries.push((key, node)),
                None => match node.value {
                    Value::String(name) => return self.key(name, node.at),
                    _ => return Err(problem(node.at, "a key must be plain text", "")),
                },
            },
            Value::List(items) => items.push(node),
            _ => {}
        }
        Ok(())
    }
}

/// How much a node is.
#[derive(Clone, Copy)]
struct Extent {
    values: usize,
    levels: usize,
}

fn extent(node: &Node) -> Extent {
    let join = |all: Extent, inner: Extent| Extent {
        values: all.values + inner.values,
        levels: all.levels.max(inner.levels + 1),
    };
    let one = Extent { values: 1, levels: 0 };
    match &node.value {
        Value::List(items) => items.iter().map(extent).fold(Extent { levels: 1, ..one }, join),
        Value::Map(entries) => {
            entries.iter().map(|(_, node)| extent(node)).fold(Extent { levels: 1, ..one }, join)
        }
        _ => one,
    }
}

fn unknown_tag(tag: &Tag) -> String {
    format!("the tag `{}{}` is not supported", tag.handle, tag.suffix)
}

/// A scalar by its tag, else by YAML 1.2's core schema; quoted ones are text.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    let Some(tag) = tag else {
        return Ok(if style == ScalarStyle::Plain { plain(text) } else { Value::String(text.to_owned()) });
    };
    if !tag.is_yaml_core_schema() {
        return if tag.handle.is_empty() && tag.suffix == "!" {
            Ok(Value::String(text.to_owned()))
        } else {
            Err(unknown_tag(tag))
        };
    }
    let value = if tag.suffix == "str" { Value::String(text.to_owned()) } else { plain(text) };
    match (&*tag.suffix, &value) {
        ("str", _)
        | ("int", Value::Int(_))
        | ("float", Value::Float(_))
        | ("bool", Value::Bool(_))
        | ("null", Value::Null) => Ok(value),
        ("float", Value::Int(number)) => Ok(Value::Float(*number as f64)),
        ("int" | "float" | "bool" | "null", _) => Err(format!("this is no {}", tag.suffix)),
        _ => Err(unknown_tag(tag)),
    }
}

/// A plain scalar by YAML 1.2's core schema (section 10.3.2).
pub(super) fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        _ => {}
    }
    let number = match text.as_bytes() {
        [b'0', b'o', b'0'..=b'7', ..] => i64::from_str_radix(&text[2..], 8).ok(),
        [b'0', b'x', first, ..] if first.is_ascii_hexdigit() => i64::from_str_radix(&text[2..], 16).ok(),
        [b'+' | b'-', b'0'..=b'9', ..] | [b'0'..=b'9', ..] => text.parse().ok(),
        _ => None,
    };
    if let Some(number) = number {
        return Value::Int(number);
    }
    let float = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b))
        && text.bytes().any(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(number) if float => Value::Float(number),
        _ => Value::String(text.to_owned()),
    }
}
