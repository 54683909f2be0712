//! The pure middle: what the objects mean.
//!
//! Owns the model of the configuration, its compilation into a snapshot, route matching, the plan that brings the
//! kernel's maps from what they hold to what they shall hold, and every condition. Must not know tokio, aya, kube,
//! hyper, serde, the clock, files, the environment or a log: time, randomness and the host are arguments, and the
//! same input gives the same bytes.

pub mod compile;
pub mod explain;
pub mod flows;
pub mod forward;
pub mod headers;
pub mod host;
pub mod load;
pub mod locality;
pub mod maglev;
pub mod model;
pub mod names;
pub mod network;
pub mod plan;
pub mod pool;
pub mod redirect;
pub mod route;
pub mod snapshot;
pub mod status;
pub mod steer;
#[cfg(test)]
pub(crate) mod testing;
pub mod tls;
pub mod transport;
