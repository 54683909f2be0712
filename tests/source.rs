//! Files as an agent meets them: every example loads, compiles to what its objects ask for, and follows a change.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gateway_user::core::compile::compile;
use gateway_user::core::host::Host;
use gateway_user::core::route::{HttpTable, RequestView, Target};
use gateway_user::core::snapshot::{BoundService, Ids, Snapshot};
use gateway_user::source::FileSource;

#[path = "source/upgrade.rs"]
mod upgrade;
#[path = "source/upstream.rs"]
mod upstream;

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/examples").join(name)
}

/// A snapshot of a source as it is now.
fn snapshot(source: &mut FileSource) -> Snapshot {
    let loaded = source.load().unwrap_or_else(|errors| panic!("{errors:#?}"));
    let host = Host::default();
    compile(&loaded.model, &host, &Ids::default(), 1)
}

/// The snapshot's only HTTP table.
fn table(snapshot: &Snapshot) -> &HttpTable {
    let mut tables = snapshot.bindings.values().filter_map(|bound| match &bound.service {
        BoundService::Http(table) => Some(table),
        BoundService::L4(_) | BoundService::Reject => None,
    });
    tables.next().expect("there is an HTTP listener")
}

/// The addresses that a request for a path goes to; `None` for 404.
fn goes_to(table: &HttpTable, path: &str) -> Option<Vec<String>> {
    let headers = http::HeaderMap::new();
    let request = RequestView { host: "a.example", path, query: None, method: "GET", headers: &headers };
    let rule = table.find(&request).rule?;
    let targets = rule.backends.iter().map(|backend| match &backend.target {
        Target::Endpoints(addresses) => {
            addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
        }
        Target::Unavailable | Target::Invalid => "nothing".to_owned(),
    });
    Some(targets.collect())
}

#[test]
fn every_example_is_accepted() {
    for entry in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../config/examples")).unwrap() {
        let path = entry.unwrap().path();
        // Services that an example leaves to `--endpoint`.
        let services: &[&str] = match path.file_name().and_then(|name| name.to_str()) {
            Some("quickstart.yaml" | "https.yaml") => &["default/web:80"],
            Some("old-dialect.yaml") => &["default/my-service:80"],
            Some("old-dialect-v1alpha1.yaml") => {
                &["shop/cart:8080", "shop/cart-new:8080", "infra/postgres:5432"]
            }
            Some("old-dialect-v1alpha2.yaml") => &["default/app:8080", "default/blog:8080"],
            Some("from-istio.yaml") => &["default/productpage:9080", "default/productpage-next:9080"],
            _ => &[],
        };
        let flag = |service: &&str| format!("{service}=127.0.0.1:9000").parse().unwrap();
        let endpoint = services.iter().map(flag).collect();
        let snapshot = snapshot(&mut FileSource::new(vec![path.clone()], endpoint));
        let report = &snapshot.report;
        assert!(!report.gateways.is_empty() && !report.routes.is_empty(), "{}", path.display());
        let gateways = report.gateways.values().flat_map(|gateway| &gateway.conditions);
        let listeners = report.gateways.values().flat_map(|gateway| &gateway.listeners);
        let listeners = listeners.flat_map(|listener| &listener.conditions);
        let routes =
            report.routes.values().flat_map(|entries| entries.iter()).flat_map(|parent| &parent.conditions);
        for condition in gateways.chain(listeners).chain(routes) {
            let wanted = condition.kind != "Conflicted";
            assert_eq!(condition.status, wanted, "{}: {condition:?}", path.display());
        }
    }
}

#[test]
fn the_introductions_example_serves_its_prefix_and_nothing_else() {
    let endpoint = "default/my-service:80=127.0.0.1:9000".parse().unwrap();
    let snapshot = snapshot(&mut FileSource::new(vec![example("old-dialect.yaml")], vec![endpoint]));
    let table = table(&snapshot);
    let backend = Some(vec!["127.0.0.1:9000".to_owned()]);
    for (path, expected) in [
        ("/my-service", &backend),
        ("/my-service/", &backend),
        ("/my-service/x", &backend),
        ("/my-servicex", &None),
        ("/", &None),
    ] {
        assert_eq!(goes_to(table, path), *expected, "{path}");
    }
}

#[tokio::test]
async fn a_changed_file_is_told_and_a_broken_one_keeps_the_generation() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("quickstart.yaml");
    let text = fs::read_to_string(example("quickstart.yaml")).unwrap();
    fs::write(&file, &text).unwrap();
    let endpoint = "default/web:80=127.0.0.1:9000".parse().unwrap();
    let mut source = FileSource::new(vec![file.clone()], vec![endpoint]);
    assert!(goes_to(table(&snapshot(&mut source)), "/").is_some());
    let mut watch = source.watch().unwrap();
    let told = async |watch: &mut gateway_user::source::Watch| {
        tokio::time::timeout(Duration::from_secs(10), watch.changed()).await.expect("a change that is told");
    };

    fs::write(&file, text.replace("HTTPRoute", "HTTPRuote")).unwrap();
    told(&mut watch).await;
    let errors = source.load().unwrap_err();
    assert!(errors[0].to_string().ends_with("did you mean `HTTPRoute`?"), "{}", errors[0]);

    let narrowed = text.replace("  - backendRefs:", "  - matches: [{path: {value: /a}}]\n    backendRefs:");
    fs::write(&file, narrowed).unwrap();
    told(&mut watch).await;
    let loaded = source.load().unwrap();
    assert_eq!(loaded.model.http_routes.values().next().unwrap().meta.generation, 2);
    assert_eq!(loaded.model.gateways.values().next().unwrap().meta.generation, 1);
    let snapshot = snapshot(&mut source);
    assert_eq!((goes_to(table(&snapshot), "/"), goes_to(table(&snapshot), "/a").is_some()), (None, true));
}
