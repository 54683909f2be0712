//! TLS: certificates, and which of them are shown to whom.
//!
//! Owns the choice by name. Must not know how a certificate is read, nor what a handshake is.

use std::fmt;
use std::sync::Arc;

use super::model::{GroupKind, Meta};
use super::route::{HostBuffer, HostIndex, fold_host};

/// A listener's certificateRef, defaults filled in but for the namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRef {
    /// Group and kind.
    pub kind: GroupKind,
    /// Namespace as written; `None`: the Gateway's.
    pub namespace: Option<Arc<str>>,
    /// Name.
    pub name: Arc<str>,
}

/// A Secret, as far as a listener may refer to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// Metadata.
    pub meta: Meta,
    /// The certificate that it holds; or why none can be served from it, and what to do, for a person.
    pub certificate: Result<Arc<Certificate>, String>,
}

/// A certificate with its key: they belong together, and can be used.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Certificate {
    /// The certificate (DER), and behind it those that it was issued by.
    pub chain: Box<[Box<[u8]>]>,
    /// Its private key.
    pub key: PrivateKey,
}

/// A private key in DER: PKCS#8, PKCS#1 or SEC1. Never shown.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PrivateKey(pub Box<[u8]>);

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey")
    }
}

/// The certificates of a listener, in the order of its references.
pub type Certificates = Arc<[Arc<Certificate>]>;

/// What the listeners of a binding have, by hostname.
#[derive(Clone, Debug)]
pub struct ByName<T>(HostIndex<T>);

impl<T> Default for ByName<T> {
    fn default() -> Self {
        Self(HostIndex::default())
    }
}

impl<T> ByName<T> {
    /// Adds a listener's under its hostname; `None`: all. The first of equal ones stays.
    pub(crate) fn add(&mut self, hostname: Option<&Arc<str>>, make: impl FnOnce() -> T) {
        self.0.entry(hostname, make);
    }

    /// What a client gets that asks for this name in its ClientHello; an empty one: it names none. The exact hostname
    /// goes before wildcards, of these the longest first, and then comes the listener without a hostname (Gateway,
    /// `spec.listeners[].hostname`); who names nobody gets that of the last alone.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&T> {
        let mut buffer: HostBuffer = [0; _];
        self.0.fitting(fold_host(name, &mut buffer)).next()
    }

    /// The same names, with what is made of each value.
    pub fn map<U>(&self, make: impl FnMut(&T) -> U) -> ByName<U> {
        ByName(self.0.map(make))
    }

    /// Every value with its hostname, the most specific first; `None`: all. Not for the data path.
    #[must_use]
    pub fn entries(&self) -> Vec<(Option<String>, &T)> {
        self.0.entries()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_wins_and_nobody_is_the_listener_without_one() {
        let mut names = ByName::default();
        for hostname in ["a.example.com", "*.example.com", "*.com", "*.b.example.com"] {
            names.add(Some(&hostname.into()), || hostname);
        }
        let asked = [
            ("a.example.com", Some("a.example.com")),
            ("A.Example.COM", Some("a.example.com")),
            ("x.example.com", Some("*.example.com")),
            ("x.y.example.com", Some("*.example.com")),
            ("x.b.example.com", Some("*.b.example.com")),
            ("example.com", Some("*.com")),
            ("com", None),
            ("a.example.org", None),
            ("", None),
        ];
        for (name, want) in asked {
            assert_eq!(names.find(name).copied(), want, "{name}");
        }
        names.add(None, || "any");
        for (name, want) in asked {
            assert_eq!(names.find(name).copied(), want.or(Some("any")), "{name}");
        }
        assert_eq!(names.map(|hostname| hostname.len()).find("x.com"), Some(&5));
    }

    #[test]
    fn a_key_is_never_shown() {
        let key = PrivateKey(b"secret".as_slice().into());
        let secret = Certificate { chain: [].into(), key };
        assert_eq!(format!("{secret:?}"), "Certificate { chain: [], key: PrivateKey }");
    }
}
