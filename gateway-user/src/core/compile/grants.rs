//! ReferenceGrants: who may refer to what in another namespace.
//!
//! Owns how a grant is read. Must not know what a reference is for.

use crate::core::model::{GATEWAY_GROUP, ReferenceGrant};

/// Whether a grant lets objects of this kind of the Gateway API and of this namespace refer to the object of this core
/// kind and name. Which namespace it lets in to is the grant's own, and the caller's to compare.
pub(super) fn permits(grant: &ReferenceGrant, from: (&str, &str), to: (&str, &str)) -> bool {
    let ((from, namespace), (to, name)) = (from, to);
    grant.from.iter().any(|(g, ns)| g.group == GATEWAY_GROUP && g.kind == from && **ns == *namespace)
        && grant.to.iter().any(|(g, n)| {
            g.group.is_empty() && g.kind == to && n.as_ref().is_none_or(|granted| **granted == *name)
        })
}
