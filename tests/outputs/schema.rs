//! Every command that prints data does so as JSON too, which its committed schema describes.

use std::collections::BTreeMap;
use std::path::Path;

use gateway_tests::agent::Agent;
use gateway_tests::netns::NetNs;
use gateway_user::admin::view::{
    AppliedView, CheckView, DifferencesView, ExplainView, FlowsView, MapsView, RoutesView, StatusView,
    VersionView,
};
use gateway_user::cli::command;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::Value;

use super::{agent, committed};

/// An object as an API server shows it, or a list of them.
#[derive(serde::Serialize, JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "a shape to derive a schema from; no value is made")]
enum Got {
    List(List),
    Object(Object),
}

/// `kind: List`.
#[derive(serde::Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct List {
    api_version: String,
    kind: String,
    items: Vec<Object>,
}

/// An object of the Gateway API, or a core one.
#[derive(serde::Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Object {
    api_version: String,
    kind: String,
    metadata: Metadata,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

/// What every object has.
#[derive(serde::Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

fn of<T: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>()
}

/// The name of a schema, and what makes it.
type Named = (&'static str, fn() -> Schema);

/// The schemas: `config/schema/NAME.json`.
const SCHEMAS: &[Named] = &[
    ("applied", of::<AppliedView>),
    ("check", of::<CheckView>),
    ("differences", of::<DifferencesView>),
    ("explain", of::<ExplainView>),
    ("flows", of::<FlowsView>),
    ("maps", of::<MapsView>),
    ("objects", of::<Got>),
    ("routes", of::<RoutesView>),
    ("status", of::<StatusView>),
    ("version", of::<VersionView>),
];

/// Commands that print no data, and why.
const NO_DATA: &[(&str, &str)] = &[
    ("run", "is the agent; its log has a form of its own"),
    ("set", "answers by its exit code"),
    ("uninstall", "tells a person what it removed, and answers by its exit code"),
    ("completions", "prints a script in a shell's language"),
    ("man", "prints a page in the language of man"),
];

/// Each way to ask for data: the arguments, the schema, the exit code. `FOLDER` is where the files are.
const ASKED: &[(&[&str], &str, i32)] = &[
    (&["check", "-f", "FOLDER/good.yaml"], "check", 0),
    (&["check", "-f", "FOLDER/bad.yaml"], "check", 1),
    (&["status"], "status", 0),
    (&["maps"], "maps", 0),
    (&["flows"], "flows", 0),
    (&["version"], "version", 0),
    (&["routes"], "routes", 0),
    (&["explain", "http", "GET", "http://app.example:8080/", "--to", "127.0.0.1"], "explain", 0),
    (&["explain", "http", "GET", "http://other.example:8080/", "--to", "127.0.0.1"], "explain", 1),
    (&["explain", "tcp", "127.0.0.1:9001", "--from", "127.0.0.1:40000"], "explain", 0),
    (&["explain", "tcp", "127.0.0.1:1", "--from", "127.0.0.1:40000"], "explain", 1),
    (&["explain", "udp", "127.0.0.1:9001", "--from", "127.0.0.1:40000"], "explain", 1),
    (&["diff", "-f", "FOLDER/more.yaml"], "differences", 1),
    (&["diff", "-f", "FOLDER/bad.yaml"], "differences", 2),
    (&["apply", "-f", "FOLDER/bad.yaml"], "applied", 1),
    (&["apply", "-f", "FOLDER/more.yaml"], "applied", 0),
    (&["get"], "objects", 0),
    (&["get", "httproute", "more"], "objects", 0),
    (&["delete", "httproute", "more", "--ignore-not-found"], "applied", 0),
];

#[test]
fn the_schemas_are_those_of_the_types() {
    for (name, schema) in SCHEMAS {
        let text = serde_json::to_string_pretty(&schema()).expect("a schema is JSON");
        committed(&format!("config/schema/{name}.json"), &format!("{text}\n"));
    }
    let files = std::fs::read_dir(Path::new(super::ROOT).join("config/schema")).expect("config/schema");
    assert_eq!(files.count(), SCHEMAS.len(), "a schema that no type has");
}

#[test]
fn every_command_that_prints_data_prints_json_of_its_schema() {
    walk(&command(), &mut Vec::new());
    let ns = NetNs::new("schema");
    let (agent, folder) = agent(&ns);
    for (args, schema, code) in ASKED {
        let args: Vec<_> =
            args.iter().map(|arg| arg.replace("FOLDER", &folder.path().display().to_string())).collect();
        for form in ["json", "yaml"] {
            keeps_to(&agent, &args, form, schema, *code);
        }
    }
}

/// Every command that has no commands of its own.
fn walk(command: &clap::Command, path: &mut Vec<String>) {
    for command in command.get_subcommands() {
        path.push(command.get_name().to_owned());
        if command.has_subcommands() {
            walk(command, path);
        } else {
            let name = path.join(" ");
            let asked = ASKED.iter().any(|(args, _, _)| args.join(" ").starts_with(&name));
            let excepted = NO_DATA.iter().any(|(command, _)| *command == name);
            assert!(asked != excepted, "`sluice {name}`: in one of ASKED and NO_DATA it must be");
            let form = command.get_arguments().find(|arg| arg.get_short() == Some('o'));
            let json =
                form.is_some_and(|form| form.get_possible_values().iter().any(|v| v.get_name() == "json"));
            assert_eq!(json, asked, "`sluice {name}`: has -o json if it prints data, and else has not");
        }
        path.pop();
    }
}

fn keeps_to(agent: &Agent<'_>, args: &[String], form: &str, schema: &str, code: i32) {
    let words: Vec<&str> = args.iter().map(String::as_str).chain(["-o", form]).collect();
    let out = agent.sluice(&words);
    let (said, errors) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    let line = format!("sluice {}", words.join(" "));
    assert_eq!(out.status.code(), Some(code), "{line}: {said}{errors}");
    let value: Value = match form {
        "json" => serde_json::from_str(&said).map_err(|e| e.to_string()),
        _ => serde_yaml::from_str(&said).map_err(|e| e.to_string()),
    }
    .unwrap_or_else(|e| panic!("{line}: {e}: {said}{errors}"));
    let file = Path::new(super::ROOT).join("config/schema").join(format!("{schema}.json"));
    let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let schema: Value = serde_json::from_str(&text).expect("a schema is JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema is a schema");
    let wrong: Vec<_> =
        validator.iter_errors(&value).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(wrong.is_empty(), "{line} does not keep to {}:\n{}\n{said}", file.display(), wrong.join("\n"));
}

/// What a schema refuses, so that the test above can fail.
#[test]
fn a_schema_refuses_what_lacks_a_field_or_has_another_type() {
    let schema = serde_json::to_value(of::<VersionView>()).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    for (json, want) in [
        (r#"{"version": "1", "contract": 1, "gatewayApi": "v1"}"#, true),
        (r#"{"version": "1", "contract": 1}"#, false),
        (r#"{"version": "1", "contract": "1", "gatewayApi": "v1"}"#, false),
    ] {
        assert_eq!(validator.is_valid(&serde_json::from_str(json).expect("JSON")), want, "{json}");
    }
}
