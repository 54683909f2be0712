//! What can go wrong between agent and kernel.
//!
//! Owns the messages: each names the object, the value and the remedy.

/// An error of the dataplane.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not there yet.
    #[error("the dataplane is not built yet")]
    Stub,
}
