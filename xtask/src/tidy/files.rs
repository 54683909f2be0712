//! Rules on each file for itself: what it opens with, how long it is, that it is compiled at all, and where
//! `unsafe` may stand.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};

use super::{Problem, paths, tree::Tree};

/// A longer file has more than one topic.
const LINES: usize = 500;

/// Where `unsafe` may stand. Everything else forbids it by the workspace's lint; here is who may lift that.
const UNSAFE: &[&str] = &[
    // The BPF programs: helpers and map values are raw pointers.
    "gateway-ebpf/src/main.rs",
    "gateway-ebpf/src/maps.rs",
    "gateway-ebpf/src/sk_lookup.rs",
    "gateway-ebpf/src/forward/",
    // bpf(2) calls that aya lacks, and mapped arrays.
    "gateway-user/src/dataplane/sys.rs",
    "gateway-user/src/dataplane/sys/",
    // A call of the allocator.
    "gateway-user/src/agent/heap.rs",
];

/// Every file opens with `//!`.
pub(super) fn docs(tree: &Tree) -> Vec<Problem> {
    // Fewer than two words say nothing.
    let says = |text: &str| {
        let lines =
            text.lines().skip_while(|line| line.is_empty()).map_while(|line| line.strip_prefix("//!"));
        lines.flat_map(str::split_whitespace).nth(1).is_some()
    };
    tree.sources
        .iter()
        .filter(|(_, source)| !says(&source.text))
        .map(|(file, _)| {
            problem(file, 1, "does not open with `//!`: say what it owns and what it must not know")
        })
        .collect()
}

/// No file is longer than [`LINES`].
pub(super) fn length(tree: &Tree) -> Vec<Problem> {
    tree.sources
        .iter()
        .map(|(file, source)| (file, source.text.lines().count()))
        .filter(|&(_, lines)| lines > LINES)
        .map(|(file, lines)| problem(file, 0, &format!("has {lines} lines of {LINES}: split it by topic")))
        .collect()
}

/// Every file belongs to a target.
pub(super) fn orphans(tree: &Tree) -> Vec<Problem> {
    let mut seen = BTreeSet::new();
    let roots: Vec<_> = tree.crates.iter().flat_map(|c| c.roots.iter().cloned()).collect();
    for root in &roots {
        reach(tree, root, true, &mut seen);
    }
    tree.sources
        .keys()
        .filter(|file| !seen.contains(*file))
        .map(|file| problem(file, 0, "is in no module tree, so nothing compiles it"))
        .collect()
}

/// `unsafe` stands only where it may, each with its `SAFETY`.
pub(super) fn unsafe_code(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (file, source) in &tree.sources {
        let mut lines = Vec::new();
        unsafe_lines(source.tokens.clone(), &mut lines);
        let allowed =
            UNSAFE.iter().any(|place| file == place || place.ends_with('/') && file.starts_with(place));
        for line in lines {
            if !allowed {
                problems.push(problem(
                    file,
                    line,
                    "`unsafe` is not allowed here: find a safe crate, or a place listed",
                ));
            } else if !has_reason(&source.text, line) {
                problems.push(problem(file, line, "`unsafe` without a `SAFETY` comment right above"));
            }
        }
    }
    problems
}

pub(super) fn problem(file: &str, line: usize, message: &str) -> Problem {
    Problem { file: file.to_owned(), line, message: message.to_owned() }
}

/// Adds `file` and everything it declares.
fn reach(tree: &Tree, file: &str, root: bool, seen: &mut BTreeSet<String>) {
    let Some(source) = tree.sources.get(file) else { return };
    if !seen.insert(file.to_owned()) {
        return;
    }
    let parent = file.rsplit_once('/').map_or("", |(parent, _)| parent);
    let stem = file.trim_end_matches(".rs");
    let children = if root || file.ends_with("/mod.rs") { parent } else { stem };
    for declared in paths::declarations(&source.tokens) {
        match declared.path {
            Some(path) => reach(tree, &join(parent, &path), false, seen),
            None => {
                reach(tree, &format!("{children}/{}.rs", declared.name), false, seen);
                reach(tree, &format!("{children}/{}/mod.rs", declared.name), false, seen);
            }
        }
    }
}

/// Joins a relative path with its `..` resolved.
fn join(parent: &str, path: &str) -> String {
    let mut parts: Vec<_> = parent.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn unsafe_lines(tokens: TokenStream, lines: &mut Vec<usize>) {
    for tree in tokens {
        match tree {
            TokenTree::Ident(word) if word == "unsafe" => lines.push(word.span().start().line),
            TokenTree::Group(group) => unsafe_lines(group.stream(), lines),
            _ => {}
        }
    }
}

/// Whether the comments and attributes above a line (or above the statement it is in) hold a reason.
fn has_reason(text: &str, line: usize) -> bool {
    let lines: Vec<_> = text.lines().collect();
    lines[..line]
        .iter()
        .rev()
        .take(8)
        .take_while(|line| !line.trim().is_empty())
        .any(|line| line.contains("SAFETY:") || line.contains("# Safety"))
}

#[cfg(test)]
mod tests {
    use super::super::tree::Crate;
    use super::*;

    fn tree(files: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::default();
        for (path, text) in files {
            tree.add(path, text).expect("tokens");
        }
        tree.crates.push(Crate { roots: vec!["a/src/lib.rs".to_owned()], ..Crate::default() });
        tree
    }

    #[test]
    fn a_file_without_docs_is_found() {
        let tree =
            tree(&[("a.rs", "//! Owns a.\n"), ("b.rs", "use c;\n"), ("c.rs", "// c\n"), ("d.rs", "//! d\n")]);
        let found: Vec<_> = docs(&tree).into_iter().map(|p| p.file).collect();
        assert_eq!(found, ["b.rs", "c.rs", "d.rs"]);
    }

    #[test]
    fn a_long_file_is_found() {
        let tree = tree(&[("a.rs", &"\n".repeat(LINES)), ("b.rs", &"\n".repeat(LINES + 1))]);
        assert_eq!(length(&tree).len(), 1);
    }

    #[test]
    fn a_file_that_nothing_declares_is_found() {
        let tree = tree(&[
            ("a/src/lib.rs", "mod b; #[path = \"../x.rs\"] mod x;"),
            ("a/src/b.rs", "mod c;"),
            ("a/src/b/c.rs", ""),
            ("a/src/c.rs", ""),
            ("a/x.rs", ""),
            ("a/src/d.rs", ""),
        ]);
        let found: Vec<_> = orphans(&tree).into_iter().map(|p| p.file).collect();
        assert_eq!(found, ["a/src/c.rs", "a/src/d.rs"]);
    }

    #[test]
    fn unsafe_stands_only_where_it_may_and_with_its_reason() {
        let good = "fn f() {\n    // SAFETY: it holds.\n    unsafe { g() }\n}\n";
        let bad = "fn f() {\n    unsafe { g() }\n}\n";
        let far = "// SAFETY: of something else.\n\nfn f() {\n    unsafe { g() }\n}\n";
        let sys = "gateway-user/src/dataplane/sys.rs";
        for (file, text, want) in
            [(sys, good, 0), (sys, bad, 1), (sys, far, 1), ("a.rs", good, 1), ("a.rs", "// unsafe\n", 0)]
        {
            assert_eq!(unsafe_code(&tree(&[(file, text)])).len(), want, "{file}: {text}");
        }
    }
}
