//! Every path in a file — in `use`, in code, in macros, in attributes — as a list of names, and every module it
//! declares.
//!
//! It works on tokens: comments and strings are no part of it, and a macro's arguments are.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A path with at least two names, or one that `use` brings in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path {
    /// Its names; a `use` tree gives one path for each of its leaves.
    pub(super) names: Vec<String>,
    /// The inline modules around it, outermost first.
    pub(super) inside: Vec<String>,
    /// From 1.
    pub(super) line: usize,
}

/// `mod name;`, or one with `#[path = "…"]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Declaration {
    pub(super) name: String,
    pub(super) path: Option<String>,
}

/// All paths of a file.
pub(super) fn paths(tokens: &TokenStream) -> Vec<Path> {
    let mut found = Vec::new();
    walk(tokens.clone(), &mut Vec::new(), &mut found);
    found
}

/// All modules of other files that a file declares.
pub(super) fn declarations(tokens: &TokenStream) -> Vec<Declaration> {
    let trees: Vec<_> = tokens.clone().into_iter().collect();
    let mut found = Vec::new();
    let mut path = None;
    for (i, tree) in trees.iter().enumerate() {
        match tree {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket => {
                path = attribute_path(group.stream()).or(path);
            }
            TokenTree::Ident(word) if word == "mod" => {
                if let (Some(TokenTree::Ident(name)), Some(TokenTree::Punct(end))) =
                    (trees.get(i + 1), trees.get(i + 2))
                    && end.as_char() == ';'
                {
                    found.push(Declaration { name: name.to_string(), path: path.take() });
                }
            }
            // An inline module's declarations.
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                found.extend(declarations(&group.stream()));
            }
            _ => {}
        }
    }
    found
}

fn attribute_path(tokens: TokenStream) -> Option<String> {
    let mut trees = tokens.into_iter();
    match (trees.next()?, trees.next()?, trees.next()?) {
        (TokenTree::Ident(word), TokenTree::Punct(_), TokenTree::Literal(path)) if word == "path" => {
            Some(path.to_string().trim_matches('"').to_owned())
        }
        _ => None,
    }
}

fn walk(tokens: TokenStream, inside: &mut Vec<String>, found: &mut Vec<Path>) {
    let trees: Vec<_> = tokens.into_iter().collect();
    let mut i = 0;
    while i < trees.len() {
        match &trees[i] {
            TokenTree::Ident(word) if word == "mod" => {
                if let (Some(TokenTree::Ident(name)), Some(TokenTree::Group(body))) =
                    (trees.get(i + 1), trees.get(i + 2))
                {
                    inside.push(name.to_string());
                    walk(body.stream(), inside, found);
                    inside.pop();
                    i += 2;
                }
            }
            TokenTree::Ident(word) if word == "use" => i = tree(&trees, i + 1, &[], inside, found) - 1,
            TokenTree::Ident(_) => {
                let before = found.len();
                i = tree(&trees, i, &[], inside, found) - 1;
                // A lone name is a path only in `use`.
                if found.len() == before + 1 && found[before].names.len() == 1 {
                    found.pop();
                }
            }
            TokenTree::Group(group) => walk(group.stream(), inside, found),
            _ => {}
        }
        i += 1;
    }
}

/// Reads `a::b::{c, d::*}` from `i` on, and returns where it ends.
fn tree(
    trees: &[TokenTree],
    mut i: usize,
    prefix: &[String],
    inside: &[String],
    found: &mut Vec<Path>,
) -> usize {
    let mut names = prefix.to_vec();
    let mut line = trees.get(i).map_or(0, |t| t.span().start().line);
    // A leading `::` says that a crate follows, which the name does too.
    if is_colons(trees, i) {
        i += 2;
    }
    loop {
        match trees.get(i) {
            Some(TokenTree::Ident(name)) => {
                line = if names.len() == prefix.len() { name.span().start().line } else { line };
                names.push(name.to_string().trim_start_matches("r#").to_owned());
                i += 1;
                if is_colons(trees, i) {
                    i += 2;
                    continue;
                }
            }
            Some(TokenTree::Group(group))
                if group.delimiter() == Delimiter::Brace && names.len() > prefix.len() =>
            {
                leaves(group.stream(), &names, inside, found);
                return i + 1;
            }
            // `use {a, b};`
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace && names.is_empty() => {
                leaves(group.stream(), &names, inside, found);
                return i + 1;
            }
            // `*`, a generic argument, or the end of something else.
            _ => {}
        }
        break;
    }
    if names.len() > prefix.len() || !prefix.is_empty() {
        found.push(Path { names, inside: inside.to_vec(), line });
    }
    i.max(1)
}

fn leaves(tokens: TokenStream, names: &[String], inside: &[String], found: &mut Vec<Path>) {
    let trees: Vec<_> = tokens.into_iter().collect();
    let comma = |t: &TokenTree| matches!(t, TokenTree::Punct(p) if p.as_char() == ',');
    for leaf in trees.split(comma).filter(|leaf| !leaf.is_empty()) {
        tree(leaf, 0, names, inside, found);
    }
}

fn is_colons(trees: &[TokenTree], i: usize) -> bool {
    let colon = |t: Option<&TokenTree>| matches!(t, Some(TokenTree::Punct(p)) if p.as_char() == ':');
    colon(trees.get(i)) && colon(trees.get(i + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str, want: &[&str]) {
        let found = paths(&source.parse().expect("tokens"));
        let found: Vec<_> = found.iter().map(|path| path.names.join("::")).collect();
        assert_eq!(found, want, "{source}");
    }

    #[test]
    fn paths_come_from_everywhere_but_comments_and_strings() {
        for (source, want) in [
            ("use a;", vec!["a"]),
            ("use a::b;", vec!["a::b"]),
            ("use ::a::b;", vec!["a::b"]),
            ("use a::{b, c::{self, D}, e::*};", vec!["a::b", "a::c::self", "a::c::D", "a::e"]),
            ("use {a::b, c};", vec!["a::b", "c"]),
            ("use a::b as c;", vec!["a::b"]),
            ("fn f(x: &a::B) { c::d(e, f::<g::H>()); }", vec!["a::B", "c::d", "g::H"]),
            ("let x = vec![a::B];", vec!["a::B"]),
            ("#[derive(a::B)] struct C;", vec!["a::B"]),
            ("println!(\"a::b\"); // a::b", vec![]),
            ("struct S { a: B, c: D }", vec![]),
            ("a::B { c: d::E }", vec!["a::B", "d::E"]),
            ("match a { B::C(d) => e, F::G { h } => i::J {} }", vec!["B::C", "F::G", "i::J"]),
            ("if a::B == c {}", vec!["a::B"]),
        ] {
            check(source, &want);
        }
    }

    #[test]
    fn a_path_knows_the_modules_around_it() {
        let found = paths(&"mod a { mod b { use super::c; } }".parse().expect("tokens"));
        assert_eq!(found[0].inside, ["a", "b"]);
    }

    #[test]
    fn declarations_know_their_path() {
        let source = "mod a; pub(crate) mod b; #[path = \"x/y.rs\"] #[cfg(z)] mod c; mod d { mod e; } mod f;";
        let found = declarations(&source.parse().expect("tokens"));
        let found: Vec<_> = found.iter().map(|d| (d.name.as_str(), d.path.as_deref())).collect();
        assert_eq!(found, [("a", None), ("b", None), ("c", Some("x/y.rs")), ("e", None), ("f", None)]);
    }
}
