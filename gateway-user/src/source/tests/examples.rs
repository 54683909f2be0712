//! Every file of config/examples loads and means what it says.

use super::{example, name};
use crate::core::compile::compile;
use crate::core::host::Host;
use crate::core::model::{FromNamespaces, GatewayAddress, NamedRoute, PathMatch, Protocol};
use crate::core::snapshot::Ids;

#[test]
fn every_example_loads() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/examples");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let loaded = example(&file, &[]).load().unwrap_or_else(|errors| panic!("{file}: {errors:#?}"));
        assert!(loaded.model.http_routes.len() + loaded.model.l4_routes.len() > 0, "{file}");
        // Whether everybody may read the file with the key is the checkout's.
        let open = |warning: &crate::source::Diagnostic| warning.message == "every user may read this file";
        let told: Vec<_> =
            loaded.warnings.iter().filter(|warning| file != "https.yaml" || !open(warning)).collect();
        let warnings = match &*file {
            "old-dialect.yaml" | "from-istio.yaml" => 2,
            "old-dialect-v1alpha1.yaml" | "old-dialect-v1alpha2.yaml" => 5,
            _ => 0,
        };
        assert_eq!(told.len(), warnings, "{file}: {told:#?}");
        files += 1;
    }
    assert!(files >= 5, "only {files} examples");
}

#[test]
fn the_introductions_example_means_what_it_meant() {
    let loaded = example("old-dialect.yaml", &["default/my-service:80=127.0.0.1:9000"]).load().unwrap();
    let gateway = &loaded.model.gateways[&name("istio-system/my-gateway")];
    let listener = &gateway.listeners[0];
    assert_eq!((&*listener.name, listener.port, &listener.protocol), ("http", 80, &Protocol::Http));
    assert_eq!(listener.allowed.namespaces, FromNamespaces::All);
    let named = NamedRoute { kind: "HTTPRoute".into(), name: Some("my-route".into()), namespace: None };
    assert_eq!(listener.allowed.named, Some(vec![named]));
    let route = &loaded.model.http_routes[&name("default/my-route")];
    assert_eq!(route.parents[0].namespace.as_deref(), Some("istio-system"));
    assert_eq!(route.rules[0].matches[0].path, PathMatch::Prefix("/my-service".into()));
    let backend = &route.rules[0].backends[0];
    assert_eq!((&*backend.name, backend.port, backend.weight), ("my-service", Some(80), 1));
    assert_eq!((&*backend.kind.group, &*backend.kind.kind), ("", "Service"));
    assert_eq!(loaded.model.services[&name("default/my-service")].ports[0].port, 80);
    let slice = loaded.model.slices.values().next().unwrap();
    assert_eq!(slice.ports[0].1, Some(9000));
}

#[test]
fn the_introductions_example_is_shown_in_todays_form() {
    let mut source = example("old-dialect.yaml", &[]);
    let loaded = source.load().unwrap();
    let shown = |index: usize| {
        loaded.warnings[index].to_string().split_once("old-dialect.yaml:").unwrap().1.to_owned()
    };
    assert_eq!(
        shown(0),
        "1:1: Gateway istio-system/my-gateway: `routes` of a listener of gateway.networking.k8s.io/v1alpha2: an old \
         form, which today is
    # Listener http took only HTTPRoute my-route.
    # Today's form has no such list: a route of the namespace default that names this Gateway may attach.
    apiVersion: gateway.networking.k8s.io/v1
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
        allowedRoutes:
          namespaces:
            from: Selector
            selector:
              matchLabels:
                kubernetes.io/metadata.name: default
          kinds:
          - kind: HTTPRoute"
    );
    assert_eq!(
        shown(1),
        "16:1: HTTPRoute default/my-route: the path type `Prefix`, `forwardTo` of \
         gateway.networking.k8s.io/v1alpha2: an old form, which today is
    apiVersion: gateway.networking.k8s.io/v1
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
            type: PathPrefix
            value: /my-service
        backendRefs:
        - kind: Service
          name: my-service
          namespace: default
          port: 80"
    );
}

#[test]
fn weights_prefixes_timeouts_and_addresses_arrive() {
    let loaded = example("weighted.yaml", &[]).load().unwrap();
    let route = &loaded.model.http_routes[&name("default/shop")];
    let api = &route.rules[0];
    assert_eq!(api.name.as_deref(), Some("api"));
    assert_eq!(api.backends.iter().map(|backend| backend.weight).collect::<Vec<_>>(), [90, 10]);
    assert_eq!(api.request_timeout, Some(std::time::Duration::from_secs(10)));
    assert_eq!(route.rules[1].matches[0].path, PathMatch::Prefix("/".into()));
    assert_eq!(loaded.model.slices.len(), 3);

    let loaded = example("ipv6.yaml", &[]).load().unwrap();
    let gateway = &loaded.model.gateways[&name("default/web6")];
    assert_eq!(gateway.addresses, [GatewayAddress::Ip("2001:db8::80".parse().unwrap())]);
    let ready: Vec<_> =
        loaded.model.slices[&name("default/web-ipv6")].endpoints.iter().map(|e| e.ready).collect();
    assert_eq!(ready, [true, false]);
    let rule = &loaded.model.http_routes[&name("default/web6")].rules[0];
    assert_eq!(rule.matches[0].method.as_deref(), Some("GET"));
    assert!(rule.matches[1].headers[0].regex);
    assert_eq!(&*rule.matches[1].headers[0].name, "x-tenant");
}

#[test]
fn the_pools_example_gives_addresses() {
    let model = example("pool.yaml", &[]).load().unwrap().model;
    let snapshot = compile(&model, &Host::default(), &Ids::default(), 1);
    let of = |gateway: &str| -> Vec<String> {
        let status = &snapshot.report.gateways[&name(gateway)];
        status.addresses.iter().map(ToString::to_string).collect()
    };
    assert_eq!(of("default/shop"), ["192.0.2.65", "2001:db8::101"]);
    assert_eq!(of("default/mail"), ["192.0.2.100"]);
    assert_eq!(snapshot.report.notes, Vec::<String>::new());
}

#[test]
fn redirects_and_header_changes_arrive() {
    let loaded = example("redirect.yaml", &[]).load().unwrap();
    let rules = &loaded.model.http_routes[&name("default/to-https")].rules;
    let redirect = |rule: usize| rules[rule].redirect.as_ref().unwrap().to_string();
    assert_eq!(redirect(0), "308 to https, host docs.example.com, \"/v2\" in place of \"/manual\"");
    assert_eq!(redirect(1), "301 to https");
    let headers = loaded.model.http_routes[&name("default/inside")].rules[0].headers.clone().unwrap();
    assert_eq!(headers.request.to_string(), "set x-came-by: site, remove x-debug");
    assert_eq!(headers.response.to_string(), "set x-frame-options: DENY, remove server");
}

#[test]
fn the_certificate_of_the_example_is_one() {
    let loaded = example("https.yaml", &[]).load().unwrap();
    let secret = &loaded.model.secrets[&name("default/not-a-secret")];
    assert_eq!(secret.certificate.as_ref().map(|certificate| certificate.chain.len()), Ok(1));
    let listener = &loaded.model.gateways[&name("default/secure")].listeners[0];
    assert_eq!((&listener.protocol, &*listener.certificates[0].name), (&Protocol::Https, "not-a-secret"));
}
