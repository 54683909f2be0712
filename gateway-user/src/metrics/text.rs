//! The text format.
//!
//! `prometheus-client` writes OpenMetrics, in which a counter's family is named without `_total`. Prometheus' own
//! format, which `promtool` and most other readers take, names it with it; all else that is used here is the same.

use prometheus_client::encoding::text::encode_registry;
use prometheus_client::registry::Registry;

/// A registry's metrics in Prometheus' text format, version 0.0.4.
pub(super) fn encode(registry: &Registry) -> String {
    let mut open = String::new();
    encode_registry(&mut open, registry).expect("writing to a string does not fail");
    let mut text = String::with_capacity(open.len() + 1024);
    let mut help = "";
    for line in open.lines() {
        // A family begins with its help, then its type tells whether it is a counter.
        if let Some(words) = line.strip_prefix("# HELP ") {
            help = words;
            continue;
        }
        let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|family| family.split_once(' '))
        else {
            text.extend([line, "\n"]);
            continue;
        };
        let suffix = if kind == "counter" { "_total" } else { "" };
        let words = help.strip_prefix(name).unwrap_or_default();
        text.extend(["# HELP ", name, suffix, words, "\n# TYPE ", name, suffix, " ", kind, "\n"]);
    }
    text
}
