//! The service as a proxy meets it: the real binary, asked over its sockets.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that can't go on fails"
)]

mod corpus;
mod hostile;
mod names;
mod policies;
mod proxies;
mod service;
mod traefik;
