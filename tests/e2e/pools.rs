//! Addresses of Gateways out of pools: given, served, kept over restarts and whoever comes.

use std::net::{IpAddr, SocketAddr};

use gateway_tests::{
    agent::Agent,
    client,
    lab::{BACKEND4, Lab},
    objects::{gateway, http_route, prefix, service},
    peers::echo,
};

use super::{WORKERS, at};

/// A class whose Gateways get addresses of the client's networks: two of each family.
const CLASS: &str = "---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: sluice}
spec:
  controllerName: sluice-gateway.dev/controller
  parametersRef: {group: sluice-gateway.dev, kind: SluiceParameters, namespace: infra, name: lan}
---
apiVersion: sluice-gateway.dev/v1
kind: SluiceParameters
metadata: {name: lan, namespace: infra}
spec:
  addressPools:
  - name: lan
    addresses: [10.9.1.64/30, \"fd09:1::40-fd09:1::41\"]
";

/// What the status says of a Gateway: its addresses, and the reason of Programmed.
fn status(agent: &Agent<'_>, name: &str) -> (Vec<IpAddr>, String) {
    let status = agent.ask("status");
    let gateways = status["gateways"].as_array().expect("Gateways");
    let gateway = gateways.iter().find(|gateway| gateway["name"] == name).expect("the Gateway");
    let addresses = gateway["addresses"].as_array().expect("addresses").iter();
    let addresses = addresses.map(|ip| ip.as_str().expect("text").parse().expect("an address")).collect();
    let conditions = gateway["conditions"].as_array().expect("conditions");
    let programmed = conditions.iter().find(|c| c["type"] == "Programmed").expect("Programmed");
    (addresses, programmed["reason"].as_str().expect("a reason").to_owned())
}

fn both(last: [&str; 2]) -> (Vec<IpAddr>, String) {
    (last.iter().map(|ip| ip.parse().expect("an address")).collect(), "Programmed".to_owned())
}

#[test]
fn a_gateway_serves_on_an_address_of_its_pool_and_keeps_it() {
    let lab = Lab::new("pools");
    let one = echo::http(&lab.backend, at(BACKEND4, 8001), "one");
    let with = |gateways: &[&str]| {
        let mut yaml = [CLASS, &service("one", &[one.address])].concat();
        for name in gateways {
            yaml += &gateway(name, None, ["http HTTP 80"]);
        }
        yaml + &http_route("r", gateways, &[], &[prefix("/", &["one"])])
    };
    let web = both(["10.9.1.65", "fd09:1::40"]);
    let serves = |addresses: &[IpAddr]| {
        for address in addresses {
            let answer = client::get(&lab.client, SocketAddr::new(*address, 80), "a", "/");
            assert_eq!(answer.expect("an answer").status, 200, "{address}");
        }
    };
    let mut agent = Agent::start(&lab.gateway, &with(&["web"]), WORKERS);
    assert_eq!(status(&agent, "web"), web);
    serves(&web.0);

    // One that comes before it by name gets the next.
    agent.change(&with(&["a", "web"]));
    let first = both(["10.9.1.66", "fd09:1::41"]);
    assert_eq!((status(&agent, "web"), status(&agent, "a")), (web.clone(), first.clone()));
    serves(&web.0);
    serves(&first.0);

    // Neither a stop nor a kill moves anything, though names would now give it the other way round.
    for kill in [false, true] {
        if kill {
            agent.kill();
        } else {
            assert!(agent.stop().success());
        }
        agent.launch();
        agent.wait_ready();
        assert_eq!((status(&agent, "web"), status(&agent, "a")), (web.clone(), first.clone()));
        serves(&web.0);
        serves(&first.0);
    }

    // A third finds none, and takes the place of one that goes.
    agent.change(&with(&["a", "b", "web"]));
    assert_eq!(status(&agent, "b"), (Vec::new(), "AddressNotAssigned".to_owned()));
    agent.change(&with(&["b", "web"]));
    assert_eq!((status(&agent, "web"), status(&agent, "b")), (web.clone(), first.clone()));
    serves(&first.0);
    // Nobody is on an address that the pool has and nobody got.
    agent.change(&with(&["web"]));
    let shown = lab.gateway.run("ip -o address show") + &lab.gateway.run("ip route show table local");
    assert!(shown.contains("10.9.1.65") && shown.contains("fd09:1::40"), "{shown}");
    assert!(!shown.contains("10.9.1.66") && !shown.contains("fd09:1::41"), "{shown}");
}
