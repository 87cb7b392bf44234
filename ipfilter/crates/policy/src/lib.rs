//! Resource policies: from text to decisions. No IO.
//!
//! [`parse`] reads a document and reports all that is wrong with it, each problem with its place. A
//! [`Policy`] is then asked in one of three ways, all by the same rules: [`Policy::decide`] judges a whole
//! [`Request`]; [`Policy::explain`] judges every request of one source, as an interface sees them; and
//! [`Policy::at`] does so for all sources at once. [`Policy::next_boundary`] says when the answers of the
//! latter may change.
//!
//! This part knows no table, no packet and no file. An interface knows of a request its source address and
//! the clock; there every element evaluates to yes, no or maybe, and a source is denied for certain only
//! when each of its requests is.
//!
#![doc = include_str!("../../../docs/policy-language.md")]

mod api;
mod class;
mod compare;
mod evaluate;
mod lint;
mod network;
mod options;
mod parse;
mod policy;
mod syntax;
#[cfg(test)]
mod tests;
mod text;
mod timeline;
mod verdict;

pub use api::{ApiArn, NotAnApiArn};
pub use class::PRIVATE_BLOCKS;
pub use compare::{Cause, Side, causes};
pub use evaluate::{Context, Request};
pub use ipfilter_document::problem::{Problem, Severity, StatementId, clip, visible};
pub use network::reach::Decisions;
pub use options::{Authorizer, Options};
pub use parse::{Accepted, Enforceable, Parsed, Refused, parse, parse_at};
pub use policy::{
    Knowledge, Policy,
    explain::{Decision, Explanation, Failed, StatementVerdict},
};
pub use syntax::{address::parse_block, statement::Effect};
pub use text::source::{Position, SIZE_LIMIT, Source};
pub use verdict::Verdict;
