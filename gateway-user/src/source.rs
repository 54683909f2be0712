//! Where the configuration comes from: Kubernetes objects in files and in the store of those that were applied, or in a
//! cluster.
//!
//! Owns reading, checking against the API's schemas, translating old dialects and watching; hands out
//! [`core::model::Model`](crate::core::model::Model) and diagnostics that name file, line, column, object, field,
//! value and remedy. Must not know what the objects are used for.

mod annotation;
mod assemble;
mod check;
mod coverage;
mod diagnostic;
mod dialect;
mod document;
mod duration;
mod endpoint;
mod file;
mod input;
mod kind;
mod kube;
mod live;
mod node;
mod object;
mod resolve;
mod rules;
mod schema;
mod store;
mod suggest;
#[cfg(test)]
mod tests;
mod translate;
mod yaml;

pub use self::kube::{Cluster, ClusterConfig, ClusterError, ClusterFigures, Folders};
pub use diagnostic::Diagnostic;
pub use document::Outcome;
pub use endpoint::{EndpointFlag, EndpointFlagError};
pub use file::{Error, FileSource, Given, Watch, given};
pub use input::{Applied, Difference, FoundObject, Input, ObjectRef, Refused, Wanted};
pub use kind::{ObjectKind, ObjectKindError};
pub use live::{Changes, Source};
pub use resolve::Resolver;
pub use store::{StoreError, stores_nothing};

use crate::core::model::Model;

/// What a source held, without an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The objects.
    pub model: Model,
    /// What a person should know, but hinders nothing: old dialects, skipped kinds, selectors without pods.
    pub warnings: Vec<Diagnostic>,
}

/// An input in today's form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgraded {
    /// YAML, with the comments of the input.
    pub text: String,
    /// What the input means.
    pub before: Loaded,
    /// What it means in today's form.
    pub after: Loaded,
}
