//! `check --upgrade`: today's form says what the old one said, and keeps the comments.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::released::RELEASES;
use super::upstream::{files, module};
use super::{load, messages};
use crate::core::compile::compile;
use crate::core::host::Host;
use crate::core::model::{BackendRef, Model};
use crate::core::snapshot::{Ids, Snapshot};
use crate::source::file::upgraded;
use crate::source::{Diagnostic, EndpointFlag, FileSource, Loaded, Upgraded, object, yaml};

fn upgrade(texts: &[&str]) -> Result<Upgraded, Vec<Diagnostic>> {
    upgrade_with(texts, &[])
}

fn upgrade_with(texts: &[&str], endpoints: &[EndpointFlag]) -> Result<Upgraded, Vec<Diagnostic>> {
    let whole: String = texts.iter().map(|text| format!("{text}\n---\n")).collect();
    let before = load_endpoints(&whole, endpoints)?;
    let texts: Vec<(String, Arc<str>)> =
        texts.iter().map(|text| ("test.yaml".to_owned(), (*text).into())).collect();
    upgraded(before, &texts, endpoints)
}

fn load_endpoints(text: &str, endpoints: &[EndpointFlag]) -> Result<Loaded, Vec<Diagnostic>> {
    let flags: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
    super::load_with(text, &flags.iter().map(String::as_str).collect::<Vec<_>>())
}

fn compiled(model: &Model) -> Snapshot {
    compile(model, &Host::default(), &Ids::default(), 1)
}

/// All that serves, in an order of its own.
fn serves(snapshot: &Snapshot) -> String {
    let tables: BTreeMap<_, _> =
        snapshot.bindings.iter().map(|(key, bound)| (format!("{key:?}"), format!("{bound:#?}"))).collect();
    format!("{tables:#?}")
}

/// An endpoint for each backend that the input does not bring along.
fn endpoints(model: &Model) -> Vec<EndpointFlag> {
    let http = model.http_routes.values().flat_map(|route| {
        route
            .rules
            .iter()
            .flat_map(|rule| &rule.backends)
            .map(move |backend| (&route.meta.name.namespace, backend))
    });
    let tcp = model.l4_routes.values().flat_map(|route| {
        route
            .rules
            .iter()
            .flat_map(|rule| &rule.backends)
            .map(move |backend| (&route.meta.name.namespace, backend))
    });
    let mut flags = BTreeSet::new();
    for (own, BackendRef { kind, namespace, name, port, .. }) in http.chain(tcp) {
        let namespace = namespace.as_ref().unwrap_or(own);
        let known =
            model.services.keys().any(|service| service.namespace == *namespace && service.name == *name);
        if let (Some(port), "Service", false) = (port, &*kind.kind, known) {
            flags.insert(format!("{namespace}/{name}:{port}=192.0.2.{}:{port}", 1 + flags.len() % 250));
        }
    }
    flags.iter().map(|flag| flag.parse().unwrap()).collect()
}

/// Upgrades, and holds the outcome against what was there before.
fn round_trip(what: &str, texts: &[&str]) -> Upgraded {
    let first = upgrade(texts).unwrap_or_else(|errors| panic!("{what}: {}", messages(Err(errors))));
    let endpoints = endpoints(&first.before.model);
    let done = upgrade_with(texts, &endpoints).unwrap();
    let text = &done.text;
    // Nothing old is left: what is still warned of is none of the dialects' business.
    for (_, part) in yaml::split(text) {
        for object in object::read(part).objects {
            assert!(object.old.is_none(), "{what}: {}\n{text}", object.meta.name);
        }
    }
    assert!(done.after.warnings.len() <= done.before.warnings.len(), "{what}: {:#?}", done.after.warnings);
    assert_eq!(upgrade(&[text]).unwrap().text, *text, "{what}: twice is not the same");
    let (before, after) = (compiled(&done.before.model), compiled(&done.after.model));
    assert_eq!(before.image, after.image, "{what}\n{text}");
    assert_eq!((&before.ids, &before.series), (&after.ids, &after.series), "{what}\n{text}");
    assert_eq!(serves(&before), serves(&after), "{what}\n{text}");
    // No comment is lost.
    for comment in texts.iter().flat_map(|text| comments(text)) {
        assert!(text.contains(comment), "{what}: {comment}\n{text}");
    }
    done
}

/// What stands after a `#` that begins a line or follows a space.
fn comments(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let at = if line.trim_start().starts_with('#') { line.find('#') } else { line.find(" #") };
        at.map(|at| line[at..].trim())
    })
}

