//! What the programs cost, measured in the kernel. `cargo xtask bench` calls this.
//!
//! Results are lines of JSON on standard output, costs in nanoseconds of this thread's CPU time: wall
//! time is of no use, as the kernel waits for others at the end of a test run.

mod harness;
mod packets;

use clap::Parser;

/// Measures ipfilter's programs in the kernel
#[derive(Debug, Parser)]
#[command(name = "kernel")]
enum Part {
    /// Per packet, in test runs
    Packets(packets::Args),
}

fn main() -> anyhow::Result<()> {
    // Cargo adds `--bench`.
    let arguments = std::env::args_os().filter(|argument| argument != "--bench");
    match Part::parse_from(arguments) {
        Part::Packets(args) => packets::run(&args),
    }
}
