//! What the kernel's maps hold and counted: `sluice maps -o json`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Maps and lookups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MapsView {
    /// Every map.
    pub maps: Vec<MapView>,
    /// Every binding of the current configuration, by address and port.
    pub bindings: Vec<BindingView>,
    /// Lookups that found no binding: they went on to the host's own sockets.
    pub misses: u64,
}

/// A map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MapView {
    /// Its name, which is also the name of its pin.
    pub name: String,
    /// `hash`, `array`, `sockmap`, …
    pub kind: String,
    /// Entries that it can hold.
    pub capacity: u32,
    /// Entries in use.
    pub used: u32,
    /// Size of a key in bytes.
    pub key_bytes: u32,
    /// Size of a value in bytes.
    pub value_bytes: u32,
}

/// A binding and its counters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BindingView {
    /// Its address; `*` for every local one.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// `TCP` or `UDP`.
    pub protocol: String,
    /// `Steer`, `Forward` or `Reject`.
    pub action: String,
    /// Its id in the kernel's maps.
    pub id: u32,
    /// Seconds that an established flow of it may go without a packet, if its route says how many; missing: as the agent
    /// is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_seconds: Option<u32>,
    /// `NAMESPACE/GATEWAY/LISTENER` of the listeners that share it.
    pub listeners: Vec<String>,
    /// Lookups that found it: the sum of `lookups`. A lookup happens for every first packet of a connection, and for
    /// repeated and stray ones: it is at least the number of connections.
    pub hits: u64,
    /// Lookups that found it, by what became of them.
    pub lookups: Lookups,
}

/// Lookups by verdict, since the binding came into the configuration; an agent's restart does not set them back, the
/// host's does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lookups {
    /// A worker's socket was assigned.
    pub steered: u64,
    /// The binding, or the backend that the connection fell to, says Reject.
    pub rejected: u64,
    /// There was no worker's socket.
    pub no_socket: u64,
    /// The kernel refused the socket.
    pub failed: u64,
}

impl Lookups {
    /// All of them.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.steered + self.rejected + self.no_socket + self.failed
    }
}

impl From<[u64; 4]> for Lookups {
    /// In the order of [`gateway_ebpf::abi::Verdict::ALL`].
    fn from([steered, rejected, no_socket, failed]: [u64; 4]) -> Self {
        Self { steered, rejected, no_socket, failed }
    }
}
