//! Secrets of type kubernetes.io/tls: what makes a certificate, and what is said of one that is none.

use data_encoding::BASE64;
use rcgen::{Certificate, CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

use super::{load, name};
use crate::core::model::Model;
use crate::core::tls::Secret;

fn model(text: &str) -> Model {
    load(text).unwrap_or_else(|errors| panic!("{errors:#?}")).model
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// A certificate and its key, in PEM.
fn certificate(key: &KeyPair) -> (Certificate, String, String) {
    let made = CertificateParams::new(vec!["a.example".to_owned()]).unwrap().self_signed(key).unwrap();
    let text = pem("CERTIFICATE", made.der());
    (made, text, pem("PRIVATE KEY", &key.serialize_der()))
}

fn one(fields: &str) -> Secret {
    let model = model(&format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\n{fields}"));
    model.secrets[&name("default/s")].clone()
}

fn secret(kind: &str, field: &str, entries: &[(&str, &str)]) -> Secret {
    let entries: Vec<_> = entries.iter().map(|(key, value)| format!("  {key}: {value:?}\n")).collect();
    one(&format!("type: {kind}\n{field}:\n{}", entries.concat()))
}

#[test]
fn a_certificate_and_its_key_are_read_from_data_and_from_string_data() {
    for algorithm in [&PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        let (made, chain, key) = certificate(&KeyPair::generate_for(algorithm).unwrap());
        let other = certificate(&KeyPair::generate().unwrap()).0;
        let chain = format!("# of a.example\n{chain}{}", pem("CERTIFICATE", other.der()));
        let plain = secret("kubernetes.io/tls", "stringData", &[("tls.crt", &chain), ("tls.key", &key)]);
        let read = plain.certificate.clone().unwrap();
        assert_eq!(read.chain.iter().map(|der| &**der).collect::<Vec<_>>(), [&**made.der(), &**other.der()]);
        let (encoded, wrong) = (BASE64.encode(chain.as_bytes()), BASE64.encode(b"no PEM"));
        let broken = format!("{}\n{}", &encoded[..40], &encoded[40..]);
        let data = secret(
            "kubernetes.io/tls",
            "data",
            &[("tls.crt", &broken), ("tls.key", &BASE64.encode(key.as_bytes()))],
        );
        assert_eq!(data.certificate, plain.certificate);
        // The API server writes stringData over data.
        let both = one(&format!(
            "type: kubernetes.io/tls\ndata: {{tls.crt: {encoded}, tls.key: {wrong}}}\nstringData: {{tls.key: {key:?}}}\n"
        ));
        assert_eq!(both.certificate, plain.certificate);
        assert!(!format!("{both:?}").contains(&format!("{:?}", &read.key.0[..8])));
    }
}

#[test]
fn what_is_no_certificate_says_why() {
    let (_, chain, key) = certificate(&KeyPair::generate().unwrap());
    let (_, _, stranger) = certificate(&KeyPair::generate().unwrap());
    let tls = "kubernetes.io/tls";
    let garbage = pem("CERTIFICATE", b"garbage");
    for (kind, entries, says) in [
        (
            "Opaque",
            &[("tls.crt", &*chain), ("tls.key", &*key)][..],
            "its type is Opaque, not kubernetes.io/tls",
        ),
        (tls, &[("tls.crt", &chain)], "tls.key is missing"),
        (tls, &[("tls.key", &key)], "tls.crt is missing"),
        (tls, &[("tls.crt", "Hello"), ("tls.key", &key)], "tls.crt holds no certificate in PEM"),
        (tls, &[("tls.crt", "-----BEGIN CERTIFICATE-----\nMII"), ("tls.key", &key)], "tls.crt is not PEM"),
        (tls, &[("tls.crt", &garbage), ("tls.key", &key)], "the first certificate of tls.crt cannot be used"),
        (tls, &[("tls.crt", &chain), ("tls.key", "hunter2")], "tls.key holds no private key in PEM"),
        (tls, &[("tls.crt", &chain), ("tls.key", &chain)], "tls.key holds no private key in PEM"),
        (
            tls,
            &[("tls.crt", &chain), ("tls.key", &pem("PRIVATE KEY", b"hunter2"))],
            "tls.key is no key that can be used",
        ),
        (
            tls,
            &[("tls.crt", &chain), ("tls.key", &stranger)],
            "tls.key does not belong to the first certificate of tls.crt",
        ),
    ] {
        let why = secret(kind, "stringData", entries).certificate.unwrap_err();
        assert!(why.starts_with(says), "{why}");
        assert!(!why.contains("hunter2"), "{why}");
    }
    let why = secret(tls, "data", &[("tls.crt", "a*b"), ("tls.key", "")]).certificate.unwrap_err();
    assert_eq!(why, "data[tls.crt] is not base64 (encode it, or write it in stringData)");
    assert!(one("data: {a: aGk=}").certificate.unwrap_err().contains("its type is Opaque"));
}

#[test]
fn certificate_refs_are_read() {
    let model = model(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: g}
spec:
  gatewayClassName: sluice
  listeners:
  - name: s
    protocol: HTTPS
    port: 443
    tls: {certificateRefs: [{name: a}, {name: b, namespace: other}, {group: example.com, kind: Vault, name: c}]}
",
    );
    let listener = &model.gateways[&name("default/g")].listeners[0];
    assert!(listener.refusals.is_empty(), "{:?}", listener.refusals);
    let refs: Vec<_> = (listener.certificates.iter())
        .map(|r| (&*r.kind.group, &*r.kind.kind, r.namespace.as_deref(), &*r.name))
        .collect();
    let own = ("", "Secret", None, "a");
    assert_eq!(refs, [own, ("", "Secret", Some("other"), "b"), ("example.com", "Vault", None, "c")]);
}
