//! Every release of the API, from its own module: each version of each kind is known, and each field of it is
//! converted or refused.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::Deserialize as _;
use serde_json::{Value as Json, json};

use super::upstream::{files, module, today};
use crate::source::dialect::{self, RELEASED};
use crate::source::kind::Kind;
use crate::source::node::{Node, Value};
use crate::source::object::{Identity, identify};
use crate::source::schema::Schema;
use crate::source::yaml;

/// The last of each minor release, but for those that were withdrawn.
pub(super) const RELEASES: [&str; 15] = [
    "v0.1.0", "v0.2.0", "v0.3.0", "v0.4.3", "v0.5.1", "v0.6.2", "v0.7.1", "v0.8.1", "v1.0.0", "v1.1.0",
    "v1.2.1", "v1.3.0", "v1.4.0", "v1.5.1", "v1.6.1",
];

/// What a release has: kind, apiVersion and schema.
fn crds(folder: &Path) -> Vec<(String, String, Json)> {
    let mut found = Vec::new();
    for file in files(folder.join("config/crd")) {
        let text = fs::read_to_string(&file).unwrap();
        for document in serde_yaml::Deserializer::from_str(&text) {
            let crd = Json::deserialize(document).unwrap();
            if crd["kind"] != "CustomResourceDefinition" {
                continue;
            }
            let (kind, group) = (&crd["spec"]["names"]["kind"], &crd["spec"]["group"]);
            for version in crd["spec"]["versions"].as_array().unwrap() {
                let text = |json: &Json| json.as_str().unwrap().to_owned();
                let of = format!("{}/{}", text(group), text(&version["name"]));
                found.push((
                    text(kind),
                    of,
                    version["schema"]["openAPIV3Schema"]["properties"]["spec"].clone(),
                ));
            }
        }
    }
    found
}

#[test]
fn every_version_ever_released_is_known() {
    let mut released = BTreeSet::new();
    let mut others = BTreeSet::new();
    for release in RELEASES {
        for (kind, version, _) in crds(&module(release)) {
            match identify(&kind, &version) {
                Identity::Known(..) => drop(released.insert((kind, version))),
                Identity::Foreign { .. } | Identity::Wrong { .. } => drop(others.insert(kind)),
            }
        }
    }
    assert_eq!(
        RELEASES.last().map(ToString::to_string),
        Some(today()),
        "the newest release is looked at too"
    );
    // Kinds that are not in use, or gone.
    let unused = ["BackendLBPolicy", "BackendPolicy", "XBackend", "XBackendTrafficPolicy", "XMesh"];
    assert_eq!(others.iter().collect::<Vec<_>>(), unused);
    // And nothing is taken for old that never was: but for v1, the table is what was released.
    released.retain(|(_, version)| !version.ends_with("/v1"));
    let table: BTreeSet<_> = (RELEASED.iter())
        .flat_map(|(_, name, group, versions)| {
            versions.iter().map(move |version| ((*name).to_owned(), format!("{group}/{version}")))
        })
        .collect();
    assert_eq!(released, table);
    for kind in Kind::ALL {
        for old in &kind.file().old {
            let known = RELEASED.iter().any(|(of, _, group, versions)| {
                of == kind && *group == kind.group() && versions.contains(&&**old)
            });
            assert!(known, "{} {old}", kind.name());
        }
    }
}

/// Ways to a field, each step with the schema that stands there.
type Way<'a> = Vec<(String, &'a Json)>;

/// Every field without fields of its own.
fn leaves<'a>(schema: &'a Json, way: &mut Way<'a>, found: &mut Vec<Way<'a>>) {
    if let Some(fields) = schema["properties"].as_object() {
        for (name, field) in fields {
            way.push((name.clone(), field));
            leaves(field, way, found);
            way.pop();
        }
    } else if schema["items"].is_object() {
        way.push(("[]".to_owned(), &schema["items"]));
        leaves(&schema["items"], way, found);
        way.pop();
    } else {
        found.push(way.clone());
    }
}

/// What a field may be: markers that are found again, or each value of an enumeration.
fn samples(schema: &Json, number: i64) -> Vec<(Json, String)> {
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().map(|value| (value.clone(), value.to_string())).collect();
    }
    if schema["description"].as_str().is_some_and(|text| text.contains("Valid operators are In")) {
        return vec![(json!("In"), "In".to_owned())];
    }
    let marker = format!("zq{number}");
    match schema["type"].as_str() {
        Some("integer") => {
            let most = schema["maximum"].as_i64().unwrap_or(65_535);
            let value = if number <= most { number } else { most };
            vec![(json!(value), value.to_string())]
        }
        Some("boolean") => vec![(json!(true), "true".to_owned())],
        Some("object") => vec![(json!({ marker.clone(): "v" }), marker)],
        _ => vec![(json!(marker), marker)],
    }
}

/// The least that a schema demands.
fn least(schema: &Json) -> Json {
    if let Some(values) = schema["enum"].as_array() {
        return values[0].clone();
    }
    match schema["type"].as_str() {
        Some("object") => {
            let required = schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str);
            required.map(|name| (name.to_owned(), least(&schema["properties"][name]))).collect()
        }
        Some("array") => json!([least(&schema["items"])]),
        Some("integer") => json!(1),
        Some("boolean") => json!(true),
        _ => json!("least"),
    }
}

