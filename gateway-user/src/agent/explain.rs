//! Explanations put together: the decision of `core`, the request as the workers would read and send it on, and what
//! is known of workers and endpoints right now.
//!
//! Owns how an answer is put together from these. Decides nothing, and asks nobody: what a running agent knows is an
//! argument, and without one the rest is said all the same.

mod l4;
mod parts;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use gateway_ebpf::abi::{ANY, BindingKey};

use crate::admin::view::{
    AnswerView, ExplainView, HeaderView, KernelView, QuestionView, RoutesView, ServedView,
};
use crate::core::explain::{self, Outcome, Scene};
use crate::core::redirect::{Arrival, Scheme};
use crate::core::route::{HttpTable, Unserved};
use crate::core::snapshot::{BoundListeners, BoundService, Snapshot};
use crate::core::steer::Workers;
use crate::core::transport::Transport;
use crate::proxy::{self, Failing, Preview};

use parts::{backend, candidate, filters, listed, listener, matched, object, place};

/// What only a running agent knows.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// Its workers, as the kernel sees them.
    pub workers: Workers,
    /// By worker, the endpoints that it leaves alone now.
    pub failing: Vec<Failing>,
    /// Addresses of this host.
    pub addresses: BTreeSet<IpAddr>,
}

/// Explains a request or a connection.
pub async fn explain(question: &QuestionView, scene: &Scene<'_>, live: Option<&Live>) -> ExplainView {
    let mut view = ExplainView::default();
    match question {
        QuestionView::Tcp(ends) | QuestionView::Udp(ends) => {
            let answer = l4::answer(scene, live, question.transport(), ends);
            note_address(&mut view.notes, &answer, Some(ends.to.ip()), live);
            view.answers.push(answer);
        }
        QuestionView::Http { method, target, headers, to, port, from, tls } => {
            let preview = proxy::preview(&written(method, target, headers)).await;
            let name = preview.as_ref().map(|preview| preview.view().host.to_owned()).ok();
            let keys = explain::bindings(scene.snapshot, *to, *port, name.as_deref());
            if to.is_none() && !keys.is_empty() {
                let places: Vec<String> = keys
                    .iter()
                    .map(|key| {
                        let (address, port) = at(key);
                        if address.contains(':') {
                            format!("[{address}]:{port}")
                        } else {
                            format!("{address}:{port}")
                        }
                    })
                    .collect();
                view.notes.push(format!(
                    "the address is not known (--to ADDRESS); of port {port} this takes what fits the host: {}",
                    places.join(", ")
                ));
            }
            if keys.is_empty() {
                view.answers.push(AnswerView::default().failed(explain::no_binding(
                    scene,
                    Transport::Tcp,
                    *to,
                    *port,
                )));
            }
            let client = from.unwrap_or_else(|| {
                let six = to.is_some_and(|to| to.to_canonical().is_ipv6());
                if six { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() }
            });
            for key in keys {
                let Some(bound) = scene.snapshot.bindings.get(&key) else { continue };
                let mut answer = AnswerView {
                    binding: Some(place(bound)),
                    kernel: Some(kernel(scene.snapshot, &key, live)),
                    ..AnswerView::default()
                };
                if let Some(outcome) = explain::security(scene, bound, tls.as_deref()) {
                    view.answers.push(answer.failed(outcome));
                    continue;
                }
                match (&bound.service, &preview) {
                    (BoundService::Http(table), Ok(preview)) => {
                        let at = SocketAddr::new(asked(&key, *to, client), key.port);
                        let arrival = Arrival {
                            scheme: if bound.tls.is_some() { Scheme::Https } else { Scheme::Http },
                            at,
                        };
                        answer = http(scene, live, bound, table, (preview, client, arrival), answer);
                    }
                    (BoundService::Http(_), Err((status, why))) => {
                        answer = answer.failed(Outcome {
                            status: Some(*status),
                            message: format!("the request is refused before it is routed: {why}"),
                            remedy:
                                "send what RFC 9112 allows; the path without dot segments, plain or encoded"
                                    .to_owned(),
                        });
                    }
                    (BoundService::L4(_) | BoundService::Reject, _) => {
                        answer = l4::of_a_request(scene, live, bound, answer);
                    }
                }
                note_address(&mut view.notes, &answer, *to, live);
                view.answers.push(answer);
            }
            if from.is_none() && view.answers.iter().any(|answer| !answer.forwarded.is_empty()) {
                view.notes.push(format!("the client is taken to be {client} (--from ADDRESS names another)"));
            }
        }
    }
    view.served = view.answers.iter().any(|answer| answer.served);
    view
}

/// What is served where.
#[must_use]
pub fn routes(snapshot: &Snapshot, live: Option<&Live>) -> RoutesView {
    let view = |l: &explain::Listed| {
        let (address, port) = at(&l.binding);
        ServedView {
            address,
            port,
            protocol: Transport::of(l.binding.protocol).name().to_owned(),
            tls: l.tls,
            listener: listener(&l.listener, l.listener_hostname.as_deref()),
            route: (!l.route.is_empty()).then(|| object(l.kind, &l.route)),
            rule: l.rule.to_string(),
            matched: l.matched.as_ref().map(matched),
            filters: filters(l.redirect.as_deref(), l.headers.as_deref()),
            status: l.unserved.map(Unserved::status),
            backends: listed(&l.backends, live),
        }
    };
    RoutesView { routes: explain::listing(snapshot).iter().map(view).collect(), notes: Vec::new() }
}

