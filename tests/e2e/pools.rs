//! Addresses of Gateways out of pools: given, served, kept over restarts and whoever comes.

use std::net::{IpAddr, SocketAddr};

use gateway_tests::{
    agent::Agent,
    client,
    lab::{BACKEND4, GATEWAY4, GATEWAY6, Lab, UPLINK4, UPLINK6},
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

#[test]
fn on_named_interfaces_their_addresses_alone_are_served_as_they_come_and_go() {
    let lab = Lab::new("interfaces");
    let one = echo::http(&lab.backend, at(BACKEND4, 8001), "one");
    let with = |interfaces: &str| {
        let parameters = CLASS.split_once("  addressPools").expect("pools").0;
        let parameters = format!("{parameters}  addressMode: Node\n  interfaces: {interfaces}\n");
        let route = http_route("r", &["web"], &[], &[prefix("/", &["one"])]);
        [parameters, service("one", &[one.address]), gateway("web", None, ["http HTTP 80"]), route].concat()
    };
    let serves =
        |ip| client::get(&lab.client, SocketAddr::new(ip, 80), "a", "/").is_ok_and(|a| a.status == 200);
    let mut agent = Agent::start(&lab.gateway, &with("[cl*nt]"), WORKERS);
    assert_eq!(status(&agent, "web"), (vec![GATEWAY4, GATEWAY6], "Programmed".to_owned()));
    for (ip, wanted) in [(GATEWAY4, true), (GATEWAY6, true), (UPLINK4, false), (UPLINK6, false)] {
        assert_eq!(serves(ip), wanted, "{ip}");
    }
    // What comes to the interface is served, and what leaves it is not.
    let more: IpAddr = "10.9.1.9".parse().expect("an address");
    lab.gateway.address("client", more, 24);
    agent.wait("the new address to be served", || serves(more));
    assert_eq!(status(&agent, "web").0, [GATEWAY4, more, GATEWAY6]);
    lab.gateway.run(&format!("ip address del {more}/24 dev client"));
    agent.wait("the address to go", || status(&agent, "web").0 == [GATEWAY4, GATEWAY6]);
    // The host's own are never taken away by the agent.
    agent.change(&with("[lo, backend]"));
    assert!(serves(UPLINK4) && serves(UPLINK6) && !serves(GATEWAY4));
    agent.change(&with("[eth7]"));
    assert_eq!(status(&agent, "web"), (vec![], "AddressNotAssigned".to_owned()));
    let said = agent.log();
    assert!(
        said.contains("none of this host's interfaces that have addresses (backend, client, lo) fits spec.interfaces of SluiceParameters infra/lan, eth7"),
        "{said}"
    );
    assert!(agent.stop().success());
    let left = lab.gateway.run("ip -o address show");
    for ip in [GATEWAY4, GATEWAY6, UPLINK4, UPLINK6] {
        assert!(left.contains(&ip.to_string()), "{left}");
    }
}
