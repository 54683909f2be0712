//! The command line of the real binary: alone, and against the real agent in namespaces.

#[path = "cli/alone.rs"]
mod alone;
#[path = "cli/dialect.rs"]
mod dialect;
#[path = "cli/life.rs"]
mod life;
#[path = "cli/maps.rs"]
mod maps;
#[path = "cli/objects.rs"]
mod objects;
