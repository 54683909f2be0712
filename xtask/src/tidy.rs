//! `tidy`: the house rules that no compiler knows, as code.
//!
//! Each rule is a pure function from the sources to what is wrong with them; ARCHITECTURE.md's invariants name
//! these rules.

mod files;
mod layers;
mod pages;
mod paths;
mod tree;

use std::fmt;

use anyhow::{Result, bail};

use self::tree::Tree;
use crate::sh;

/// A rule's name, and what it finds.
type Rule = (&'static str, fn(&Tree) -> Vec<Problem>);

const RULES: &[Rule] = &[
    ("docs", files::docs),
    ("length", files::length),
    ("orphans", files::orphans),
    ("unsafe", files::unsafe_code),
    ("layers", layers::layers),
    ("crates", layers::crates),
    ("examples", pages::examples),
    ("map", pages::map),
    ("invariants", pages::invariants),
];

/// Something that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
struct Problem {
    file: String,
    /// From 1; 0 for the whole file.
    line: usize,
    message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.message),
            line => write!(f, "{}:{line}: {}", self.file, self.message),
        }
    }
}

/// Holds every rule against the workspace.
pub(crate) fn run() -> Result<()> {
    let tree = Tree::load(&sh::root())?;
    let mut count = 0;
    for (name, rule) in RULES {
        for problem in rule(&tree) {
            println!("{problem} [{name}]");
            count += 1;
        }
    }
    if count > 0 {
        bail!("tidy: {count} problem{}", if count == 1 { "" } else { "s" });
    }
    println!("tidy: {} files keep {} rules", tree.sources.len(), RULES.len());
    Ok(())
}
