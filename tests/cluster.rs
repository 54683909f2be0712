//! The cluster that other tests stand on: its API server is a real one, its pods are reached, and it leaves nothing.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, SocketAddr},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use gateway_tests::{
    client,
    cluster::{self, Cluster, Component, Config},
    netns::NetNs,
};
use serde_json::Value;

/// The addresses of the Service's endpoints, by family.
fn endpoints(cluster: &Cluster) -> Vec<IpAddr> {
    let slices = cluster.get(&["endpointslices", "--namespace", "test"]);
    let mut found = BTreeSet::new();
    for slice in slices["items"].as_array().into_iter().flatten() {
        for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
            let addresses = endpoint["addresses"].as_array().into_iter().flatten();
            if endpoint["conditions"]["ready"] == true {
                found.extend(addresses.filter_map(|a| a.as_str()?.parse::<IpAddr>().ok()));
            }
        }
    }
    found.into_iter().collect()
}

/// A cluster with the echo server in it, and a client on its LAN.
fn bed(name: &str) -> (Cluster, NetNs) {
    let cluster = Cluster::start(name, &Config::default());
    cluster.namespace("test");
    cluster.apply(&cluster::echo("test"));
    cluster.wait("an endpoint of each family", |cluster| endpoints(cluster).len() == 2);
    let client = cluster.site("client", 250);
    (cluster, client)
}

fn echoes(client: &NetNs, at: IpAddr) -> bool {
    let Ok(answer) = client::get(client, SocketAddr::new(at, 3000), "echo.example", "/a") else {
        return false;
    };
    let seen: Value = serde_json::from_slice(&answer.body).expect("the echo answers with JSON");
    answer.status == 200 && seen["path"] == "/a" && seen["namespace"] == "test"
}

/// The process ids of everything that this process started, however far down, by who their parents are.
fn descendants() -> BTreeSet<u32> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").expect("there is a /proc").flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The name may hold anything, and ends with the last parenthesis.
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse::<u32>().ok());
        parents.push((pid, parent.unwrap_or_default()));
    }
    let mut found = BTreeSet::from([std::process::id()]);
    loop {
        let children = parents.iter().filter(|(pid, parent)| found.contains(parent) && !found.contains(pid));
        let children: Vec<_> = children.map(|(pid, _)| *pid).collect();
        if children.is_empty() {
            break;
        }
        found.extend(children);
    }
    found.remove(&std::process::id());
    found
}

/// The network namespaces that some processes are in, by inode.
fn namespaces(of: &BTreeSet<u32>) -> BTreeSet<String> {
    let link = |pid: &u32| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    of.iter().filter_map(link).map(|link| link.display().to_string()).collect()
}

/// The network namespaces that any process of the machine is in.
fn all_namespaces() -> BTreeSet<String> {
    let mut pids = BTreeSet::new();
    for entry in fs::read_dir("/proc").expect("there is a /proc").flatten() {
        pids.extend(entry.file_name().to_string_lossy().parse::<u32>());
    }
    namespaces(&pids)
}

/// Whether a process runs; one that only waits for its parent to notice its end does not.
fn alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// The tests of this file count processes, so they run one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn links() -> String {
    NetNs::host().run("ip -oneline link show")
}

#[test]
fn a_pod_is_reached_and_nothing_of_a_cluster_outlives_it() {
    let _alone = alone();
    let (before, host) = (descendants(), namespaces(&BTreeSet::from([std::process::id()])));
    let links_before = links();
    let (cluster, client) = bed("cluster");
    for address in endpoints(&cluster) {
        assert!(echoes(&client, address), "the echo server at {address}");
    }
    let logs = cluster.kubectl(&["logs", "--namespace", "test", "deployment/echo"]);
    assert!(logs.contains("Starting server"), "{logs}");
    assert_eq!(links(), links_before, "the machine's own links");

    let during: BTreeSet<_> = descendants().difference(&before).copied().collect();
    // Four components with their tethers, and the pod.
    assert!(during.len() >= 9, "{during:?}");
    let inside: BTreeSet<_> = namespaces(&during).difference(&host).cloned().collect();
    // The node's and the pod's; the client's has no process.
    assert!(inside.len() >= 2, "{inside:?}");
    let kubeconfig = cluster.kubeconfig();
    let folder = kubeconfig.parent().expect("a kubeconfig is in a folder");
    drop((cluster, client));

    let left: Vec<_> = during.into_iter().filter(|&pid| alive(pid)).collect();
    assert!(left.is_empty(), "processes left: {left:?}");
    assert!(all_namespaces().is_disjoint(&inside), "namespaces left");
    assert!(!folder.exists(), "{} is left", folder.display());
    assert_eq!(links(), links_before, "the machine's own links");
}

/// What the next test runs itself as.
const OWNER: &str = "SLUICE_TEST_CLUSTER_OWNER";

#[test]
fn a_cluster_ends_with_its_owner_even_if_that_is_killed() {
    let _alone = alone();
    if std::env::var_os(OWNER).is_some() {
        let _bed = bed("killed");
        fs::write(std::env::var_os(OWNER).expect("the variable is set"), "").expect("a file can be written");
        thread::sleep(Duration::from_secs(600));
        return;
    }
    let folder = tempfile::tempdir().expect("a folder can be made");
    let up = folder.path().join("up");
    let me = std::env::current_exe().expect("this program has a path");
    let mut owner = Command::new(me)
        .args(["--exact", "a_cluster_ends_with_its_owner_even_if_that_is_killed"])
        .env(OWNER, &up)
        // What it cannot remove any more goes with this folder.
        .env("TMPDIR", folder.path())
        .spawn()
        .expect("this program can be started");
    wait("the owner's cluster", || up.exists() || owner.try_wait().is_ok_and(|status| status.is_some()));
    assert!(up.exists(), "the owner ended before its cluster was up");
    let during = descendants();
    assert!(during.len() >= 10, "{during:?}");
    owner.kill().expect("a child can be killed");
    owner.wait().expect("a child can be waited for");
    wait("everything to end", || !during.iter().any(|&pid| alive(pid)));
}

#[test]
fn two_clusters_do_not_see_each_other_and_components_come_back() {
    let _alone = alone();
    let mut one = Cluster::start("one", &Config::default());
    let two = Cluster::start("two", &Config::default());
    one.namespace("only-in-one");
    assert!(two.try_kubectl(&["get", "namespace", "only-in-one"]).is_err());
    // The same addresses in both, and no way from the one to the other.
    one.kill(Component::ApiServer);
    assert!(one.try_kubectl(&["get", "namespaces"]).is_err());
    two.kubectl(&["get", "namespaces"]);
    one.launch(Component::ApiServer);
    one.wait_ready();
    one.kubectl(&["get", "namespace", "only-in-one"]);
}

fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(90), "waited in vain for {what}");
        thread::sleep(Duration::from_millis(50));
    }
}
