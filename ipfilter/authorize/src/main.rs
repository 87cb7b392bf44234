//! `ipfilter-authorize`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ipfilter_authorize::main()
}
