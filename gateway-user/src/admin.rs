//! What the agent says to the outside: HTTP over a root-only unix socket for the command line, and the plain HTTP
//! port that metrics and health are read from.
//!
//! Owns serving and asking, and the shape of every answer ([`view`]). Must not know where an answer comes from: the
//! agent hands in a [`Handler`].

pub mod client;
mod http;
mod socket;
pub mod view;

pub use http::{Answer, Call, Handler, serve_tcp, serve_unix};
pub use socket::{Error, Socket};
