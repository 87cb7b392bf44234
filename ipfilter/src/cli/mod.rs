//! The command line: one file per subcommand.

pub mod check;
pub mod compile;
pub mod explain;
pub mod format;
pub mod policy_options;

use std::{io, process::ExitCode};

use clap::Parser;

/// Lets the clients an AWS API Gateway resource policy names reach an API, and drops everyone else at
/// the network interface.
#[derive(Debug, Parser)]
#[command(name = "ipfilter", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Check(check::Args),
    Compile(compile::Args),
    Explain(explain::Args),
}

/// Runs the command line this process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let outcome = match &Cli::parse().command {
        Command::Check(args) => check::run(args),
        Command::Compile(args) => compile::run(args),
        Command::Explain(args) => explain::run(args),
    };
    let exit = outcome.unwrap_or_else(|error| {
        if is_broken_pipe(&error) {
            return Exit::Fine;
        }
        // Standard error may be closed; the exit code tells all the same.
        let _ = io::Write::write_fmt(&mut io::stderr(), format_args!("error: {error:#}\n"));
        Exit::Failed
    });
    exit.into()
}

/// Whether the reader of the output went away, which is its right.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let kind = match (
            cause.downcast_ref::<io::Error>(),
            cause.downcast_ref::<serde_json::Error>(),
        ) {
            (Some(error), _) => Some(error.kind()),
            (_, Some(error)) => error.io_error_kind(),
            _ => None,
        };
        kind == Some(io::ErrorKind::BrokenPipe)
    })
}

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
