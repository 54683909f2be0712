//! Requests that no endpoint gets, once they are routed.
//!
//! Owns their statuses and words. What is no request, and what endpoints do wrong, is the workers'.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{HttpBackend, RuleEntry, Target};

/// Why the gateway answers a request by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unserved {
    /// No listener or no rule fits.
    NoRoute,
    /// The rule asks for what is not built, or cannot be done.
    NotBuilt,
    /// The rule has no backend that may be chosen.
    NoBackend,
    /// The chosen reference is invalid.
    Invalid,
    /// The chosen Service has no endpoint that is ready.
    Unavailable,
}

impl Unserved {
    /// The answer's status.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::NoRoute => 404,
            Self::NotBuilt | Self::NoBackend | Self::Invalid => 500,
            Self::Unavailable => 503,
        }
    }

    /// The answer's body.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::NoRoute => "no route fits",
            Self::NotBuilt => "the rule asks for what is not supported",
            Self::NoBackend => "the rule has no backend",
            Self::Invalid => "the backend is invalid",
            Self::Unavailable => "the backend has no endpoint",
        }
    }
}

impl RuleEntry {
    /// The backend for a request, of a rule that does not redirect. `counter` gives the number of [`RuleEntry::choose`], and is asked only if there is
    /// a choice.
    ///
    /// # Errors
    /// What is to be answered instead.
    #[inline]
    pub fn backend(&self, counter: impl FnOnce() -> u64) -> Result<&HttpBackend, Unserved> {
        if self.refused {
            return Err(Unserved::NotBuilt);
        }
        self.choose(counter()).ok_or(Unserved::NoBackend)
    }
}

impl Target {
    /// The endpoints, never none.
    ///
    /// # Errors
    /// What is to be answered instead.
    #[inline]
    pub fn endpoints(&self) -> Result<&Arc<[SocketAddr]>, Unserved> {
        match self {
            Self::Endpoints(endpoints) => Ok(endpoints),
            Self::Unavailable => Err(Unserved::Unavailable),
            Self::Invalid => Err(Unserved::Invalid),
        }
    }
}
