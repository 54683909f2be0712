//! Label selectors: which labels fit.
//!
//! Owns what Kubernetes means by one. Must not know whose labels they are.

use std::collections::BTreeMap;

/// A label selector: all of its requirements must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// matchLabels.
    pub labels: BTreeMap<String, String>,
    /// matchExpressions.
    pub expressions: Vec<Requirement>,
}

impl LabelSelector {
    /// Whether labels, looked up by `get`, fit.
    pub fn selects<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.labels.iter().all(|(key, value)| get(key) == Some(value))
            && self.expressions.iter().all(|requirement| {
                let value = get(&requirement.key);
                let listed = value.is_some_and(|value| requirement.values.iter().any(|v| v == value));
                match requirement.operator {
                    Operator::In => listed,
                    Operator::NotIn => !listed,
                    Operator::Exists => value.is_some(),
                    Operator::DoesNotExist => value.is_none(),
                }
            })
    }
}

/// One of matchExpressions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// Label.
    pub key: String,
    /// Operator.
    pub operator: Operator,
    /// Values, for In and NotIn.
    pub values: Vec<String>,
}

/// Operator of a requirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// In.
    In,
    /// NotIn; a missing label is not in.
    NotIn,
    /// Exists.
    Exists,
    /// DoesNotExist.
    DoesNotExist,
}
