//! What is said about objects that are applied, deleted, compared and shown.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::status::{ConditionView, DiagnosticView, NamedView, StatusView};

/// What became of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutcomeView {
    /// Kind.
    pub kind: String,
    /// Namespace; empty for a kind without one.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// `created`, `configured`, `unchanged`, `deleted`, `missing`.
    pub outcome: String,
}

/// What `sluice apply` and `sluice delete` print with `-o json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppliedView {
    /// What makes the whole input be refused; if there is any, nothing was changed.
    pub errors: Vec<DiagnosticView>,
    /// What hinders nothing.
    pub warnings: Vec<DiagnosticView>,
    /// What became of each object.
    pub objects: Vec<OutcomeView>,
    /// Objects that should have been deleted and are not in the store.
    pub missing: Vec<OutcomeView>,
    /// The status of the objects that were applied, after that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<StatusView>,
}

/// What would change in an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DifferenceView {
    /// The object, and what would become of it.
    #[serde(flatten)]
    pub object: OutcomeView,
    /// As YAML, without what a server sets; empty if it is not there.
    pub before: String,
    /// As YAML, without what a server sets; empty if it would not be there.
    pub after: String,
}

/// What `sluice diff -o json` prints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DifferencesView {
    /// What makes the whole input be refused.
    pub errors: Vec<DiagnosticView>,
    /// What hinders nothing.
    pub warnings: Vec<DiagnosticView>,
    /// Objects that differ.
    pub differences: Vec<DifferenceView>,
}

/// An object, and where it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectView {
    /// `store`, or the file that it is in.
    pub source: String,
    /// The object, as an API server would show it.
    pub object: Value,
}

/// The objects that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectsView {
    /// The objects, by kind and name.
    pub objects: Vec<ObjectView>,
    /// What is wrong with the files: then objects are shown as they are written there, and others serve.
    pub errors: Vec<DiagnosticView>,
}

impl StatusView {
    /// What is said about these objects alone, by kind, namespace and name.
    #[must_use]
    pub fn only(&self, wanted: impl Fn(&str, &str, &str) -> bool) -> Self {
        let named = |all: &[NamedView]| -> Vec<NamedView> {
            all.iter().filter(|o| wanted(&o.kind, &o.namespace, &o.name)).cloned().collect()
        };
        let gateways = self.gateways.iter().filter(|g| wanted("Gateway", &g.namespace, &g.name));
        let routes = self.routes.iter().filter(|r| wanted(&r.kind, &r.namespace, &r.name));
        Self {
            agent: None,
            gateway_classes: named(&self.gateway_classes),
            gateways: gateways.cloned().collect(),
            routes: routes.cloned().collect(),
            others: named(&self.others),
            notes: Vec::new(),
            external_names: Vec::new(),
        }
    }

    /// The `status` of an object, in the form of its kind.
    #[must_use]
    pub fn of(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let is = |n: &str, m: &str| n == namespace && m == name;
        if kind == "Gateway" {
            let gateway = self.gateways.iter().find(|g| is(&g.namespace, &g.name))?;
            let addresses = gateway.addresses.iter().map(|a| json!({"type": "IPAddress", "value": a}));
            let listeners = gateway.listeners.iter().map(|l| {
                let kinds = l.supported_kinds.iter();
                let kinds: Vec<_> = kinds.map(|kind| json!({"group": GATEWAY_API, "kind": kind})).collect();
                json!({
                    "name": l.name, "supportedKinds": kinds, "attachedRoutes": l.attached_routes,
                    "conditions": l.conditions
                })
            });
            return Some(json!({
                "addresses": addresses.collect::<Vec<_>>(), "conditions": gateway.conditions,
                "listeners": listeners.collect::<Vec<_>>()
            }));
        }
        if let Some(route) = self.routes.iter().find(|r| r.kind == kind && is(&r.namespace, &r.name)) {
            return Some(json!({"parents": route.parents}));
        }
        let mut named = self.gateway_classes.iter().chain(&self.others);
        let found = named.find(|o| o.kind == kind && is(&o.namespace, &o.name))?;
        Some(json!({"conditions": found.conditions}))
    }
}

/// The group of the kinds that a listener supports.
const GATEWAY_API: &str = "gateway.networking.k8s.io";

/// The conditions in an object's status, wherever its kind has them.
#[must_use]
pub fn conditions_of(object: &Value) -> Vec<ConditionView> {
    let status = &object["status"];
    let lists = |name: &str| status[name].as_array().cloned().unwrap_or_default();
    let holders = std::iter::once(status.clone()).chain(lists("listeners")).chain(lists("parents"));
    let conditions = holders.flat_map(|holder| holder["conditions"].as_array().cloned().unwrap_or_default());
    conditions.filter_map(|condition| serde_json::from_value(condition).ok()).collect()
}
