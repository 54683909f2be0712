//! The sources, read once: every Rust file with its tokens, every crate with its targets and dependencies.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context, Result, anyhow};
use proc_macro2::TokenStream;
use serde_json::Value;

use crate::sh;

/// All that the rules look at. Paths are relative to the workspace and use `/`.
#[derive(Default)]
pub(super) struct Tree {
    /// Every Rust file.
    pub(super) sources: BTreeMap<String, Source>,
    /// Every other file, with the text of those that rules read.
    pub(super) others: BTreeMap<String, String>,
    /// The members.
    pub(super) crates: Vec<Crate>,
}

/// A Rust file.
pub(super) struct Source {
    pub(super) text: String,
    pub(super) tokens: TokenStream,
}

/// A member of the workspace.
#[derive(Default)]
pub(super) struct Crate {
    pub(super) name: String,
    /// The files that targets start with.
    pub(super) roots: Vec<String>,
    /// The crates it depends on, as paths name them.
    pub(super) dependencies: BTreeSet<String>,
}

impl Tree {
    /// Reads a workspace.
    pub(super) fn load(root: &Path) -> Result<Self> {
        let metadata = sh::read(sh::cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
        let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata")?;
        let mut tree = Self { crates: crates(&metadata, root)?, ..Self::default() };
        tree.walk(root, "")?;
        Ok(tree)
    }

    /// Adds a file; rules' tests make trees of these.
    pub(super) fn add(&mut self, path: &str, text: &str) -> Result<()> {
        if path.ends_with(".rs") {
            let tokens = text.parse().map_err(|e| anyhow!("{path}: {e}"))?;
            self.sources.insert(path.to_owned(), Source { text: text.to_owned(), tokens });
        } else {
            self.others.insert(path.to_owned(), text.to_owned());
        }
        Ok(())
    }

    /// Whether something in the tree has this path, file or folder.
    pub(super) fn exists(&self, path: &str) -> bool {
        let folder = format!("{}/", path.trim_end_matches('/'));
        let is = |file: &String| file == path || file.starts_with(&folder);
        self.sources.keys().chain(self.others.keys()).any(is)
    }

    fn walk(&mut self, root: &Path, below: &str) -> Result<()> {
        let dir = root.join(below);
        for entry in fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
            let hidden = name.starts_with('.') && name != ".ci" && name != ".cargo";
            if hidden || path == "target" {
                continue;
            }
            if entry.file_type()?.is_dir() {
                self.walk(root, &path)?;
            } else {
                let text = [".rs", ".md"].iter().any(|end| name.ends_with(end));
                let text = if text { fs::read_to_string(entry.path())? } else { String::new() };
                self.add(&path, &text)?;
            }
        }
        Ok(())
    }
}

fn crates(metadata: &Value, root: &Path) -> Result<Vec<Crate>> {
    let root = format!("{}/", root.display());
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().map(str::to_owned).context("cargo metadata has another shape");
    list(&metadata["packages"])
        .iter()
        .map(|package| {
            let mut crate_ = Crate { name: text(&package["name"])?, ..Crate::default() };
            for target in list(&package["targets"]) {
                let path = text(&target["src_path"])?;
                crate_.roots.push(path.strip_prefix(&root).unwrap_or(&path).to_owned());
            }
            for dependency in list(&package["dependencies"]) {
                let name = dependency["rename"].as_str().unwrap_or_default().to_owned();
                let name = if name.is_empty() { text(&dependency["name"])? } else { name };
                crate_.dependencies.insert(name.replace('-', "_"));
            }
            Ok(crate_)
        })
        .collect()
}
