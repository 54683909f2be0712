//! GatewayClasses, and the parameters that they and Gateways refer to.
//!
//! Owns what our own kind SluiceParameters means. Must not know which of two parameters counts.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::{GroupKind, Meta, Refusal};
use crate::core::pool::Pools;

/// GatewayClass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayClass {
    /// Metadata.
    pub meta: Meta,
    /// spec.controllerName.
    pub controller: String,
    /// spec.parametersRef.
    pub parameters: Option<ParametersRef>,
    /// What it asks for that is not built.
    pub refusals: Vec<Refusal>,
}

/// The controllerName of GatewayClasses that are ours.
pub const CONTROLLER: &str = "sluice-gateway.dev/controller";

/// The group of our own kinds.
pub const OWN_GROUP: &str = "sluice-gateway.dev";

/// The kind that holds parameters.
pub const PARAMETERS: &str = "SluiceParameters";

/// A reference to parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParametersRef {
    /// Group and kind.
    pub kind: GroupKind,
    /// Namespace as written; a Gateway's has none, for it is the Gateway's own.
    pub namespace: Option<Arc<str>>,
    /// Name.
    pub name: Arc<str>,
}

/// SluiceParameters. What is not written is up to the GatewayClass's parameters, or to what holds without any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// Metadata.
    pub meta: Meta,
    /// spec.addressMode.
    pub mode: Option<AddressMode>,
    /// spec.addressPools.
    pub pools: Option<Arc<Pools>>,
    /// spec.interfaces: patterns of their names.
    pub interfaces: Option<Arc<[Arc<str>]>>,
    /// spec.trustedProxies.
    pub trusted: Option<Arc<[IpNet]>>,
    /// What it asks for that is not built, or cannot be: whoever refers to it is not accepted.
    pub refusals: Vec<Refusal>,
}

/// Where a Gateway without spec.addresses listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressMode {
    /// On an address of each family that the pools have.
    Pool,
    /// On every local address, or on those of certain interfaces.
    Node,
}

/// spec.infrastructure of a Gateway, without its parameters: for what is made for it in a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Infrastructure {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}

/// An entry of a Gateway's spec.addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GatewayAddress {
    /// A static address.
    Ip(IpAddr),
    /// IPAddress without value: from a pool.
    FromPool,
    /// Hostname or a domain-prefixed type: not supported. Holds `type` and value for the message.
    Unsupported(String),
}
