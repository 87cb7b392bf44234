//! `cargo xtask`: set-up, run, test and the other development commands.

mod cli;
mod setup;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
