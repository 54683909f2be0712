//! Tests of the source as a whole, by topic.

mod bad;
mod core_kinds;
mod dialect;
mod examples;
mod files;
mod filters;
mod never_panics;
mod old_fields;
mod parameters;
mod released;
mod secrets;
mod translate;
mod upgrade;
mod upstream;

use std::path::PathBuf;

use super::assemble::{Generations, Origin, Part, assemble};
use super::{Diagnostic, EndpointFlag, FileSource, Loaded, object, yaml};
use crate::core::model::ObjectName;

/// Loads a text as one file.
fn load(text: &str) -> Result<Loaded, Vec<Diagnostic>> {
    load_with(text, &[])
}

/// Loads a text as one file, with endpoints.
fn load_with(text: &str, endpoints: &[&str]) -> Result<Loaded, Vec<Diagnostic>> {
    let endpoints: Vec<EndpointFlag> = endpoints.iter().map(|flag| flag.parse().unwrap()).collect();
    let part = |(lines_before, text): (u32, &str)| Part {
        file: "test.yaml".into(),
        lines_before,
        read: object::read(text).into(),
        origin: Origin::File,
    };
    let parts: Vec<_> = yaml::split(text).into_iter().map(part).collect();
    assemble(&parts, &endpoints, &mut Generations::default())
}

/// What a person is shown.
fn messages(result: Result<Loaded, Vec<Diagnostic>>) -> String {
    let diagnostics = result.map_or_else(|errors| errors, |loaded| loaded.warnings);
    diagnostics.iter().map(|diagnostic| format!("{diagnostic}\n")).collect()
}

/// A source of the repository's examples.
fn example(name: &str, endpoints: &[&str]) -> FileSource {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../config/examples").join(name);
    FileSource::new(vec![path], endpoints.iter().map(|flag| flag.parse().unwrap()).collect())
}

fn name(text: &str) -> ObjectName {
    let (namespace, name) = text.split_once('/').unwrap();
    ObjectName::new(namespace, name)
}
