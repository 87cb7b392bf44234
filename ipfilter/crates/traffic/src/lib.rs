//! Captured packets and access logs, and what a plan would have done to them.
//!
//! [`Input`] finds out what a file is, by its content; [`capture`] and [`log`] read it as a stream; [`Judge`]
//! decides by a plan's own tables, through the parser that the kernel runs; a [`Tally`] counts. Knows no
//! policy, and opens no file.

pub mod capture;
mod input;
mod judge;
mod link;
pub mod log;
mod tally;

pub use input::{Content, Input};
pub use judge::{Decision, Judge, Judged};
pub use tally::{Count, SourceCount, Tally};
