//! The command line of the real binary.
