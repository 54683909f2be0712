//! What is said about forwarding in the kernel: a part of `sluice status -o json`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Forwarding in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ForwardingView {
    /// Whether it is on; if not, the relay serves every TCPRoute.
    pub on: bool,
    /// Why it is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How many flows there may be.
    pub flows: u32,
    /// How many half-open ones.
    pub opening_flows: u32,
    /// The host's interfaces.
    pub interfaces: Vec<InterfaceView>,
    /// The backends of TCPRoutes.
    pub backends: Vec<WayView>,
}

/// An interface, and whether its packets come by our programs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InterfaceView {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// `tcx`, `clsact` or `none`.
    pub hook: String,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A backend, and the way to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WayView {
    /// Its id in the kernel's maps.
    pub id: u32,
    /// Its address and port.
    pub address: String,
    /// `local`: forwarded, it sees the client's address; `snat`: forwarded, it sees one of this host; `relay`: not
    /// forwarded.
    pub path: String,
    /// Why.
    pub reason: String,
    /// The interface that leads to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// The neighbour that packets are handed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_hop: Option<String>,
    /// The address of this host that it sees, where it does not see the client's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The largest packet on the way, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}
