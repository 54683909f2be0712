//! Parts of a line of the tests' language: filters, certificates.

use std::sync::Arc;

use super::Words;
use crate::core::headers::{Change, HeaderFilters};
use crate::core::model::GroupKind;
use crate::core::redirect::{PathChange, Redirect, RedirectStatus, Scheme};
use crate::core::tls::CertificateRef;

/// `redirect=CODE`, with `scheme=`, `hostname=`, `port=`, and `full=PATH` or `prefix=FROM>TO`.
pub(super) fn redirect(words: &Words<'_>, code: i64) -> Redirect {
    let prefix = words.get("prefix").and_then(|text| text.split_once('>'));
    Redirect {
        scheme: words.get("scheme").map(|s| if s == "https" { Scheme::Https } else { Scheme::Http }),
        hostname: words.get("hostname").map(Into::into),
        path: match (words.get("full"), prefix) {
            (Some(path), _) => Some(PathChange::Full(path.into())),
            (None, Some((from, to))) => Some(PathChange::Prefix { from: from.into(), to: to.into() }),
            (None, None) => None,
        },
        port: words.number("port"),
        status: RedirectStatus::new(code).unwrap(),
    }
}

/// `set=NAME:VALUE`, `add=NAME:VALUE` and `remove=NAME` for requests; `answer-set=` and so on for answers.
pub(super) fn headers(words: &Words<'_>) -> Option<Arc<HeaderFilters>> {
    let mut filters = HeaderFilters::default();
    for (key, text) in &words.options {
        let (name, value) = text.split_once(':').unwrap_or((text, ""));
        let values = || vec![value.parse().unwrap()];
        let (changes, key) = match key.strip_prefix("answer-") {
            Some(key) => (&mut filters.response, key),
            None => (&mut filters.request, *key),
        };
        let change = match key {
            "set" => Change::Replace(values()),
            "add" => Change::Append(values()),
            "remove" => Change::Replace(Vec::new()),
            _ => continue,
        };
        changes.push(name.parse().unwrap(), change);
    }
    (!filters.is_empty()).then(|| filters.into())
}

/// `[NAMESPACE/]NAME`; `KIND!NAME` or `GROUP/KIND!NAME` for another kind.
pub(super) fn certificate(text: &str) -> CertificateRef {
    let (kind, text) = text.split_once('!').unwrap_or(("Secret", text));
    let (group, kind) = kind.split_once('/').unwrap_or(("", kind));
    let (namespace, name) = match text.split_once('/') {
        Some((namespace, name)) => (Some(namespace.into()), name),
        None => (None, text),
    };
    CertificateRef {
        kind: GroupKind { group: group.into(), kind: kind.into() },
        namespace,
        name: name.into(),
    }
}
