//! `--endpoint` where it is to last: a Service, if there is none, and EndpointSlices, as documents.
//!
//! Owns their names and that the flags for a Service replace those that were given for it before. Must not know how
//! documents are kept.

use std::collections::{BTreeMap, BTreeSet};

use super::super::document::{ENDPOINT_FLAG, MANAGED_BY};
use super::super::endpoint::port_name;
use super::super::kind::Kind;
use super::super::translate::Body;
use super::{Diagnostic, EndpointFlag, Given, Key, Part, key_of};
use crate::core::model::{ObjectName, Service};
use crate::core::transport::Transport;

/// The label that names a slice's Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The documents that flags stand for. `parts` is the rest of the input, the first Service of a name counting.
pub(super) fn documents(flags: &[EndpointFlag], parts: &[&Part]) -> Result<Given, Box<Diagnostic>> {
    let mut text = String::new();
    let mut of_service: BTreeMap<&ObjectName, Vec<&EndpointFlag>> = BTreeMap::new();
    for flag in flags {
        of_service.entry(&flag.service).or_default().push(flag);
    }
    for (name, flags) in of_service {
        let ports = match written(name, parts) {
            Some(service) => {
                service.ports.iter().map(|p| (p.port, p.name.to_string(), p.protocol.to_string())).collect()
            }
            None => {
                let ports: BTreeSet<u16> =
                    flags.iter().map(|flag| flag.port.unwrap_or(flag.address.port())).collect();
                let both = |port: &u16| {
                    let port = *port;
                    Transport::ALL.map(|of| (port, port_name(of, port), of.name().to_owned()))
                };
                let ports: Vec<_> = ports.iter().flat_map(both).collect();
                service(&mut text, name, &ports);
                ports
            }
        };
        for (number, flag) in flags.into_iter().enumerate() {
            let fitting: Vec<_> =
                ports.iter().filter(|(port, ..)| flag.port.is_none_or(|wanted| wanted == *port)).collect();
            if fitting.is_empty() {
                return Err(Box::new(flag.no_such_port(ports.iter().map(|(port, ..)| *port))));
            }
            slice(&mut text, number, flag, &fitting);
        }
    }
    Ok(Given { file: "--endpoint".to_owned(), text, open: false })
}

/// A Service that somebody wrote, and no flag made.
fn written<'a>(name: &ObjectName, parts: &[&'a Part]) -> Option<&'a Service> {
    let mut objects = parts.iter().flat_map(|part| &part.read.objects);
    objects.find_map(|object| match &object.body {
        Body::Service(service) if object.meta.name == *name && !is_ours(&object.labels) => Some(service),
        _ => None,
    })
}

fn is_ours(labels: &BTreeMap<String, String>) -> bool {
    labels.get(MANAGED_BY).is_some_and(|by| by == ENDPOINT_FLAG)
}

/// The slices of earlier flags for the same Services that `made` does not replace.
pub(super) fn left_over(flags: &[EndpointFlag], made: &[Part], stored: &[Part]) -> BTreeSet<Key> {
    let objects = |parts| -> Vec<_> {
        let parts: &[Part] = parts;
        parts.iter().flat_map(|part| &part.read.objects).collect()
    };
    let new: BTreeSet<Key> = objects(made).into_iter().map(key_of).collect();
    let of_flags = |service: &str, namespace: &str| {
        flags.iter().any(|flag| *flag.service.name == *service && *flag.service.namespace == *namespace)
    };
    objects(stored)
        .into_iter()
        .filter(|object| object.kind == Kind::EndpointSlice && is_ours(&object.labels))
        .filter(|object| {
            let service = object.labels.get(SERVICE_NAME);
            service.is_some_and(|service| of_flags(service, &object.meta.name.namespace))
        })
        .map(key_of)
        .filter(|key| !new.contains(key))
        .collect()
}

fn service(text: &mut String, name: &ObjectName, ports: &[(u16, String, String)]) {
    let port = |(port, name, protocol): &(u16, String, String)| {
        format!("{{name: {name}, port: {port}, protocol: {protocol}}}")
    };
    let ports: Vec<_> = ports.iter().map(port).collect();
    let ObjectName { namespace, name } = name;
    text.push_str(
        &format!(
            "---\napiVersion: v1\nkind: Service\n\
             metadata: {{name: {name:?}, namespace: {namespace:?}, labels: {{{MANAGED_BY}: {ENDPOINT_FLAG}}}}}\n\
             spec: {{ports: [{}]}}\n",
            ports.join(", ")
        ),
    );
}

fn slice(text: &mut String, number: usize, flag: &EndpointFlag, ports: &[&(u16, String, String)]) {
    let ObjectName { namespace, name } = &flag.service;
    let (address, to) = (flag.address.ip(), flag.address.port());
    let family = if address.is_ipv6() { "IPv6" } else { "IPv4" };
    let ports: Vec<_> = ports
        .iter()
        .map(|(_, name, protocol)| format!("{{name: {name:?}, port: {to}, protocol: {protocol}}}"))
        .collect();
    text.push_str(&format!(
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata:\n  name: \"{name}-endpoint-{number}\"\n  namespace: {namespace:?}\n  \
             labels: {{{MANAGED_BY}: {ENDPOINT_FLAG}, {SERVICE_NAME}: {name:?}}}\n\
             addressType: {family}\nports: [{}]\nendpoints: [{{addresses: [\"{address}\"]}}]\n",
        ports.join(", ")
    ));
}
