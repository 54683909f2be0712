//! What is said about the agent and about each object: `sluice status -o json`.

use std::borrow::Cow;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ForwardingView;

/// The status of the agent and of every object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatusView {
    /// The agent; missing in the answer of `sluice check`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentView>,
    /// GatewayClasses.
    pub gateway_classes: Vec<NamedView>,
    /// Gateways that are ours.
    pub gateways: Vec<GatewayView>,
    /// Routes of every kind.
    pub routes: Vec<Arc<RouteView>>,
    /// ListenerSets and policies.
    pub others: Vec<NamedView>,
    /// ExternalName Services that routes refer to.
    #[serde(default)]
    pub external_names: Vec<ExternalNameView>,
    /// What has no place in an object's status.
    pub notes: Vec<String>,
}

/// The agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentView {
    /// Its version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// When it started, RFC 3339.
    pub started: String,
    /// Whether its programs are attached and a snapshot is applied.
    pub ready: bool,
    /// Its workers.
    pub workers: u32,
    /// The level of the BPF programs' log.
    pub bpf_log_level: String,
    /// Its configuration.
    pub configuration: ConfigurationView,
    /// Forwarding in the kernel.
    #[serde(default)]
    pub forwarding: ForwardingView,
}

/// The agent's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigurationView {
    /// Files and directories.
    pub sources: Vec<String>,
    /// The input that serves; the first good one since the agent's start is 1.
    pub generation: u64,
    /// When it was applied last, RFC 3339: again, if addresses or listening processes of the host had changed.
    pub applied: Option<String>,
    /// Why the newest input is not what serves, or why it could not be applied.
    pub error: Option<LoadErrorView>,
    /// Warnings of the input that serves.
    pub warnings: Vec<DiagnosticView>,
}

/// Why the newest input is not what serves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoadErrorView {
    /// When that came out first, RFC 3339.
    pub time: String,
    /// What it is.
    pub message: String,
    /// What is wrong with the input, if it is the input.
    pub diagnostics: Vec<DiagnosticView>,
}

/// A problem or a warning at a place of the input. Empty or zero: there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DiagnosticView {
    /// File.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Kind, namespace and name.
    pub object: String,
    /// Path of the field.
    pub field: String,
    /// The value as written.
    pub value: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

/// An object with conditions and nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamedView {
    /// Kind.
    pub kind: String,
    /// Namespace; empty for a kind without one.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Conditions.
    pub conditions: Vec<ConditionView>,
}

/// An ExternalName Service that a route refers to, and what became of its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalNameView {
    /// Namespace of the Service.
    pub namespace: String,
    /// Name of the Service.
    pub name: String,
    /// spec.externalName.
    pub external_name: String,
    /// The addresses that are connected to: of the last good answer.
    pub addresses: Vec<String>,
    /// Addresses that it resolves to as well and that are not connected to.
    pub left_out: Vec<LeftOutView>,
    /// Why there is no answer, or no new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// An address that is not connected to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeftOutView {
    /// The address.
    pub address: String,
    /// Why.
    pub reason: String,
}

/// A Gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayView {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// spec.gatewayClassName.
    pub class: String,
    /// Addresses, at most 16.
    pub addresses: Vec<String>,
    /// Conditions.
    pub conditions: Vec<ConditionView>,
    /// Listeners, in the order of the spec.
    pub listeners: Vec<ListenerView>,
}

/// A listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListenerView {
    /// Name.
    pub name: String,
    /// Port.
    pub port: u16,
    /// Protocol.
    pub protocol: String,
    /// Hostname; empty: every one.
    pub hostname: String,
    /// Kinds of routes that may attach.
    pub supported_kinds: Vec<String>,
    /// Routes that are attached.
    pub attached_routes: u32,
    /// Conditions.
    pub conditions: Vec<ConditionView>,
}

/// A route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteView {
    /// Kind.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// One entry for each parentRef that names a Gateway of ours.
    pub parents: Vec<ParentView>,
}

/// A route's status for one of its parentRefs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParentView {
    /// The parentRef.
    pub parent_ref: ParentRefView,
    /// Whose status this is.
    pub controller_name: String,
    /// Conditions.
    pub conditions: Vec<ConditionView>,
}

/// A parentRef as the route has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParentRefView {
    /// Group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Namespace; the route's own if the route names none.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// sectionName, if the route names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
    /// port, if the route names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// A condition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConditionView {
    /// `Accepted`, `Programmed`, `ResolvedRefs`, …
    #[serde(rename = "type")]
    pub kind: Cow<'static, str>,
    /// `True` or `False`.
    pub status: Cow<'static, str>,
    /// Reason.
    pub reason: Cow<'static, str>,
    /// Message.
    pub message: String,
    /// The generation of the object that it speaks of.
    pub observed_generation: i64,
    /// When its status changed last, RFC 3339; missing in the answer of `sluice check`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<String>,
}

impl ExternalNameView {
    /// What is not as it should be, for a person: the problem, and each address that is left out.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let Self { namespace, name, external_name, .. } = self;
        let place = format!("Service {namespace}/{name}: externalName \"{external_name}\":");
        let problem = self.problem.iter().map(|problem| {
            let kept = match &*self.addresses {
                [] => "",
                _ => "; the last good answer goes on serving",
            };
            format!("{place} {problem}{kept}")
        });
        let left_out = self.left_out.iter().map(|LeftOutView { address, reason }| {
            format!("{place} its address {address} is not used: {reason}")
        });
        problem.chain(left_out).collect()
    }
}

impl std::fmt::Display for ParentRefView {
    /// `NAMESPACE/NAME[/SECTION][:PORT]`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)?;
        if let Some(section) = &self.section_name {
            write!(f, "/{section}")?;
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        Ok(())
    }
}
