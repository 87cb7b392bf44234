//! Address lists in the forms other programs have them, and policies made of them. No IO.
//!
//! [`import`] reads a list in a [`Format`] and gives the set of sources that it lets in; [`policy`] writes a
//! set as a policy that means just that; [`export`] writes a set as configuration for another program.
//! Nothing is approximated: what one side can't say is an error.

mod block;
mod document;
mod export;
mod import;
mod rules;

pub use document::policy;
pub use export::{ExportError, Target, export};
pub use import::{Choice, Format, Imported, detect, import};

/// What is wrong with a list, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct Problem {
    /// The line, counted from 1.
    pub line: usize,
    /// The column, in characters, counted from 1.
    pub column: usize,
    /// What is wrong, and what to do.
    pub message: String,
}

impl Problem {
    fn new(line: usize, column: usize, message: impl Into<String>) -> Self {
        Self {
            line,
            column,
            message: message.into(),
        }
    }
}
