//! A changed tree back into YAML, with the comments and the spelling of the text that it was read from.
//!
//! Owns the text: comments and blank lines by their lines, scalars and flow collections as they were written. Must not
//! know what changed or why. (The crates that edit YAML in place drop the comments within what gets another name, and
//! with it most of those in an old dialect.)

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Parser, ScalarStyle};

use crate::source::node::{Key, Node, Place, Value};
use crate::source::yaml;

/// Flow collections longer than this are written as blocks.
const WIDEST: usize = 100;

/// What a text holds besides its tree.
struct Sheet<'a> {
    comments: Vec<Comment<'a>>,
    /// Scalars of one line, as written.
    scalars: HashMap<Place, &'a str>,
    /// Flow collections, as written.
    flows: HashMap<Place, &'a str>,
    /// Where lists in block style begin.
    lists: HashSet<Place>,
}

struct Comment<'a> {
    line: u32,
    /// With its `#`; empty for a blank line.
    text: &'a str,
    /// Whether it has the line for itself.
    own: bool,
    done: bool,
}

impl<'a> Sheet<'a> {
    fn new(text: &'a str) -> Self {
        let mut bytes: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        bytes.push(text.len());
        let slice = |from: usize, to: usize| {
            let at = |index: usize| bytes.get(index).copied().unwrap_or(text.len());
            text.get(at(from)..at(to)).unwrap_or_default()
        };
        let (mut scalars, mut flows, mut lists) = (HashMap::new(), HashMap::new(), HashSet::new());
        let mut open = Vec::new();
        // Bytes that a value takes: no comment begins there.
        let mut taken: Vec<(usize, usize)> = Vec::new();
        let mut parser = Parser::new_from_str(text);
        while let Some(Ok((event, span))) = parser.next_event() {
            let (start, end) = (span.start.index(), span.end.index());
            let at = |index: usize| bytes.get(index).copied().unwrap_or(text.len());
            match event {
                Event::Scalar(_, style, ..) => {
                    let raw = written(slice(start, end), style);
                    let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
                    if !block && !raw.contains('\n') {
                        scalars.insert(yaml::place(span.start), raw);
                    }
                    taken.push((at(start), at(start) + raw.len()));
                }
                Event::SequenceStart(..) | Event::MappingStart(..) => open.push(span.start),
                end_of @ (Event::SequenceEnd | Event::MappingEnd) => {
                    let list = end_of == Event::SequenceEnd;
                    if let Some(start) = open.pop() {
                        let raw = slice(start.index(), end);
                        if raw.starts_with(if list { '[' } else { '{' }) {
                            flows.insert(yaml::place(start), raw);
                        } else if list {
                            lists.insert(yaml::place(start));
                        }
                    }
                }
                _ => {}
            }
        }
        taken.sort_unstable();
        Self { comments: comments(text, &taken), scalars, flows, lists }
    }
}

/// A scalar as it was written: the parser's span of a quoted one goes on to what follows it.
fn written(raw: &str, style: ScalarStyle) -> &str {
    let end = match style {
        ScalarStyle::SingleQuoted => {
            let quotes: Vec<usize> = raw.match_indices('\'').map(|(at, _)| at).collect();
            // Two in a row stand for one.
            let mut rest = quotes.get(1..).unwrap_or_default();
            while let [first, second, more @ ..] = rest
                && first + 1 == *second
            {
                rest = more;
            }
            rest.first().copied()
        }
        ScalarStyle::DoubleQuoted => {
            let mut escaped = false;
            let closes = |&(at, c): &(usize, char)| {
                let closes = at > 0 && c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                closes
            };
            raw.char_indices().find(closes).map(|(at, _)| at)
        }
        ScalarStyle::Plain | ScalarStyle::Literal | ScalarStyle::Folded => None,
    };
    end.and_then(|end| raw.get(..=end)).unwrap_or(raw).trim_end()
}

/// Comments and blank lines, in order.
fn comments<'a>(text: &'a str, taken: &[(usize, usize)]) -> Vec<Comment<'a>> {
    let free = |at: usize| {
        let before = taken.partition_point(|(start, _)| *start <= at);
        before == 0 || taken[before - 1].1 <= at
    };
    let mut found = Vec::new();
    let mut start = 0;
    for (line, raw) in (1..).zip(text.split_inclusive('\n')) {
        let content = raw.trim_end_matches(['\n', '\r']);
        if content.trim().is_empty() {
            if free(start) {
                found.push(Comment { line, text: "", own: true, done: false });
            }
        } else {
            let begins = |&(at, _): &(usize, &str)| {
                (at == 0 || content[..at].ends_with([' ', '\t'])) && free(start + at)
            };
            if let Some((at, _)) = content.match_indices('#').find(begins) {
                let before = content[..at].trim();
                let own = before.is_empty() || before == "---";
                found.push(Comment { line, text: content[at..].trim_end(), own, done: false });
            }
        }
        start += raw.len();
    }
    found
}

