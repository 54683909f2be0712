//! Loads the real programs and holds them against the pure functions that kernel and agent share.
