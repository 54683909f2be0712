//! Which kinds of the Gateway API a cluster has: what its CRDs say.
//!
//! Owns which version of a kind is watched, which release and channel it is of, and so which features a GatewayClass may
//! claim. Synchronous. Must not know how the CRDs come.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::kind::Kind;
use super::super::object::{Identity, identify};
use super::features;
use crate::core::model::GATEWAY_GROUP;

/// An installed CRD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Crd {
    pub(super) kind: Kind,
    /// Name in paths of the API, `httproutes`.
    pub(super) plural: String,
    /// The version that is watched, `v1`.
    pub(super) version: String,
    /// The release that it is of, `v1.6.1`.
    bundle: String,
    /// `standard` or `experimental`.
    channel: String,
    /// Fields that features stand on and that it has.
    fields: BTreeSet<&'static str>,
}

/// The installed CRDs.
#[derive(Debug, Default)]
pub(super) struct Catalog(BTreeMap<Kind, Crd>);

/// Minor versions of the API's v1 that Sluice was built for: all up to this one.
const NEWEST_MINOR: u32 = 6;

/// Annotations of the API's CRDs.
const BUNDLE: &str = "gateway.networking.k8s.io/bundle-version";
const CHANNEL: &str = "gateway.networking.k8s.io/channel";

impl Crd {
    /// Reads a CRD; `None` if it is not one of a kind that is known, or serves no version that is known, or is not served yet.
    pub(super) fn read(crd: &Value) -> Option<Self> {
        let kind = kind_of(crd).filter(|_| is_established(crd))?;
        let spec = &crd["spec"];
        let served = spec["versions"].as_array()?.iter().filter(|version| version["served"] == true);
        let known = served.filter_map(|version| {
            let name = version["name"].as_str()?;
            match identify(kind.name(), &format!("{}/{name}", kind.group())) {
                // Today's first, then the newest.
                Identity::Known(_, old) => Some(((!old, name), version)),
                _ => None,
            }
        });
        let ((_, version), found) = known.max_by_key(|(order, _)| *order)?;
        let annotation =
            |name: &str| crd["metadata"]["annotations"][name].as_str().unwrap_or_default().to_owned();
        Some(Self {
            kind,
            plural: spec["names"]["plural"].as_str()?.to_owned(),
            version: version.to_owned(),
            bundle: annotation(BUNDLE),
            channel: annotation(CHANNEL),
            fields: features::fields(kind, &found["schema"]["openAPIV3Schema"]),
        })
    }
}

/// The kind that a CRD is about, if it is one that is known.
pub(super) fn kind_of(crd: &Value) -> Option<Kind> {
    let spec = crd.get("spec")?;
    let kind = Kind::named(spec["names"]["kind"].as_str()?)?;
    (kind.custom() && spec["group"] == kind.group()).then_some(kind)
}

fn is_established(crd: &Value) -> bool {
    let conditions = crd["status"]["conditions"].as_array().into_iter().flatten();
    conditions.clone().any(|condition| condition["type"] == "Established" && condition["status"] == "True")
}

impl Catalog {
    /// Takes in what is installed of a kind now. True if it is another than before.
    pub(super) fn set(&mut self, kind: Kind, crd: Option<Crd>) -> bool {
        match crd {
            Some(crd) => self.0.insert(kind, crd.clone()) != Some(crd),
            None => self.0.remove(&kind).is_some(),
        }
    }

    pub(super) fn get(&self, kind: Kind) -> Option<&Crd> {
        self.0.get(&kind)
    }

