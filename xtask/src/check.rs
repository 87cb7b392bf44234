//! `cargo xtask test`: everything that must hold before a change is taken, counted.

use std::{
    io::{BufRead as _, BufReader, Read},
    ops::AddAssign,
    process::{Command, ExitCode, Stdio},
    thread,
    time::Instant,
};

use anyhow::{Result, anyhow};
use testkit::{
    need_root,
    process::{Guard, Interrupt, shown},
    promtool,
    vm::{self, Emulator},
};

use crate::{build::cargo, dist, kernels, setup};

/// Set-up, format, lints, tests, those in VMs, and those on other kernels; a step that fails does
/// not keep the next from being tried. Ends with the count of tests on a line of its own.
///
/// # Errors
/// [`testkit::Refused`] without root or where set-up can't help; on a signal.
pub(crate) fn run(interrupt: &Interrupt) -> Result<ExitCode> {
    need_root("the test suite, which loads BPF programs and makes network namespaces,")?;
    let mut steps = Steps {
        interrupt,
        failed: Vec::new(),
    };
    let start = Instant::now();
    setup::run(interrupt)?;
    for tools in [vm::TOOLS, vm::systemd::TOOLS, dist::TOOLS] {
        setup::tools("the package is made and tried with them", tools, interrupt)?;
    }
    promtool()?;
    Emulator::fetch()?;
    done("set-up", start);
    steps.plain("format", cargo().args(["fmt", "--all", "--check"]))?;
    let mut clippy = cargo();
    clippy.args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]);
    steps.plain("lints", &mut clippy)?;
    let mut tests = cargo();
    tests.args(["test", "--workspace", "--no-fail-fast", "--"]);
    let mut counts = steps.tests("tests", tests.args(["--skip", kernels::TESTS]))?;
    // Skipped before: they take as long as all others, and want the processors for themselves.
    let mut vms = cargo();
    vms.args([
        "test",
        "--package=testkit",
        "--package=xtask",
        "--tests",
        "--no-fail-fast",
        "--",
    ]);
    vms.args(["--ignored", "--nocapture", "--test-threads=1"]);
    let tried = steps.tests("tests in VMs", &mut vms)?;
    counts.skipped = counts.skipped.saturating_sub(tried.passed + tried.failed);
    counts += tried;
    if counts.passed + counts.failed == 0 {
        steps.failed.push("tests: none ran");
    }
    counts += steps.vms()?;
    for step in &steps.failed {
        eprintln!("failed: {step}");
    }
    println!("{counts}");
    let all_well = steps.failed.is_empty() && counts.failed == 0;
    Ok(ExitCode::from(u8::from(!all_well)))
}

struct Steps<'a> {
    interrupt: &'a Interrupt,
    failed: Vec<&'static str>,
}

impl Steps<'_> {
    fn plain(&mut self, name: &'static str, command: &mut Command) -> Result<()> {
        self.timed(name, command, |steps, command| {
            let status = steps.interrupt.run(command)?;
            Ok((status.success(), ()))
        })
    }

    /// Runs cargo's tests, passing on what they print while summing up their results.
    fn tests(&mut self, name: &'static str, command: &mut Command) -> Result<Counts> {
        self.timed(name, command, |steps, command| {
            let mut guard = Guard::spawn_group(command.stdout(Stdio::piped()))?;
            let stdout = guard.child().stdout.take();
            let reader = thread::spawn(move || stdout.map(pass_on).unwrap_or_default());
            let status = steps.interrupt.wait(guard)?;
            let counts = reader
                .join()
                .map_err(|_| anyhow!("reading what the tests print failed"))?;
            Ok((status.success(), counts))
        })
    }

    /// Runs the tests that were left out so far, on all kernels and network cards.
    fn vms(&mut self) -> Result<Counts> {
        const NAME: &str = "tests on other kernels";
        eprintln!("── {NAME}");
        let start = Instant::now();
        let (counts, all_well) = kernels::matrix(&[], &[], self.interrupt).or_else(|error| {
            self.interrupt.check()?;
            eprintln!("{error:#}");
            anyhow::Ok((Counts::default(), false))
        })?;
        if !all_well {
            self.failed.push(NAME);
        }
        done(NAME, start);
        Ok(counts)
    }

    fn timed<T>(
        &mut self,
        name: &'static str,
        command: &mut Command,
        run: impl FnOnce(&mut Self, &mut Command) -> Result<(bool, T)>,
    ) -> Result<T> {
        eprintln!("── {name}: {}", shown(command));
        let start = Instant::now();
        let (success, value) = run(self, command.stdin(Stdio::null()))?;
        if success {
            done(name, start);
        } else {
            done(&format!("{name} failed"), start);
            self.failed.push(name);
        }
        Ok(value)
    }
}

fn done(name: &str, start: Instant) {
    eprintln!("── {name}, {:.1} s", start.elapsed().as_secs_f64());
}

/// Copies lines to standard output as they come.
fn pass_on(stdout: impl Read) -> Counts {
    let mut counts = Counts::default();
    for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        if let Some(more) = Counts::parse(&line) {
            counts += more;
        }
    }
    counts
}

/// How many tests ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Counts {
    /// Reads the line that Rust's test harness closes with.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let (_, results) = line.split_once("test result: ")?;
        let number = |label| {
            results
                .split([';', '.'])
                .find_map(|part| part.trim().strip_suffix(label)?.trim().parse().ok())
        };
        Some(Self {
            passed: number("passed")?,
            failed: number("failed")?,
            skipped: number("ignored")?,
        })
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, more: Self) {
        self.passed += more.passed;
        self.failed += more.failed;
        self.skipped += more.skipped;
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\nrunning 3 tests\ntest a ... ok\n\n\
        test result: ok. 6 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s\n\
        test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.12s\n\
        test result: nonsense\nall in all: 900 passed\n";

    #[test]
    fn results_are_summed_over_all_test_binaries() {
        let counts = pass_on(OUTPUT.as_bytes());
        assert_eq!(
            counts,
            Counts {
                passed: 9,
                failed: 1,
                skipped: 1
            }
        );
    }

    #[test]
    fn the_closing_line_names_skipped_tests_only_if_there_are_any() {
        let counts = Counts {
            passed: 9,
            failed: 0,
            skipped: 0,
        };
        assert_eq!(counts.to_string(), "9 passed, 0 failed");
        assert_eq!(
            Counts {
                skipped: 2,
                ..counts
            }
            .to_string(),
            "9 passed, 0 failed, 2 skipped"
        );
    }
}
