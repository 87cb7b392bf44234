//! `ipfilter authorize`: hand over to the authorization service, which is a program of its own.

use std::{
    env,
    ffi::OsString,
    io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Exit, Stop};

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
    let beside = beside();
    let error = start(beside.as_deref(), &args.arguments);
    let message = if error.kind() == io::ErrorKind::NotFound {
        format!(
            "`{PROGRAM}` is neither beside this program nor in `PATH`: install it, or build it with \
             `cargo build --release --package {PROGRAM}`"
        )
    } else {
        format!("can't run `{PROGRAM}`: {error}")
    };
    Err(Stop::failed(message).into())
}

/// The program beside this one, if it is there.
fn beside() -> Option<PathBuf> {
    let program = env::current_exe().ok()?.with_file_name(PROGRAM);
    program.is_file().then_some(program)
}

fn start(program: Option<&Path>, arguments: &[OsString]) -> io::Error {
    let program = program.unwrap_or(Path::new(PROGRAM));
    Command::new(program).args(arguments).exec()
}
