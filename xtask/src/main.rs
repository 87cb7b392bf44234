//! `cargo xtask`: set-up, run, test and the other development commands.

mod bench;
mod build;
mod check;
mod cli;
mod dist;
mod kernels;
mod playground;
mod setup;
mod table;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