/// An object's spec that has what is demanded and the field at the end of the way.
fn spec(schema: &Json, way: &[(String, &Json)], value: &Json) -> Json {
    let Some(((name, next), rest)) = way.split_first() else { return value.clone() };
    if name == "[]" {
        return json!([spec(next, rest, value)]);
    }
    let mut this = least(schema);
    if !this.is_object() {
        this = json!({});
    }
    this[name] = spec(next, rest, value);
    // What gives the field a meaning is there too.
    for &(field, beside, value) in BESIDE {
        let has = |field: &str| schema["properties"][field].is_object();
        // A Service's name takes the place of a reference.
        if has(field) && has(beside) && name != field && !(field == "serviceName" && name == "backendRef") {
            this[field] = serde_json::from_str(value).unwrap();
        }
    }
    this
}

/// Fields that need a value for the one beside them to mean something.
const BESIDE: &[(&str, &str, &str)] = &[
    ("protocol", "tls", "\"HTTPS\""),
    ("allow", "gatewayRefs", "\"FromList\""),
    ("port", "serviceName", "1"),
    ("serviceName", "port", "\"least\""),
    ("values", "type", "{\"least\": \"least\"}"),
    ("operator", "key", "\"In\""),
    ("values", "key", "[\"least\"]"),
];

/// Whether a marker stands in a tree at a place that the schema has.
fn stands(node: &Node, schema: Option<&Schema>, marker: &str) -> bool {
    let Some(schema) = schema else { return false };
    match &node.value {
        Value::List(items) => items.iter().any(|item| stands(item, schema.items.as_deref(), marker)),
        Value::Map(entries) => entries.iter().any(|(key, value)| {
            let values = schema.additional_properties.as_deref();
            (values.is_some() && key.name == marker)
                || stands(value, values.or_else(|| schema.properties.get(&key.name)), marker)
        }),
        Value::String(text) => text == marker || format!("{text:?}") == marker,
        _ => node.to_string() == marker,
    }
}

/// Old fields that have no place today and ask for nothing, or for what is so anyway.
const NOTHING_LOST: &[(&str, &str, &str)] = &[
    // "Prefix" is called PathPrefix.
    ("spec.rules[].matches[].path.type", "\"Prefix\"", "renamed"),
    // Certificates of routes were forbidden, and there are none any more.
    ("spec.listeners[].tls.routeOverride.certificate", "\"Deny\"", "nothing else is possible"),
    // The namespace of the parameters says it.
    ("spec.parametersRef.scope", "\"Cluster\"", "no namespace says it"),
    ("spec.parametersRef.scope", "\"Namespace\"", "the namespace says it"),
    ("spec.listeners[].routes.group", "networking.x-k8s.io", "today's group is the default"),
    // The lists' names.
    ("spec.gateways.allow", "\"FromList\"", "the list says it"),
];

#[test]
fn every_field_of_every_release_is_converted_or_refused() {
    let (mut fields, mut lost, mut refused) = (0, Vec::new(), BTreeMap::new());
    let mut seen = BTreeSet::new();
    for release in RELEASES {
        for (name, version, schema) in crds(&module(release)) {
            let Identity::Known(kind, old) = identify(&name, &version) else { continue };
            let mut ways = Vec::new();
            leaves(&schema, &mut vec![], &mut ways);
            for (number, way) in ways.iter().enumerate() {
                let path = way.iter().fold("spec".to_owned(), |path, (step, _)| {
                    if step == "[]" { format!("{path}[]") } else { format!("{path}.{step}") }
                });
                let (_, last) = way.last().unwrap();
                let first = path.replace("[]", "[0]");
                if !seen.insert(format!("{name} {version} {path} {last}")) {
                    continue;
                }
                for (value, marker) in samples(last, 20_000 + i64::try_from(number).unwrap()) {
                    fields += 1;
                    let object = json!({
                        "apiVersion": version, "kind": name, "metadata": {"name": "a"},
                        "spec": spec(&schema, way, &value),
                    });
                    let (mut documents, problems) = yaml::parse(&object.to_string());
                    assert_eq!(problems, []);
                    let converted = dialect::convert(kind, old.then_some(&*version), &mut documents[0]);
                    let here = stands(&documents[0], Some(&kind.file().root), &marker);
                    let no = converted.as_ref().and_then(|converted| {
                        converted.errors.iter().find(|error| {
                            let rest = first.strip_prefix(&*error.field);
                            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
                                || error.value.contains(marker.trim_matches('"'))
                        })
                    });
                    if let Some(error) = no {
                        assert!(!error.message.is_empty() && error.line > 0, "{error:?}");
                        let why = format!("{}; {}", error.message, error.remedy);
                        refused
                            .entry(why)
                            .or_insert_with(BTreeSet::new)
                            .insert(format!("{name} {path} ({marker})"));
                        continue;
                    }
                    let kept = converted.as_ref().is_some_and(|converted| {
                        format!("{:?} {:?}", converted.selections, converted.choosers)
                            .contains(marker.trim_matches('"'))
                    });
                    let nothing = NOTHING_LOST.iter().any(|(at, of, _)| *at == path && *of == marker);
                    if !here && !kept && !nothing {
                        lost.push(format!(
                            "{name} {version} {path} {marker} ({release})\n  {object}\n  {}",
                            documents[0]
                        ));
                    }
                }
            }
        }
    }
    for (why, fields) in &refused {
        println!("{why}");
        fields.iter().for_each(|field| println!("    {field}"));
    }
    assert!(lost.is_empty(), "{} of {fields}:\n{}", lost.len(), lost.join("\n"));
    assert!(fields > 2_000 && refused.len() >= 8, "{fields} fields, {} refusals", refused.len());
}
