//! View types: what commands print, as text and as JSON. Never the core's own types serialised.

pub mod check;
pub mod clients;
pub mod compile;
pub use ipfilter_diagnostics as diagnostics;
pub mod diff;
pub mod event;
pub mod explain;
pub mod exposure;
pub mod failure;
pub mod fleet;
pub(crate) mod impact;
pub mod live;
pub mod map;
pub mod metrics;
pub mod past;
pub mod probe;
pub mod replay;
pub mod services;
pub mod snapshot;
pub mod sources;
pub mod status;
pub mod top;
mod trial;
pub mod verify;
