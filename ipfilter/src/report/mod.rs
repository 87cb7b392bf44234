//! View types: what commands print, as text and as JSON. Never the core's own types serialised.

pub mod check;
pub mod compile;
pub mod diagnostics;
pub mod explain;
pub mod live;
pub mod metrics;
pub mod probe;
pub mod status;
