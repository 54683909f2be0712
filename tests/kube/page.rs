//! The page about Kubernetes: every command of it is run, and prints what the page shows.

use std::{env, fs, path::Path, process::Command};

use gateway_tests::{
    cluster::{Cluster, Config},
    docs::{Shell, steps},
    installed,
};

/// Runs every command of a page, in a cluster of its own. What the DaemonSet would start is started here.
fn runs(name: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(root.join("docs").join(name)).expect("the page");
    let steps = steps(&text);
    assert!(!steps.is_empty(), "docs/{name} has no commands");
    let cluster = Cluster::start("page", &Config::default());
    let node = cluster.site("gateway", 2);
    let dir = tempfile::tempdir().expect("a folder can be made");
    let kubectl =
        cluster.programs().kubectl.parent().expect("a program is in a folder").display().to_string();
    let path = format!("{kubectl}:{}", env::var("PATH").unwrap_or_default());
    let mut shell = Shell::default();
    let mut agent = None;
    for step in steps {
        let place = format!("docs/{name}:{}: `{}`", step.line, step.command);
        let mut command = Command::new("sh");
        command
            .args(["-c", &step.command])
            .current_dir(&root)
            .env("PATH", &path)
            .env("KUBECONFIG", cluster.kubeconfig())
            .env("KUBECACHEDIR", dir.path().join("cache"));
        // An agent says what it serves a moment after it has begun.
        let mut said = String::new();
        cluster.wait(&place, |_| {
            let (status, text) = node.enter(|| shell.run(&mut command));
            assert!(status.success(), "{place}: {status}\n{text}");
            said = text;
            step.shows(&said) || !step.command.contains(" get ")
        });
        let shows = step.shows.join("\n");
        assert!(step.shows(&said), "{place}: the page shows\n{shows}\nbut it printed\n{said}");
        if step.command.contains("daemonset.yaml") {
            agent = Some(installed::agent(&cluster, &node, "node-1"));
        }
    }
    assert!(agent.is_some(), "docs/{name} installs no DaemonSet");
}

#[test]
fn the_page_is_true() {
    runs("kubernetes.md");
}
