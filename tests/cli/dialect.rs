//! The example of an old introduction to the API, exactly as it stands, served end to end.

use std::net::SocketAddr;

use gateway_tests::agent::Agent;
use gateway_tests::client::get;
use gateway_tests::lab::{BACKEND4, BACKEND6, GATEWAY4, GATEWAY6, Lab};
use gateway_tests::peers::echo;

const EXAMPLE: &str = "\
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: Gateway
metadata:
  name: my-gateway
  namespace: istio-system
spec:
  gatewayClassName: istio
  listeners:
  - name: http
    protocol: HTTP
    port: 80
    routes:
      kind: HTTPRoute
      name: my-route
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: HTTPRoute
metadata:
  name: my-route
  namespace: default
spec:
  parentRefs:
  - name: my-gateway
    namespace: istio-system
  rules:
  - matches:
    - path:
        type: Prefix
        value: /my-service
    forwardTo:
    - targetRef:
        kind: Service
        name: my-service
        namespace: default
      port: 80
";

#[test]
fn the_old_example_serves_as_it_stands() {
    for (name, gateway, backend) in [("dialect4", GATEWAY4, BACKEND4), ("dialect6", GATEWAY6, BACKEND6)] {
        let lab = Lab::new(name);
        let peer = echo::http(&lab.backend, SocketAddr::new(backend, 8080), "my-service");
        let endpoint = format!("default/my-service:80={}", peer.address);
        let agent = Agent::start(&lab.gateway, EXAMPLE, &["--endpoint", &endpoint]);
        let at = SocketAddr::new(gateway, 80);

        for path in ["/my-service", "/my-service/x"] {
            let answer = get(&lab.client, at, "a", path).expect("an answer");
            assert_eq!((answer.status, answer.backend()), (200, "my-service"), "{path}");
            assert_eq!(answer.echo().path, path);
        }
        for path in ["/my-servicex", "/"] {
            assert_eq!(get(&lab.client, at, "a", path).expect("an answer").status, 404, "{path}");
        }
        assert_eq!(peer.requests(), 2);

        let status = agent.ask("status");
        let gateway = &status["gateways"][0];
        assert_eq!((&gateway["namespace"], &gateway["name"]), (&"istio-system".into(), &"my-gateway".into()));
        for condition in gateway["conditions"].as_array().expect("conditions") {
            assert_eq!(condition["status"], "True", "{condition}");
            assert!(condition["lastTransitionTime"].is_string(), "{condition}");
        }
        let route = &status["routes"][0];
        assert_eq!((&route["namespace"], &route["name"]), (&"default".into(), &"my-route".into()));
        for condition in route["parents"][0]["conditions"].as_array().expect("conditions") {
            assert_eq!(condition["status"], "True", "{condition}");
        }
        let table = agent.sluice(&["status", "--admin-socket", agent.places()[3].as_str()]);
        let table = String::from_utf8(table.stdout).expect("text");
        for words in ["istio-system/my-gateway", "HTTPRoute  default/my-route  istio-system/my-gateway"] {
            assert!(table.contains(words), "no `{words}` in\n{table}");
        }

        // The warning shows today's form, in the log and in the status.
        let warnings = status["agent"]["configuration"]["warnings"].to_string();
        for words in ["allowedRoutes", "backendRefs", "PathPrefix"] {
            assert!(warnings.contains(words), "no `{words}` in {warnings}");
            assert!(agent.log().contains(words), "no `{words}` in the log");
        }
    }
}
