//! A Kubernetes namespace that goes with all that is in it.

use std::net::{IpAddr, SocketAddr};

use gateway_tests::{client, cluster};

use crate::{Bed, GATEWAY, condition, http_route, traffic::Traffic};

#[test]
fn a_namespace_that_is_deleted_takes_its_gateway_and_leaves_the_others() {
    // Two addresses, so that a third Gateway has to wait for one.
    let bed = Bed::with_pool("namespaces", "10.245.254.1-10.245.254.2");
    let ns = bed.cluster.site("gateway", 2);
    let agent = bed.agent(&ns, "one");
    let address = bed.address();
    bed.cluster.apply(&http_route("all", "/all"));
    let in_namespace =
        |text: &str, namespace: &str| text.replace("namespace: shop", &format!("namespace: {namespace}"));
    bed.cluster.namespace("depot");
    bed.cluster.apply(&cluster::echo("depot"));
    bed.cluster.apply(&in_namespace(GATEWAY, "depot"));
    bed.cluster.apply(&in_namespace(&http_route("all", "/all"), "depot"));
    let status =
        |namespace: &str| bed.cluster.get(&["gateway", "web", "--namespace", namespace])["status"].take();
    let at = |namespace: &str| -> Option<IpAddr> {
        let status = status(namespace);
        let programmed = condition(&status["conditions"], "Programmed")?;
        (programmed == "True").then(|| status["addresses"][0]["value"].as_str()?.parse().ok())?
    };
    bed.cluster.wait("the other Gateway", |_| at("depot").is_some());
    let freed = at("depot").expect("it has one");
    assert_ne!(freed, address);
    bed.wait_for(address, "/all", 200);
    bed.wait_for(freed, "/all", 200);
    // A third one finds no address.
    bed.cluster.namespace("yard");
    bed.cluster.apply(&in_namespace(GATEWAY, "yard"));
    bed.cluster.wait("the third Gateway to be told", |_| {
        let conditions = status("yard")["conditions"].take();
        let programmed = conditions.as_array().into_iter().flatten().find(|c| c["type"] == "Programmed");
        programmed.is_some_and(|c| c["reason"] == "AddressNotAssigned")
    });

    let requests = Traffic::start(&bed.client, address, "/all");
    bed.cluster.kubectl(&["delete", "namespace", "depot", "--wait=false"]);
    bed.cluster.wait("the namespace to be gone", |cluster| {
        cluster.try_kubectl(&["get", "namespace", "depot"]).is_err()
    });
    // Its address is the third one's now, which has no route.
    bed.cluster.wait("the third Gateway to get the address", |_| at("yard") == Some(freed));
    bed.wait_for(freed, "/", 404);
    bed.cluster.kubectl(&["delete", "namespace", "yard", "--wait=false"]);
    // And then nobody's.
    bed.cluster.wait("the address to be gone", |_| {
        client::get(&bed.client, SocketAddr::new(freed, 80), "shop.example", "/").is_err()
    });
    bed.cluster.wait("the last namespace to be gone", |cluster| {
        cluster.try_kubectl(&["get", "namespace", "yard"]).is_err()
    });
    let log = agent.log();
    assert!(!log.contains("cannot be written"), "nothing is written to what goes: {log}");
    bed.settles(&[&agent]);
    requests.none_failed();
}
