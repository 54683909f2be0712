//! Rules on what goes with the code: examples that a test loads, and an ARCHITECTURE.md that is true.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};

use super::{Problem, RULES, files::problem, tree::Tree};

const PAGE: &str = "ARCHITECTURE.md";
const EXAMPLES: &str = "config/examples";

/// Every example is named in a test, or a test walks the folder.
pub(super) fn examples(tree: &Tree) -> Vec<Problem> {
    let walked = tree
        .sources
        .values()
        .any(|source| source.text.contains(&format!("{EXAMPLES}\"")) && source.text.contains("read_dir"));
    tree.others
        .keys()
        .filter_map(|file| Some((file, file.strip_prefix(EXAMPLES)?.strip_prefix('/')?)))
        .filter(|(_, name)| !walked && !tree.sources.values().any(|source| source.text.contains(name)))
        .map(|(file, _)| problem(file, 0, "no test loads this example"))
        .collect()
}

/// The code map names nothing that is missing, and omits no folder of modules.
pub(super) fn map(tree: &Tree) -> Vec<Problem> {
    let section = match section(tree, "Code map") {
        Ok(section) => section,
        Err(problem) => return vec![problem],
    };
    let mut problems = Vec::new();
    let mut named = BTreeSet::new();
    for (line, text) in &section {
        for path in quoted(text).filter(|word| word.contains('/')) {
            if !tree.exists(path) {
                problems.push(problem(
                    PAGE,
                    *line,
                    &format!("the code map names `{path}`, which is missing"),
                ));
            }
            named.insert(path.trim_end_matches('/').to_owned());
        }
    }
    let folders: BTreeSet<_> =
        tree.sources.keys().filter_map(|file| Some(file.rsplit_once('/')?.0)).collect();
    for folder in folders {
        if !named.contains(folder) {
            problems.push(problem(PAGE, 0, &format!("the code map omits `{folder}/`")));
        }
    }
    problems
}

/// Every invariant names what holds it: `tidy RULE`, or `test NAME` of a test that exists.
pub(super) fn invariants(tree: &Tree) -> Vec<Problem> {
    let section = match section(tree, "Invariants") {
        Ok(section) => section,
        Err(problem) => return vec![problem],
    };
    let mut items: Vec<(usize, String)> = Vec::new();
    for (line, text) in section {
        if text.starts_with("- ") {
            items.push((line, text));
        } else if let Some((_, item)) = items.last_mut() {
            item.push(' ');
            item.push_str(&text);
        }
    }
    let tests = tests(tree);
    let mut problems = Vec::new();
    if items.is_empty() {
        problems.push(problem(PAGE, 0, "lists no invariants"));
    }
    for (line, item) in items {
        let mut holders = 0;
        for word in quoted(&item) {
            let known = match word.split_once(' ') {
                Some(("tidy", rule)) => RULES.iter().any(|(name, _)| *name == rule),
                Some(("test", name)) => tests.contains(name),
                _ => continue,
            };
            holders += 1;
            if !known {
                problems.push(problem(PAGE, line, &format!("there is no `{word}`")));
            }
        }
        if holders == 0 {
            problems.push(problem(PAGE, line, "this invariant names neither `test NAME` nor `tidy RULE`"));
        }
    }
    problems
}

/// The lines of a section, numbered from 1, up to the next heading of the same rank.
fn section(tree: &Tree, title: &str) -> Result<Vec<(usize, String)>, Problem> {
    let text = tree.others.get(PAGE).ok_or_else(|| problem(PAGE, 0, "is missing"))?;
    let heading = format!("## {title}");
    let mut lines = text.lines().enumerate().skip_while(|(_, line)| *line != heading);
    if lines.next().is_none() {
        return Err(problem(PAGE, 0, &format!("has no section `{heading}`")));
    }
    Ok(lines
        .take_while(|(_, line)| !line.starts_with("## "))
        .map(|(n, line)| (n + 1, line.to_owned()))
        .collect())
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The names of all functions marked as tests.
fn tests(tree: &Tree) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for source in tree.sources.values() {
        collect(source.tokens.clone(), &mut names);
    }
    names
}

fn collect(tokens: TokenStream, names: &mut BTreeSet<String>) {
    let mut marked = false;
    let mut function = false;
    for tree in tokens {
        match tree {
            TokenTree::Group(group) => {
                let attribute = group.stream().to_string();
                marked |= attribute == "test" || attribute.ends_with(":: test");
                collect(group.stream(), names);
            }
            TokenTree::Ident(word) if word == "fn" => function = true,
            TokenTree::Ident(name) if function => {
                if marked {
                    names.insert(name.to_string());
                }
                (marked, function) = (false, false);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::default();
        for (path, text) in files {
            tree.add(path, text).expect("tokens");
        }
        tree
    }

    #[test]
    fn an_example_that_no_test_loads_is_found() {
        let example = ("config/examples/a.yaml", "");
        assert_eq!(examples(&tree(&[example])).len(), 1);
        assert_eq!(
            examples(&tree(&[example, ("t.rs", "fn f() { load(\"config/examples/a.yaml\"); }")])).len(),
            0
        );
        assert_eq!(
            examples(&tree(&[example, ("t.rs", "fn f() { read_dir(\"config/examples\"); }")])).len(),
            0
        );
        assert_eq!(
            examples(&tree(&[example, ("t.rs", "fn f() { load(\"config/examples/b.yaml\"); }")])).len(),
            1
        );
    }

    #[test]
    fn the_code_map_is_held_against_the_tree() {
        let lib = ("a/src/lib.rs", "");
        let deep = ("a/src/b/c.rs", "");
        for (page, want) in [
            ("## Code map\n`a/src/` and `a/src/b/`\n", 0),
            ("## Code map\n`a/src/`\n", 1),
            ("## Code map\n`a/src/` `a/src/b` `a/src/gone.rs`\n", 1),
            ("## Code map\n`a/src/`\n## Other\n`a/src/b/`\n", 1),
            ("# Nothing\n", 1),
        ] {
            let found = map(&tree(&[lib, deep, (PAGE, page)]));
            assert_eq!(found.len(), want, "{page}: {found:?}");
        }
        assert_eq!(map(&tree(&[lib])).len(), 1);
    }

    #[test]
    fn an_invariant_names_what_holds_it() {
        let code = ("a.rs", "#[test] fn holds() {} fn helper() {} #[tokio::test] async fn waits() {}");
        for (page, want) in [
            (
                "## Invariants\n- This. Held by `test holds`.\n- That,\n  by `tidy layers` and `test waits`.\n",
                0,
            ),
            ("## Invariants\n- This.\n", 1),
            ("## Invariants\n- This: `test helper`.\n", 1),
            ("## Invariants\n- This: `tidy nothing`.\n", 1),
            ("## Invariants\n", 1),
        ] {
            let found = invariants(&tree(&[code, (PAGE, page)]));
            assert_eq!(found.len(), want, "{page}: {found:?}");
        }
    }
}
