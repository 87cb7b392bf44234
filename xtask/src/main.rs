//! `cargo xtask`: set-up, run, test and the other development commands.

mod bench;
mod build;
mod cli;
mod dist;
mod fleet;
mod playground;
mod setup;
mod sources;
mod table;
mod test;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
