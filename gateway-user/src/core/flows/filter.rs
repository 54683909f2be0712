//! Which flows are asked for.
//!
//! Owns how a filter is written and what it fits.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use gateway_ebpf::abi::{TCP, UDP};
use gateway_ebpf::flow::Flow;
use gateway_ebpf::life::State;
use ipnet::IpNet;

use super::names::Labels;
use super::{asked, backend, client, protocol, state_of};

/// Which flows are asked for: those that fit all that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Where the client connected to.
    pub binding: Option<BindingFilter>,
    /// Where the client is.
    pub client: Option<IpNet>,
    /// Where the packets go.
    pub backend: Option<BackendFilter>,
    /// Its state.
    pub state: Option<State>,
    /// Its IP protocol number.
    pub protocol: Option<u8>,
}

/// `ADDRESS:PORT`, `*:PORT` for any address, with `/tcp` or `/udp` if only one of them is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindingFilter {
    address: Option<IpAddr>,
    port: u16,
    protocol: Option<u8>,
}

/// An endpoint's address, with its port or without, or a Service: `NAMESPACE/NAME`, with its port or without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendFilter {
    /// An address.
    Ip(IpAddr),
    /// An address and a port.
    At(SocketAddr),
    /// A Service.
    Service(String),
}

/// What a filter cannot be read as.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAFilter {
    /// Of a binding.
    #[error("{0} is no binding (use ADDRESS:PORT or *:PORT, and /tcp or /udp behind it if you like)")]
    Binding(String),
    /// Of a client.
    #[error("{0} is no client (use an address, or a network as ADDRESS/LENGTH)")]
    Client(String),
    /// Of a backend.
    #[error("{0} is no backend (use ADDRESS, ADDRESS:PORT, NAMESPACE/SERVICE or NAMESPACE/SERVICE:PORT)")]
    Backend(String),
    /// Of a state.
    #[error("{0} is no state (use one of {names})", names = State::ALL.map(State::name).join(", "))]
    State(String),
    /// Of a protocol.
    #[error("{0} is no protocol (use tcp or udp)")]
    Protocol(String),
}

impl FromStr for BindingFilter {
    type Err = NotAFilter;

    fn from_str(text: &str) -> Result<Self, NotAFilter> {
        let wrong = || NotAFilter::Binding(text.to_owned());
        let (at, protocol) = match text.split_once('/') {
            Some((at, protocol)) => (at, Some(protocol_of(protocol).map_err(|_| wrong())?)),
            None => (text, None),
        };
        if let Some(port) = at.strip_prefix("*:") {
            return Ok(Self { address: None, port: port.parse().map_err(|_| wrong())?, protocol });
        }
        let at: SocketAddr = at.parse().map_err(|_| wrong())?;
        Ok(Self { address: Some(at.ip().to_canonical()), port: at.port(), protocol })
    }
}

impl FromStr for BackendFilter {
    type Err = NotAFilter;

    fn from_str(text: &str) -> Result<Self, NotAFilter> {
        if let Ok(ip) = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return Ok(Self::Ip(ip.to_canonical()));
        }
        if let Ok(at) = text.parse::<SocketAddr>() {
            return Ok(Self::At(SocketAddr::new(at.ip().to_canonical(), at.port())));
        }
        let (namespace, name) = text.split_once('/').unwrap_or_default();
        if namespace.is_empty() || name.is_empty() {
            return Err(NotAFilter::Backend(text.to_owned()));
        }
        Ok(Self::Service(text.to_owned()))
    }
}

/// A client as it is written: an address or a network.
///
/// # Errors
/// It is neither.
pub fn client_of(text: &str) -> Result<IpNet, NotAFilter> {
    let address = text.parse::<IpAddr>().map(|ip| IpNet::from(ip.to_canonical()));
    address.or_else(|_| text.parse()).map_err(|_| NotAFilter::Client(text.to_owned()))
}

/// A state by its name.
///
/// # Errors
/// There is no such state.
pub fn state_named(text: &str) -> Result<State, NotAFilter> {
    let found = State::ALL.into_iter().find(|state| state.name() == text);
    found.ok_or_else(|| NotAFilter::State(text.to_owned()))
}

/// A protocol by its name, as its IP protocol number.
///
/// # Errors
/// It is none that is forwarded.
pub fn protocol_of(text: &str) -> Result<u8, NotAFilter> {
    match text.to_ascii_lowercase().as_str() {
        "tcp" => Ok(TCP),
        "udp" => Ok(UDP),
        _ => Err(NotAFilter::Protocol(text.to_owned())),
    }
}

