//! A small language for models, for tests by data: one object or part of one a line, words separated by blanks.
//!
//! ```text
//! parameters default/p pool=10.0.0.0/28 mode=Pool
//! gateway default/gw created=5 address=10.0.0.1 parameters=p had=10.0.0.1
//! listener http HTTP 80 hostname=*.example.com from=All
//! http default/r parent=gw#http host=a.example.com
//! rule name=x
//! match exact=/a method=GET header=x:1
//! to svc:80 weight=2
//! rule redirect=301 scheme=https
//! rule set=x-a:1 answer-remove=server
//! service default/svc 80
//! endpoints default/svc 10.1.0.1:8080 10.1.0.2:8080!
//! ```
//! Without a namespace, `default`. A route without `parent` refers to the Gateway `gw`; one without `rule` has one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gateway_ebpf::abi::Affinity;

use super::model::*;
use super::pool::Pools;
use super::tls::{Certificate, PrivateKey, Secret};
use super::transport::Transport;

mod parts;

use parts::{certificate, headers, redirect};

/// The model that a text describes. Panics with the line that is wrong.
pub(crate) fn model(text: &str) -> Model {
    let mut builder = Builder::default();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        builder.line(line);
    }
    builder.close();
    builder.model
}

#[derive(Default)]
struct Builder {
    model: Model,
    gateway: Option<Gateway>,
    http: Option<HttpRoute>,
    l4: Option<L4Route>,
}

/// A line's words: those without `=` in front, then the options.
struct Words<'t> {
    line: &'t str,
    plain: Vec<&'t str>,
    options: Vec<(&'t str, &'t str)>,
}

impl<'t> Words<'t> {
    fn new(line: &'t str) -> Self {
        let (options, plain) = line.split_whitespace().partition::<Vec<_>, _>(|w| w.contains('='));
        let options = options.into_iter().map(|w| w.split_once('=').unwrap()).collect();
        Self { line, plain, options }
    }

    fn at(&self, position: usize) -> &'t str {
        self.plain.get(position).unwrap_or_else(|| panic!("word {position} is missing in: {}", self.line))
    }

    fn all(&self, key: &str) -> impl Iterator<Item = &'t str> {
        self.options.iter().filter(move |(k, _)| *k == key).map(|(_, v)| *v)
    }

    fn get(&self, key: &str) -> Option<&'t str> {
        self.all(key).next()
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        self.get(key).map(|v| v.parse().ok().unwrap_or_else(|| panic!("{key}: {}", self.line)))
    }

    fn refusals(&self) -> Vec<Refusal> {
        let make = |f: &&str| Refusal { field: (*f).into(), message: "is not built".into() };
        self.all("refuse").collect::<Vec<_>>().iter().map(make).collect()
    }

    fn meta(&self, name: &str) -> Meta {
        Meta {
            name: object(name),
            generation: self.number("generation").unwrap_or(1),
            created: self.number("created"),
        }
    }

    fn parents(&self) -> Vec<ParentRef> {
        let parents: Vec<_> = self.all("parent").map(parent).collect();
        if parents.is_empty() { vec![parent("gw")] } else { parents }
    }
}

pub(crate) fn object(name: &str) -> ObjectName {
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    ObjectName::new(namespace, name)
}

/// `[NAMESPACE/]NAME[#SECTION][:PORT]`; `Kind!NAME` for another kind.
fn parent(text: &str) -> ParentRef {
    let (kind, text) = text.split_once('!').unwrap_or(("Gateway", text));
    let (text, port) = match text.rsplit_once(':') {
        Some((text, port)) => (text, Some(port.parse().unwrap())),
        None => (text, None),
    };
    let (text, section) = match text.split_once('#') {
        Some((text, section)) => (text, Some(section.into())),
        None => (text, None),
    };
    let (namespace, name) = match text.split_once('/') {
        Some((namespace, name)) => (Some(namespace.into()), name),
        None => (None, text),
    };
    let group = if kind == "Service" { "" } else { GATEWAY_GROUP };
    let kind = GroupKind { group: group.into(), kind: kind.into() };
    ParentRef { kind, namespace, name: name.into(), section, port }
}

/// `[[GROUP/]KIND!][NAMESPACE/]NAME`.
fn parameters(text: &str) -> ParametersRef {
    let (kind, text) = text.split_once('!').unwrap_or((PARAMETERS, text));
    let (group, kind) = kind.split_once('/').unwrap_or((OWN_GROUP, kind));
    let (namespace, name) = match text.split_once('/') {
        Some((namespace, name)) => (Some(namespace.into()), name),
        None => (None, text),
    };
    let kind = GroupKind { group: group.into(), kind: kind.into() };
    ParametersRef { kind, namespace, name: name.into() }
}

