//! The plan on a pure model of the maps.
