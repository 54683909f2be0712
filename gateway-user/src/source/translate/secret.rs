//! Secrets: the certificate that one holds.
//!
//! Owns base64, PEM, and whether key and certificate belong together. What it says is about the form alone: nothing that
//! a Secret holds goes into a message.

use std::sync::Arc;

use data_encoding::BASE64;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};

use crate::core::model::Meta;
use crate::core::tls::{Certificate, PrivateKey, Secret};
use crate::source::node::Node;

const TYPE: &str = "kubernetes.io/tls";
const CHAIN: &str = "tls.crt";
const KEY: &str = "tls.key";
/// The values of a Secret that are read.
pub(in crate::source) const CERTIFICATE: [&str; 2] = [CHAIN, KEY];

pub(super) fn secret(root: &Node, meta: Meta) -> Secret {
    Secret { meta, certificate: certificate(root).map(Arc::new) }
}

fn certificate(root: &Node) -> Result<Certificate, String> {
    match root.str("type").unwrap_or("Opaque") {
        TYPE => {}
        other => {
            return Err(format!(
                "its type is {other}, not {TYPE} (a Secret's type cannot change: make another)"
            ));
        }
    }
    let (chain, key) = (value(root, CHAIN)?, value(root, KEY)?);
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(&chain).collect::<Result<_, _>>().map_err(|_| {
            format!("{CHAIN} is not PEM (write certificates as they are issued, each from BEGIN to END)")
        })?;
    if chain.is_empty() {
        return Err(format!(
            "{CHAIN} holds no certificate in PEM (write the certificate, then those that issued it)"
        ));
    }
    let Ok(key) = PrivateKeyDer::from_pem_slice(&key) else {
        return Err(format!("{KEY} holds no private key in PEM (PKCS#8, PKCS#1 or SEC1, and not encrypted)"));
    };
    let certificate = Certificate {
        chain: chain.iter().map(|der| Box::from(&**der)).collect(),
        key: PrivateKey(key.secret_der().into()),
    };
    // Nothing that the workers could not use gets to them.
    CertifiedKey::from_der(chain, key, &default_provider()).map(|_| certificate).map_err(|why| match why {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            format!("{KEY} does not belong to the first certificate of {CHAIN}")
        }
        Error::InvalidCertificate(why) => format!("the first certificate of {CHAIN} cannot be used: {why}"),
        _ => format!(
            "{KEY} is no key that can be used (RSA of 2048 bits or more, ECDSA on P-256 or P-384, or Ed25519)"
        ),
    })
}

/// A value of the Secret: that of stringData goes before that of data, as the API server merges them.
fn value(root: &Node, key: &str) -> Result<Vec<u8>, String> {
    // The key has a dot: it is no path.
    let entry = |field: &str| root.get(field)?.get(key)?.as_str();
    if let Some(text) = entry("stringData") {
        return Ok(text.as_bytes().to_vec());
    }
    let Some(encoded) = entry("data") else {
        return Err(format!("{key} is missing (a Secret of type {TYPE} needs {CHAIN} and {KEY})"));
    };
    // Line breaks do not count, as in the API server.
    let encoded: Vec<u8> = encoded.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
    BASE64
        .decode(&encoded)
        .map_err(|_| format!("data[{key}] is not base64 (encode it, or write it in stringData)"))
}
