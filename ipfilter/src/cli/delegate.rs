//! Commands that are programs of their own, which this one becomes: what talks to strangers or to other hosts is
//! no part of the program that may load others into the kernel.

use std::{
    env,
    ffi::OsString,
    io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Exit, Stop};

/// Becomes `program`, found beside this one or in `PATH`, with these arguments. Does not return unless it can't be
/// started.
pub(super) fn become_program(program: &str, arguments: &[OsString]) -> anyhow::Result<Exit> {
    let error = start(program, beside(program).as_deref(), arguments);
    let message = if error.kind() == io::ErrorKind::NotFound {
        format!(
            "`{program}` is neither beside this program nor in `PATH`: install it, or build it with \
             `cargo build --release --package {program}`"
        )
    } else {
        format!("can't run `{program}`: {error}")
    };
    Err(Stop::failed(message).into())
}

/// The program beside this one, if it is there.
fn beside(program: &str) -> Option<PathBuf> {
    let program = env::current_exe().ok()?.with_file_name(program);
    program.is_file().then_some(program)
}

fn start(name: &str, program: Option<&Path>, arguments: &[OsString]) -> io::Error {
    let program = program.unwrap_or(Path::new(name));
    Command::new(program).args(arguments).exec()
}
