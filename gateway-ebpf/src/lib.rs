//! The contract between kernel and agent: keys and values of the maps, their names and capacities, and the
//! decisions that both sides make.
//!
//! Owns every layout that crosses the boundary and every function that must give the same answer on both sides.
//! Must not know aya, the operating system or any human name: the kernel sees dense ids only.
//!
//! Byte order: addresses are kept as they stand on the wire (16 bytes, IPv4 mapped into `::ffff:0:0/96`); every
//! integer is in the order of the host. Padding is explicit, and sizes and offsets are asserted.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod abi;
pub mod flow;
pub mod life;
pub mod names;
pub mod reason;
pub mod rewrite;
pub mod select;

/// The version of this contract. Pins of another version are not touched (see the agent's `dataplane`).
pub const VERSION: u64 = 3;
