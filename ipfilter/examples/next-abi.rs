//! `ipfilter` as if it were built with the next version of the interface between the kernel's side and
//! userspace: what tests upgrade to, and downgrade from.

use std::process::ExitCode;

use ipfilter::kernel::{abi_version, pretend_abi_version};

fn main() -> ExitCode {
    pretend_abi_version(abi_version() + 1);
    ipfilter::cli::main()
}
