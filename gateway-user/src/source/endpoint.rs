//! `--endpoint NAMESPACE/SERVICE[:PORT]=ADDRESS:PORT`: an endpoint given by hand, for a quick try.
//!
//! Owns the flag's form. Must not know how it becomes a Service and an EndpointSlice.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use super::Diagnostic;
use crate::core::model::ObjectName;
use crate::core::transport::Transport;

/// An endpoint for a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointFlag {
    /// The Service.
    pub service: ObjectName,
    /// Its port; `None`: every port that it has, or the endpoint's own if the Service is made by the flag.
    pub port: Option<u16>,
    /// Where it is.
    pub address: SocketAddr,
}

/// What is wrong with the flag.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{flag}`: {problem}; write NAMESPACE/SERVICE[:PORT]=ADDRESS:PORT, such as default/web:80=127.0.0.1:8080"
)]
pub struct EndpointFlagError {
    flag: String,
    problem: &'static str,
}

impl EndpointFlag {
    /// The Service has these ports and not the one that the flag asks for.
    pub(super) fn no_such_port(&self, ports: impl Iterator<Item = u16>) -> Diagnostic {
        let known: BTreeSet<u16> = ports.collect();
        let known: Vec<_> = known.iter().map(u16::to_string).collect();
        Diagnostic {
            file: "--endpoint".to_owned(),
            object: format!("Service {}", self.service),
            value: self.to_string(),
            message: "the Service has no such port".to_owned(),
            remedy: if known.is_empty() {
                "it has none".to_owned()
            } else {
                format!("it has {}", known.join(", "))
            },
            ..Diagnostic::default()
        }
    }
}

impl FromStr for EndpointFlag {
    type Err = EndpointFlagError;

    fn from_str(flag: &str) -> Result<Self, Self::Err> {
        let error = |problem| EndpointFlagError { flag: flag.to_owned(), problem };
        let (service, address) = flag.split_once('=').ok_or_else(|| error("there is no `=`"))?;
        let (namespace, rest) =
            service.split_once('/').ok_or_else(|| error("there is no namespace before the Service"))?;
        let (name, port) = match rest.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (rest, None),
        };
        for part in [namespace, name] {
            if !is_label(part) {
                return Err(error("namespace and Service are 1 to 63 of a-z, 0-9 and -"));
            }
        }
        let port = match port.map(str::parse::<u16>) {
            None => None,
            Some(Ok(port)) if port > 0 => Some(port),
            Some(_) => return Err(error("the Service's port is not a number from 1 to 65535")),
        };
        let address: SocketAddr =
            address.parse().map_err(|_| error("the endpoint is not an IP address and a port"))?;
        if address.port() == 0 {
            return Err(error("the endpoint's port is not a number from 1 to 65535"));
        }
        Ok(Self { service: ObjectName::new(namespace, name), port, address })
    }
}

impl fmt::Display for EndpointFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.service)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        write!(f, "={}", self.address)
    }
}

/// The name of a port of a Service that is made by a flag, which has each of them for TCP and for UDP.
pub(super) fn port_name(transport: Transport, port: u16) -> String {
    match transport {
        Transport::Tcp => format!("port-{port}"),
        Transport::Udp => format!("port-{port}-udp"),
    }
}

/// Whether it is a DNS label as Kubernetes wants names of namespaces and Services.
fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for flag in ["default/my-service:80=127.0.0.1:8080", "a/b=10.0.0.1:1", "a/b:1=[2001:db8::1]:443"] {
            assert_eq!(flag.parse::<EndpointFlag>().unwrap().to_string(), flag);
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (flag, problem) in [
            ("default/web", "there is no `=`"),
            ("web=127.0.0.1:80", "there is no namespace"),
            ("default/Web=127.0.0.1:80", "namespace and Service are"),
            ("/web=127.0.0.1:80", "namespace and Service are"),
            ("default/web:0=127.0.0.1:80", "the Service's port"),
            ("default/web:http=127.0.0.1:80", "the Service's port"),
            ("default/web=localhost:80", "the endpoint is not an IP address"),
            ("default/web=127.0.0.1:0", "the endpoint's port"),
        ] {
            let error = flag.parse::<EndpointFlag>().unwrap_err().to_string();
            assert!(
                error.contains(problem) && error.contains("default/web:80=127.0.0.1:8080"),
                "{flag}: {error}"
            );
        }
    }
}
