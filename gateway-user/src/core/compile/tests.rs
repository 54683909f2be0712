//! Compilation by data: objects in, lines out. A line is something that a status says, or where something is bound.

mod addresses;
mod external;
mod filters;
mod gateways;
mod kept;
mod properties;
mod room;
mod routes;
mod services;
mod tls;
mod udp;

use std::net::{IpAddr, SocketAddr};

use gateway_ebpf::abi::{ANY, Action, BindingKey, mapped};

use super::{Kept, compile, compile_after};
use crate::core::host::{Host, Listening};
use crate::core::route::Target;
use crate::core::snapshot::{BoundListeners, BoundService, Ids, Snapshot};
use crate::core::status::Condition;
use crate::core::testing::{model, object};
use crate::core::transport::Transport;

/// A host with 192.0.2.1 and 2001:db8::1 on eth0, where processes listen as given: `ADDRESS:PORT`, `udp ADDRESS:PORT`.
fn host(listening: &[&str]) -> Host {
    let listening = listening
        .iter()
        .map(|text| {
            let udp = text.strip_prefix("udp ");
            Listening {
                transport: if udp.is_some() { Transport::Udp } else { Transport::Tcp },
                at: udp.unwrap_or(text).parse::<SocketAddr>().unwrap(),
                process: "nginx (pid 7)".into(),
            }
        })
        .collect();
    let on = |name: &str, addresses: &[&str]| {
        (name.into(), addresses.iter().map(|a| a.parse::<IpAddr>().unwrap()).collect())
    };
    let interfaces = [on("eth0", &["192.0.2.1", "2001:db8::1"]), on("lo", &["127.0.0.1"])];
    Host { interfaces: interfaces.into(), listening, ..Host::default() }
}

fn compiled(objects: &str, listening: &[&str]) -> Snapshot {
    compile(&model(objects), &host(listening), &Ids::default(), 1)
}

fn short(name: &impl ToString) -> String {
    name.to_string().trim_start_matches("default/").to_owned()
}

fn place(key: &BindingKey) -> String {
    let ip = if key.address == ANY {
        "*".to_owned()
    } else if key.address[..12] == mapped([0; 4])[..12] {
        std::net::Ipv6Addr::from(key.address).to_ipv4_mapped().unwrap().to_string()
    } else {
        std::net::Ipv6Addr::from(key.address).to_string()
    };
    let udp = if key.protocol == Transport::Udp.number() { "/udp" } else { "" };
    format!("{ip}:{}{udp}", key.port)
}

/// Everything that a snapshot says, a line each.
fn lines(snapshot: &Snapshot) -> Vec<String> {
    let mut lines = Vec::new();
    let mut conditions = |what: &str, list: &[Condition]| {
        for c in list {
            let status = if c.status { "True" } else { "False" };
            lines.push(format!("{what} {}={status}:{} gen={}", c.kind, c.reason, c.observed_generation));
            lines.push(format!("{what} {} says {}", c.kind, c.message));
        }
    };
    let report = &snapshot.report;
    for (name, list) in &report.classes {
        conditions(&format!("class {name}"), list);
    }
    for ((kind, name), list) in &report.others {
        conditions(&format!("{kind} {}", short(name)), list);
    }
    for (name, gateway) in &report.gateways {
        conditions(&format!("gateway {}", short(name)), &gateway.conditions);
        for listener in &gateway.listeners {
            conditions(&format!("listener {}/{}", short(name), listener.name), &listener.conditions);
        }
    }
    for ((kind, name), parents) in &report.routes {
        for parent in parents.iter() {
            let section = parent.parent.section.as_ref().map(|s| format!("#{s}")).unwrap_or_default();
            let ours = if parent.ours { "" } else { "!" };
            conditions(
                &format!("{kind} {} @{ours}{}{section}", short(name), parent.parent.name),
                &parent.conditions,
            );
        }
    }
    for (name, gateway) in &report.gateways {
        let list: Vec<String> = gateway.addresses.iter().map(ToString::to_string).collect();
        lines.push(format!("gateway {} addresses [{}]", short(name), list.join(" ")));
        for l in &gateway.listeners {
            let kinds: Vec<&str> = l.supported_kinds.iter().map(|k| &*k.kind).collect();
            lines.push(format!(
                "listener {}/{} attached={} kinds=[{}]",
                short(name),
                l.name,
                l.attached_routes,
                kinds.join(" ")
            ));
        }
    }
    for (key, image) in &snapshot.image.bindings {
        let bound = &snapshot.bindings[key];
        assert_eq!(bound.id, image.id);
        let service = match (&bound.service, image.action) {
            (BoundService::Http(_), Action::Steer) if bound.tls.is_some() => "https".to_owned(),
            (BoundService::Http(_), Action::Steer) => "http".to_owned(),
            (BoundService::L4(l4), Action::Forward) => {
                assert_eq!(Some(l4.id), image.service);
                let service = &snapshot.image.services[&l4.id];
                assert_eq!((&l4.slots, l4.affinity), (&service.slots, service.affinity));
                assert_eq!(l4.idle, image.idle);
                assert_eq!(l4.transport.number(), key.protocol);
                format!("{} {}", l4.transport.lower(), short(&l4.route))
            }
            (BoundService::Reject, Action::Reject) => "reject".to_owned(),
            (bound, action) => panic!("{bound:?} for {action:?}"),
        };
        lines.push(format!("bound {} {service} {}", place(key), bound.label));
    }
    lines.extend(snapshot.addresses.iter().map(|ip| format!("bring up {ip}")));
    lines.extend(report.notes.iter().map(|note| format!("note {note}")));
    lines
}

