//! Parameters: which SluiceParameters count for a Gateway.
//!
//! Owns how a reference is followed, and that a Gateway's parameters go over its class's, field by field. Must not
//! know what follows from them.

use std::collections::BTreeSet;
use std::sync::Arc;

use ipnet::IpNet;

use super::condition::{Problem, problem};
use super::gateways::refusals;
use crate::core::model::{
    AddressMode, CONTROLLER, Gateway, GatewayClass, Model, OWN_GROUP, ObjectName, PARAMETERS, Parameters,
    ParametersRef,
};
use crate::core::pool::Pools;

/// The parameters that count for a Gateway.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Effective<'m> {
    pub(super) mode: Option<AddressMode>,
    /// The pools, and the SluiceParameters that have them.
    pub(super) pools: Option<(&'m Pools, &'m ObjectName)>,
    /// Patterns of the interfaces whose addresses count, and the SluiceParameters that have them.
    pub(super) interfaces: Option<(&'m [Arc<str>], &'m ObjectName)>,
    /// Networks of proxies whose word about the client counts.
    pub(super) trusted: Option<&'m Arc<[IpNet]>>,
}

impl<'m> Effective<'m> {
    fn of(parameters: &'m Parameters) -> Self {
        let pools = parameters.pools.as_deref().map(|pools| (pools, &parameters.meta.name));
        let interfaces = parameters.interfaces.as_deref().map(|patterns| (patterns, &parameters.meta.name));
        Self { mode: parameters.mode, pools, interfaces, trusted: parameters.trusted.as_ref() }
    }

    fn over(self, other: Self) -> Self {
        Self {
            mode: self.mode.or(other.mode),
            pools: self.pools.or(other.pools),
            interfaces: self.interfaces.or(other.interfaces),
            trusted: self.trusted.or(other.trusted),
        }
    }
}

/// The parameters of a class.
pub(super) fn of_class<'m>(model: &'m Model, class: &'m GatewayClass) -> Result<Effective<'m>, Problem> {
    let Some(reference) = &class.parameters else { return Ok(Effective::default()) };
    find(model, "spec.parametersRef", reference, reference.namespace.as_deref())
}

/// The parameters of a Gateway, over those of its class.
pub(super) fn of_gateway<'m>(
    model: &'m Model,
    gateway: &'m Gateway,
    class: Effective<'m>,
) -> Result<Effective<'m>, Problem> {
    let effective = match &gateway.parameters {
        None => class,
        Some(reference) => {
            let namespace = Some(&*gateway.meta.name.namespace);
            find(model, "spec.infrastructure.parametersRef", reference, namespace)?.over(class)
        }
    };
    match effective.interfaces {
        Some((_, name)) if effective.mode != Some(AddressMode::Node) => Err(problem(
            "InvalidParameters",
            format!(
                "spec.interfaces of {PARAMETERS} {name}: an address out of a pool is on no interface of its own (write addressMode: Node, or remove interfaces)"
            ),
        )),
        _ => Ok(effective),
    }
}

fn find<'m>(
    model: &'m Model,
    field: &str,
    reference: &ParametersRef,
    namespace: Option<&str>,
) -> Result<Effective<'m>, Problem> {
    let invalid = |message: String| problem("InvalidParameters", format!("{field}{message}"));
    if !is_ours(reference) {
        return Err(invalid(format!(
            ": {}/{} is not supported (refer to a {PARAMETERS} of the group {OWN_GROUP})",
            reference.kind.group, reference.kind.kind
        )));
    }
    let Some(namespace) = namespace else {
        return Err(invalid(format!(
            ".namespace: is missing (write the namespace that the {PARAMETERS} {} is in)",
            reference.name
        )));
    };
    let name = ObjectName::new(namespace, &reference.name);
    match model.parameters.get(&name) {
        None => Err(invalid(format!(
            ": there is no valid {PARAMETERS} {name} (add it, or correct the reference)"
        ))),
        Some(found) if !found.refusals.is_empty() => {
            Err(invalid(format!(": {PARAMETERS} {name}: {}", refusals(&found.refusals))))
        }
        Some(found) => Ok(Effective::of(found)),
    }
}

fn is_ours(reference: &ParametersRef) -> bool {
    reference.kind.group == OWN_GROUP && reference.kind.kind == PARAMETERS
}

/// A note for each SluiceParameters that nobody refers to.
pub(super) fn unused(model: &Model) -> Vec<String> {
    let ours = |reference: &&ParametersRef| is_ours(reference);
    let classes = model.classes.values().filter(|class| class.controller == CONTROLLER);
    let of_classes = classes.filter_map(|class| class.parameters.as_ref()).filter(ours);
    let of_classes = of_classes.filter_map(|r| Some(ObjectName::new(r.namespace.as_deref()?, &r.name)));
    let of_gateways = model.gateways.values().filter_map(|gateway| {
        let reference = gateway.parameters.as_ref().filter(ours)?;
        Some(ObjectName::new(&gateway.meta.name.namespace, &reference.name))
    });
    let used: BTreeSet<ObjectName> = of_classes.chain(of_gateways).collect();
    let unused = model.parameters.keys().filter(|name| !used.contains(*name));
    unused
        .map(|name| {
            format!(
                "{PARAMETERS} {name}: no GatewayClass of ours and no Gateway of its namespace refers to it; it has no effect (name it in parametersRef)"
            )
        })
        .collect()
}
