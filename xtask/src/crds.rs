//! `cargo xtask crds`: the schemas that the file source checks objects by, out of the Gateway API's CRDs and our own.
//!
//! Owns which kinds, which version, and what of a CRD is kept: everything that decides whether an object is valid,
//! nothing that is only for people to read. Must not know what a field means.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize as _;
use serde_json::{Value, json};

/// Module and version of the Gateway API.
const MODULE: &str = "sigs.k8s.io/gateway-api@v1.6.1";

/// The kinds that a file may hold, with the plural that names the CRD.
const KINDS: [(&str, &str); 10] = [
    ("BackendTLSPolicy", "backendtlspolicies"),
    ("GRPCRoute", "grpcroutes"),
    ("Gateway", "gateways"),
    ("GatewayClass", "gatewayclasses"),
    ("HTTPRoute", "httproutes"),
    ("ListenerSet", "listenersets"),
    ("ReferenceGrant", "referencegrants"),
    ("TCPRoute", "tcproutes"),
    ("TLSRoute", "tlsroutes"),
    ("UDPRoute", "udproutes"),
];

/// Our own kinds, and where their CRDs are in the checkout.
const OWN: [(&str, &str); 1] = [("SluiceParameters", "config/kubernetes/crd-sluiceparameters.yaml")];

/// What says nothing about validity.
const DROPPED: [&str; 2] = ["description", "x-kubernetes-map-type"];

/// Writes the schema files, or with `check` fails if they are not what the module gives.
pub(crate) fn run(check: bool) -> Result<()> {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = checkout.join("gateway-user/src/source/schema");
    let crds = module()?.join("config/crd/experimental");
    let upstream = KINDS.iter().map(|(kind, plural)| {
        let from = format!("{MODULE}, experimental channel");
        (*kind, crds.join(format!("gateway.networking.k8s.io_{plural}.yaml")), from)
    });
    let own = OWN.iter().map(|(kind, path)| (*kind, checkout.join(path), (*path).to_owned()));
    let mut stale = Vec::new();
    for (kind, crd, from) in upstream.chain(own) {
        let text = fs::read_to_string(&crd).with_context(|| format!("cannot read {}", crd.display()))?;
        let schema = schema(kind, &text, &from).with_context(|| format!("in {}", crd.display()))?;
        let mut schema = pretty(&schema)?;
        schema.push('\n');
        let file = folder.join(format!("{}.json", kind.to_lowercase()));
        if fs::read_to_string(&file).is_ok_and(|have| have == schema) {
            continue;
        }
        if check {
            stale.push(file.display().to_string());
        } else {
            fs::create_dir_all(&folder)?;
            fs::write(&file, schema).with_context(|| format!("cannot write {}", file.display()))?;
            println!("wrote {}", file.display());
        }
    }
    if stale.is_empty() {
        return Ok(());
    }
    bail!("{} differ from what their CRDs give; run `cargo xtask crds`", stale.join(", "))
}

/// The folder of the module, downloaded if need be.
fn module() -> Result<PathBuf> {
    let go = crate::setup::go().context("there is no Go 1.26; `cargo xtask setup` gets it")?;
    let output = Command::new(go)
        .args(["mod", "download", "-json", MODULE])
        .env("GO111MODULE", "on")
        .output()
        .context("cannot run go")?;
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    match answer.get("Dir").and_then(Value::as_str) {
        Some(folder) if output.status.success() => Ok(folder.into()),
        _ => bail!(
            "`go mod download {MODULE}` failed: {} {}",
            answer.get("Error").and_then(Value::as_str).unwrap_or_default(),
            String::from_utf8_lossy(&output.stderr).trim()
        ),
    }
}

/// The compact schema of a kind, from the text of its CRD and where that is from.
fn schema(kind: &str, crd: &str, from: &str) -> Result<Value> {
    let crd = serde_yaml::Deserializer::from_str(crd).next().context("the file is empty")?;
    let crd = Value::deserialize(crd)?;
    let versions = crd["spec"]["versions"].as_array().context("no versions")?;
    let v1 = versions.iter().find(|version| version["name"] == "v1").context("there is no version v1")?;
    let old: Vec<_> = versions.iter().map(|version| &version["name"]).filter(|name| *name != "v1").collect();
    let mut root = v1["schema"]["openAPIV3Schema"].clone();
    let fields = root["properties"].as_object_mut().context("no properties")?;
    for field in ["apiVersion", "kind", "metadata", "status"] {
        fields.remove(field);
    }
    compact(&mut root);
    Ok(json!({
        "generated": format!("by `cargo xtask crds` from {from}; do not edit"),
        "kind": kind,
        "namespaced": crd["spec"]["scope"] == "Namespaced",
        "old": old,
        "root": root,
    }))
}

/// Drops what says nothing about validity and gives Kubernetes' extensions short names.
fn compact(schema: &mut Value) {
    let Value::Object(fields) = schema else { return };
    for name in DROPPED {
        fields.remove(name);
    }
    match fields.remove("x-kubernetes-list-type").as_ref().and_then(Value::as_str) {
        Some("set") => drop(fields.insert("set".into(), true.into())),
        Some("map") => {
            let keys = fields.remove("x-kubernetes-list-map-keys").unwrap_or_default();
            fields.insert("keys".into(), keys);
        }
        _ => {}
    }
    if let Some(rules) = fields.remove("x-kubernetes-validations") {
        fields.insert("rules".into(), rules);
    }
    for child in ["items", "additionalProperties", "not"] {
        if let Some(child) = fields.get_mut(child) {
            compact(child);
        }
    }
    for list in ["oneOf", "anyOf", "allOf"] {
        if let Some(Value::Array(children)) = fields.get_mut(list) {
            children.iter_mut().for_each(compact);
        }
    }
    if let Some(Value::Object(children)) = fields.get_mut("properties") {
        children.values_mut().for_each(compact);
    }
}

/// JSON with one space of indent: diffs stay readable, the file small.
fn pretty(value: &Value) -> Result<String> {
    use serde::Serialize as _;
    let mut text = Vec::new();
    let form = serde_json::ser::PrettyFormatter::with_indent(b" ");
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut text, form))?;
    Ok(String::from_utf8(text)?)
}