    /// Features that a GatewayClass may claim, sorted.
    pub(super) fn features(&self) -> Vec<&'static str> {
        features::supported(|kind, field| self.get(kind).is_some_and(|crd| crd.fields.contains(field)))
    }

    /// Whether the release of the CRDs is one that Sluice was built for, and what to say of it.
    pub(super) fn version(&self) -> (bool, String) {
        let of_the_api = || self.0.values().filter(|crd| crd.kind.group() == GATEWAY_GROUP);
        let bundles: BTreeSet<_> = of_the_api().map(|crd| &*crd.bundle).collect();
        let channels: BTreeSet<_> = of_the_api().map(|crd| &*crd.channel).collect();
        let list = |set: &BTreeSet<&str>| {
            let named = set.iter().map(|name| if name.is_empty() { "unknown" } else { name });
            named.collect::<Vec<_>>().join(", ")
        };
        let good = !bundles.is_empty() && bundles.iter().all(|bundle| is_supported(bundle));
        let what =
            format!("the installed CRDs are of release {} ({} channel)", list(&bundles), list(&channels));
        let message = if good {
            what
        } else {
            format!("{what}; Sluice was built for v1.0 to v1.{NEWEST_MINOR} (install one of these)")
        };
        (good, message)
    }
}

fn is_supported(bundle: &str) -> bool {
    let minor = bundle.strip_prefix("v1.").and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
    minor.is_some_and(|minor| minor <= NEWEST_MINOR)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn crd(kind: &str, versions: &[(&str, bool)], bundle: &str) -> Value {
        let spec = json!({"properties": {"rules": {"items": {"properties": {"backendRefs": {"items": {"properties":
            {"name": {"type": "string"}}}}}}}}});
        let schema = json!({"openAPIV3Schema": {"properties": {"spec": spec}}});
        let versions: Vec<_> = versions
            .iter()
            .map(|(name, served)| json!({"name": name, "served": served, "schema": schema}))
            .collect();
        json!({
            "metadata": {"annotations": {BUNDLE: bundle, CHANNEL: "standard"}},
            "spec": {"group": GATEWAY_GROUP, "names": {"kind": kind, "plural": "tcproutes"}, "versions": versions},
            "status": {"conditions": [{"type": "Established", "status": "True"}]},
        })
    }

    #[test]
    fn the_newest_version_that_is_served_and_known_is_watched() {
        for (versions, want) in [
            (&[("v1", true), ("v1alpha2", true)][..], Some("v1")),
            (&[("v1alpha2", true), ("v1", true)], Some("v1")),
            (&[("v1", false), ("v1alpha2", true)], Some("v1alpha2")),
            (&[("v1", false), ("v7", true)], None),
            (&[], None),
        ] {
            let read = Crd::read(&crd("TCPRoute", versions, "v1.6.1"));
            assert_eq!(read.as_ref().map(|crd| &*crd.version), want, "{versions:?}");
        }
        assert_eq!(Crd::read(&crd("XMesh", &[("v1", true)], "v1.6.1")), None);
        let mut young = crd("TCPRoute", &[("v1", true)], "v1.6.1");
        young["status"] = json!({});
        assert_eq!(Crd::read(&young), None, "it is not served yet");
    }

    #[test]
    fn features_and_version_follow_what_is_installed() {
        let mut catalog = Catalog::default();
        assert_eq!(catalog.features(), Vec::<&str>::new());
        assert!(!catalog.version().0);
        let tcp = Crd::read(&crd("TCPRoute", &[("v1", true)], "v1.6.1"));
        assert!(catalog.set(Kind::TcpRoute, tcp.clone()));
        assert!(!catalog.set(Kind::TcpRoute, tcp), "it is the same");
        assert_eq!(catalog.features(), ["TCPRoute"]);
        assert_eq!(
            catalog.version(),
            (true, "the installed CRDs are of release v1.6.1 (standard channel)".to_owned())
        );
        let newer = Crd::read(&crd("TCPRoute", &[("v1", true)], "v1.7.0"));
        assert!(catalog.set(Kind::TcpRoute, newer));
        let (good, message) = catalog.version();
        assert!(!good && message.contains("v1.7.0") && message.contains("v1.0 to v1.6"), "{message}");
        assert!(catalog.set(Kind::TcpRoute, None));
        for (bundle, want) in
            [("v1.6.1", true), ("v1.0.0", true), ("v1.10.0", false), ("v0.8.1", false), ("", false)]
        {
            assert_eq!(is_supported(bundle), want, "{bundle}");
        }
    }
}