/// The golden file beside this one.
fn golden(name: &str, got: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/source/tests/golden").join(name);
    if std::env::var_os("SLUICE_GOLDEN").is_some() {
        fs::write(&path, got).unwrap();
    }
    let wanted = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(got, wanted, "{name}: if this is right, SLUICE_GOLDEN=1 writes it");
}

#[test]
fn the_examples_of_old_dialects_come_out_as_they_should() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/examples");
    for name in ["old-dialect.yaml", "old-dialect-v1alpha1.yaml", "old-dialect-v1alpha2.yaml"] {
        let text = fs::read_to_string(folder.join(name)).unwrap();
        let done = round_trip(name, &[&text]);
        golden(name, &done.text);
        assert_eq!(done.after.warnings, [], "{name}");
        golden(&name.replace(".yaml", ".warnings"), &messages(load(&text)).replace("test.yaml", name));
    }
}

#[test]
fn what_is_in_todays_form_stays_as_it_stands() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/examples");
    for name in ["quickstart.yaml", "demo.yaml", "weighted.yaml", "ipv6.yaml", "tcp.yaml"] {
        let path = folder.join(name);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(FileSource::new(vec![path], Vec::new()).upgrade().unwrap().text, text, "{name}");
    }
}

#[test]
fn examples_of_every_release_make_the_way() {
    let (mut done, mut changed, mut refused) = (0, 0, BTreeMap::new());
    let mut seen = BTreeSet::new();
    for release in RELEASES {
        for file in files(module(release).join("examples")) {
            let text = fs::read_to_string(&file).unwrap();
            if !seen.insert(text.clone()) {
                continue;
            }
            let name = format!("{release} {}", file.file_name().unwrap().display());
            match upgrade(&[&text]) {
                Ok(_) => {
                    done += 1;
                    changed += usize::from(round_trip(&name, &[&text]).text != text);
                }
                Err(errors) => drop(refused.insert(name, messages(Err(errors)))),
            }
        }
    }
    for (name, errors) in &refused {
        println!("{name}: {errors}");
    }
    println!("{done} files, {changed} of them changed, {} refused", refused.len());
    let reasons = ["GEP-746", "BackendPolicy was removed", "no listener of this input tells"];
    for (name, errors) in &refused {
        assert!(reasons.iter().any(|reason| errors.contains(reason)), "{name}: {errors}");
    }
    assert!(done > 200 && changed > 100, "{done} files, {changed} changed");
}

#[test]
fn comments_stay_with_what_they_speak_of() {
    let text = "\
# Of the file.

---
# Of the route.
apiVersion: networking.x-k8s.io/v1alpha1 # old
kind: HTTPRoute
metadata: {name: r, labels: {a: 'b'}} # short
spec:
  # Who may.
  gateways:
    allow: All # anybody

  hostnames:
  # The first.
  - \"a.example\"
  - b.example # the second
  rules:
  # A rule.
  -
    # Its matches.
    matches:
    - path: {type: Prefix, value: /a}
      headers:
        # Testers.
        values:
          x-a: \"1\" # one
          # Another.
          x-b: '2'
    # Where to.
    forwardTo:
      # By name.
    - serviceName: s # the service
      port: 80
# The end.
---
# Not ours.
apiVersion: apps/v1
kind: Deployment
metadata: {name: d}
";
    let wanted = "\
# Of the file.

---
# Of the route.
# No Gateway of this input chose this route; today it would name its Gateways in parentRefs.
apiVersion: gateway.networking.k8s.io/v1 # old
kind: HTTPRoute
metadata: {name: r, labels: {a: 'b'}} # short
spec:
  # Who may.
  # anybody

  hostnames:
  # The first.
  - \"a.example\"
  - b.example # the second
  rules:
  # A rule.
  # Its matches.
  - matches:
    - path: {type: PathPrefix, value: /a}
      headers:
      # Testers.
      - name: x-a # one
        value: \"1\"
      # Another.
      - name: x-b
        value: '2'
    # Where to.
    backendRefs:
    # By name.
    - name: s # the service
      port: 80
# The end.
---
# Not ours.
apiVersion: apps/v1
kind: Deployment
metadata: {name: d}
";
    assert_eq!(round_trip("comments", &[text]).text, wanted);
}

