//! The `ipfilter` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    ipfilter::cli::main()
}
