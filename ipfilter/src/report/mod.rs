//! View types: what commands print, as text and as JSON. Never the core's own types serialised.

pub mod compile;
