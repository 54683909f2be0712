//! Annotations of Sluice's own: what an object may ask for that the API has no field for.
//!
//! Owns their names and values, and what is said of one that is none of them. Those of others are passed over. Must not
//! know what comes of them.

use std::num::NonZeroU32;
use std::time::Duration;

use super::Diagnostic;
use super::check::Findings;
use super::kind::Kind;
use super::node::{Key, Node};
use super::{duration, suggest};

/// What the names of all of them begin with.
const PREFIX: &str = "sluice-gateway.dev/";
const IDLE_TIMEOUT: &str = "idle-timeout";
/// Each without the prefix.
const ALL: [&str; 1] = [IDLE_TIMEOUT];

/// What an object's annotations say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Annotations {
    /// Seconds that an established flow of the route may go without a packet.
    pub(super) idle: Option<NonZeroU32>,
}

/// Whether an annotation of this name is Sluice's own.
pub(super) fn is_ours(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// Reads the annotations of an object.
pub(super) fn read(kind: Kind, metadata: &Node, findings: &mut Findings) -> Annotations {
    let mut read = Annotations::default();
    for (key, node) in metadata.get("annotations").map(Node::entries).unwrap_or_default() {
        let Some(name) = key.name.strip_prefix(PREFIX) else { continue };
        if name != IDLE_TIMEOUT {
            let remedy = match suggest::nearest(name, ALL.into_iter()) {
                Some(near) => format!("did you mean `{PREFIX}{near}`?"),
                None => format!("there is `{PREFIX}{}`", ALL.join(&format!("`, `{PREFIX}"))),
            };
            findings.warnings.push(diagnostic(key, node, "Sluice has no such annotation", &remedy));
        } else if !matches!(kind, Kind::TcpRoute | Kind::UdpRoute) {
            let message = format!("it has no effect on a {}: it is for TCPRoutes and UDPRoutes", kind.name());
            findings.warnings.push(diagnostic(key, node, &message, "remove it"));
        } else if let Some(text) = node.as_str() {
            match seconds(text) {
                Ok(idle) => read.idle = Some(idle),
                Err(problem) => {
                    let remedy = "write whole numbers with h, m, s or ms, such as 30s or 1h30m";
                    findings.errors.push(diagnostic(key, node, problem, remedy));
                }
            }
        }
    }
    read
}

/// A duration in whole seconds: what is left of one counts as one.
fn seconds(text: &str) -> Result<NonZeroU32, &'static str> {
    let duration = duration::parse(text).ok_or("is no duration")?;
    if duration < Duration::from_secs(1) {
        return Err("must be at least 1s");
    }
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    // Four parts of 99999h, the most that can be written, are a third of what fits.
    Ok(u32::try_from(seconds).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MAX))
}

fn diagnostic(key: &Key, node: &Node, message: &str, remedy: &str) -> Diagnostic {
    Diagnostic {
        line: node.at.line,
        column: node.at.column,
        field: format!("metadata.annotations[{:?}]", key.name),
        value: node.shown(),
        message: message.to_owned(),
        remedy: remedy.to_owned(),
        ..Diagnostic::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_rounded_up_to_whole_seconds() {
        for (text, want) in [
            ("1s", Ok(1)),
            ("1000ms", Ok(1)),
            ("1001ms", Ok(2)),
            ("1h30m", Ok(5400)),
            ("99999h99999h99999h99999h", Ok(4 * 99_999 * 3600)),
            ("999ms", Err("must be at least 1s")),
            ("0s", Err("must be at least 1s")),
            ("30", Err("is no duration")),
            ("", Err("is no duration")),
        ] {
            assert_eq!(seconds(text).map(NonZeroU32::get), want, "{text}");
        }
    }
}
