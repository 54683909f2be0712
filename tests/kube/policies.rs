//! What is said of policies that are not built.

use serde_json::json;

use crate::{Bed, condition, http_route};

/// A policy for a Service.
fn policy(name: &str, service: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {{ name: {name}, namespace: shop }}
spec:
  targetRefs: [{{ group: '', kind: Service, name: {service} }}]
  validation: {{ hostname: echo.example, wellKnownCACertificates: System }}
"
    )
}

#[test]
fn a_policy_that_is_not_supported_says_so_where_it_matters() {
    let bed = Bed::new("policies");
    let ns = bed.cluster.site("gateway", 2);
    let agent = bed.agent(&ns, "one");
    let address = bed.address();
    bed.cluster.apply(&http_route("all", "/all"));
    bed.wait_for(address, "/all", 200);
    bed.cluster.apply(&policy("echo", "echo"));
    bed.cluster.apply(&policy("other", "nobody-s"));
    // What the Service is to be reached by is not passed by.
    bed.wait_for(address, "/all", 500);
    let ancestors = |name: &str| bed.status("backendtlspolicy", name)["ancestors"].take();
    let ours = |ancestors: &serde_json::Value| {
        let list = ancestors.as_array().into_iter().flatten();
        let ours = list.filter(|entry| entry["controllerName"] == "sluice-gateway.dev/controller");
        ours.cloned().collect::<Vec<_>>()
    };
    bed.cluster.wait("the policy's status", |_| !ours(&ancestors("echo")).is_empty());
    let said = ours(&ancestors("echo"));
    assert_eq!((said.len(), &said[0]["ancestorRef"]["name"]), (1, &json!("web")));
    assert_eq!(condition(&said[0]["conditions"], "Accepted").as_deref(), Some("False"));
    assert!(ancestors("other").is_null(), "no route of ours leads to its Service");
    // Another controller speaks, and we go on to mind our own entry.
    let foreign = json!({
        "controllerName": "example.com/other", "ancestorRef": {"name": "other"},
        "conditions": [{"type": "Accepted", "status": "True", "reason": "Accepted", "message": "",
            "lastTransitionTime": "2026-01-31T12:00:00Z"}],
    });
    let patch = json!([{"op": "add", "path": "/status/ancestors/0", "value": foreign}]).to_string();
    let patched = ["--subresource", "status", "--type", "json", "--patch", &patch];
    bed.cluster
        .kubectl(&[&["patch", "backendtlspolicy", "echo", "--namespace", "shop"], &patched[..]].concat());
    bed.cluster.kubectl(&["delete", "httproute", "all", "--namespace", "shop"]);
    bed.cluster.wait("our entry to go", |_| ours(&ancestors("echo")).is_empty());
    let left = ancestors("echo");
    assert_eq!(
        (left.as_array().map(Vec::len), &left[0]["controllerName"]),
        (Some(1), &foreign["controllerName"])
    );
    bed.settles(&[&agent]);
}