/// Comments in every place of the examples: none is lost, and none changes what is said.
#[test]
fn a_comment_may_stand_anywhere() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/examples");
    for name in ["old-dialect-v1alpha1.yaml", "old-dialect-v1alpha2.yaml"] {
        let text = fs::read_to_string(folder.join(name)).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let model = upgrade(&[&text]).unwrap().after.model;
        for at in 0..lines.len() {
            let line = lines[at];
            let indent = " ".repeat(line.len() - line.trim_start().len());
            // In turn a line of its own, and the end of the line.
            let place = if at % 2 == 0 {
                format!("{indent}# here {at}\n{line}")
            } else {
                format!("{line} # here {at}")
            };
            let mut changed = lines.clone();
            changed[at] = &place;
            let done = upgrade(&[&changed.join("\n")]).unwrap();
            assert_eq!(done.after.model, model, "{place}");
            let comment = format!("# here {at}\n");
            assert_eq!(done.text.matches(&comment).count(), 1, "{place}\n{}", done.text);
        }
    }
}

#[test]
fn lists_json_and_foreign_line_ends_are_upgraded_too() {
    let json = r#"{"apiVersion": "v1", "kind": "List", "items": [
  {"apiVersion": "gateway.networking.k8s.io/v1alpha2", "kind": "ReferencePolicy", "metadata": {"name": "a"},
   "spec": {"from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "b"}], "to": [{"group": "", "kind": "Service"}]}},
  {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"text": "a\nb: \"c\"\n# d\n"}}
]}"#;
    let done = round_trip("JSON", &[json]);
    assert!(done.text.contains("ReferenceGrant") && done.text.contains("# d"), "{}", done.text);
    let text = "apiVersion: gateway.networking.k8s.io/v1beta1\r\nkind: Gateway\r\nmetadata:\r\n  name: g # its name\r\nspec:\r\n  gatewayClassName: c\r\n  listeners:\r\n  - {name: a, port: 80, protocol: HTTP}\r\n";
    let done = round_trip("CRLF", &[text]);
    assert_eq!(done.text, text.replace("\r\n", "\n").replace("v1beta1", "v1"));
    // Anchors are written out where something changes, and a text of several lines stays one.
    let text = "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: Gateway\nmetadata:\n  name: g\n  annotations:\n    note: |\n      one # no comment\n\n      two\n    other: &o \"x\"\n    third: *o\nspec:\n  gatewayClassName: c\n  listeners: [{name: a, port: 80, protocol: HTTP}]\n";
    let done = round_trip("anchors", &[text]);
    assert_eq!(done.text, text.replace("v1beta1", "v1").replace("&o \"x\"", "\"x\"").replace("*o", "\"x\""));
}

#[test]
fn several_files_become_one_stream() {
    let gateway = "apiVersion: networking.x-k8s.io/v1alpha1\nkind: Gateway\nmetadata: {name: g}\nspec:\n  gatewayClassName: c\n  listeners:\n  - {port: 80, protocol: HTTP, routes: {kind: HTTPRoute}}\n  - {port: 81, protocol: HTTP, routes: {kind: HTTPRoute, selector: {matchLabels: {a: b}}}}\n";
    let route = "# The route.\napiVersion: networking.x-k8s.io/v1alpha1\nkind: HTTPRoute\nmetadata: {name: r}\nspec:\n  rules: [{forwardTo: [{serviceName: s, port: 80}]}]";
    let done = round_trip("two files", &[gateway, route]);
    assert!(done.text.contains("\n---\n# The route.\n"), "{}", done.text);
    // Of two listeners, one took it.
    let parents = "  parentRefs:\n  - name: g\n    sectionName: http-80\n";
    assert!(done.text.contains(parents), "{}", done.text);
}

#[test]
fn a_tls_route_gets_the_hostnames_of_its_listeners() {
    let gateway = |hostname: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: g}}\nspec:\n  gatewayClassName: c\n  listeners:\n  - {{name: a, port: 443, protocol: TLS, tls: {{mode: Passthrough}}{hostname}}}\n"
        )
    };
    let route = "apiVersion: gateway.networking.k8s.io/v1alpha2\nkind: TLSRoute\nmetadata: {name: t}\nspec:\n  parentRefs: [{name: g}]\n  rules: [{backendRefs: [{name: s, port: 443}]}]\n";
    let done = round_trip("TLS", &[&gateway(", hostname: a.example"), route]);
    assert!(done.text.contains("  hostnames:\n  - a.example\n"), "{}", done.text);
    for gateway in [gateway(""), String::new()] {
        let both = format!("{gateway}\n---\n{route}");
        assert!(load(&both).is_ok(), "it loads as it stands");
        let errors = messages(upgrade(&[&both]).map(|done| done.after));
        assert!(
            errors.contains(
                "TLSRoute default/t: spec.hostnames: is required today, and no listener of this input tells"
            ),
            "{errors}"
        );
    }
}
