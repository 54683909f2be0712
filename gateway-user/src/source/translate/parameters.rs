//! SluiceParameters, references to them, and what a Gateway says of its addresses.
//!
//! Owns the meaning of these fields, and what is wrong with a pool. Must not know which Gateway gets which address.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::{Refusals, group_kind, labels};
use crate::core::model::{
    AddressMode, GatewayAddress, Infrastructure, Meta, Parameters, ParametersRef, Refusal,
};
use crate::core::pool::{Pools, Range, RangeError};
use crate::source::Diagnostic;
use crate::source::check::Findings;
use crate::source::coverage::Level;
use crate::source::node::Node;

/// What is wrong with a pool is an error of the input, and a refusal of the object for a source that goes on.
pub(super) fn parameters(
    root: &Node,
    meta: Meta,
    refusals: &mut Refusals,
    findings: &mut Findings,
) -> Parameters {
    let mut parameters = Parameters {
        meta,
        mode: root.str("spec.addressMode").map(|mode| match mode {
            "Node" => AddressMode::Node,
            _ => AddressMode::Pool,
        }),
        pools: None,
        interfaces: None,
        trusted: None,
        refusals: refusals.of(Level::Parameters, ""),
    };
    let mut problems = Vec::new();
    match pools(root) {
        Ok(pools) => parameters.pools = pools.map(Arc::new),
        Err(of_pools) => problems.extend(of_pools),
    }
    match interfaces(root) {
        Ok(patterns) => {
            parameters.interfaces = Some(patterns).filter(|patterns| !patterns.is_empty()).map(Arc::from);
        }
        Err(of_interfaces) => problems.extend(of_interfaces),
    }
    match trusted(root) {
        Ok(trusted) => parameters.trusted = trusted,
        Err(of_trusted) => problems.extend(of_trusted),
    }
    parameters.refusals.extend(problems.iter().map(|problem| Refusal {
        field: problem.field.clone(),
        message: format!("{} {}; {}", problem.value, problem.message, problem.remedy),
    }));
    findings.errors.extend(problems);
    parameters
}

fn interfaces(root: &Node) -> Result<Vec<Arc<str>>, Vec<Diagnostic>> {
    let (mut patterns, mut problems) = (Vec::new(), Vec::new());
    for (at, node) in root.list("spec.interfaces").iter().enumerate() {
        let pattern = node.as_str().unwrap_or_default();
        // What the kernel takes for a name (dev_valid_name), and `*` and `?`.
        if pattern.contains(|c: char| c == '/' || c == ':' || c.is_whitespace()) {
            let message = "no interface has such a name".to_owned();
            let remedy = "write a name such as eth0, or a pattern such as eth*".to_owned();
            problems.push(diagnostic(node, format!("spec.interfaces[{at}]"), message, remedy));
        }
        patterns.push(pattern.into());
    }
    if problems.is_empty() { Ok(patterns) } else { Err(problems) }
}

fn trusted(root: &Node) -> Result<Option<Arc<[IpNet]>>, Vec<Diagnostic>> {
    let (mut networks, mut problems) = (Vec::new(), Vec::new());
    for (at, node) in root.list("spec.trustedProxies").iter().enumerate() {
        match network(node.as_str().unwrap_or_default()) {
            Ok(network) => networks.push(network),
            Err((message, remedy)) => {
                problems.push(diagnostic(node, format!("spec.trustedProxies[{at}]"), message, remedy));
            }
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Some(networks).filter(|networks| !networks.is_empty()).map(Arc::from))
}

/// A network, or a single address. What is wrong with it, and the remedy.
fn network(text: &str) -> Result<IpNet, (String, String)> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let remedy = "write a network such as 192.0.2.0/24 or 2001:db8::/64, or an address".to_owned();
    let network = network.map_err(|_| ("is neither a network nor an address".to_owned(), remedy))?;
    if network.trunc() != network {
        let error = RangeError::HostBits { network: network.trunc(), address: network.addr() };
        return Err((error.to_string(), error.remedy()));
    }
    Ok(network)
}

fn pools(root: &Node) -> Result<Option<Pools>, Vec<Diagnostic>> {
    let mut problems = Vec::new();
    let (mut ranges, mut written) = (Vec::new(), Vec::new());
    for (p, pool) in root.list("spec.addressPools").iter().enumerate() {
        for (a, node) in pool.list("addresses").iter().enumerate() {
            let field = format!("spec.addressPools[{p}].addresses[{a}]");
            match node.as_str().unwrap_or_default().parse::<Range>() {
                Ok(range) => {
                    ranges.push(range);
                    written.push((node, field));
                }
                Err(error) => problems.push(diagnostic(node, field, error.to_string(), error.remedy())),
            }
        }
    }
    match Pools::new(&ranges) {
        Ok(pools) if problems.is_empty() => return Ok(pools),
        Ok(_) => {}
        Err((one, other)) => {
            let (first, of_first) = &written[one];
            let (node, field) = &written[other];
            let message = format!("overlaps {of_first}, {}", first.shown());
            let remedy = "write each address once".to_owned();
            problems.push(diagnostic(node, field.clone(), message, remedy));
        }
    }
    Err(problems)
}

fn diagnostic(node: &Node, field: String, message: String, remedy: String) -> Diagnostic {
    Diagnostic {
        line: node.at.line,
        column: node.at.column,
        field,
        value: node.shown(),
        message,
        remedy,
        ..Diagnostic::default()
    }
}

pub(super) fn reference(node: &Node) -> ParametersRef {
    ParametersRef {
        kind: group_kind(node),
        namespace: node.str("namespace").map(Arc::from),
        name: node.str("name").unwrap_or_default().into(),
    }
}

pub(super) fn infrastructure(root: &Node) -> Infrastructure {
    let map = |field| root.find(field).map(labels).unwrap_or_default();
    Infrastructure {
        labels: map("spec.infrastructure.labels"),
        annotations: map("spec.infrastructure.annotations"),
    }
}

/// An entry of spec.addresses.
pub(super) fn address(node: &Node) -> GatewayAddress {
    let kind = node.str("type").unwrap_or("IPAddress");
    let value = node.str("value").unwrap_or_default();
    match (kind, value.parse()) {
        ("IPAddress", Ok(address)) => GatewayAddress::Ip(address),
        ("IPAddress", Err(_)) => GatewayAddress::FromPool,
        _ => GatewayAddress::Unsupported(format!("{kind} {value}").trim_end().to_owned()),
    }
}
