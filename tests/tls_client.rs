//! Certificates made on the spot, and a client that speaks TLS by rustls and HTTP by hand. For the tests of the workers
//! and those end to end.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    StreamOwned, SupportedProtocolVersion,
};

/// A certificate with its key.
pub(crate) struct Certified {
    pub(crate) certificate: CertificateDer<'static>,
    chain: String,
    key: String,
}

impl Certified {
    /// One for these names, signed by itself.
    pub(crate) fn new(names: &[&str], algorithm: &'static SignatureAlgorithm) -> Self {
        let key = KeyPair::generate_for(algorithm).expect("a key");
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let made =
            CertificateParams::new(names).and_then(|params| params.self_signed(&key)).expect("a certificate");
        Self { certificate: made.der().clone(), chain: made.pem(), key: key.serialize_pem() }
    }

    /// A Secret that holds it.
    pub(crate) fn secret(&self, name: &str) -> String {
        let (chain, key) = (&self.chain, &self.key);
        format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\ntype: kubernetes.io/tls\n\
             stringData: {{tls.crt: {chain:?}, tls.key: {key:?}}}\n"
        )
    }
}

/// A client that trusts these, and can check signatures of these schemes (none: all).
pub(crate) fn trusting(
    certificates: &[&Certified],
    versions: &[&'static SupportedProtocolVersion],
    schemes: &[SignatureScheme],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for certified in certificates {
        roots.add(certified.certificate.clone()).expect("a certificate");
    }
    let provider = Arc::new(default_provider());
    let inner =
        WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone()).build().expect("roots");
    let verifier = Arc::new(Some { inner, schemes: schemes.to_vec() });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

/// Checks as usual, but offers some schemes alone.
#[derive(Debug)]
struct Some {
    inner: Arc<WebPkiServerVerifier>,
    schemes: Vec<SignatureScheme>,
}

impl ServerCertVerifier for Some {
    fn verify_server_cert(
        &self,
        end: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.inner.verify_server_cert(end, others, name, ocsp, now)
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        if self.schemes.is_empty() { self.inner.supported_verify_schemes() } else { self.schemes.clone() }
    }
}

/// A client's end of a connection.
pub(crate) type Secured = StreamOwned<ClientConnection, TcpStream>;

/// Shakes hands for a name.
pub(crate) fn secure(stream: TcpStream, config: &Arc<ClientConfig>, name: &str) -> io::Result<Secured> {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut session = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
    let mut stream = stream;
    while session.is_handshaking() {
        session.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(session, stream))
}

/// Sends a request and reads the answer's header and its body, which has a length.
pub(crate) fn ask(stream: &mut (impl Read + Write), request: &str) -> io::Result<(String, String)> {
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    answer(stream)
}

/// Reads an answer's header and its body, which has a length.
pub(crate) fn answer(stream: &mut impl Read) -> io::Result<(String, String)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body)?;
    Ok((head, String::from_utf8_lossy(&body).into_owned()))
}
