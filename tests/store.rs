//! Objects that are applied to the real agent: kept, served, shown, and safe against crashes, full disks and one
//! another.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use gateway_tests::agent::Agent;
use gateway_tests::netns::NetNs;
use serde_json::Value;
use tempfile::TempDir;

#[path = "store/bad.rs"]
mod bad;
#[path = "store/crash.rs"]
mod crash;
#[path = "store/life.rs"]
mod life;
#[path = "store/many.rs"]
mod many;

/// Every agent here has two workers, whatever the machine has.
const WORKERS: &[&str] = &["--workers", "2"];

/// An agent, and a folder for what is applied to it.
struct Bed<'ns> {
    agent: Agent<'ns>,
    folder: TempDir,
}

impl<'ns> Bed<'ns> {
    /// An agent that runs on what is applied alone, ready.
    fn new(ns: &'ns NetNs) -> Self {
        let mut agent = Agent::prepare(ns, "", WORKERS).without_file();
        agent.launch();
        agent.wait_ready();
        Self::on(agent)
    }

    fn on(agent: Agent<'ns>) -> Self {
        Self { agent, folder: tempfile::tempdir().expect("a folder") }
    }

    /// Kills the agent, and starts it again.
    fn restart(&mut self) {
        self.agent.kill();
        self.agent.launch();
        self.agent.wait_ready();
    }

    fn socket(&self) -> PathBuf {
        self.agent.places()[3].clone().into()
    }

    /// The folder of the store.
    fn objects(&self) -> PathBuf {
        Path::new(&self.agent.places()[1]).join("objects")
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, text).expect("a file");
        path.display().to_string()
    }

    fn sluice(&self, args: &[&str]) -> Output {
        let socket = self.socket().display().to_string();
        self.agent.sluice(&[args, &["--admin-socket", &socket]].concat())
    }

    /// Applies a text that is good; what was said.
    fn apply(&self, text: &str) -> String {
        let out = self.sluice(&["apply", "-f", &self.file("good.yaml", text)]);
        assert_eq!(out.status.code(), Some(0), "{}\n{}", said(&out), self.agent.log());
        said(&out)
    }

    /// Asks for something that goes wrong; what was said.
    fn fails(&self, args: &[&str], code: i32) -> String {
        let out = self.sluice(args);
        assert_eq!(out.status.code(), Some(code), "{}", said(&out));
        said(&out)
    }

    /// An object, or all of them as a list.
    fn get(&self, which: &[&str]) -> Value {
        let out = self.sluice(&[&["get", "-o", "json"], which].concat());
        assert_eq!(out.status.code(), Some(0), "{}", said(&out));
        serde_json::from_slice(&out.stdout).expect("JSON")
    }
}

fn said(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

/// A ConfigMap: an object that costs the data plane nothing.
fn config_map(name: &str, value: &str) -> String {
    format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{value: {value:?}}}\n")
}
