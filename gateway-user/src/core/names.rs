//! What the names of ExternalName Services resolve to: an argument of compilation, never asked for.
//!
//! Owns the vocabulary, and which names a model asks for. Must not know how a name is resolved, nor when an answer
//! expires.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::model::{BackendRef, Model, ObjectName};

/// What is known of names when compilation begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Networks whose addresses a name may resolve to although they are guarded: loopback, link-local and the like.
    pub allowed: Vec<IpNet>,
    /// By name, in lower case and without a dot at its end, what it resolves to. A name that is missing was not
    /// looked up yet.
    pub known: BTreeMap<Arc<str>, Resolution>,
}

/// What a name resolves to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolution {
    /// The addresses of the last good answer.
    pub addresses: BTreeSet<IpAddr>,
    /// Why the newest look-up gave no answer, or that there is no such name; for a person.
    pub problem: Option<String>,
}

/// The names of the ExternalName Services that routes refer to. One that is an address in truth is not among them.
#[must_use]
pub fn wanted(model: &Model) -> BTreeSet<Arc<str>> {
    let external: BTreeMap<&ObjectName, &Arc<str>> = (model.services.iter())
        .filter_map(|(service, s)| Some((service, s.external_name.as_ref()?)))
        .filter(|(_, name)| name.parse::<IpAddr>().is_err())
        .collect();
    if external.is_empty() {
        return BTreeSet::new();
    }
    let name = |from: &ObjectName, backend: &BackendRef| {
        let namespace = backend.namespace.as_ref().unwrap_or(&from.namespace).clone();
        external.get(&ObjectName { namespace, name: backend.name.clone() }).map(|name| Arc::clone(name))
    };
    let http = model.http_routes.values().flat_map(|route| {
        let backends = route.rules.iter().flat_map(|rule| &rule.backends);
        backends.filter_map(|backend| name(&route.meta.name, backend))
    });
    let l4 = model.l4_routes.values().flat_map(|route| {
        let backends = route.rules.iter().flat_map(|rule| &rule.backends);
        backends.filter_map(|backend| name(&route.meta.name, backend))
    });
    http.chain(l4).collect()
}

#[cfg(test)]
mod tests {
    use super::wanted;
    use crate::core::testing::model;

    #[test]
    fn only_what_a_route_refers_to_is_asked_for() {
        let names = |objects: &str| wanted(&model(objects)).into_iter().collect::<Vec<_>>().join(" ");
        let services = "service a external=a.org\nservice b external=b.org\nservice x/c external=c.org\nservice d 80\nservice e external=10.0.0.1\n";
        assert_eq!(names(services), "");
        assert_eq!(
            names(&format!("{services}http r\nto a:80\nto d:80\nto e:80\ntcp r\nto x/c:5")),
            "a.org c.org"
        );
        assert_eq!(
            names(&format!("{services}http x/r\nto a:80\nto c:80\nrule\nto default/b:1")),
            "b.org c.org"
        );
    }
}