/// Writes trees, changed ones, in the manner of the text that they were read from.
pub(super) fn emit(text: &str, trees: &[(Vec<String>, Node)]) -> String {
    let text = text.replace("\r\n", "\n");
    let mut writer = Writer { sheet: Sheet::new(&text), out: String::new(), next: 0 };
    for (i, (remarks, tree)) in trees.iter().enumerate() {
        if i > 0 || text.starts_with("---") {
            writer.out.push_str("---\n");
        }
        let first = tree.entries().first().map_or(tree.at, |(key, _)| key.at);
        writer.flush(first.line, 0);
        let start = writer.out.len();
        writer.out.push_str(&super::commented(remarks));
        writer.root(tree);
        if !says(&writer.out[start..], tree) {
            // Better the comments than the meaning is lost.
            writer.out.truncate(start);
            writer.out.push_str(&super::commented(remarks));
            writer.out.push_str(&plain(tree));
        }
    }
    writer.flush(u32::MAX, 0);
    let mut out = writer.out.trim_end().to_owned();
    out.push('\n');
    out
}

/// A tree without anything of a text.
pub(super) fn plain(tree: &Node) -> String {
    let mut writer = Writer { sheet: Sheet::new(""), out: String::new(), next: 0 };
    writer.root(tree);
    writer.out
}

/// Whether a text says what the tree says.
fn says(text: &str, tree: &Node) -> bool {
    let (documents, problems) = yaml::parse(text);
    problems.is_empty() && documents.len() == 1 && documents[0].to_string() == tree.to_string()
}

struct Writer<'a> {
    sheet: Sheet<'a>,
    out: String,
    /// The first comment that may not be written yet.
    next: usize,
}

impl Writer<'_> {
    fn root(&mut self, tree: &Node) {
        match &tree.value {
            Value::Map(entries) if !entries.is_empty() => self.map(entries, 0, false),
            _ => {
                let text = self.flow(tree);
                self.out.push_str(&text);
                self.out.push('\n');
            }
        }
    }

    /// Writes the comments of the lines before this one that still stand out.
    fn flush(&mut self, line: u32, indent: usize) {
        while let Some(comment) = self.sheet.comments.get_mut(self.next).filter(|comment| comment.line < line)
        {
            self.next += 1;
            if std::mem::replace(&mut comment.done, true) {
                continue;
            }
            let text = comment.text;
            if text.is_empty() {
                // Neither at the beginning nor two in a row.
                if !self.out.is_empty() && !self.out.ends_with("\n\n") && !self.out.ends_with("---\n") {
                    self.out.push('\n');
                }
            } else {
                self.indent(indent);
                self.out.push_str(text);
                self.out.push('\n');
            }
        }
    }

    /// Ends a line, with the comment that stood at the end of one of these.
    fn end(&mut self, lines: &[u32]) {
        let mut wanted =
            self.sheet.comments.iter_mut().filter(|c| !c.own && !c.done && lines.contains(&c.line));
        if let Some(comment) = wanted.next() {
            comment.done = true;
            self.out.push(' ');
            self.out.push_str(comment.text);
        }
        self.out.push('\n');
    }

    fn indent(&mut self, indent: usize) {
        self.out.extend(std::iter::repeat_n(' ', indent));
    }

    /// A map as a block. `inline`: its first entry goes on in the line that is begun.
    fn map(&mut self, entries: &[(Key, Node)], indent: usize, inline: bool) {
        for (i, (key, node)) in entries.iter().filter(|(_, node)| node.written).enumerate() {
            if i > 0 || !inline {
                self.flush(key.at.line, indent);
                self.indent(indent);
            }
            let name = self.scalar(&Node::text(&key.name, key.at), false);
            self.out.push_str(&name);
            self.out.push(':');
            match &node.value {
                Value::Map(entries) if !entries.is_empty() && !self.in_a_line(node, indent + name.len()) => {
                    self.end(&[key.at.line]);
                    self.map(entries, indent + 2, false);
                }
                Value::List(items) if !items.is_empty() && !self.in_a_line(node, indent + name.len()) => {
                    self.end(&[key.at.line]);
                    // A list begins at its first item, behind the `- ` at the key's column or further in.
                    let block = self.sheet.lists.contains(&node.at) && node.at.line > key.at.line;
                    let further = block && node.at.column > key.at.column + 2;
                    self.list(items, if further { indent + 2 } else { indent });
                }
                _ => self.last(node, key.at, indent + 2),
            }
        }
    }

    fn list(&mut self, items: &[Node], indent: usize) {
        for item in items.iter().filter(|item| item.written) {
            self.flush(item.at.line, indent);
            self.indent(indent);
            self.out.push('-');
            match &item.value {
                Value::Map(entries) if !entries.is_empty() && !self.in_a_line(item, indent) => {
                    self.out.push(' ');
                    self.map(entries, indent + 2, true);
                }
                _ => self.last(item, item.at, indent + 2),
            }
        }
    }

    /// A value that ends its line: a scalar, or a collection in flow style.
    fn last(&mut self, node: &Node, key: Place, indent: usize) {
        self.out.push(' ');
        if let Value::String(text) = &node.value
            && text.contains('\n')
            && let Some(block) = literal(text, indent)
        {
            self.out.push_str(&block);
            return;
        }
        let text = self.flow(node);
        self.out.push_str(&text);
        self.end(&[node.at.line, key.line]);
    }

    /// Whether a collection that was written in flow style still can be.
    fn in_a_line(&self, node: &Node, before: usize) -> bool {
        let opens = if matches!(node.value, Value::List(_)) { '[' } else { '{' };
        let Some(raw) = self.sheet.flows.get(&node.at).filter(|raw| raw.starts_with(opens)) else {
            return false;
        };
        let last = node.at.line + u32::try_from(raw.matches('\n').count()).unwrap_or(u32::MAX);
        // The comment of its last line can stand behind it, others cannot.
        let commented = (self.sheet.comments.iter())
            .any(|c| !c.text.is_empty() && (node.at.line..last).contains(&c.line));
        !commented && before + self.flow(node).chars().count() + 2 <= WIDEST
    }

    fn flow(&self, node: &Node) -> String {
        match &node.value {
            Value::Map(entries) => {
                let entries: Vec<_> = (entries.iter())
                    .filter(|(_, node)| node.written)
                    .map(|(key, node)| {
                        let name = self.scalar(&Node::text(&key.name, key.at), true);
                        format!("{name}: {}", self.nested(node))
                    })
                    .collect();
                format!("{{{}}}", entries.join(", "))
            }
            Value::List(items) => {
                let items: Vec<_> =
                    items.iter().filter(|item| item.written).map(|item| self.nested(item)).collect();
                format!("[{}]", items.join(", "))
            }
            _ => self.scalar(node, false),
        }
    }

    /// A value within a collection in flow style.
    fn nested(&self, node: &Node) -> String {
        match &node.value {
            Value::Map(_) | Value::List(_) => self.flow(node),
            _ => self.scalar(node, true),
        }
    }

    /// A scalar as it was written, if it still says that.
    fn scalar(&self, node: &Node, in_flow: bool) -> String {
        let Some(raw) = self.sheet.scalars.get(&node.at) else { return spelt(&node.value) };
        let quoted = raw.starts_with(['"', '\'']);
        let fits = quoted || !(in_flow && raw.contains([',', '[', ']', '{', '}']));
        let (documents, problems) = yaml::parse(raw);
        let same = match documents.first() {
            Some(found) => found.value == node.value,
            None => node.value == Value::Null && !raw.is_empty(),
        };
        if fits && same && problems.is_empty() { (*raw).to_owned() } else { spelt(&node.value) }
    }
}

