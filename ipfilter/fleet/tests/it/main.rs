//! Publishing and following through a real etcd, with hosts that have no filter: what they answer, tests decide. The
//! agent and the publisher are the real program.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that can't go on fails"
)]

mod faults;
mod group;
mod host;
mod input;
mod publish;
mod scale;
mod trust;
