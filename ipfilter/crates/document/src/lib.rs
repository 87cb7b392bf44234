//! JSON documents that people write: values that know where they are, and diagnostics. No IO.
//!
//! A [`Source`](source::Source) is the text of a file, a [`Node`](json::Node) a value in it, and a
//! [`Reader`](reader::Reader) takes values apart and notes every mistake as a
//! [`Problem`](problem::Problem) with its place. Knows no policy and no setting.

mod characters;
pub mod json;
pub mod problem;
pub mod reader;
pub mod source;
