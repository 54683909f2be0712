//! Upstream's own examples, out of the Go module of the version that Sluice is built for, through `sluice check`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use gateway_tests::agent::binary;
use serde::Deserialize as _;
use serde_json::Value;

/// The version of the Gateway API that the program names.
fn version() -> String {
    let out = Command::new(binary()).args(["version", "-o", "json"]).output().expect("sluice can be started");
    let version: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    version["gatewayApi"].as_str().expect("a version").to_owned()
}

/// The API's module, fetched if need be, by the Go that `cargo xtask setup` found or got.
fn module() -> PathBuf {
    let cache = std::env::var_os("SLUICE_CACHE").map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("HOME").map(PathBuf::from);
        home.map(|home| home.join(".cache/sluice"))
    });
    let cached = cache.map(|cache| cache.join("go/bin/go")).filter(|go| go.exists());
    let usual = Some(PathBuf::from("/usr/local/go/bin/go")).filter(|go| go.exists());
    let go = cached.or(usual).unwrap_or_else(|| "go".into());
    let module = format!("sigs.k8s.io/gateway-api@{}", version());
    let out =
        Command::new(go).args(["mod", "download", "-json", &module]).output().expect("go can be started");
    let answer: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    answer["Dir"].as_str().unwrap_or_else(|| panic!("{module}: {answer}")).into()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Checks a file by itself: the exit code and what is said.
fn check(file: &Path) -> (Option<i32>, Value) {
    let out = Command::new(binary()).arg("check").arg("-f").arg(file).args(["-o", "json"]).output();
    let out = out.expect("sluice can be started");
    assert!(out.stderr.is_empty(), "{}: {}", file.display(), String::from_utf8_lossy(&out.stderr));
    (out.status.code(), serde_json::from_slice(&out.stdout).expect("JSON"))
}

/// Whether none of a file's documents is of a kind in use: each is warned of as somebody else's.
fn foreign(file: &Path, said: &Value) -> bool {
    let text = fs::read_to_string(file).expect("a file");
    let documents = serde_yaml::Deserializer::from_str(&text)
        .map(|document| Value::deserialize(document).expect("YAML"))
        .filter(|document| !document.is_null())
        .count();
    let skipped = said["warnings"].as_array().into_iter().flatten().filter(|warning| {
        warning["message"].as_str().is_some_and(|message| message.contains("the object is skipped"))
    });
    skipped.count() == documents
}

#[test]
fn every_example_of_upstream_passes_by_itself() {
    let folder = module().join("examples");
    let (mut passed, mut left_out) = (0, Vec::new());
    for file in files(&folder) {
        let name = file.strip_prefix(&folder).expect("within").display().to_string();
        let (code, said) = check(&file);
        if foreign(&file, &said) {
            left_out.push(name);
            continue;
        }
        assert_eq!(code, Some(0), "{name}: {said:#}");
        assert_eq!(said["errors"], Value::Array(Vec::new()), "{name}");
        passed += 1;
    }
    println!("{passed} examples pass; left out for their kind: {left_out:?}");
    assert!(passed >= 80, "only {passed}");
}

