//! The schemas and rules of upstream, and where its releases are.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::source::kind::Kind;
use crate::source::rules::{self, Program};
use crate::source::schema::Schema;

fn every_schema(schema: &Schema, see: &mut impl FnMut(&Schema)) {
    see(schema);
    let children = schema
        .properties
        .values()
        .chain(schema.items.as_deref())
        .chain(schema.additional_properties.as_deref());
    children.for_each(|child| every_schema(child, see));
}

#[test]
fn every_rule_and_pattern_compiles() {
    let (mut rules, mut transitions, mut patterns, mut alternatives) = (0, Vec::new(), 0, 0);
    for kind in Kind::ALL {
        every_schema(&kind.file().root, &mut |schema| {
            for rule in &schema.rules {
                match rules::compile(&rule.rule) {
                    Program::Ready(_) => rules += 1,
                    Program::Transition => transitions.push(rule.rule.clone()),
                    Program::Broken => panic!("{}: {}", kind.name(), rule.rule),
                }
            }
            if let Some(pattern) = &schema.pattern {
                assert!(pattern.regex().is_some(), "{}", pattern.text);
                patterns += 1;
            }
            alternatives += usize::from(!schema.one_of.is_empty());
        });
    }
    assert_eq!(transitions, ["self == oldSelf"]);
    assert!(rules > 180 && patterns > 160, "{rules} rules, {patterns} patterns");
    assert_eq!(alternatives, 1, "the message for alternatives speaks of addresses alone");
}

/// The version of the API that the schemas are of.
pub(super) fn today() -> String {
    let schema =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/source/schema/gateway.json")).unwrap();
    schema.split("gateway-api@").nth(1).unwrap().split(',').next().unwrap().to_owned()
}

/// The Gateway API's module of a version, fetched if need be.
pub(super) fn module(version: &str) -> PathBuf {
    let module = format!("sigs.k8s.io/gateway-api@{version}");
    // The Go that `cargo xtask setup` found or got.
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    let cache = std::env::var_os("SLUICE_CACHE").map_or_else(|| home.join(".cache/sluice"), PathBuf::from);
    let known = [cache.join("go/bin/go"), "/usr/local/go/bin/go".into()];
    let go = known.into_iter().find(|go| go.exists()).unwrap_or_else(|| "go".into());
    let output =
        Command::new(go).args(["mod", "download", "-json", &module]).output().expect("go is installed");
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    answer["Dir"].as_str().expect("the module was downloaded").into()
}

pub(super) fn files(folder: PathBuf) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(path));
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        }
    }
    found.sort();
    found
}
