//! BackendTLSPolicy as it was in v1alpha2.
//!
//! Owns `targetRef` and `tls`. Must not know what is at the other end.

use super::Converted;
use crate::source::node::Node;

pub(super) fn backend_tls(spec: &mut Node, namespace: Option<&str>, converted: &mut Converted) {
    if let Some(target) = spec.get("targetRef").filter(|_| spec.get("targetRefs").is_none()) {
        let mut target = target.clone();
        if let Some((_, other)) = target.take("namespace") {
            let own = namespace.unwrap_or(crate::source::object::DEFAULT_NAMESPACE);
            if other.as_str() != Some(own) {
                converted.refuse(
                    &other,
                    "spec.targetRef.namespace",
                    "a policy has its targets in its own namespace today",
                    "move the policy to the namespace of the Service",
                );
            }
        }
        let at = target.at;
        spec.replace("targetRef", "targetRefs", Node::list_of(vec![target], at));
        converted.change("`targetRef`");
    }
    if spec.get("validation").is_none() && spec.rename("tls", "validation") {
        converted.change("`tls`");
        if let Some(validation) = spec.get_mut("validation") {
            validation.rename("caCertRefs", "caCertificateRefs");
            validation.rename("wellKnownCACerts", "wellKnownCACertificates");
        }
    }
}
