//! The command line: one file per subcommand.

use std::process::ExitCode;

/// How a command ended, as its exit code (see the README's table of exit codes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All went well.
    Fine = 0,
    /// It failed while doing it.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// A policy is invalid.
    InvalidPolicy = 3,
    /// A policy is legal but can only partly be enforced at the interface.
    PartialPolicy = 4,
    /// Refused: it needs root, or a kernel feature that is not there.
    Refused = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