impl Builder {
    fn line(&mut self, line: &str) {
        let words = Words::new(line);
        match words.at(0) {
            "listener" => return self.listener(&words),
            "rule" | "match" | "to" => return self.part(&words),
            _ => self.close(),
        }
        let name = words.at(1);
        let meta = words.meta(name);
        match words.at(0) {
            "class" => {
                let class = GatewayClass {
                    meta,
                    controller: words.at(2).into(),
                    parameters: words.get("parameters").map(parameters),
                    refusals: words.refusals(),
                };
                self.model.classes.insert(name.into(), class);
            }
            "gateway" => {
                let addresses = words.all("address").map(|text| match text {
                    "pool" => GatewayAddress::FromPool,
                    text => text
                        .parse()
                        .map_or_else(|_| GatewayAddress::Unsupported(text.into()), GatewayAddress::Ip),
                });
                self.gateway = Some(Gateway {
                    meta,
                    class: words.get("class").unwrap_or("sluice").into(),
                    addresses: addresses.collect(),
                    parameters: words.get("parameters").map(parameters),
                    infrastructure: Infrastructure::default(),
                    had: words.all("had").map(|ip| ip.parse().unwrap()).collect(),
                    listeners: Vec::new(),
                    refusals: words.refusals(),
                });
            }
            "parameters" => {
                let ranges: Vec<_> = words.all("pool").map(|text| text.parse().unwrap()).collect();
                let parameters = Parameters {
                    mode: words.get("mode").map(|mode| match mode {
                        "Node" => AddressMode::Node,
                        _ => AddressMode::Pool,
                    }),
                    pools: Pools::new(&ranges).unwrap().map(Arc::new),
                    interfaces: words
                        .get("interfaces")
                        .map(|names| names.split(',').map(Arc::from).collect()),
                    trusted: None,
                    refusals: words.refusals(),
                    meta,
                };
                self.model.parameters.insert(parameters.meta.name.clone(), parameters);
            }
            "http" => {
                self.http = Some(HttpRoute {
                    meta,
                    parents: words.parents(),
                    hostnames: words.all("host").map(Into::into).collect(),
                    rules: Vec::new(),
                    refusals: words.refusals(),
                });
            }
            "tcp" | "udp" => {
                self.l4 = Some(L4Route {
                    transport: if words.at(0) == "udp" { Transport::Udp } else { Transport::Tcp },
                    meta,
                    parents: words.parents(),
                    rules: Vec::new(),
                    idle: words.number("idle"),
                    refusals: words.refusals(),
                });
            }
            "unbuilt" => {
                let kind = ["GRPCRoute", "TLSRoute"].into_iter().find(|k| *k == name).unwrap();
                let route = UnbuiltRoute { meta: words.meta(words.at(2)), parents: words.parents() };
                self.model.unbuilt_routes.insert((kind, route.meta.name.clone()), route);
            }
            "set" => drop(self.model.listener_sets.insert(meta.name.clone(), UnbuiltObject { meta })),
            "tls" => {
                let targets = words.plain[2..].iter().map(|target| {
                    let (name, section) = match target.split_once(':') {
                        Some((name, section)) => (name, Some(section.into())),
                        None => (*target, None),
                    };
                    let kind = GroupKind { group: String::new(), kind: "Service".into() };
                    PolicyTarget { kind, name: name.into(), section }
                });
                let policy = BackendTlsPolicy { targets: targets.collect(), meta };
                self.model.backend_tls.insert(policy.meta.name.clone(), policy);
            }
            "grant" => {
                let (kind, namespace) = words.get("from").unwrap().split_once('/').unwrap();
                let from = GroupKind { group: GATEWAY_GROUP.into(), kind: kind.into() };
                let to =
                    GroupKind { group: String::new(), kind: words.get("kind").unwrap_or("Service").into() };
                let grant = ReferenceGrant {
                    from: vec![(from, namespace.into())],
                    to: vec![(to, words.get("to").map(Into::into))],
                    meta,
                };
                self.model.grants.insert(grant.meta.name.clone(), grant);
            }
            "secret" => {
                let certificate = Certificate {
                    chain: [name.as_bytes().into()].into(),
                    key: PrivateKey(name.as_bytes().into()),
                };
                let certificate = words.get("bad").map_or(Ok(certificate.into()), |why| Err(why.to_owned()));
                self.model.secrets.insert(meta.name.clone(), Secret { meta, certificate });
            }
            "service" => {
                // PORT[:PROTOCOL[:APP]], named by its number if there are several.
                let many = words.plain.len() > 3;
                let ports = words.plain[2..].iter().map(|text| {
                    let mut parts = text.splitn(3, ':');
                    let port = parts.next().unwrap();
                    ServicePort {
                        name: if many { port.into() } else { "".into() },
                        port: port.parse().unwrap(),
                        protocol: parts.next().unwrap_or("TCP").into(),
                        app_protocol: parts.next().map(Into::into),
                    }
                });
                let external_name = words.get("external").map(Into::into);
                let affinity = match words.get("affinity") {
                    Some("ClientIP") => Affinity::ClientIp,
                    _ => Affinity::None,
                };
                let service = Service { ports: ports.collect(), external_name, affinity, meta };
                self.model.services.insert(service.meta.name.clone(), service);
            }
            "endpoints" => self.endpoints(&words, &meta),
            "namespace" => {
                let labels = words.options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
                self.model.namespaces.insert(name.into(), labels.collect());
            }
            other => panic!("{other} in: {line}"),
        }
    }

