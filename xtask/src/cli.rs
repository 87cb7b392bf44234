//! The command line: what there is to ask for, and how outcomes become exit codes.

use std::{
    ffi::OsString,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
    time::Instant,
};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use testkit::{
    Architecture, Refused,
    process::Interrupt,
    vm::{Nic, Series},
};

use crate::{
    bench, build, dist, fleet, playground, setup,
    test::{self, kernels},
};

/// Development commands of ipfilter
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    after_help = "Exit codes: 0 fine · 1 failed · 2 usage · 5 refused: needs root, or something \
                  that set-up can't install here. `run` with arguments ends as ipfilter ends."
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Provide what building and testing need: a toolchain for the BPF programs, curl, iproute2
    ///
    /// Looks for a nightly Rust with its sources, or a distribution's Rust that brings `core` for
    /// BPF, and for a bpf-linker made with the same LLVM. Installs what is missing with apt-get and
    /// cargo, saying what and why; where it can't, shows the commands and ends with 5. The other
    /// commands do this first.
    Setup,
    /// Run ipfilter with the arguments given; without any, show what it does, in a playground
    ///
    /// The playground is a network of namespaces: a host with a mock API behind the filter on three ports, one for each deny
    /// action, a client that policies/allow-list.json allows and one that it denies. It asks with curl from both,
    /// over IPv4 and IPv6, before and after a reload that exchanges them, shows the outcome, and removes everything
    /// again. Ends with 0 only if every answer is as expected. Needs root.
    Run {
        /// Then open a shell on the host, with commands to try; everything is removed when it ends
        #[arg(long)]
        hold: bool,
        /// Arguments for ipfilter, such as `check policies/allow-list.json`
        #[arg(
            trailing_var_arg = true,
            allow_hyphen_values = true,
            conflicts_with = "hold"
        )]
        arguments: Vec<OsString>,
    },
    /// Check format, lints and all tests, and try the oldest supported kernel in a VM
    ///
    /// With --full also every kernel and network card (see `kernels`), and the package under systemd.
    /// Needs root, and apt the first time, for kernels and what boots them. Ends with a table of the
    /// steps; the last line counts the tests: `N passed, N failed`.
    Test(test::Options),
    /// Run the tests named `matrix::` on Debian's kernels, with several network cards each
    ///
    /// Boots a VM in software emulation for every kernel, with two of each card, the binary and the
    /// integration tests in it: for x86-64, and cross-built for arm64, where there are 6.1, 6.12 and newest with
    /// virtio cards. Those named `matrix::card::` run once for each card, whose names they
    /// find in IPFILTER_TEST_NICS. Kernels are fetched once, through this machine's apt mirror, and kept in target/kernels. So is QEMU,
    /// in target/vm, unless it is installed. Ends with a table, and with 0 only if every test passed
    /// everywhere.
    Kernels {
        /// Only on these: x86_64, aarch64 (also by Debian's names)
        #[arg(long = "architecture", value_name = "NAME", value_delimiter = ',', value_parser = dist::architecture)]
        architectures: Vec<Architecture>,
        /// Only these kernels: 5.10, 6.1, 6.12, newest (also by Debian's names)
        #[arg(long = "kernel", value_name = "KERNEL", value_delimiter = ',', value_parser = kernels::series)]
        series: Vec<Series>,
        /// Only these cards: virtio, e1000e, vmxnet3
        #[arg(long = "nic", value_name = "CARD", value_delimiter = ',', value_parser = kernels::nic)]
        nics: Vec<Nic>,
    },
    /// Measure what ipfilter costs, beside nftables, ipset, xdp-filter and nginx given the same list
    ///
    /// Per packet in the kernel, in a flood on a live interface, at loading and freeing, and in 403s a
    /// second. Everything happens in network namespaces made for it. Prints tables, and what has to be
    /// reached with what was; the same goes to target/bench/results.md and results.json. Takes about ten
    /// minutes, and needs root; best on a machine that has nothing else to do.
    Bench(bench::Options),
    /// Have twelve filtered hosts follow a group on an etcd of three members, and see whether all goes as it must
    ///
    /// Publishes, tries a release at one host first, has a bad one stopped, kills the leader of etcd, cuts a member
    /// off, takes etcd away, blocks a source everywhere, goes back: all in network namespaces, while a client that
    /// is always allowed and one that never is connect to every host. Ends with a table of what was expected and
    /// seen, and with 0 only if all was as expected. Needs root.
    Fleet(fleet::Options),
    /// Build packages for x86-64 and arm64, in target/dist
    ///
    /// For each a Debian package, an RPM and a tarball with an installer; an OCI image of both; a bill of materials
    /// (CycloneDX), SHA256SUMS and, with a key, signatures. In the packages: the programs with the BPF object in
    /// them, linked statically to run on any Linux, systemd units, a default configuration, manual pages, completions for
    /// bash, zsh and fish, example policies. The same sources give the same files, in any folder, at any time.
    Dist(dist::Options),
}

/// Does what the command line says.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    dispatch(&cli.task).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        let refused = error.chain().any(<dyn std::error::Error>::is::<Refused>);
        ExitCode::from(if refused { 5 } else { 1 })
    })
}

fn dispatch(task: &Task) -> Result<ExitCode> {
    let interrupt = Interrupt::install()?;
    match task {
        Task::Setup => set_up(&interrupt),
        Task::Run { hold, arguments } if arguments.is_empty() => playground::run(*hold, &interrupt),
        Task::Run { arguments, .. } => forward(arguments, &interrupt),
        Task::Test(options) => test::run(options, &interrupt),
        Task::Bench(options) => bench::run(options, &interrupt),
        Task::Kernels {
            architectures,
            series,
            nics,
        } => kernels::run(architectures, series, nics, &interrupt),
        Task::Fleet(options) => fleet::run(options, &interrupt),
        Task::Dist(options) => dist::run(options, &interrupt),
    }
}

fn set_up(interrupt: &Interrupt) -> Result<ExitCode> {
    let start = Instant::now();
    let toolchain = setup::run(interrupt)?;
    println!(
        "ready after {:.1} s: {}, Rust {} with LLVM {}, linker {}",
        start.elapsed().as_secs_f64(),
        toolchain.origin,
        toolchain.version.release,
        toolchain.version.llvm,
        toolchain.linker.display()
    );
    Ok(ExitCode::SUCCESS)
}

/// Becomes `ipfilter`; whether a command needs root, it knows itself.
fn forward(arguments: &[OsString], interrupt: &Interrupt) -> Result<ExitCode> {
    setup::run(interrupt)?;
    let binary = build::release(interrupt)?;
    let error = Command::new(&binary).args(arguments).exec();
    Err(error).with_context(|| format!("can't start `{}`", binary.display()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_defined() {
        Cli::command().debug_assert();
    }

    #[test]
    fn whatever_follows_run_goes_to_ipfilter() {
        let line = [
            "xtask",
            "run",
            "--instance",
            "x",
            "status",
            "--format",
            "json",
        ];
        let cli = Cli::try_parse_from(line).unwrap();
        let Task::Run { hold, arguments } = cli.task else {
            panic!("not run: {cli:?}");
        };
        assert!(!hold);
        assert_eq!(
            arguments,
            line[2..].iter().map(OsString::from).collect::<Vec<_>>()
        );
    }

    #[test]
    fn hold_is_ours() {
        let cli = Cli::try_parse_from(["xtask", "run", "--hold"]).unwrap();
        assert!(matches!(cli.task, Task::Run { hold: true, arguments } if arguments.is_empty()));
    }
}
