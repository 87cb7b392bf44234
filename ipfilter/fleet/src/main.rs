//! `ipfilter-fleet`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ipfilter_fleet::main()
}
