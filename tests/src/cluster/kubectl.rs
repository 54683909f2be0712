//! kubectl, with nothing of the machine's own.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use crate::netns::NetNs;

/// Runs it with some input and returns what it wrote; as an error what it complained of.
pub(super) fn run(
    ns: &NetNs,
    kubectl: &Path,
    kubeconfig: &Path,
    args: &[&str],
    input: &str,
) -> Result<String, String> {
    let mut command = Command::new(kubectl);
    command
        .args(args)
        .env("KUBECONFIG", kubeconfig)
        .env("KUBECACHEDIR", kubeconfig.with_file_name("kubectl"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = ns.spawn(&mut command);
    // One that ends without reading says why itself.
    drop(child.stdin.take().expect("input is piped").write_all(input.as_bytes()));
    let out = child.wait_with_output().expect("a child can be waited for");
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
    }
    Err(format!("kubectl {}: {}", args.join(" "), String::from_utf8_lossy(&out.stderr).trim()))
}