    /// `ADDRESS:PORT`, with `!` behind it not ready, with `~` ending but serving; `port=` names the Service's port,
    /// `protocol=` its protocol.
    fn endpoints(&mut self, words: &Words<'_>, meta: &Meta) {
        for (at, text) in words.plain[2..].iter().enumerate() {
            let (address, ready, serving, terminating) =
                match (text.strip_suffix('!'), text.strip_suffix('~')) {
                    (Some(address), _) => (address, false, false, false),
                    (_, Some(address)) => (address, false, true, true),
                    _ => (*text, true, true, false),
                };
            let address: SocketAddr = address.parse().unwrap();
            let endpoint = Endpoint { address: address.ip(), ready, serving, terminating };
            let port = words.get("port").unwrap_or("");
            let protocol = words.get("protocol").unwrap_or("TCP");
            let slice = EndpointSlice {
                meta: Meta {
                    name: object(&format!("{}-{port}-{at}{}", meta.name, protocol.trim_start_matches("TCP"))),
                    ..meta.clone()
                },
                service: meta.name.name.clone(),
                endpoints: vec![endpoint],
                ports: vec![(port.into(), Some(address.port()), protocol.into())],
            };
            let name = ObjectName::new(&meta.name.namespace, &slice.meta.name.name);
            let slice = EndpointSlice { meta: Meta { name: name.clone(), ..slice.meta }, ..slice };
            self.model.slices.insert(name, slice);
        }
    }

    fn listener(&mut self, words: &Words<'_>) {
        let protocol = match words.at(2) {
            "HTTP" => Protocol::Http,
            "HTTPS" => Protocol::Https,
            "TLS" => Protocol::Tls,
            "TCP" => Protocol::Tcp,
            "UDP" => Protocol::Udp,
            other => Protocol::Other(other.into()),
        };
        let named: Vec<NamedRoute> = words
            .all("named")
            .map(|text| {
                let (kind, name) = text.split_once('/').unwrap();
                NamedRoute { kind: kind.into(), name: Some(name.into()), namespace: None }
            })
            .collect();
        let namespaces = match words.get("from").unwrap_or("Same") {
            "Same" => FromNamespaces::Same,
            "All" => FromNamespaces::All,
            "None" => FromNamespaces::None,
            text => FromNamespaces::Selector(selector(text)),
        };
        let kind = |text: &str| {
            let (group, kind) = text.split_once('/').unwrap_or((GATEWAY_GROUP, text));
            GroupKind { group: group.into(), kind: kind.into() }
        };
        let allowed = AllowedRoutes {
            namespaces,
            kinds: words.all("kind").map(kind).collect(),
            named: (!named.is_empty()).then_some(named),
        };
        self.gateway.as_mut().expect("a gateway before its listener").listeners.push(Listener {
            name: words.at(1).into(),
            hostname: words.get("hostname").map(Into::into),
            port: words.at(3).parse().unwrap(),
            protocol,
            certificates: words.all("cert").map(certificate).collect(),
            allowed,
            refusals: words.refusals(),
        });
    }

