//! What the log tells of a change: conditions that turned bad, what names resolve to, notes; each once.
//!
//! Owns what is news. Must not know how a status comes about.

use std::collections::BTreeSet;

use tracing::{info, warn};

use crate::admin::view::{ExternalNameView, StatusView, negative};

/// Logs what a view tells that the one before did not.
pub(super) fn log(before: &StatusView, view: &StatusView) {
    let negatives: Vec<_> = view.conditions().filter(|(_, condition)| negative(condition)).collect();
    let known = if negatives.is_empty() { Vec::new() } else { before.conditions().collect() };
    let known: BTreeSet<_> = known.iter().map(|(place, c)| (place, &c.kind, &c.message)).collect();
    for (place, condition) in negatives {
        if !known.contains(&(&place, &condition.kind, &condition.message)) {
            warn!(
                object = place,
                condition = format!("{}={}", condition.kind, condition.status),
                reason = &*condition.reason,
                "{}",
                condition.message
            );
        }
    }
    for external in view.external_names.iter().filter(|name| !before.external_names.contains(name)) {
        let same = |other: &&ExternalNameView| {
            other.external_name == external.external_name && other.addresses == external.addresses
        };
        if !external.addresses.is_empty() && !before.external_names.iter().any(|other| same(&other)) {
            let addresses = external.addresses.join(",");
            info!(name = external.external_name, addresses, "what a name resolves to");
        }
        for words in external.words() {
            warn!("{words}");
        }
    }
    for note in view.notes.iter().filter(|note| !before.notes.contains(note)) {
        warn!("{note}");
    }
}