/// A scalar, quoted where it must be, in whatever surroundings.
fn spelt(value: &Value) -> String {
    const YAML_1_1: [&str; 8] = ["y", "n", "yes", "no", "on", "off", "=", "<<"];
    match value {
        Value::String(text) => {
            let plain = yaml::plain(text) == Value::String(text.clone())
                && text.starts_with(|c: char| c.is_ascii_alphanumeric() || "/._".contains(c))
                && !text.ends_with([':', ' '])
                && !text.contains([',', '[', ']', '{', '}', '\\', '"'])
                && !text.contains(": ")
                && !text.contains(" #")
                && text.chars().all(|c| !c.is_control() && c != '\u{feff}' && c != '\u{85}')
                && !text.chars().all(|c| c.is_ascii_digit() || "._:-+eExXoO".contains(c))
                && !YAML_1_1.contains(&&*text.to_lowercase());
            if plain { text.clone() } else { serde_json::Value::String(text.clone()).to_string() }
        }
        Value::Float(number) => serde_yaml::to_string(number).unwrap_or_default().trim().to_owned(),
        Value::Null => "null".to_owned(),
        Value::Bool(truth) => truth.to_string(),
        Value::Int(number) => number.to_string(),
        Value::List(_) => "[]".to_owned(),
        Value::Map(_) => "{}".to_owned(),
    }
}

/// A text of several lines as a literal block, if it can be one.
fn literal(text: &str, indent: usize) -> Option<String> {
    let strange = |c: char| (c.is_control() && c != '\n' && c != '\t') || c == '\u{feff}' || c == '\u{85}';
    if text.starts_with([' ', '\n', '\t'])
        || text.chars().any(strange)
        || text.lines().any(|l| l.trim().is_empty() && !l.is_empty())
    {
        return None;
    }
    let body = text.trim_end_matches('\n');
    let chomp = match text.len() - body.len() {
        0 => "-",
        1 => "",
        _ => return None,
    };
    let mut out = format!("|{chomp}\n");
    for line in body.split('\n') {
        if !line.is_empty() {
            out.extend(std::iter::repeat_n(' ', indent));
        }
        out.push_str(line);
        out.push('\n');
    }
    Some(out)
}