/// Upstream's invalid examples: the field that is wrong, and the words of the schema or rule that say so.
const INVALID: &[(&str, &str, &str)] = &[
    (
        "httproute/invalid-filter-externalauth-bad-http-path",
        "spec.rules[0].filters[0].externalAuth.http.path",
        "must match",
    ),
    (
        "httproute/invalid-filter-externalauth-empty",
        "spec.rules[0].filters[0]",
        "filter.externalAuth must be specified for ExternalAuth filter.type",
    ),
    (
        "httproute/invalid-filter-externalauth-no-protocol",
        "spec.rules[0].filters[0].externalAuth.protocol",
        "is required",
    ),
    (
        "httproute/invalid-header-value",
        "spec.rules[0].filters[0].responseHeaderModifier.add[0].value",
        "must match",
    ),
    ("gateway/duplicate-listeners", "spec.listeners[1]", "another item has the same name"),
    ("gateway/hostname-tcp", "spec.listeners", "hostname must not be specified for protocols ['TCP', 'UDP']"),
    ("gateway/hostname-udp", "spec.listeners", "hostname must not be specified for protocols ['TCP', 'UDP']"),
    (
        "gateway/invalid-addresses",
        "spec.addresses[9]",
        "Hostname value must be empty or contain only valid characters",
    ),
    ("gateway/invalid-listener-name", "spec.listeners[0].name", "must match"),
    ("gateway/invalid-listener-port", "spec.listeners[0].port", "must be from 1 to 65535"),
    ("gateway/invalid-tls-mode", "spec.listeners", "tls mode must be Terminate for protocol HTTPS"),
    (
        "gateway/tlsconfig-tcp",
        "spec.listeners",
        "tls must not be specified for protocols ['HTTP', 'TCP', 'UDP']",
    ),
    ("gatewayclass/invalid-controller", "spec.controllerName", "must match"),
    (
        "httproute/duplicate-header-match",
        "spec.rules[0].matches[0].headers[1]",
        "another item has the same name",
    ),
    (
        "httproute/duplicate-query-match",
        "spec.rules[0].matches[0].queryParams[1]",
        "another item has the same name",
    ),
    (
        "httproute/httproute-portless-backend",
        "spec.rules[0].backendRefs[0]",
        "Must have port for Service reference",
    ),
    (
        "httproute/httproute-portless-service",
        "spec.rules[0].backendRefs[0]",
        "Must have port for Service reference",
    ),
    ("httproute/invalid-backend-group", "spec.rules[0].backendRefs[0].group", "must match"),
    ("httproute/invalid-backend-kind", "spec.rules[0].backendRefs[0].kind", "must match"),
    ("httproute/invalid-backend-port", "spec.rules[0].backendRefs[0].port", "must be from 1 to 65535"),
    (
        "httproute/invalid-filter-duplicate-header",
        "spec.rules[0].filters[0].requestHeaderModifier.remove[1]",
        "is there already",
    ),
    (
        "httproute/invalid-filter-duplicate",
        "spec.rules[0].filters",
        "RequestHeaderModifier filter cannot be repeated",
    ),
    (
        "httproute/invalid-filter-empty",
        "spec.rules[0].filters[0]",
        "filter.requestHeaderModifier must be specified for RequestHeaderModifier filter.type",
    ),
    (
        "httproute/invalid-filter-wrong-field",
        "spec.rules[0].filters[0]",
        "filter.requestRedirect must be nil if the filter.type is not RequestRedirect",
    ),
    ("httproute/invalid-header-name", "spec.rules[0].matches[0].headers[0].name", "must match"),
    ("httproute/invalid-hostname", "spec.hostnames[0]", "must match"),
    (
        "httproute/invalid-httpredirect-hostname",
        "spec.rules[0].filters[0].requestRedirect.hostname",
        "must match",
    ),
    ("httproute/invalid-method", "spec.rules[0].matches[0].method", "is none of GET, HEAD, POST"),
    (
        "httproute/invalid-path-alphanum-specialchars-mix",
        "spec.rules[0].matches[0].path",
        "must only contain valid characters",
    ),
    (
        "httproute/invalid-path-specialchars",
        "spec.rules[0].matches[0].path",
        "must only contain valid characters",
    ),
    (
        "httproute/invalid-request-redirect-with-backendref",
        "spec.rules[0]",
        "RequestRedirect filter must not be used together with backendRefs",
    ),
    ("referencegrant/missing-from", "spec.from", "is required"),
    ("referencegrant/missing-ns", "spec.from[0].namespace", "is required"),
    ("referencegrant/missing-to", "spec.to", "is required"),
    ("tlsroute/invalid-hostname", "spec.hostnames[0]", "must match"),
    ("tlsroute/no-hostname", "spec.hostnames", "is required"),
];

#[test]
fn every_invalid_example_of_upstream_fails_with_the_reason() {
    let module = module();
    let folder = module.join("hack/invalid-examples");
    // A rule's message is told in upstream's own words: they stand in its CRDs.
    let rules: String = files(&module.join("config/crd/experimental"))
        .iter()
        .map(|crd| fs::read_to_string(crd).expect("a CRD").split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    let own = ["must match", "is required", "is there already", "another item", "must be from", "is none of"];
    let (mut failed, mut left_out) = (0, Vec::new());
    for file in files(&folder) {
        let name = file.strip_prefix(&folder).expect("within").with_extension("").display().to_string();
        let (code, said) = check(&file);
        if foreign(&file, &said) {
            left_out.push(name);
            continue;
        }
        let row =
            INVALID.iter().find(|(known, ..)| name.split_once('/').is_some_and(|(_, rest)| rest == *known));
        let (_, field, message) = row.unwrap_or_else(|| panic!("{name} is new: why does it fail? {said:#}"));
        assert_eq!(code, Some(1), "{name}: {said:#}");
        let errors = said["errors"].as_array().expect("errors");
        let fits = |error: &&Value| {
            error["field"] == *field
                && error["message"].as_str().is_some_and(|said| said.starts_with(message))
        };
        assert!(errors.iter().any(|error| fits(&error)), "{name}: {field}: {message} is not in {said:#}");
        if !own.iter().any(|own| message.starts_with(own)) {
            assert!(rules.contains(message) || rules.contains(&message.replace('\'', "''")), "{message}");
        }
        failed += 1;
    }
    println!("{failed} invalid examples fail with the reason; left out for their kind: {left_out:?}");
    assert_eq!(failed, INVALID.len());
}
