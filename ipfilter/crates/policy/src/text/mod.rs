//! Text: the policy inside a file, and patterns.

pub(crate) mod glob;
pub(crate) mod pattern;
pub(crate) mod source;

pub(crate) use ipfilter_document::{json, problem};
