//! Rights that are taken from a running agent, and given back.

use crate::{Bed, http_route, manifest, traffic::Traffic};

#[test]
fn a_right_that_is_revoked_takes_nothing_and_is_followed_again_when_it_is_back() {
    let mut bed = Bed::new("revoked");
    let ns = bed.cluster.site("gateway", 2);
    let agent = bed.agent(&ns, "one");
    let address = bed.address();
    bed.cluster.apply(&http_route("all", "/all"));
    bed.wait_for(address, "/all", 200);
    let rights = manifest("rbac.yaml");
    let fewer = rights.replacen("  - httproutes\n", "", 1);
    assert_ne!(rights, fewer);
    let said = || String::from_utf8_lossy(&agent.sluice(&["status"]).stdout).into_owned();
    let requests = Traffic::start(&bed.client, address, "/all");

    // One rule is taken back. What is watched goes on until the connection ends, and is asked for again then.
    bed.cluster.apply(&fewer);
    bed.restart_api_server();
    bed.cluster.wait("the missing right to be said", |_| {
        let said = said();
        said.contains("HTTPRoute: its objects cannot be read")
            && said.contains("resource \"httproutes\"")
            && !said.contains("Service: its objects cannot be read")
    });
    bed.cluster.apply(&rights);
    bed.cluster.apply(&http_route("more", "/more"));
    bed.wait_for(address, "/more", 200);
    bed.cluster.wait("nothing to be said any more", |_| !said().contains("cannot be read"));

    // All of them are.
    bed.cluster.kubectl(&["delete", "clusterrolebinding", "sluice"]);
    bed.restart_api_server();
    bed.cluster.wait("the missing rights to be said", |_| {
        let said = said();
        ["HTTPRoute", "Gateway", "Service", "EndpointSlice", "Namespace"]
            .iter()
            .all(|kind| said.contains(&format!("{kind}: its objects cannot be read")))
    });
    bed.cluster.kubectl(&["delete", "httproute", "more", "--namespace", "shop"]);
    assert_eq!(bed.answer(address, "/more"), Some(200), "nobody may tell the agent that it is gone");
    bed.cluster.apply(&rights);
    bed.wait_for(address, "/more", 404);
    bed.cluster.wait("nothing to be said any more", |_| !said().contains("cannot be read"));
    // Each kind is said to fail once, and to work again, three times: without an API server, without one right, without all.
    let log = agent.log();
    let told =
        log.lines().filter(|line| line.contains("HTTPRoute") && line.contains("cannot be watched")).count();
    assert!((1..=3).contains(&told), "{told} times: {log}");
    assert!(!log.contains("initlist"), "a library's own words: {log}");
    requests.none_failed();
}