/// The address that a client asked for: as it said, or else the binding's own, or one of its own family.
fn asked(key: &BindingKey, to: Option<IpAddr>, client: IpAddr) -> IpAddr {
    let loopback: IpAddr =
        if client.is_ipv6() { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
    let own = if key.address == ANY { loopback } else { IpAddr::from(key.address).to_canonical() };
    to.unwrap_or(own)
}

/// The bytes of a request's header.
fn written(method: &str, target: &str, headers: &[HeaderView]) -> Vec<u8> {
    let mut text = format!("{method} {target} HTTP/1.1\r\n");
    for HeaderView { name, value } in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.into_bytes()
}

fn http(
    scene: &Scene<'_>,
    live: Option<&Live>,
    bound: &BoundListeners,
    table: &HttpTable,
    (preview, client, arrival): (&Preview, IpAddr, Arrival),
    mut answer: AnswerView,
) -> AnswerView {
    let request = preview.view();
    let decision = explain::http(scene, table, &request);
    answer.listener =
        decision.listener.as_deref().map(|label| listener(label, decision.listener_hostname.as_deref()));
    if let Some(served) = &decision.served {
        answer.route = Some(object("HTTPRoute", &served.rule.route));
        answer.rule = Some(served.rule.rule.to_string());
        answer.matched = Some(matched(&served.matched));
        answer.filters = filters(served.rule.redirect.as_deref(), served.rule.headers.as_deref());
        if !served.rule.refused {
            let total: u64 = served.rule.backends.iter().map(|b| u64::from(b.weight)).sum();
            answer.backends = served.rule.backends.iter().map(|b| backend(b, total, live)).collect();
        }
    }
    answer.candidates = decision.lost.iter().map(candidate).collect();
    if let Some(outcome) = decision.outcome(scene, &bound.label, request.host) {
        return answer.failed(outcome);
    }
    answer.served = true;
    let Some(rule) = decision.served.map(|served| served.rule) else { return answer };
    if let Some(redirect) = &rule.redirect {
        answer.status = Some(redirect.status.code());
        answer.location = Some(redirect.location(&arrival, request.host, request.path, request.query));
        return answer;
    }
    let first = rule.backends.iter().find(|b| b.weight > 0 && b.target.endpoints().is_ok());
    let changes = first.and_then(|backend| backend.headers.as_deref()).map(|headers| &headers.request);
    let head = preview.head(client, bound.tls.is_some(), rule.trusts(client), changes);
    answer.forwarded =
        String::from_utf8_lossy(&head).lines().filter(|l| !l.is_empty()).map(str::to_owned).collect();
    let mut pickable = answer.backends.iter().filter(|backend| backend.weight > Some(0));
    if let (Some(only), None) = (pickable.next(), pickable.next())
        && let [only] = &*only.endpoints
    {
        answer.pick = only.address.parse().ok();
    }
    answer.all_skipped(live)
}

impl AnswerView {
    fn failed(mut self, outcome: Outcome) -> Self {
        self.served = false;
        self.status = outcome.status;
        self.message = outcome.message;
        self.remedy = outcome.remedy;
        self
    }

    /// Not served if every worker leaves every endpoint alone.
    fn all_skipped(self, live: Option<&Live>) -> Self {
        let workers = live.map_or(0, |live| live.failing.len());
        let mut endpoints =
            self.backends.iter().filter(|b| b.share > 0.0).flat_map(|b| &b.endpoints).peekable();
        if workers == 0 || endpoints.peek().is_none() || !endpoints.all(|e| e.skipped.len() == workers) {
            return self;
        }
        self.failed(Outcome {
            status: None,
            message:
                "every endpoint refused or did not answer lately, on every worker; one is tried all the same"
                    .to_owned(),
            remedy: "look at the endpoints below: does something listen there, and is the way to them open?"
                .to_owned(),
        })
    }
}

fn kernel(snapshot: &Snapshot, key: &BindingKey, live: Option<&Live>) -> KernelView {
    KernelView {
        action: snapshot.image.bindings.get(key).map(|b| format!("{:?}", b.action)).unwrap_or_default(),
        verdict: None,
        worker: None,
        workers: live.map(|live| u32::try_from(live.workers.loads.len()).unwrap_or(u32::MAX)),
    }
}

/// A binding's address and port.
fn at(key: &BindingKey) -> (String, u16) {
    let ip = IpAddr::from(key.address).to_canonical();
    (if key.address == ANY { "*".to_owned() } else { ip.to_string() }, key.port)
}

/// A binding of every local address serves only those that are local.
fn note_address(notes: &mut Vec<String>, answer: &AnswerView, to: Option<IpAddr>, live: Option<&Live>) {
    let (Some(to), Some(live)) = (to.map(|to| to.to_canonical()), live) else { return };
    let any = answer.binding.as_ref().is_some_and(|place| place.address == "*");
    if any && !to.is_loopback() && !live.addresses.contains(&to) {
        notes.push(format!(
            "{to} is no address of this host: the binding serves every local address, and what is sent to {to} arrives \
             only if something routes it here"
        ));
    }
}

/// Whether a worker leaves an endpoint alone.
fn skips(live: &Live, worker: u32, at: SocketAddr) -> bool {
    live.failing.get(worker as usize).is_some_and(|failing| failing.iter().any(|(other, _)| *other == at))
}
