//! Kubernetes' own kinds: Services and EndpointSlices.
//!
//! Owns the meaning of their fields. Must not know who refers to them.

use std::collections::BTreeMap;
use std::sync::Arc;

use gateway_ebpf::abi::Affinity;

use super::port;
use crate::core::model::{Endpoint, EndpointSlice, Meta, Service, ServicePort};
use crate::source::Diagnostic;
use crate::source::check::Findings;
use crate::source::node::{Node, Place};

/// The label that names a slice's Service.
pub(in crate::source) const SERVICE_NAME: &str = "kubernetes.io/service-name";

pub(super) fn service(root: &Node, meta: Meta) -> Service {
    let external = root.str("spec.type") == Some("ExternalName");
    let text = |node: &Node, field| Arc::from(node.str(field).unwrap_or_default());
    Service {
        meta,
        external_name: (root.str("spec.externalName").filter(|_| external))
            .map(|name| name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase().into()),
        affinity: match root.str("spec.sessionAffinity") {
            Some("ClientIP") => Affinity::ClientIp,
            _ => Affinity::None,
        },
        ports: (root.list("spec.ports").iter())
            .filter_map(|node| {
                Some(ServicePort {
                    name: text(node, "name"),
                    port: port(node, "port")?,
                    protocol: text(node, "protocol"),
                    app_protocol: node.str("appProtocol").map(Arc::from),
                })
            })
            .collect(),
    }
}

/// `None` if the slice belongs to no Service or is made of names, which a warning then says.
pub(super) fn slice(
    root: &Node,
    meta: Meta,
    labels: &BTreeMap<String, String>,
    findings: &mut Findings,
) -> Option<EndpointSlice> {
    let diagnostic = |at: Place, field: String, value: String, message: String| Diagnostic {
        line: at.line,
        column: at.column,
        field,
        value,
        message,
        ..Diagnostic::default()
    };
    let family = root.str("addressType").unwrap_or_default();
    let Some(service) = labels.get(SERVICE_NAME) else {
        let field = format!("metadata.labels[{SERVICE_NAME:?}]");
        let message = "it is missing: the slice belongs to no Service and is skipped".to_owned();
        findings.warnings.push(diagnostic(root.at, field, String::new(), message));
        return None;
    };
    if family == "FQDN" {
        let message = "endpoints by name are not used; the slice is skipped".to_owned();
        findings.warnings.push(diagnostic(root.at, "addressType".to_owned(), family.to_owned(), message));
        return None;
    }
    let mut endpoints = Vec::new();
    for (i, node) in root.list("endpoints").iter().enumerate() {
        let Some(first) = node.list("addresses").first() else { continue };
        let address = first.as_str().and_then(|text| text.parse().ok());
        let Some(address) =
            address.filter(|address: &std::net::IpAddr| address.is_ipv4() == (family == "IPv4"))
        else {
            let field = format!("endpoints[{i}].addresses[0]");
            findings.errors.push(diagnostic(
                first.at,
                field,
                first.shown(),
                format!("is no {family} address"),
            ));
            continue;
        };
        let ready = node.bool("conditions.ready").unwrap_or(true);
        endpoints.push(Endpoint {
            address,
            ready,
            serving: node.bool("conditions.serving").unwrap_or(ready),
            terminating: node.bool("conditions.terminating").unwrap_or(false),
        });
    }
    let text = |node: &Node, field| Arc::from(node.str(field).unwrap_or_default());
    Some(EndpointSlice {
        meta,
        service: service.as_str().into(),
        endpoints,
        ports: (root.list("ports").iter())
            .map(|node| (text(node, "name"), port(node, "port"), text(node, "protocol")))
            .collect(),
    })
}
