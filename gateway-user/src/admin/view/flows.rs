//! Flows that are forwarded in the kernel: `sluice flows -o json`, and how they are asked for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Living flows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FlowsView {
    /// Whether anything is forwarded in the kernel: if not, there are no flows.
    pub forwarding: bool,
    /// The flows, in no particular order.
    pub flows: Vec<FlowView>,
}

/// A flow. Names are empty where nobody remembers them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FlowView {
    /// What it is known by while it lives.
    pub id: String,
    /// `opening`, `established`, `half_closed`, `closing` or `reset`; of one that is over, the last that it was in.
    pub state: String,
    /// `TCP` or `UDP`.
    pub protocol: String,
    /// The client, `ADDRESS:PORT`.
    pub client: String,
    /// Where the client connected to, `ADDRESS:PORT`.
    pub address: String,
    /// `NAMESPACE/GATEWAY/LISTENER`.
    pub listener: String,
    /// `NAMESPACE/NAME` of the route.
    pub route: String,
    /// `NAMESPACE/SERVICE:PORT`.
    pub service: String,
    /// The endpoint, `ADDRESS:PORT`.
    pub backend: String,
    /// `local`: the endpoint sees the client's own address; `snat`: it sees one of this node.
    pub path: String,
    /// What the endpoint sees instead of the client, `ADDRESS:PORT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Endpoints that were tried before this one and did not answer.
    pub tries: u32,
    /// Since its first packet.
    pub age_milliseconds: u64,
    /// Since its last packet.
    pub idle_milliseconds: u64,
    /// Packets of the client.
    pub packets_in: u64,
    /// Packets of the endpoint.
    pub packets_out: u64,
    /// Bytes of the client's IP packets.
    pub bytes_in: u64,
    /// Bytes of the endpoint's IP packets.
    pub bytes_out: u64,
    /// Why it ended: `closed`, `client_reset`, `backend_reset`, `idle`, `unanswered`, `evicted` or `withdrawn`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub close: Option<String>,
}

/// What `sluice flows --follow` shows of a flow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FlowEventView {
    /// `opened` or `ended`.
    pub event: String,
    /// The flow as it was then.
    pub flow: FlowView,
}

/// Which flows are asked for, each as it is written on the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FlowFilterView {
    /// Where the client connected to.
    pub binding: Option<String>,
    /// Its address, or a network.
    pub client: Option<String>,
    /// The endpoint, or the Service.
    pub backend: Option<String>,
    /// Its state.
    pub state: Option<String>,
    /// `tcp` or `udp`.
    pub protocol: Option<String>,
}

/// What is asked for, a page at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowsQuestionView {
    /// Which flows.
    pub filter: FlowFilterView,
    /// Where to go on: `next` of the page before.
    #[serde(default)]
    pub from: u32,
}

/// A page of flows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowsPageView {
    /// As in [`FlowsView`].
    pub forwarding: bool,
    /// Some of the flows.
    pub flows: Vec<FlowView>,
    /// Where to go on; missing: there are no more.
    pub next: Option<u32>,
}

/// What has happened since the answer before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FollowQuestionView {
    /// Which flows.
    pub filter: FlowFilterView,
    /// `cursor` of the answer before; missing: from now on.
    pub cursor: Option<FollowCursorView>,
}

/// How far a follower has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FollowCursorView {
    /// Flows that began earlier have been told of.
    pub begun: u64,
    /// Ends with a smaller number have been told of.
    pub ended: u64,
}

/// What has happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FollowView {
    /// As in [`FlowsView`].
    pub forwarding: bool,
    /// Flows that have begun, some of which may have been told of before.
    pub opened: Vec<FlowView>,
    /// Flows that have ended.
    pub ended: Vec<FlowView>,
    /// Ends that could not be kept until they were asked for.
    pub lost: u64,
    /// To be given with the next question.
    pub cursor: FollowCursorView,
}
