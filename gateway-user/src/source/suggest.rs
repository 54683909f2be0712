//! "Did you mean …": the nearest of the names that would have been right.
//!
//! Owns nearness, and today's names of what the API once called otherwise. Must not know where a name was found.

/// What fields of former versions are called today.
const RENAMED: [(&str, &str); 6] = [
    ("forwardTo", "backendRefs"),
    ("targetRef", "backendRefs[]"),
    ("targetRefs", "backendRefs"),
    ("serviceName", "name"),
    ("routes", "allowedRoutes"),
    ("gateways", "parentRefs"),
];

/// A remedy for a field that does not exist.
pub(super) fn field<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    if name == "<<" {
        return "merge keys are not supported: write the fields out".to_owned();
    }
    if let Some(near) = nearest(name, known.clone()) {
        return format!("did you mean `{near}`?");
    }
    if let Some((_, today)) = RENAMED.iter().find(|(old, _)| *old == name) {
        return format!("today it is `{today}`");
    }
    let known: Vec<_> = known.collect();
    if known.is_empty() { "remove it".to_owned() } else { format!("there are {}", known.join(", ")) }
}

/// A remedy for a value that is none of those allowed.
pub(super) fn value<'a>(value: &str, allowed: impl Iterator<Item = &'a str> + Clone) -> String {
    nearest(value, allowed).map_or(String::new(), |near| format!("did you mean `{near}`?"))
}

/// The nearest, if it is near enough to be meant.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    let distance = |candidate: &str| {
        let candidate = candidate.to_lowercase();
        if name.len() >= 4 && (candidate.ends_with(&name) || candidate.starts_with(&name)) {
            return 1;
        }
        strsim::osa_distance(&name, &candidate)
    };
    // Comparing takes time in proportion to the product of both lengths.
    (name.len() <= 100)
        .then(|| known.map(|candidate| (distance(candidate), candidate)).min())
        .flatten()
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_meant() {
        let known =
            ["hostname", "hostnames", "name", "port", "backendRefs", "Exact", "PathPrefix", "allowedRoutes"];
        for (name, meant) in [
            ("hostnam", Some("hostname")),
            ("Hostname", Some("hostname")),
            ("Prefix", Some("PathPrefix")),
            ("backendRef", Some("backendRefs")),
            ("pot", Some("port")),
            ("weight", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, known.into_iter()), meant, "{name}");
        }
        assert_eq!(field("routes", ["name", "port"].into_iter()), "today it is `allowedRoutes`");
        assert_eq!(field("zzzz", ["name", "port"].into_iter()), "there are name, port");
    }
}
