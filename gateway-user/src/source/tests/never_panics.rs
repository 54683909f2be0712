//! Input of any size and shape is an error or it works: nothing panics, nothing takes for ever.

use proptest::prelude::*;

use super::{load, messages};
use crate::source::file::upgraded;

/// All examples as one text.
fn examples() -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/examples");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| format!("---\n{}", std::fs::read_to_string(file).unwrap())).collect()
}

/// Pieces that are likely to break something.
const PIECES: [&str; 28] = [
    "---\n",
    "...\n",
    "- ",
    "? ",
    ": ",
    "&a ",
    "*a",
    "!!str ",
    "!!int ",
    "!x ",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    "|\n",
    ">\n",
    "%YAML 1.2\n",
    "\t",
    "\r",
    "\u{feff}",
    "\0",
    "null",
    "-1",
    "99999999999999999999",
    "\u{1f980}",
    "<<: ",
];

/// What can be done to a text.
#[derive(Clone, Debug)]
enum Mutation {
    Insert(prop::sample::Index, &'static str),
    Remove(prop::sample::Index, usize),
    Repeat(prop::sample::Index, usize),
    Swap(prop::sample::Index, prop::sample::Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        (at(), prop::sample::select(&PIECES[..])).prop_map(|(at, piece)| Mutation::Insert(at, piece)),
        (at(), 1..40_usize).prop_map(|(at, length)| Mutation::Remove(at, length)),
        (at(), 1..400_usize).prop_map(|(at, length)| Mutation::Repeat(at, length)),
        (at(), at()).prop_map(|(a, b)| Mutation::Swap(a, b)),
    ]
}

fn mutate(text: &str, mutations: &[Mutation]) -> String {
    let mut text: Vec<char> = text.chars().collect();
    for mutation in mutations {
        if text.is_empty() {
            break;
        }
        match mutation {
            Mutation::Insert(at, piece) => {
                let at = at.index(text.len());
                text.splice(at..at, piece.chars());
            }
            Mutation::Remove(at, length) => {
                let at = at.index(text.len());
                text.drain(at..(at + length).min(text.len()));
            }
            Mutation::Repeat(at, length) => {
                let at = at.index(text.len());
                let again: Vec<_> = text[at..(at + length).min(text.len())].to_vec();
                text.splice(at..at, again);
            }
            Mutation::Swap(a, b) => {
                let (a, b) = (a.index(text.len()), b.index(text.len()));
                text.swap(a, b);
            }
        }
    }
    text.into_iter().collect()
}

/// Loads, shows and upgrades: all must come to an end, and what was loaded comes out as something that loads.
fn survives(text: &str) {
    let loaded = load(text);
    if let Ok(loaded) = loaded.clone()
        && let Err(errors) = upgraded(loaded, &[("test.yaml".to_owned(), text.into())], &[])
    {
        assert!(
            errors.iter().all(|error| error.field == "spec.hostnames"),
            "{text}: {}",
            messages(Err(errors))
        );
    }
    let shown = messages(loaded);
    assert!(shown.len() < 1 << 20, "{} bytes of messages", shown.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_text_is_survived(text in "\\PC{0,200}") {
        survives(&text);
    }

    #[test]
    fn any_pieces_are_survived(pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..40)) {
        survives(&pieces.concat());
    }

    #[test]
    fn mutated_examples_are_survived(mutations in prop::collection::vec(mutation(), 1..6), start in 0..8_usize) {
        let text = examples();
        let parts: Vec<_> = text.split("---\n").collect();
        let part = parts.iter().cycle().nth(start).unwrap();
        survives(&mutate(part, &mutations));
        survives(&mutate(&text, &mutations));
    }
}

#[test]
fn ten_megabytes_are_an_error_or_work() {
    let big = "- a\n".repeat(10 << 18);
    assert!(messages(load(&big)).starts_with("test.yaml:1:1: this is no object"));
    let entries: String = (0..300_000).map(|i| format!("  k{i}: a value of some length\n")).collect();
    let map = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata:\n{entries}");
    assert!(map.len() > 10_000_000 && load(&map).is_ok());
    let unknown = map.replacen("\ndata:", "\ndates:", 1);
    assert!(messages(load(&unknown)).contains("ConfigMap default/a: dates: unknown field"));
    let text = format!("a: \"{}", "x".repeat(10 << 20));
    assert!(messages(load(&text)).contains("this is no YAML"));
    let flow = format!("[{}", "{a: [".repeat(2 << 20));
    assert!(load(&flow).is_err());
}

#[test]
fn an_empty_input_is_an_empty_model() {
    for text in ["", "\n", "---\n", "# a comment\n", "\u{feff}", "null\n", "--- ~\n...\n"] {
        let loaded = load(text).unwrap();
        assert_eq!((loaded.model.gateways.len(), loaded.warnings.len()), (0, 0), "{text:?}");
    }
}