/// Each wanted line must be the beginning of a line, or, with `…` inside, have its parts in this order; one with `!` in
/// front must not be there.
fn check(objects: &str, wanted: &str) {
    check_on(objects, &[], wanted);
}

fn check_on(objects: &str, listening: &[&str], wanted: &str) {
    compare(&lines(&compiled(objects, listening)), wanted);
}

fn compare(lines: &[String], wanted: &str) {
    for want in wanted.lines().map(str::trim).filter(|w| !w.is_empty()) {
        let (unwanted, want) = want.strip_prefix('!').map_or((false, want), |rest| (true, rest));
        let mut parts = want.split('…');
        let first = parts.next().unwrap();
        let rest: Vec<&str> = parts.collect();
        let fits = |line: &String| {
            let Some(mut tail) = line.strip_prefix(first) else { return false };
            rest.iter().all(|part| {
                let found = tail.find(part);
                tail = found.map_or(tail, |at| &tail[at + part.len()..]);
                found.is_some()
            })
        };
        assert_ne!(lines.iter().any(fits), unwanted, "{want}\namong\n{}", lines.join("\n"));
    }
}

/// The targets of a route's only rule: `NAME=ENDPOINTS`, `NAME=503` or `NAME=500`, with `*WEIGHT`; `500` if the rule is
/// refused.
fn targets(objects: &str) -> String {
    targets_of(&compiled(objects, &[]))
}

/// The same of a snapshot's first HTTP binding.
fn targets_of(snapshot: &Snapshot) -> String {
    let http = |bound: &std::sync::Arc<BoundListeners>| match &bound.service {
        BoundService::Http(table) => Some(table.clone()),
        BoundService::L4(_) | BoundService::Reject => None,
    };
    let table = snapshot.bindings.values().find_map(http).expect("an HTTP listener");
    let headers = http::HeaderMap::new();
    let view = crate::core::route::RequestView {
        host: "h",
        path: "/",
        query: None,
        method: "GET",
        headers: &headers,
    };
    let rule = table.find(&view).rule.expect("a rule");
    if rule.refused {
        return "500".to_owned();
    }
    let one = |b: &crate::core::route::HttpBackend| {
        assert_eq!(b.series.of(&snapshot.series).unwrap().backend, b.name);
        let target = match &b.target {
            Target::Endpoints(list) => list.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
            Target::Unavailable => "503".to_owned(),
            Target::Invalid => "500".to_owned(),
        };
        format!("{}={target}*{}", short(&b.name), b.weight)
    };
    rule.backends.iter().map(one).collect::<Vec<_>>().join(" ")
}
