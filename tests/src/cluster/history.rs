//! What etcd remembers: it can be made to forget, and to go back to what it was.
//!
//! Owns how etcd is asked for that, by its HTTP gateway, and where a copy of its data lies. Must not know what the objects
//! are.

use std::{net::SocketAddr, path::Path, process::Command};

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};

use super::{Cluster, Component, component::ETCD};
use crate::client::Http;

impl Cluster {
    /// Lets etcd forget all that was before now: a watch that is to go on from an earlier revision is refused from then
    /// on (410 Gone), as long as the API server has not got it in its own memory.
    ///
    /// # Panics
    /// If etcd does not do it.
    pub fn compact(&self) {
        // No object has this key; the answer says at which revision etcd is.
        let at = self.etcd("/v3/kv/range", &json!({ "key": "AA==" }))["header"]["revision"].take();
        self.etcd("/v3/kv/compaction", &json!({ "revision": at, "physical": true }));
    }

    /// Keeps a copy of all that etcd has now. Etcd and the API server are stopped for it, and started again.
    pub fn back_up(&mut self) {
        self.kill(Component::ApiServer);
        self.kill(Component::Etcd);
        copy(&self.data(), &self.copy());
        self.launch(Component::Etcd);
        self.launch(Component::ApiServer);
        self.wait_ready();
    }

    /// Puts the copy in the place of what etcd has: what was written since then never was, and revisions are given out
    /// again that were given out already. What is part of the control plane starts anew, as Kubernetes demands of who
    /// restores an etcd.
    pub fn restore(&mut self) {
        for component in [Component::ControllerManager, Component::ApiServer, Component::Etcd] {
            self.kill(component);
        }
        std::fs::remove_dir_all(self.data()).expect("etcd's data can be removed");
        copy(&self.copy(), &self.data());
        self.launch(Component::Etcd);
        self.launch(Component::ApiServer);
        self.wait_ready();
        self.launch(Component::ControllerManager);
    }

    fn data(&self) -> std::path::PathBuf {
        self.dir.path().join("etcd")
    }

    fn copy(&self) -> std::path::PathBuf {
        self.dir.path().join("etcd-copy")
    }

    /// A request to etcd, and its answer.
    fn etcd(&self, path: &str, body: &Value) -> Value {
        let host = ETCD.trim_start_matches("http://");
        let at: SocketAddr = host.parse().expect("etcd's address");
        let request = Request::post(path).header("host", host).body(Bytes::from(body.to_string()));
        let answer = Http::connect(&self.node, at)
            .and_then(|mut http| http.send(request.expect("a valid request")))
            .unwrap_or_else(|e| panic!("etcd {path}: {e}"));
        let text = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status, 200, "etcd {path}: {text}");
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("etcd {path}: {e}: {text}"))
    }
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp can be started");
    assert!(status.success(), "cp -a {} {}", from.display(), to.display());
}
