//! Why a request or a connection goes where it goes: `sluice explain -o json`, and what the agent is asked for that.

use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::transport::Transport;

/// What is to be explained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "protocol", rename_all = "camelCase")]
pub enum QuestionView {
    /// A request over HTTP/1.1, in clear or inside of TLS.
    #[serde(rename_all = "camelCase")]
    Http {
        /// Its method.
        method: String,
        /// Its target as it is sent, `/path?query`.
        target: String,
        /// Its header, the Host field too, in the order in which it is sent.
        headers: Vec<HeaderView>,
        /// The address that the client connects to; missing: every one that has a listener for the host.
        to: Option<IpAddr>,
        /// The port that it connects to.
        port: u16,
        /// The client's address; missing: of this host.
        from: Option<IpAddr>,
        /// The name that the client asks for in its ClientHello, empty if it names none; missing: it does not speak TLS.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tls: Option<String>,
    },
    /// A TCP connection.
    Tcp(EndsView),
    /// A UDP flow.
    Udp(EndsView),
}

/// The two ends of a connection or flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndsView {
    /// Where the client connects or sends to.
    pub to: SocketAddr,
    /// The client's address and port.
    pub from: SocketAddr,
}

impl QuestionView {
    /// What it is carried by.
    #[must_use]
    pub const fn transport(&self) -> Transport {
        match self {
            Self::Http { .. } | Self::Tcp(_) => Transport::Tcp,
            Self::Udp(_) => Transport::Udp,
        }
    }
}

/// A header's field, or a query parameter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeaderView {
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
}

/// What becomes of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExplainView {
    /// Whether it is served: on at least one of the bindings, if the question leaves several open.
    pub served: bool,
    /// One for each binding that the question leaves open.
    pub answers: Vec<AnswerView>,
    /// What was assumed, and what else should be known.
    pub notes: Vec<String>,
}

/// What becomes of it on a binding.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AnswerView {
    /// Whether an endpoint gets it, or it is redirected as its rule says.
    pub served: bool,
    /// The status that the gateway itself answers with; missing: an endpoint answers, or the connection is reset
    /// or the datagram dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why it is not served; empty if it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What to do about that.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remedy: String,
    /// The binding; missing: none is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<PlaceView>,
    /// What the kernel does with the connection's first packet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<KernelView>,
    /// The listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<ListenerRefView>,
    /// The route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<ObjectRefView>,
    /// The rule: its name, or its position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The match that decided.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pub matched: Option<MatchView>,
    /// The rule's filters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<FilterView>,
    /// Where the client is sent; missing: it is not redirected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Backends, in the order of the spec.
    pub backends: Vec<BackendView>,
    /// Endpoints in the order in which they are tried, where that is known beforehand (TCP, UDP).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub order: Vec<SocketAddr>,
    /// `ClientIP` if the first of `order` is picked by the client's address alone, as a Service asks for it; missing: by
    /// the client's address and port and those that it asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<String>,
    /// Seconds that an established connection or flow may go without a packet, if its route says how many; missing: as
    /// the agent is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_seconds: Option<u32>,
    /// The endpoint that gets it, where that is known beforehand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pick: Option<SocketAddr>,
    /// The request's header as an endpoint gets it, a line each; the request line first. If backends have filters of
    /// their own, an endpoint of the first one that is picked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forwarded: Vec<String>,
    /// Who else might have got it, the closest first.
    pub candidates: Vec<CandidateView>,
}

/// An address and port with a protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlaceView {
    /// Address; `*` stands for every local one.
    pub address: String,
    /// Port.
    pub port: u16,
    /// Names of the listeners, `NAMESPACE/GATEWAY/LISTENER`.
    pub listeners: Vec<String>,
}

/// What the kernel does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KernelView {
    /// `Forward`, `Steer` or `Reject`: the binding's.
    pub action: String,
    /// What becomes of this very packet: `steered`, `rejected`, `no_socket` or `failed`; missing: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// The worker that gets it, as their loads are now; missing: not known, or none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<u32>,
    /// How many workers there are; missing: no agent was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<u32>,
}

/// A listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListenerRefView {
    /// `NAMESPACE/GATEWAY/LISTENER`.
    pub name: String,
    /// Its hostname; empty: every one.
    pub hostname: String,
}

/// An object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRefView {
    /// Kind.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// A match of an HTTPRoute's rule, as it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MatchView {
    /// Its position within the rule's matches.
    pub index: u32,
    /// The route's hostname that fits; empty: it has none.
    pub hostname: String,
    /// The path.
    pub path: PathView,
    /// The method, if one is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Headers that are asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<ValueView>,
    /// Query parameters that are asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub query_params: Vec<ValueView>,
    /// All of it in words.
    pub text: String,
}

/// A path that is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PathView {
    /// `Exact`, `PathPrefix` or `RegularExpression`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Value.
    pub value: String,
}

/// A header or a query parameter that is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ValueView {
    /// `Exact` or `RegularExpression`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
}

/// A filter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FilterView {
    /// `RequestHeaderModifier`, `ResponseHeaderModifier` or `RequestRedirect`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it does, in words.
    pub text: String,
}

/// A backend.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackendView {
    /// `NAMESPACE/SERVICE:PORT`.
    pub name: String,
    /// Its weight; missing: not known from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Percent of the requests, connections or flows that go to it.
    pub share: f64,
    /// The status that is answered instead of it; missing: it answers, or its connections are reset or its
    /// datagrams dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why nothing gets to it; empty: it does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What is done to headers on the way to it and back: by the rule's filters, and by its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<FilterView>,
    /// Its endpoints.
    pub endpoints: Vec<EndpointView>,
}

/// An endpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointView {
    /// Where it is, `ADDRESS:PORT`.
    pub address: String,
    /// Workers that leave it alone now, since it refused or did not answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<SkipView>,
}

/// A worker that leaves an endpoint alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SkipView {
    /// The worker.
    pub worker: u32,
    /// For how long still.
    pub seconds: f64,
}

/// Who did not get it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CandidateView {
    /// The route.
    pub route: ObjectRefView,
    /// The rule; missing: the route as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The listener where it is served, `NAMESPACE/GATEWAY/LISTENER`; missing: nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<String>,
    /// Of the rule's matches the one that came closest.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pub matched: Option<MatchView>,
    /// In a word: `Precedence`, `Age`, `NameOrder`, `RuleOrder`, `NotServed`, `NotAttached`, `Query`, `Header`,
    /// `Method`, `Path`, `Hostname` or `Listener`.
    pub reason: String,
    /// In words.
    pub message: String,
}

/// What is served where: `sluice routes -o json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RoutesView {
    /// Every match of every binding, in the order in which they are tried.
    pub routes: Vec<ServedView>,
    /// What else should be known.
    pub notes: Vec<String>,
}

/// A match that is served, or a TCP or UDP listener.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServedView {
    /// The binding's address; `*` stands for every local one.
    pub address: String,
    /// The binding's port.
    pub port: u16,
    /// The binding's protocol, `TCP` or `UDP`.
    pub protocol: String,
    /// Whether TLS ends here: the listener's protocol is HTTPS.
    #[serde(default)]
    pub tls: bool,
    /// The listener.
    pub listener: ListenerRefView,
    /// The route; missing: none, connections are reset and datagrams dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<ObjectRefView>,
    /// The rule: its name, or its position.
    pub rule: String,
    /// The match; missing for TCP and UDP.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pub matched: Option<MatchView>,
    /// The rule's filters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<FilterView>,
    /// The status that is answered whichever backend is chosen; missing: backends answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Backends.
    pub backends: Vec<BackendView>,
}
