//! What one deployment enforces, as tables. No IO.
//!
//! The plan is a pure value: the daemon keeps the last one, compares it with the next and never
//! reads tables back from the kernel. Nothing here knows what a policy says or how a map is loaded.

mod cover;
mod intervals;
mod sources;
#[cfg(test)]
mod testing;

pub use cover::{Entry, cover};
pub use intervals::{Family, IntervalTable, MAX_WORDS, Sizes, TableTooLarge};
pub use sources::{SourceMap, TooManyApis};