    fn part(&mut self, words: &Words<'_>) {
        let name = words.get("name").map(Arc::from);
        if let Some(route) = &mut self.l4 {
            if words.at(0) == "rule" || route.rules.is_empty() {
                route.rules.push(L4Rule { name, backends: Vec::new(), refusals: words.refusals() });
            }
            if words.at(0) == "to" {
                route.rules.last_mut().unwrap().backends.push(backend(words));
            }
            return;
        }
        let route = self.http.as_mut().expect("a route before its parts");
        if words.at(0) == "rule" || route.rules.is_empty() {
            let rule = words.at(0) == "rule";
            route.rules.push(HttpRule {
                name,
                matches: Vec::new(),
                backends: Vec::new(),
                request_timeout: words.number("request").map(Duration::from_millis),
                backend_timeout: words.number("backend").map(Duration::from_millis),
                redirect: words.number("redirect").map(|code| redirect(words, code).into()),
                headers: if rule { headers(words) } else { None },
                refusals: if rule { words.refusals() } else { Vec::new() },
            });
        }
        let rule = route.rules.last_mut().unwrap();
        match words.at(0) {
            "match" => rule.matches.push(one_match(words)),
            "to" => rule.backends.push(backend(words)),
            _ => {}
        }
    }

    /// Puts what was begun into the model.
    fn close(&mut self) {
        if let Some(gateway) = self.gateway.take() {
            self.model.gateways.insert(gateway.meta.name.clone(), gateway);
        }
        if let Some(mut route) = self.http.take() {
            if route.rules.is_empty() {
                self.http = Some(route);
                self.part(&Words::new("rule"));
                return self.close();
            }
            for rule in &mut route.rules {
                if rule.matches.is_empty() {
                    rule.matches.push(one_match(&Words::new("match")));
                }
            }
            self.model.http_routes.insert(route.meta.name.clone(), route.into());
        }
        if let Some(route) = self.l4.take() {
            self.model.l4_routes.insert((route.transport, route.meta.name.clone()), route);
        }
    }
}

/// `key:value` or `key:a|b` (In), `key!a|b` (NotIn), `+key` (Exists), `-key` (DoesNotExist), separated by commas.
fn selector(text: &str) -> LabelSelector {
    let mut selector = LabelSelector::default();
    for part in text.split(',') {
        let list = |values: &str| values.split('|').map(str::to_owned).collect::<Vec<_>>();
        let (key, operator, values) = if let Some(key) = part.strip_prefix('+') {
            (key, Operator::Exists, Vec::new())
        } else if let Some(key) = part.strip_prefix('-') {
            (key, Operator::DoesNotExist, Vec::new())
        } else if let Some((key, values)) = part.split_once('!') {
            (key, Operator::NotIn, list(values))
        } else {
            let (key, values) = part.split_once(':').unwrap();
            if !values.contains('|') {
                selector.labels.insert(key.into(), values.into());
                continue;
            }
            (key, Operator::In, list(values))
        };
        selector.expressions.push(Requirement { key: key.into(), operator, values });
    }
    selector
}

fn one_match(words: &Words<'_>) -> HttpMatch {
    let path = if let Some(path) = words.get("exact") {
        PathMatch::Exact(path.into())
    } else if let Some(regex) = words.get("regex") {
        PathMatch::Regex(regex.into())
    } else {
        PathMatch::Prefix(words.get("prefix").unwrap_or("/").into())
    };
    let values = |exact: &str, regex: &str| {
        let options = words.options.iter().filter(|(k, _)| *k == exact || *k == regex);
        let value = |(k, v): &(&str, &str)| {
            let (name, value) = v.split_once(':').unwrap();
            ValueMatch { name: name.into(), value: value.into(), regex: *k == regex }
        };
        options.map(value).collect()
    };
    HttpMatch {
        path,
        method: words.get("method").map(Into::into),
        headers: values("header", "headerre"),
        query: values("query", "queryre"),
    }
}

/// `[NAMESPACE/]SERVICE[:PORT]`.
fn backend(words: &Words<'_>) -> BackendRef {
    let (text, port) = match words.at(1).split_once(':') {
        Some((text, port)) => (text, Some(port.parse().unwrap())),
        None => (words.at(1), None),
    };
    let (namespace, name) = match text.split_once('/') {
        Some((namespace, name)) => (Some(namespace.into()), name),
        None => (None, text),
    };
    let kind = GroupKind { group: String::new(), kind: words.get("kind").unwrap_or("Service").into() };
    let weight = words.number("weight").unwrap_or(1);
    BackendRef {
        kind,
        namespace,
        name: name.into(),
        port,
        weight,
        headers: headers(words),
        refusals: words.refusals(),
    }
}
