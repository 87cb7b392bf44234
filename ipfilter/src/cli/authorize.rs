//! `ipfilter authorize`: hand over to the authorization service, which is a program of its own.

use std::ffi::OsString;

use super::{Exit, delegate::become_program};

/// The program. It answers strangers, so it is not part of this one, which may load programs.
const PROGRAM: &str = "ipfilter-authorize";

/// Decide whole requests for a reverse proxy, by the same policies
///
/// Runs `ipfilter-authorize`, found beside this program or in `PATH`, with the arguments that follow. It
/// needs no privileges. `ipfilter-authorize --help` lists its options.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to pass to `ipfilter-authorize`
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGUMENT"
    )]
    arguments: Vec<OsString>,
}

/// Does not return unless the program can't be started.
pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    become_program(PROGRAM, &args.arguments)
}
