//! What the programs cost, measured in the kernel. `cargo xtask bench` calls this.
//!
//! Results are lines of JSON on standard output, costs in nanoseconds of this thread's CPU time: wall
//! time is of no use, as the kernel waits for others at the end of a test run.

mod calls;
mod flood;
mod harness;
mod packets;

use clap::Parser;
use rustix::process::setpriority_process;

/// Measures ipfilter's programs in the kernel
#[derive(Debug, Parser)]
#[command(name = "kernel")]
enum Part {
    /// Per packet, in test runs
    Packets(packets::Args),
    /// Send frames from many sources out of an interface
    Send(flood::SendArgs),
    /// Drop all that comes in by an interface, until standard input ends
    Drop(flood::AttachArgs),
    /// Drop all that comes in by an interface as a lean filter without a policy would
    Lean(flood::AttachArgs),
    /// Pass all that comes in by an interface, until standard input ends
    Pass(flood::AttachArgs),
    /// Call and be refused, again and again
    Call(calls::CallArgs),
    /// How long it takes to put another program behind an interface's link
    Swap(flood::AttachArgs),
}

fn main() -> anyhow::Result<()> {
    // Others in between would leave the caches full of what is theirs.
    setpriority_process(None, -20)?;
    // Cargo adds `--bench`.
    let arguments = std::env::args_os().filter(|argument| argument != "--bench");
    match Part::parse_from(arguments) {
        Part::Packets(args) => packets::run(&args),
        Part::Send(args) => flood::send(&args),
        Part::Drop(args) => flood::attach(&args, "bench_drop"),
        Part::Lean(args) => flood::attach(&args, "bench_lean"),
        // There are no frames to port 0.
        Part::Pass(args) => flood::attach(&args, "bench_parse"),
        Part::Call(args) => calls::run(&args),
        Part::Swap(args) => flood::swap(&args),
    }
}
