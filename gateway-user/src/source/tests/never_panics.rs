//! Input of any size and shape is an error or it works, quickly.

use super::{load, messages};
use std::fmt::Write as _;
use std::time::Instant;

fn routes(n: usize) -> String {
    let mut text = String::from(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: g}\nspec:\n  gatewayClassName: sluice\n  listeners: [{name: http, port: 80, protocol: HTTP}]\n",
    );
    for i in 0..n {
        writeln!(text, "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata:\n  name: r{i}\n  namespace: default\nspec:\n  parentRefs:\n  - name: g\n  hostnames:\n  - h{i}.example.com\n  rules:\n  - matches:\n    - path:\n        type: PathPrefix\n        value: /a{i}\n    backendRefs:\n    - name: s\n      port: 80\n").unwrap();
    }
    text
}

#[test]
fn perf() {
    let text = routes(5000);
    for _ in 0..2 {
        let t = Instant::now();
        let loaded = load(&text).unwrap();
        eprintln!("{} bytes: {:?} {}", text.len(), t.elapsed(), loaded.model.http_routes.len());
    }
    let t = Instant::now();
    for (_, part) in crate::source::yaml::split(&text) {
        crate::source::yaml::parse(part);
    }
    eprintln!("yaml: {:?}", t.elapsed());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.yaml");
    std::fs::write(&path, &text).unwrap();
    let mut source = crate::source::FileSource::new(vec![path.clone()], vec![]);
    for i in 0..4 {
        let t = Instant::now();
        source.load().unwrap();
        eprintln!("file {i}: {:?}", t.elapsed());
        std::fs::write(&path, text.replacen("/a7", &format!("/b{i}"), 1)).unwrap();
    }
    let big = "- a\n".repeat(10 << 18);
    let t = Instant::now();
    eprintln!("{}", messages(load(&big)));
    eprintln!("big: {:?}", t.elapsed());
}
