//! Changes of header fields, as the filters RequestHeaderModifier and ResponseHeaderModifier ask for them (HTTPRoute,
//! `HTTPHeaderFilter`).
//!
//! Owns what they do to a header, how those of a rule and of a backend make one, and which fields are not theirs. Must
//! not know how a message is sent.

use std::fmt;

use http::header::{
    CONNECTION, CONTENT_LENGTH, DATE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE,
    TRANSFER_ENCODING, UPGRADE,
};

#[cfg(test)]
mod tests;

/// Changes of a message's header, each field named once: their order makes no difference.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderChanges(Vec<(HeaderName, Change)>);

/// What becomes of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Whatever values it has go, and these come: none if it is removed.
    Replace(Vec<HeaderValue>),
    /// These come behind the values that it has.
    Append(Vec<HeaderValue>),
}

impl Change {
    /// The values that come.
    fn values(&self) -> &[HeaderValue] {
        match self {
            Self::Replace(values) | Self::Append(values) => values,
        }
    }

    /// This and then the other one, as one change.
    fn then(&self, later: &Self) -> Self {
        let joined = |more: &[HeaderValue]| [self.values(), more].concat();
        match (self, later) {
            (_, Self::Replace(values)) => Self::Replace(values.clone()),
            (Self::Replace(_), Self::Append(more)) => Self::Replace(joined(more)),
            (Self::Append(_), Self::Append(more)) => Self::Append(joined(more)),
        }
    }
}

/// What a filter does to a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// `set`.
    Set,
    /// `add`.
    Add,
    /// `remove`.
    Remove,
}

impl Action {
    /// The filter's field.
    #[must_use]
    pub const fn field(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Add => "add",
            Self::Remove => "remove",
        }
    }
}

/// A message whose header is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// A request on its way to a backend.
    Request,
    /// An answer on its way to the client.
    Response,
}

impl HeaderChanges {
    /// Adds a change. Of a field that is named already the first change stays: whether that is an error is the
    /// caller's affair.
    pub fn push(&mut self, name: HeaderName, change: Change) {
        if self.of(&name).is_none() {
            self.0.push((name, change));
        }
    }

    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What becomes of a field.
    #[must_use]
    pub fn of(&self, name: &HeaderName) -> Option<&Change> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, change)| change)
    }

    /// Whether the values that a field has go; its name in lower case.
    #[must_use]
    pub fn replaces(&self, name: &str) -> bool {
        self.0.iter().any(|(other, change)| other.as_str() == name && matches!(change, Change::Replace(_)))
    }

    /// The Host that replaces the request's own.
    #[must_use]
    pub fn host(&self) -> Option<&HeaderValue> {
        self.of(&HOST).and_then(|change| change.values().first())
    }

    /// The fields that come, one line each.
    pub fn coming(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.0.iter().flat_map(|(name, change)| change.values().iter().map(move |value| (name, value)))
    }

    /// These changes and then the others, as one.
    #[must_use]
    pub fn then(&self, later: &Self) -> Self {
        let mut all = self.clone();
        for (name, change) in &later.0 {
            match all.0.iter_mut().find(|(other, _)| other == name) {
                Some((_, earlier)) => *earlier = earlier.then(change),
                None => all.0.push((name.clone(), change.clone())),
            }
        }
        all
    }

    /// Takes out of a trailer section what the header may not say: a recipient may take a trailer for a field of the
    /// header (RFC 9110, 6.5.1).
    pub fn withhold(&self, trailers: &mut HeaderMap) {
        for (name, change) in &self.0 {
            if let Change::Replace(_) = change {
                trailers.remove(name);
            }
        }
    }

    /// Changes a header.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for (name, change) in &self.0 {
            if let Change::Replace(_) = change {
                headers.remove(name);
            }
            for value in change.values() {
                // A map that is full, at 32,768 fields, is beyond what a header may have.
                let _full = headers.try_append(name.clone(), value.clone());
            }
        }
    }
}

impl fmt::Display for HeaderChanges {
    /// `set x-a: 1, add x-b: 2, remove x-c`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, change)) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            let word = match change {
                Change::Replace(values) if values.is_empty() => "remove",
                Change::Replace(_) => "set",
                Change::Append(_) => "add",
            };
            write!(f, "{word} {name}")?;
            for (at, value) in change.values().iter().enumerate() {
                let before = if at == 0 { ": " } else { " and " };
                write!(f, "{before}{}", String::from_utf8_lossy(value.as_bytes()))?;
            }
        }
        Ok(())
    }
}

/// What is done to the headers of a request and of its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderFilters {
    /// RequestHeaderModifier.
    pub request: HeaderChanges,
    /// ResponseHeaderModifier.
    pub response: HeaderChanges,
}

impl HeaderFilters {
    /// Whether there is neither.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.request.is_empty() && self.response.is_empty()
    }

    /// Those of a rule (these) around those of one of its backends, as messages pass them: a request the rule's
    /// first, an answer the backend's first.
    #[must_use]
    pub fn around(&self, backend: &Self) -> Self {
        Self { request: self.request.then(&backend.request), response: backend.response.then(&self.response) }
    }
}

/// Fields that belong to one connection (RFC 9110, 7.6.1).
#[must_use]
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    *name == CONNECTION
        || *name == TRANSFER_ENCODING
        || *name == TE
        || *name == UPGRADE
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

/// Why a filter may not do this to a field: a message whose framing or way a filter could change would be read in one
/// way here and in another one there. `None`: it may.
#[must_use]
pub fn forbidden(message: Message, action: Action, name: &HeaderName) -> Option<&'static str> {
    if is_hop_by_hop(name) {
        return Some("it belongs to one connection, and the gateway writes it by itself (RFC 9110, 7.6.1)");
    }
    if *name == CONTENT_LENGTH {
        return Some("it says where the message ends, and the gateway writes it by itself");
    }
    match (message, action) {
        (Message::Request, _) if *name == EXPECT => Some("the gateway answers it by itself"),
        (Message::Request, Action::Add | Action::Remove) if *name == HOST => {
            Some("a request has exactly one; set it instead")
        }
        (Message::Response, Action::Remove) if *name == DATE => {
            Some("an answer that is passed on has one (RFC 9110, 6.6.1)")
        }
        _ => None,
    }
}
