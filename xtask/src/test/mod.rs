//! `cargo xtask test`: everything that must hold before a change is taken, counted.
//!
//! What takes longest goes side by side: VMs are emulated, so each keeps one processor busy, while
//! the tests on this machine often wait.

mod counts;
pub(crate) mod kernels;
mod steps;

use std::{env, num::NonZero, path::Path, process::ExitCode, thread};

use anyhow::Result;
use testkit::{
    Architecture, need_root,
    process::Interrupt,
    program::Program,
    vm::{self, Emulator, Nic, Series},
};

use crate::{
    build::{self, cargo},
    dist, fleet, setup,
};
use counts::Counts;
use kernels::Matrix;
use steps::Steps;

/// How many tests run at once.
const THREADS: &str = "RUST_TEST_THREADS";

/// So many tests for each processor: most wait for a program or a packet most of the time.
const WAITING: usize = 2;

/// What `--quick` leaves out: all that runs the real binary under traffic, which takes minutes.
const SLOW: &[&str] = &["service::", "kernel::gapless::", "kernel::large::"];

/// Which tests.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only tests with one of these in their names, on this kernel, without format and lints
    filter: Vec<String>,
    /// Leave out VMs, and tests that take long: for now and then
    #[arg(long, conflicts_with_all = ["filter", "full"])]
    quick: bool,
    /// Try every kernel and network card, and the package under systemd, too
    #[arg(long, conflicts_with = "filter")]
    full: bool,
}

/// Runs what is asked for; a step that fails does not keep the next from being tried. Ends with a
/// table of the steps, and the count of tests on a line of its own.
///
/// # Errors
/// [`testkit::Refused`] without root or where set-up can't help; on a signal.
pub(crate) fn run(options: &Options, interrupt: &Interrupt) -> Result<ExitCode> {
    need_root("the test suite, which loads BPF programs and makes network namespaces,")?;
    let mut steps = Steps::new(interrupt);
    let counts = if options.full || (options.filter.is_empty() && !options.quick) {
        whole(options.full, &mut steps)?
    } else {
        part(options, &mut steps)?
    };
    Ok(steps.close(counts))
}

/// The tests that are asked for, on this kernel.
fn part(options: &Options, steps: &mut Steps<'_>) -> Result<Counts> {
    let interrupt = steps.interrupt;
    steps.timed("set-up", || {
        setup::run(interrupt)?;
        Program::fetch_all()
    })?;
    let mut skip = vec![kernels::TESTS];
    if options.quick {
        steps.plain("format", cargo().args(["fmt", "--all", "--check"]))?;
        steps.plain("lints", &mut clippy())?;
        skip.extend(SLOW);
        eprintln!("── left out: VMs, {}", SLOW.join(", "));
    }
    let mut tests = tests(&skip);
    steps.tests("tests", tests.args(&options.filter))
}

/// Everything on this kernel, and in VMs the oldest supported one; if `full`, all kernels, and the
/// VMs' and the package's own tests.
fn whole(full: bool, steps: &mut Steps<'_>) -> Result<Counts> {
    let interrupt = steps.interrupt;
    steps.timed("set-up", || {
        setup::run(interrupt)?;
        setup::tools("VMs with other kernels are booted", vm::TOOLS, interrupt)?;
        if full {
            let why = "the package is made and tried with them";
            setup::tools(why, vm::systemd::TOOLS, interrupt)?;
            setup::tools(why, dist::TOOLS, interrupt)?;
        }
        Program::fetch_all()?;
        Emulator::fetch(Architecture::X86_64)
    })?;
    steps.plain("format", cargo().args(["fmt", "--all", "--check"]))?;
    let (matrix, ipfilter) = steps.timed("build", || {
        let series: &[Series] = if full { &Series::ALL } else { &[Series::V5_10] };
        let built = build::tests(interrupt)?;
        let ipfilter = built.ipfilter.clone();
        let mut matrix = Matrix::new(interrupt);
        matrix.add(series, &Nic::ALL, built)?;
        Ok((matrix, ipfilter))
    })?;
    let counts = thread::scope(|scope| {
        // Half of the processors are left to the tests on this machine, until those have ended.
        for _ in 0..processors().div_ceil(2) {
            scope.spawn(|| matrix.work());
        }
        let counts = on_this_machine(full, &ipfilter, steps);
        matrix.work();
        counts
    })?;
    interrupt.check()?;
    steps.vms("kernels", counts, &matrix.results())
}

/// The steps beside the matrix.
fn on_this_machine(full: bool, ipfilter: &Path, steps: &mut Steps<'_>) -> Result<Counts> {
    steps.plain("lints", &mut clippy())?;
    let mut counts = steps.tests("tests", &mut tests(&[kernels::TESTS]))?;
    let binaries = ipfilter.parent().unwrap_or(ipfilter);
    steps.plain("fleet", &mut fleet::small(binaries))?;
    if full {
        counts += steps.tests(
            "documentation",
            cargo().args(["test", "--workspace", "--doc"]),
        )?;
        let mut ignored = cargo();
        ignored.args(["test", "--package=testkit", "--package=xtask", "--tests"]);
        ignored.args(["--no-fail-fast", "--", "--ignored", "--nocapture"]);
        let tried = steps.tests("package and VMs", ignored.arg("--test-threads=1"))?;
        counts.skipped = counts.skipped.saturating_sub(tried.ran());
        counts += tried;
    }
    Ok(counts)
}

fn processors() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

fn clippy() -> std::process::Command {
    let mut clippy = cargo();
    clippy.args(["clippy", "--workspace", "--all-targets"]);
    clippy.args(["--", "-D", "warnings"]);
    clippy
}

/// All tests but those with one of `skip` in their names, as [`build::tests`] has built them.
fn tests(skip: &[&str]) -> std::process::Command {
    let mut tests = cargo();
    tests.arg("test").args(build::TESTS);
    tests.args(["--no-fail-fast", "--"]);
    if env::var_os(THREADS).is_none() {
        tests.env(THREADS, (WAITING * processors()).to_string());
    }
    for name in skip {
        tests.args(["--skip", name]);
    }
    tests
}
