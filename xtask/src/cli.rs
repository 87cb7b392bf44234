//! The command line: what there is to ask for, and how outcomes become exit codes.

use std::{process::ExitCode, time::Instant};

use anyhow::Result;
use clap::{Parser, Subcommand};
use xtask::{Refused, process::Interrupt};

use crate::setup;

/// Development commands of ipfilter.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    after_help = "Exit codes: 0 fine · 1 failed · 2 usage · 5 refused: needs root, or something \
                  that set-up can't install here"
)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Provide what building needs: a toolchain for the BPF programs, curl, iproute2
    Setup,
}

/// Does what the command line says.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(&cli.command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(if error.is::<Refused>() { 5 } else { 1 })
        }
    }
}

fn dispatch(task: &Task) -> Result<ExitCode> {
    let interrupt = Interrupt::install()?;
    match task {
        Task::Setup => {
            let start = Instant::now();
            let toolchain = setup::run(&interrupt)?;
            println!(
                "ready in {:.1} s: {}, Rust {} with LLVM {}, linker {}",
                start.elapsed().as_secs_f64(),
                toolchain.origin,
                toolchain.version.release,
                toolchain.version.llvm,
                toolchain.linker.display()
            );
            Ok(ExitCode::SUCCESS)
        }
    }
}
