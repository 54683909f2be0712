//! A connection to a cluster's API server as its administrator: for thousands of objects, and for watches.
//!
//! Owns TLS and the form of requests. Must not know what the objects are.

use std::{collections::VecDeque, io, net::SocketAddr, path::Path, sync::Arc, time::Instant};

use bytes::Bytes;
use http::{Method, Request};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde_json::Value;

use super::NODE4;
use crate::{
    client::{Http, Stream},
    netns::NetNs,
};

/// The API server's port.
const PORT: u16 = 6443;

/// A connection that requests go over one after the other.
#[derive(Debug)]
pub struct Api(Http);

impl Api {
    pub(super) fn connect(node: &NetNs, pki: &Path) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(pki.join("ca.crt")).map_err(io::Error::other)?)
            .map_err(io::Error::other)?;
        let certificate = CertificateDer::from_pem_file(pki.join("admin.crt")).map_err(io::Error::other)?;
        let key = PrivateKeyDer::from_pem_file(pki.join("admin.key")).map_err(io::Error::other)?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate], key)
            .map_err(io::Error::other)?;
        Ok(Self(Http::connect_tls(node, SocketAddr::new(NODE4, PORT), &Arc::new(config))?))
    }

    /// What is at a path of the API.
    ///
    /// # Errors
    /// If there is nothing, or no answer.
    pub fn get(&mut self, path: &str) -> io::Result<Value> {
        self.send(&Method::GET, path, "application/json", None).map(|(object, _)| object)
    }

    /// Makes an object of the resource at a path.
    ///
    /// # Errors
    /// If the API server refuses it, or does not answer.
    pub fn create(&mut self, path: &str, object: &Value) -> io::Result<Value> {
        self.send(&Method::POST, path, "application/json", Some(object)).map(|(object, _)| object)
    }

    /// Changes an object by a merge patch. Returns it as it is then, and when the answer was there.
    ///
    /// # Errors
    /// If the API server refuses it, or does not answer.
    pub fn merge(&mut self, path: &str, patch: &Value) -> io::Result<(Value, Instant)> {
        self.send(&Method::PATCH, path, "application/merge-patch+json", Some(patch))
    }

    /// All objects of the resource at a path as they are now, and what becomes of them.
    ///
    /// # Errors
    /// If the API server refuses it, or does not answer.
    pub fn watch(self, path: &str) -> io::Result<Watch> {
        let path = format!("{path}?watch=true&timeoutSeconds=7200");
        let mut stream = self.0.stream(request(&Method::GET, &path, "application/json", None))?;
        if stream.status != 200 {
            let said = stream.part()?.unwrap_or_default();
            return Err(refused(&Method::GET, &path, stream.status, &said));
        }
        Ok(Watch { stream, begun: Vec::new(), events: VecDeque::new() })
    }

    fn send(
        &mut self,
        method: &Method,
        path: &str,
        kind: &str,
        body: Option<&Value>,
    ) -> io::Result<(Value, Instant)> {
        let answer = self.0.send(request(method, path, kind, body))?;
        let at = Instant::now();
        if !(200..300).contains(&answer.status) {
            return Err(refused(method, path, answer.status, &answer.body));
        }
        Ok((serde_json::from_slice(&answer.body)?, at))
    }
}

fn request(method: &Method, path: &str, kind: &str, body: Option<&Value>) -> Request<Bytes> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", format!("{NODE4}:{PORT}"))
        .header("content-type", kind)
        .header("accept", "application/json")
        .body(body.map(|body| Bytes::from(body.to_string())).unwrap_or_default())
        .expect("a valid request")
}

fn refused(method: &Method, path: &str, status: u16, body: &[u8]) -> io::Error {
    io::Error::other(format!("{method} {path}: {status}: {}", String::from_utf8_lossy(body)))
}

/// What happens to the objects of a resource.
#[derive(Debug)]
pub struct Watch {
    stream: Stream,
    /// The line that has not ended yet.
    begun: Vec<u8>,
    events: VecDeque<(Bytes, Instant)>,
}

impl Watch {
    /// Waits for the next event: its `type`, its `object`, and when it was there.
    ///
    /// # Errors
    /// If the watch ends, or says an error.
    pub fn event(&mut self) -> io::Result<(Value, Instant)> {
        loop {
            if let Some((line, at)) = self.events.pop_front() {
                let event: Value = serde_json::from_slice(&line)?;
                if event["type"] == "ERROR" {
                    return Err(io::Error::other(format!("the watch says: {}", event["object"])));
                }
                return Ok((event, at));
            }
            let part = self.stream.part()?;
            let at = Instant::now();
            let part = part.ok_or_else(|| io::Error::other("the API server has ended the watch"))?;
            self.begun.extend_from_slice(&part);
            let Some(end) = self.begun.iter().rposition(|&byte| byte == b'\n') else { continue };
            let rest = self.begun.split_off(end + 1);
            let whole = Bytes::from(std::mem::replace(&mut self.begun, rest));
            let lines = whole.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
            self.events.extend(lines.map(|line| (whole.slice_ref(line), at)));
        }
    }
}
