//! What becomes of Programmed.
