//! `cargo xtask kernels`: the integration tests named `matrix::`, on every kernel and network card.
//!
//! A kernel's first card gets all of them, the others only those that depend on the card: of two
//! processors, everything else twelve times over would be too much to ask.

use std::{
    iter,
    num::NonZero,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Result;
use testkit::{
    process::Interrupt,
    tool,
    vm::{self, Emulator, Kernel, Nic, Output, Series, Vm},
};

use crate::{build, check::Counts, setup, table};

/// The tests that run in VMs.
pub(crate) const TESTS: &str = "matrix::";

/// Those of them that depend on the network card.
const CARD_TESTS: &str = "matrix::card::";

/// What the tests call.
const CALLED: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("curl", "curl"),
];

/// For everything in one VM.
const TIMEOUT: Duration = Duration::from_secs(300);

/// More VMs at once would only wait for each other, and for their tests' time limits.
const MOST_AT_ONCE: usize = 4;

/// For the command line.
pub(crate) fn series(name: &str) -> Result<Series, String> {
    let names = Series::ALL.map(Series::name).join(", ");
    Series::from_name(name).ok_or_else(|| format!("there are {names}"))
}

/// For the command line.
pub(crate) fn nic(name: &str) -> Result<Nic, String> {
    let names = Nic::ALL.map(Nic::name).join(", ");
    let found = Nic::ALL.into_iter().find(|nic| nic.name() == name);
    found.ok_or_else(|| format!("there are {names}"))
}

/// Runs the tests in VMs for each kernel and each card; without any given, all of them.
///
/// # Errors
/// As [`matrix`]. A VM that fails is a line in the table.
pub(crate) fn run(series: &[Series], nics: &[Nic], interrupt: &Interrupt) -> Result<ExitCode> {
    let (_, all_well) = matrix(series, nics, interrupt)?;
    Ok(ExitCode::from(u8::from(!all_well)))
}

/// The same, for who goes on: how many tests ended how, and whether all is well in all VMs.
///
/// # Errors
/// [`testkit::Refused`] where set-up can't help; when the build fails, a kernel can't be fetched, or
/// on a signal.
pub(crate) fn matrix(
    series: &[Series],
    nics: &[Nic],
    interrupt: &Interrupt,
) -> Result<(Counts, bool)> {
    setup::run(interrupt)?;
    setup::tools("VMs with other kernels run in it", vm::TOOLS, interrupt)?;
    let emulator = Emulator::fetch()?;
    interrupt.check()?;
    let programs = programs(interrupt)?;
    let mut vms = Vec::new();
    for series in if series.is_empty() {
        &Series::ALL
    } else {
        series
    } {
        let kernel = series.fetch()?;
        interrupt.check()?;
        let nics = if nics.is_empty() { &Nic::ALL } else { nics };
        for (&nic, tests) in nics
            .iter()
            .zip(iter::once(TESTS).chain(iter::repeat(CARD_TESTS)))
        {
            vms.push(vm(&emulator, &kernel, nic, tests, &programs, interrupt));
        }
    }
    let results = run_all(&vms);
    interrupt.check()?;
    let rows: Vec<_> = vms
        .iter()
        .zip(&results)
        .map(|(vm, result)| row(vm, result))
        .collect();
    let head = [
        "kernel", "card", "passed", "failed", "skipped", "seconds", "",
    ];
    print!("{}", table::render(&head, &rows));
    let mut sum = Counts::default();
    let outputs = results.iter().filter_map(|result| result.as_ref().ok());
    for more in outputs.filter_map(|output| counts(&output.output)) {
        sum += more;
    }
    let all_well = results.iter().all(|result| verdict(result).is_ok());
    Ok((sum, all_well))
}

/// The programs to have in every VM, the tests first.
fn programs(interrupt: &Interrupt) -> Result<Vec<PathBuf>> {
    let (ipfilter, tests) = build::integration_tests(interrupt)?;
    let mut programs = vec![tests, ipfilter];
    for (name, package) in CALLED {
        programs.push(tool(name, package)?);
    }
    Ok(programs)
}

fn vm(
    emulator: &Emulator,
    kernel: &Kernel,
    nic: Nic,
    tests: &str,
    programs: &[PathBuf],
    interrupt: &Interrupt,
) -> Vm {
    let program = programs.first().map(|tests| tests.display().to_string());
    let program = program.unwrap_or_default();
    let script = format!(
        "export IPFILTER_TEST_NICS=eth0,eth1 RUST_BACKTRACE=1\n\
         exec '{program}' {tests} --include-ignored --test-threads=1\n"
    );
    Vm {
        nics: vec![nic; 2],
        programs: programs.to_vec(),
        timeout: TIMEOUT,
        interrupt: Some(interrupt.clone()),
        ..Vm::new(emulator.clone(), kernel.clone(), script)
    }
}

