//! An agent in a cluster as our manifests install it: with the rights that they give, and no more.
//!
//! Owns what becomes of `config/kubernetes` in a [`Cluster`]. It runs in a namespace on the LAN rather than in a pod. Must
//! not know what it is to serve.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{agent::Agent, cluster::Cluster, netns::NetNs};

/// Whom the API server takes an agent for.
pub const USER: &str = "system:serviceaccount:sluice-system:sluice";

/// A manifest of `config/kubernetes`.
///
/// # Panics
/// If there is none.
pub fn manifest(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/kubernetes").join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Applies the manifests, with these addresses for Gateways, which the cluster's LAN must have.
///
/// # Panics
/// If the API server refuses one.
pub fn install(cluster: &Cluster, pool: &str) {
    for name in ["crd-sluiceparameters.yaml", "rbac.yaml", "daemonset.yaml"] {
        cluster.apply(&manifest(name));
    }
    cluster.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "--all", "crd"]);
    let class = manifest("gatewayclass.yaml");
    assert!(class.contains("192.0.2.0/24"), "the manifest's addresses are others");
    cluster.apply(&class.replace("192.0.2.0/24", pool));
}

/// Starts an agent with the rights of the agents' ServiceAccount, and waits until it is ready.
///
/// # Panics
/// If it does not get ready; the message holds its log.
pub fn agent<'ns>(cluster: &Cluster, ns: &'ns NetNs, node: &str) -> Agent<'ns> {
    let kubeconfig = account(cluster);
    let kubeconfig = kubeconfig.to_str().expect("a path is text");
    let args = ["--kube", "--kubeconfig", kubeconfig, "--kube-namespace", "sluice-system", "--node", node];
    let mut agent = Agent::prepare(ns, "", &args).without_file().tethered(&cluster.programs().podrunner);
    agent.launch();
    agent.wait_ready();
    agent
}

/// A kubeconfig with the agents' ServiceAccount, and nothing more.
fn account(cluster: &Cluster) -> PathBuf {
    let token = cluster.kubectl(&["create", "token", "sluice", "--namespace", "sluice-system"]);
    let text = cluster.kubectl(&["config", "view", "--raw", "--flatten", "--output", "json"]);
    let mut config: Value = serde_json::from_str(&text).expect("a kubeconfig as JSON");
    config["users"][0]["user"] = json!({ "token": token.trim() });
    let path = cluster.kubeconfig().with_file_name("account.json");
    fs::write(&path, config.to_string()).expect("a file can be written");
    path
}
