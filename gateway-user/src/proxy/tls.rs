//! TLS towards clients: what answers a ClientHello.
//!
//! Owns rustls's configurations, one for each listener's certificates, which outlive a change of everything else; the
//! keys of session tickets, which all workers share; and which certificate of a listener a client is shown. Which
//! listener it is, is `core`'s. Must not know what is spoken inside.

use std::cmp::Reverse;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rustc_hash::FxHashMap;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{Ticketer, default_provider};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use webpki::EndEntityCert;

use crate::core::tls::{ByName, Certificate, Certificates};

pub(super) use handshake::shake;

mod handshake;

/// What answers on a binding, by the name that the client asks for.
pub(super) type Answers = ByName<Arc<Answer>>;

/// What answers on a listener.
#[derive(Debug)]
pub(super) struct Answer {
    config: Arc<ServerConfig>,
    choice: Arc<Choice>,
}

/// Makes configurations.
#[derive(Debug)]
pub(super) struct Terminator {
    provider: Arc<CryptoProvider>,
    /// Encrypts sessions for their clients to keep: nothing is stored here. Its keys change every 6 h, and are known for
    /// 12 h. A handshake reads them under a lock that is written to when they change.
    tickets: Arc<dyn ProducesTickets>,
    /// Those in use.
    made: Mutex<FxHashMap<Certificates, Arc<Answer>>>,
}

impl Terminator {
    /// # Errors
    /// If the system has no randomness to offer.
    pub(super) fn new() -> io::Result<Self> {
        let tickets = Ticketer::new().map_err(io::Error::other)?;
        Ok(Self { provider: Arc::new(default_provider()), tickets, made: Mutex::default() })
    }

    /// What answers with these certificates on each binding that terminates TLS, by its key. What is not among them is
    /// forgotten.
    pub(super) fn answers<'s, K>(
        &self,
        bindings: impl Iterator<Item = (K, &'s Arc<ByName<Certificates>>)>,
    ) -> Vec<(K, Arc<Answers>)> {
        // Nothing is half done if it is poisoned.
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = FxHashMap::default();
        let mut known: FxHashMap<*const ByName<Certificates>, Arc<Answers>> = FxHashMap::default();
        let mut answer = |certificates: &Certificates| -> Arc<Answer> {
            let entry = kept.entry(certificates.clone()).or_insert_with(|| {
                made.get(certificates).cloned().unwrap_or_else(|| Arc::new(self.answer(certificates)))
            });
            entry.clone()
        };
        let answers = bindings.map(|(key, names)| {
            let answers = known.entry(Arc::as_ptr(names)).or_insert_with(|| Arc::new(names.map(&mut answer)));
            (key, answers.clone())
        });
        let answers = answers.collect();
        *made = kept;
        answers
    }

    fn answer(&self, certificates: &Certificates) -> Answer {
        let shown = certificates.iter().filter_map(|certificate| Shown::new(certificate, &self.provider));
        let choice = Arc::new(Choice(shown.collect()));
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .expect("the provider has cipher suites for TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_cert_resolver(choice.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.ticketer = self.tickets.clone();
        Answer { config: Arc::new(config), choice }
    }
}

/// The certificates of a listener.
#[derive(Debug)]
struct Choice(Box<[Shown]>);

/// A certificate as it is shown.
#[derive(Debug)]
struct Shown {
    /// The DNS names that it is for, in lower case.
    names: Box<[Box<str>]>,
    key: Arc<CertifiedKey>,
}

impl Shown {
    /// `None` for what the source would not have let pass.
    fn new(certificate: &Certificate, provider: &CryptoProvider) -> Option<Self> {
        let chain = certificate.chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
        let key = PrivateKeyDer::try_from(certificate.key.0.to_vec()).ok()?;
        let key = CertifiedKey::from_der(chain, key, provider).ok()?;
        let names = EndEntityCert::try_from(&key.cert[0]).ok()?;
        let names = names.valid_dns_names().map(|name| name.to_ascii_lowercase().into()).collect();
        Some(Self { names, key: Arc::new(key) })
    }

    /// How well it fits a name: it has the name itself, a wildcard for it (of one label, RFC 9525, 6.3), or neither.
    fn fit(&self, name: &str) -> u8 {
        let rest = name.split_once('.').map_or("", |(_, rest)| rest);
        let wildcard = |own: &str| own.strip_prefix("*.").is_some_and(|suffix| suffix == rest);
        let ranks = self.names.iter().map(|own| match &**own {
            own if own == name => 2,
            own if wildcard(own) => 1,
            _ => 0,
        });
        ranks.max().unwrap_or(0)
    }
}

impl Choice {
    /// Whether the client can check any of them.
    fn is_any_for(&self, hello: &ClientHello<'_>) -> bool {
        self.0.iter().any(|shown| shown.key.key.choose_scheme(hello.signature_schemes()).is_some())
    }
}

impl ResolvesServerCert for Choice {
    /// Of those that the client can check, the one that fits its name best ("the longest matching SNI", Gateway,
    /// `spec.listeners[].tls`); of such the first.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().unwrap_or_default().to_ascii_lowercase();
        let schemes = hello.signature_schemes();
        let rank =
            |shown: &&Shown| Reverse((shown.key.key.choose_scheme(schemes).is_some(), shown.fit(&name)));
        self.0.iter().min_by_key(rank).map(|shown| shown.key.clone())
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::core::tls::PrivateKey;

    fn certificate(names: &[&str]) -> Arc<Certificate> {
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        Arc::new(Certificate {
            chain: [Box::from(&**certificate.der())].into(),
            key: PrivateKey(key.serialize_der().into()),
        })
    }

    fn names(certificates: &Certificates) -> Arc<ByName<Certificates>> {
        let mut names = ByName::default();
        names.add(None, || certificates.clone());
        Arc::new(names)
    }

    #[test]
    fn a_configuration_outlives_a_change_of_everything_else() {
        let terminator = Terminator::new().unwrap();
        let (a, b): (Certificates, Certificates) =
            ([certificate(&["a.org"])].into(), [certificate(&["b.org"])].into());
        let of = |all: &[&Arc<ByName<Certificates>>]| -> Vec<Arc<Answer>> {
            let answers = terminator.answers(all.iter().map(|names| ((), *names)));
            answers.into_iter().map(|((), answers)| answers.find("").unwrap().clone()).collect()
        };
        let first = of(&[&names(&a), &names(&b)]);
        // The same content, read anew.
        let again: Certificates = [Arc::new((*a[0]).clone())].into();
        let second = of(&[&names(&again)]);
        assert!(Arc::ptr_eq(&first[0], &second[0]));
        let third = of(&[&names(&a), &names(&b)]);
        assert!(Arc::ptr_eq(&first[0], &third[0]) && !Arc::ptr_eq(&first[1], &third[1]));
        assert_eq!(third[0].config.alpn_protocols, [b"http/1.1"]);
    }

    #[test]
    fn a_certificate_fits_by_its_names() {
        let shown = Shown::new(&certificate(&["A.org", "*.b.org"]), &default_provider()).unwrap();
        for (name, fit) in [
            ("a.org", 2),
            ("x.b.org", 1),
            ("x.y.b.org", 0),
            ("b.org", 0),
            ("*.b.org", 2),
            ("c.org", 0),
            ("", 0),
        ] {
            assert_eq!(shown.fit(name), fit, "{name}");
        }
    }
}
