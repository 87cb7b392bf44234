//! What loaded programs do with packets, and how deployments are made.

mod budget;
pub(crate) mod delivery;
mod deployment;
mod equivalence;
pub(crate) mod gapless;
mod large;
mod linear;
pub(crate) mod verdicts;
mod verified;
