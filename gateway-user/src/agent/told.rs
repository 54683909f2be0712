//! What the log tells of a change: conditions that turned bad, what names resolve to, notes; each once.
//!
//! Owns what is news. Must not know how a status comes about.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use tracing::{info, warn};

use crate::admin::view::{ExternalNameView, RouteView, StatusView, negative};

/// Logs what a view tells that the one before did not.
pub(super) fn log(before: &StatusView, view: &StatusView) {
    // Of thousands of routes few are another than before.
    let same: HashSet<*const RouteView> = before.routes.iter().map(Arc::as_ptr).collect();
    let others = view.conditions_but(|route| same.contains(&Arc::as_ptr(route)));
    let negatives: Vec<_> = others.filter(|(_, condition)| negative(condition)).collect();
    let known = if negatives.is_empty() { None } else { Some(before.conditions()) };
    let known = known.into_iter().flatten().filter(|(_, condition)| negative(condition));
    let known: BTreeSet<_> = known.map(|(place, c)| (place.to_string(), &c.kind, &c.message)).collect();
    for (place, condition) in negatives {
        let place = place.to_string();
        let news = (place, &condition.kind, &condition.message);
        if !known.contains(&news) {
            warn!(
                object = news.0,
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
