//! Conditions, from what was found out about an object.
//!
//! Owns how they are put together. Must not find anything out itself.

use crate::core::status::Condition;

/// What is wrong with something: one of the API's reasons, and a message for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// A reason that the API names.
    pub(super) reason: &'static str,
    /// What it is about, and what to do.
    pub(super) message: String,
}

/// A problem.
pub(super) fn problem(reason: &'static str, message: impl Into<String>) -> Problem {
    Problem { reason, message: message.into() }
}

/// A condition that is True.
pub(super) fn yes(
    kind: &'static str,
    reason: &'static str,
    message: impl Into<String>,
    generation: i64,
) -> Condition {
    Condition { kind, status: true, reason, message: message.into(), observed_generation: generation }
}

/// A condition that is False because of a problem.
pub(super) fn no(kind: &'static str, problem: &Problem, generation: i64) -> Condition {
    Condition {
        kind,
        status: false,
        reason: problem.reason,
        message: problem.message.clone(),
        observed_generation: generation,
    }
}

/// False because of the problem, or True with a reason.
pub(super) fn unless(
    problem: Option<&Problem>,
    kind: &'static str,
    reason: &'static str,
    message: &str,
    generation: i64,
) -> Condition {
    problem.map_or_else(|| yes(kind, reason, message, generation), |problem| no(kind, problem, generation))
}

/// Several messages as one; beyond the eighth they are counted.
pub(super) fn join(messages: &[String]) -> String {
    const SHOWN: usize = 8;
    let mut text = messages.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("; ");
    if messages.len() > SHOWN {
        text.push_str(&format!("; and {} more", messages.len() - SHOWN));
    }
    text
}
