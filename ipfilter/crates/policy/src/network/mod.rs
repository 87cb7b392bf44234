//! What an interface can decide: source and clock are known, all else is maybe.

pub(crate) mod reach;
pub(crate) mod relate;
