//! What the agent asks of the API server, as that writes it down: each request, whoever counts.
//!
//! The audit log holds the requests of the agent's ServiceAccount alone, and a line is written before its request is
//! answered.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::PathBuf,
};

use anyhow::{Context, Result};
use serde_json::Value;

/// Requests by what they are: `patch httproutes/status`; refused ones with the code.
pub(super) type Requests = BTreeMap<String, u64>;

/// The log, read as it grows.
pub(super) struct Audit {
    path: PathBuf,
    offset: u64,
}

impl Audit {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, offset: 0 }
    }

    /// The requests that have come since the last look.
    pub(super) fn since(&mut self) -> Result<Requests> {
        let mut file =
            File::open(&self.path).with_context(|| format!("no audit log {}", self.path.display()))?;
        file.seek(SeekFrom::Start(self.offset))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        // A line that is being written belongs to the next look.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        self.offset += whole as u64;
        count(&text[..whole])
    }
}

fn count(lines: &str) -> Result<Requests> {
    let mut requests = Requests::new();
    for line in lines.lines() {
        let event: Value =
            serde_json::from_str(line).with_context(|| format!("the audit log says {line}"))?;
        let verb = event["verb"].as_str().unwrap_or_default();
        // A watch is a request when it begins; its end is none.
        if verb == "watch" && event["stage"] == "ResponseComplete" {
            continue;
        }
        let object = &event["objectRef"];
        let mut name = match object["resource"].as_str() {
            Some(resource) => format!("{verb} {resource}"),
            None => format!("{verb} {}", event["requestURI"].as_str().unwrap_or_default()),
        };
        if let Some(part) = object["subresource"].as_str() {
            name += &format!("/{part}");
        }
        if let Some(code @ 400..) = event["responseStatus"]["code"].as_u64() {
            name += &format!(" ({code})");
        }
        *requests.entry(name).or_default() += 1;
    }
    Ok(requests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_counts_once() {
        let line = |verb: &str, stage: &str, object: &str, code: u16| {
            format!(
                "{{\"verb\":\"{verb}\",\"stage\":\"{stage}\",\"objectRef\":{object},\"responseStatus\":{{\"code\":{code}}}}}\n"
            )
        };
        let (status, leases) =
            ("{\"resource\":\"httproutes\",\"subresource\":\"status\"}", "{\"resource\":\"leases\"}");
        let log = [
            line("watch", "ResponseStarted", leases, 200),
            line("watch", "ResponseComplete", leases, 200),
            line("patch", "ResponseComplete", status, 200),
            line("patch", "ResponseComplete", status, 200),
            line("patch", "ResponseComplete", status, 409),
        ];
        let want =
            [("patch httproutes/status", 2), ("patch httproutes/status (409)", 1), ("watch leases", 1)];
        let want = want.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
        assert_eq!(count(&log.concat()).unwrap(), want);
    }
}