/// As many at once as there are processors; results in the order of the VMs.
fn run_all(vms: &[Vm]) -> Vec<Result<Output>> {
    let at_once = thread::available_parallelism().map_or(1, NonZero::get);
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..at_once.min(MOST_AT_ONCE) {
            scope.spawn(|| {
                while let Some((number, vm)) = take(vms, &next) {
                    let result = vm.run();
                    tell(vm, &result);
                    if let Ok(mut results) = results.lock() {
                        results.push((number, result));
                    }
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_default();
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

fn take<'a>(vms: &'a [Vm], next: &AtomicUsize) -> Option<(usize, &'a Vm)> {
    let number = next.fetch_add(1, Ordering::Relaxed);
    vms.get(number).map(|vm| (number, vm))
}

/// One line when all is well, else everything that the VM said.
fn tell(vm: &Vm, result: &Result<Output>) {
    let name = name(vm);
    match (verdict(result), result) {
        (Ok(counts), _) => eprintln!("── {name}: {counts}"),
        (Err(problem), Ok(output)) => {
            let Output {
                console, output, ..
            } = output;
            eprintln!("── {name}: {problem}; it said:\n{output}\n{console}");
        }
        (Err(_), Err(error)) => eprintln!("── {name}: {error:#}"),
    }
}

fn name(vm: &Vm) -> String {
    let nic = vm.nics.first().map_or("none", |nic| nic.name());
    format!("{} {nic}", vm.kernel.release)
}

fn row(vm: &Vm, result: &Result<Output>) -> Vec<String> {
    let output = result.as_ref().ok();
    let counts = output.and_then(|output| counts(&output.output));
    let number = |pick: fn(&Counts) -> u64| {
        counts
            .as_ref()
            .map_or_else(|| "-".to_owned(), |counts| pick(counts).to_string())
    };
    let seconds = output.map(|output| format!("{:.1}", output.elapsed.as_secs_f64()));
    vec![
        vm.kernel.release.clone(),
        vm.nics.first().map_or("none", |nic| nic.name()).to_owned(),
        number(|counts| counts.passed),
        number(|counts| counts.failed),
        number(|counts| counts.skipped),
        seconds.unwrap_or_else(|| "-".to_owned()),
        verdict(result).err().unwrap_or_default(),
    ]
}

/// All tests passed, and there were some; or what is wrong.
fn verdict(result: &Result<Output>) -> Result<Counts, String> {
    let Ok(output) = result else {
        return Err("the VM failed".to_owned());
    };
    match counts(&output.output) {
        None => Err(format!(
            "the tests did not run to their end ({})",
            output.code
        )),
        Some(counts) if counts.passed + counts.failed == 0 => Err("no test ran".to_owned()),
        Some(counts) if counts.failed > 0 => Err("tests failed".to_owned()),
        Some(_) if output.code != 0 => Err(format!("the tests ended with {}", output.code)),
        Some(counts) => Ok(counts),
    }
}

fn counts(output: &str) -> Option<Counts> {
    output.lines().rev().find_map(Counts::parse)
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    fn output(code: i32, passed: u64, failed: u64) -> Result<Output> {
        Ok(Output {
            code,
            output: format!(
                "running\ntest result: x. {passed} passed; {failed} failed; 0 ignored; 0 measured"
            ),
            console: String::new(),
            elapsed: Duration::from_secs(3),
        })
    }

    #[test]
    fn only_tests_that_ran_and_passed_are_well() {
        assert_eq!(verdict(&output(0, 2, 0)).map(|counts| counts.passed), Ok(2));
        let wrong = [
            (output(0, 0, 0), "no test ran"),
            (output(101, 2, 1), "tests failed"),
            (output(139, 2, 0), "the tests ended with 139"),
            (Err(anyhow!("timeout")), "the VM failed"),
        ];
        for (result, problem) in wrong {
            assert_eq!(verdict(&result).unwrap_err(), problem);
        }
        let silent = output(125, 1, 0).map(|output| Output {
            output: "can't load x".to_owned(),
            ..output
        });
        assert_eq!(
            verdict(&silent).unwrap_err(),
            "the tests did not run to their end (125)"
        );
    }

    #[test]
    fn kernels_and_cards_are_known_by_name() {
        assert_eq!(series("6.1"), Ok(Series::V6_1));
        assert_eq!(
            series("2.4").unwrap_err(),
            "there are 5.10, 6.1, 6.12, newest"
        );
        assert_eq!(nic("e1000e"), Ok(Nic::E1000e));
        assert!(nic("ne2000").is_err());
    }
}
