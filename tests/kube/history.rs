//! An API server that cannot say what happened meanwhile, or whose past is another than it was.

use gateway_tests::cluster::Component;

use crate::{Bed, condition, http_route, traffic::Traffic};

#[test]
fn what_happened_is_obeyed_even_if_the_watches_have_expired() {
    let mut bed = Bed::new("expired");
    let ns = bed.cluster.site("gateway", 2);
    let agent = bed.agent(&ns, "one");
    let address = bed.address();
    bed.cluster.apply(&http_route("all", "/all"));
    bed.cluster.apply(&http_route("old", "/old"));
    bed.wait_for(address, "/old", 200);
    let requests = Traffic::start(&bed.client, address, "/all");

    // The agent alone is cut off, and only from the API server: pods and clients reach it.
    bed.cluster.kill(Component::ApiServer);
    bed.cut_off(2);
    bed.cluster.launch(Component::ApiServer);
    bed.cluster.wait_ready();
    bed.cluster.kubectl(&["delete", "httproute", "old", "--namespace", "shop"]);
    bed.cluster.apply(&http_route("new", "/new"));
    // Neither etcd nor an API server that starts now knows of what was before.
    bed.cluster.compact();
    bed.restart_api_server();
    assert_eq!((bed.answer(address, "/old"), bed.answer(address, "/new")), (Some(200), Some(404)));
    bed.reconnect(2);

    bed.wait_for(address, "/old", 404);
    bed.wait_for(address, "/new", 200);
    assert!(agent.log().contains("too old resource version"), "{}", agent.log());
    bed.wait_accepted("httproute", "new");
    requests.none_failed();
}

#[test]
fn an_etcd_that_was_restored_from_a_backup_is_obeyed() {
    let mut bed = Bed::new("restored");
    let ns = bed.cluster.site("gateway", 2);
    let agent = bed.agent(&ns, "one");
    let address = bed.address();
    bed.cluster.apply(&http_route("all", "/all"));
    bed.cluster.apply(&http_route("old", "/old"));
    bed.wait_for(address, "/old", 200);
    ["all", "old"].iter().for_each(|name| bed.wait_accepted("httproute", name));
    let requests = Traffic::start(&bed.client, address, "/all");
    bed.cluster.back_up();

    // One route goes, one comes, one changes; and the statuses with them.
    bed.cluster.kubectl(&["delete", "httproute", "old", "--namespace", "shop"]);
    bed.cluster.apply(&http_route("new", "/new"));
    bed.wait_for(address, "/old", 404);
    bed.wait_for(address, "/new", 200);
    bed.wait_accepted("httproute", "new");
    // Time goes by, as it does until somebody restores a backup: the Lease is renewed some times.
    let renewed = || bed.lease()["metadata"]["resourceVersion"].to_string();
    let before = renewed();
    bed.cluster.wait("the Lease to be renewed", |_| renewed() != before);

    bed.cluster.restore();
    bed.wait_for(address, "/old", 200);
    bed.wait_for(address, "/new", 404);
    // And what comes then is followed, though its revisions were given out before.
    bed.cluster.apply(&http_route("later", "/later"));
    bed.wait_for(address, "/later", 200);
    ["all", "old", "later"].iter().for_each(|name| bed.wait_accepted("httproute", name));
    // Each status is written by itself: the Gateway's may come after its routes'.
    let attached = || bed.status("gateway", "web")["listeners"][0]["attachedRoutes"].clone();
    bed.cluster.wait("the Gateway's status to follow", |_| attached() == 3);
    let gateway = bed.status("gateway", "web");
    assert_eq!(condition(&gateway["conditions"], "Programmed").as_deref(), Some("True"), "{gateway}");
    assert_eq!(gateway["listeners"][0]["attachedRoutes"], 3, "{gateway}");
    assert_eq!(bed.address(), address);
    bed.settles(&[&agent]);
    requests.none_failed();
}