impl Filter {
    /// Whether a flow is asked for. `labels`: what it is called.
    #[must_use]
    pub fn fits(&self, flow: &Flow, labels: &Labels) -> bool {
        let (protocol, asked) = (protocol(flow), asked(flow));
        self.protocol.is_none_or(|wanted| wanted == protocol)
            && self.state.is_none_or(|wanted| wanted == state_of(flow))
            && self.client.is_none_or(|net| net.contains(&client(flow).ip()))
            && self.binding.is_none_or(|binding| {
                binding.address.is_none_or(|address| address == asked.ip())
                    && binding.port == asked.port()
                    && binding.protocol.is_none_or(|wanted| wanted == protocol)
            })
            && self.backend.as_ref().is_none_or(|wanted| match wanted {
                BackendFilter::Ip(ip) => backend(flow).ip() == *ip,
                BackendFilter::At(at) => backend(flow) == *at,
                BackendFilter::Service(name) => {
                    let of = |name: &str| labels.service.strip_prefix(name).map(str::to_owned);
                    of(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
                }
            })
    }
}

#[cfg(test)]
mod tests {
    use gateway_ebpf::life::{ANSWERED, IS_TCP, SNAT};

    use super::*;
    use crate::core::flows::testing::flow;

    fn filter(kind: &str, value: &str) -> Result<Filter, NotAFilter> {
        let mut filter = Filter::default();
        match kind {
            "binding" => filter.binding = Some(value.parse()?),
            "client" => filter.client = Some(client_of(value)?),
            "backend" => filter.backend = Some(value.parse()?),
            "state" => filter.state = Some(state_named(value)?),
            _ => filter.protocol = Some(protocol_of(value)?),
        }
        Ok(filter)
    }

    #[test]
    fn a_filter_fits_what_it_names() {
        let v4 = flow("203.0.113.7:4000", "192.0.2.1:80", "10.0.0.2:8080", "10.0.0.1:60000", SNAT | IS_TCP);
        let v6 =
            flow("[2001:db8::7]:4000", "[2001:db8::1]:53", "[fd00::2]:53", "[2001:db8::7]:4000", ANSWERED);
        let labels = Labels { service: "default/app:80".into(), ..Labels::default() };
        for (kind, value, want) in [
            ("binding", "*:80", (true, false)),
            ("binding", "*:80/tcp", (true, false)),
            ("binding", "*:80/udp", (false, false)),
            ("binding", "192.0.2.1:80", (true, false)),
            ("binding", "192.0.2.2:80", (false, false)),
            ("binding", "192.0.2.1:81", (false, false)),
            ("binding", "[2001:db8::1]:53/udp", (false, true)),
            ("client", "203.0.113.7", (true, false)),
            ("client", "203.0.113.0/24", (true, false)),
            ("client", "203.0.112.0/24", (false, false)),
            ("client", "2001:db8::/32", (false, true)),
            ("client", "2001:db8::7", (false, true)),
            ("client", "::/0", (false, true)),
            ("backend", "10.0.0.2", (true, false)),
            ("backend", "10.0.0.2:8080", (true, false)),
            ("backend", "10.0.0.2:80", (false, false)),
            ("backend", "fd00::2", (false, true)),
            ("backend", "[fd00::2]:53", (false, true)),
            ("backend", "default/app", (true, true)),
            ("backend", "default/app:80", (true, true)),
            ("backend", "default/ap", (false, false)),
            ("state", "opening", (true, true)),
            ("state", "established", (false, false)),
            ("protocol", "tcp", (true, false)),
            ("protocol", "UDP", (false, true)),
        ] {
            let filter = filter(kind, value).unwrap();
            assert_eq!((filter.fits(&v4, &labels), filter.fits(&v6, &labels)), want, "{kind} {value}");
        }
        assert!(Filter::default().fits(&v4, &Labels::default()));
    }

    #[test]
    fn all_that_is_given_must_fit() {
        let v4 = flow("203.0.113.7:4000", "192.0.2.1:80", "10.0.0.2:8080", "10.0.0.1:60000", IS_TCP);
        let mut both = filter("client", "203.0.113.7").unwrap();
        both.protocol = Some(UDP);
        assert!(!both.fits(&v4, &Labels::default()));
    }

    #[test]
    fn what_is_no_filter_is_told_with_what_would_be() {
        for (kind, value) in [
            ("binding", "80"),
            ("binding", "*"),
            ("binding", "10.0.0.1"),
            ("binding", "*:80/icmp"),
            ("binding", "*:99999"),
            ("client", "example.com"),
            ("client", "10.0.0.0/33"),
            ("backend", "app"),
            ("backend", "/app"),
            ("state", "free"),
            ("protocol", "icmp"),
        ] {
            let error = filter(kind, value).unwrap_err().to_string();
            assert!(error.starts_with(value) && error.contains("(use "), "{error}");
        }
    }
}
