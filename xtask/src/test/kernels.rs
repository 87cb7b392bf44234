//! `cargo xtask kernels`: the integration tests named `matrix::`, on every kernel and network card.
//!
//! One VM for each kernel, with two of each card in it: emulated hardware is slow to boot. VMs of another architecture
//! get tests that are cross-built, with the programs that packages ship.

use std::{
    num::NonZero,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use testkit::{
    Architecture,
    process::Interrupt,
    tool,
    vm::{self, Emulator, Nic, Output, Series, Vm},
};

use super::counts::Counts;
use crate::{
    build::{self, Built},
    setup::{self, cross::Compiler},
    table,
};

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

/// For everything in one VM, on a machine that has other things to do.
const TIMEOUT: Duration = Duration::from_secs(1800);

/// Before the results of each part of the tests.
const PART: &str = "── part ";

/// The part that depends on no card.
const ANY_CARD: &str = "any";

/// What the script begins with: a function that runs the tests of one card, by its driver. They get
/// the names of the two cards in a variable, and leave addresses behind.
const FUNCTIONS: &str = r#"export RUST_BACKTRACE=1
code=0
card() {
    names=
    for path in /sys/class/net/*; do
        case "$(readlink "$path/device/driver")" in
            */"$2") names="$names${names:+,}${path##*/}" ;;
        esac
    done
    echo "── part $1"
    IPFILTER_TEST_NICS=$names run matrix::card::
    for name in $(echo "$names" | tr , ' '); do
        ip addr flush dev "$name"
        ip link set "$name" down
    done
}
"#;

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

/// Runs the tests in a VM for each kernel of each architecture, with each card; without any given, all of them.
///
/// # Errors
/// [`testkit::Refused`] where set-up can't help; when the build fails, a kernel can't be fetched, or
/// on a signal. A VM that fails is a line in the table.
pub(crate) fn run(
    architectures: &[Architecture],
    series: &[Series],
    nics: &[Nic],
    interrupt: &Interrupt,
) -> Result<ExitCode> {
    setup::run(interrupt)?;
    setup::tools("VMs with other kernels are booted", vm::TOOLS, interrupt)?;
    let architectures = or_all(architectures, &Architecture::ALL);
    let nics = or_all(nics, &Nic::ALL);
    let mut matrix = Matrix::new(interrupt);
    for &architecture in architectures {
        let series = or_all(series, tried(architecture));
        match architecture {
            Architecture::X86_64 => matrix.add(series, nics, build::tests(interrupt)?)?,
            Architecture::Arm64 => matrix.add_arm64(series, nics)?,
        }
    }
    thread::scope(|scope| {
        for _ in 1..thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(|| matrix.work());
        }
        matrix.work();
    });
    let results = matrix.results();
    interrupt.check()?;
    print!("{}", results.table());
    Ok(ExitCode::from(u8::from(!results.all_well())))
}

fn or_all<'a, T>(named: &'a [T], all: &'a [T]) -> &'a [T] {
    if named.is_empty() { all } else { named }
}

/// Debian 11 had few users on arm64, and its support there has ended.
fn tried(architecture: Architecture) -> &'static [Series] {
    match architecture {
        Architecture::X86_64 => &Series::ALL,
        Architecture::Arm64 => &[Series::V6_1, Series::V6_12, Series::Newest],
    }
}

/// VMs that are ready to boot, by whoever has a processor to spare: each is emulated and keeps one busy.
pub(super) struct Matrix<'a> {
    vms: Vec<Vm>,
    start: Instant,
    next: AtomicUsize,
    ended: Mutex<Vec<(usize, Result<Output>)>>,
    interrupt: &'a Interrupt,
}

impl<'a> Matrix<'a> {
    /// Without any VM.
    pub(super) fn new(interrupt: &'a Interrupt) -> Self {
        Self {
            vms: Vec::new(),
            start: Instant::now(),
            next: AtomicUsize::new(0),
            ended: Mutex::new(Vec::new()),
            interrupt,
        }
    }

    /// Adds VMs of this machine's own kind, and fetches what they take.
    ///
    /// # Errors
    /// When a kernel or a tool can't be had; on a signal.
    pub(super) fn add(&mut self, series: &[Series], nics: &[Nic], built: Built) -> Result<()> {
        let script = script(&built.tests, nics);
        let mut programs = vec![built.tests, built.ipfilter];
        for (name, package) in CALLED {
            programs.push(tool(name, package)?);
        }
        self.boot(Architecture::X86_64, series, nics, &programs, &script)
    }

    /// Cross-builds the tests, and adds VMs for them, with those of the cards that there are on arm64.
    ///
    /// # Errors
    /// As [`Self::add`]; when the build fails.
    pub(super) fn add_arm64(&mut self, series: &[Series], nics: &[Nic]) -> Result<()> {
        let architecture = Architecture::Arm64;
        let compiler = Compiler::provide(architecture, self.interrupt)?;
        let built = build::cross_tests(&compiler, self.interrupt)?;
        let nics: Vec<Nic> = nics
            .iter()
            .copied()
            .filter(|nic| nic.is_on(architecture))
            .collect();
        let script = script(&built.tests, &nics);
        let programs = vec![built.tests, built.ipfilter];
        self.boot(architecture, series, &nics, &programs, &script)
    }

    fn boot(
        &mut self,
        architecture: Architecture,
        series: &[Series],
        nics: &[Nic],
        programs: &[PathBuf],
        script: &str,
    ) -> Result<()> {
        let emulator = Emulator::fetch(architecture)?;
        for series in series {
            self.interrupt.check()?;
            self.vms.push(Vm {
                nics: nics.iter().flat_map(|nic| [*nic; 2]).collect(),
                programs: programs.to_vec(),
                timeout: TIMEOUT,
                interrupt: Some(self.interrupt.clone()),
                ..Vm::new(emulator.clone(), series.fetch(architecture)?, script)
            });
        }
        Ok(())
    }

    /// Boots one VM after the other, and reports each when it has ended, until none is left that nobody has
    /// booted.
    pub(super) fn work(&self) {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(vm) = self.vms.get(number) else {
                return;
            };
            let result = vm.run();
            report(vm, &result);
            if let Ok(mut ended) = self.ended.lock() {
                ended.push((number, result));
            }
        }
    }

    /// What came of those that have ended, in their order.
    pub(super) fn results(self) -> Results {
        let mut ended = self.ended.into_inner().unwrap_or_default();
        ended.sort_by_key(|(number, _)| *number);
        let booted = self.vms.into_iter().zip(ended);
        let vms = booted.map(|(vm, (_, result))| Booted {
            parts: 1 + vm.nics.len() / 2,
            kernel: vm.kernel.release,
            result,
        });
        Results {
            vms: vms.collect(),
            elapsed: self.start.elapsed(),
        }
    }
}

/// Runs what depends on no card, then what does on each.
fn script(tests: &Path, nics: &[Nic]) -> String {
    let tests = tests.display();
    let run =
        format!("run() {{ '{tests}' \"$@\" --include-ignored --test-threads=1 || code=$?; }}");
    let any = format!("echo '{PART}{ANY_CARD}'\nrun {TESTS} --skip {CARD_TESTS}");
    let cards = nics
        .iter()
        .map(|nic| format!("card {} {}", nic.name(), nic.driver()));
    let cards: Vec<String> = cards.collect();
    format!(
        "{FUNCTIONS}{run}\n{any}\n{}\nexit $code\n",
        cards.join("\n")
    )
}

/// One line when all is well, else everything that the VM said.
fn report(vm: &Vm, result: &Result<Output>) {
    let name = &vm.kernel.release;
    match (verdict(result, 1 + vm.nics.len() / 2), result) {
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

/// A VM that has run.
struct Booted {
    kernel: String,
    /// How many parts of the tests there must be results of.
    parts: usize,
    result: Result<Output>,
}

/// The outcome of all VMs.
pub(super) struct Results {
    vms: Vec<Booted>,
    pub(super) elapsed: Duration,
}

impl Results {
    /// How many tests ended how.
    pub(super) fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for output in self.outputs() {
            for (_, more) in parts(&output.output) {
                sum += more;
            }
        }
        sum
    }

    /// Whether all tests passed in all VMs.
    pub(super) fn all_well(&self) -> bool {
        let mut vms = self.vms.iter();
        vms.all(|vm| verdict(&vm.result, vm.parts).is_ok())
    }

    /// What they have computed.
    pub(super) fn cpu(&self) -> Duration {
        self.outputs().map(|output| output.cpu).sum()
    }

    fn outputs(&self) -> impl Iterator<Item = &Output> {
        self.vms.iter().filter_map(|vm| vm.result.as_ref().ok())
    }

    /// A line for each part of each VM.
    pub(super) fn table(&self) -> String {
        let head = [
            "kernel",
            "card",
            "passed",
            "failed",
            "skipped",
            "seconds",
            "CPU seconds",
            "",
        ];
        let rows: Vec<_> = self.vms.iter().flat_map(Booted::rows).collect();
        table::render(&head, &rows)
    }
}

impl Booted {
    fn rows(&self) -> Vec<Vec<String>> {
        let seconds = |time: Duration| format!("{:.1}", time.as_secs_f64());
        let problem = verdict(&self.result, self.parts).err().unwrap_or_default();
        let Ok(output) = &self.result else {
            let mut row = vec![self.kernel.clone()];
            row.extend(["-"; 6].map(str::to_owned));
            row.push(problem);
            return vec![row];
        };
        let parts = parts(&output.output).into_iter().map(|(part, counts)| {
            vec![
                self.kernel.clone(),
                part,
                counts.passed.to_string(),
                counts.failed.to_string(),
                counts.skipped.to_string(),
            ]
        });
        let mut rows: Vec<Vec<String>> = parts.collect();
        if rows.is_empty() {
            rows.push(
                [&self.kernel, "-", "-", "-", "-"]
                    .map(str::to_owned)
                    .to_vec(),
            );
        }
        // Of the whole VM.
        if let Some(last) = rows.last_mut() {
            last.extend([seconds(output.elapsed), seconds(output.cpu), problem]);
        }
        rows
    }
}

/// All tests of all parts passed, and there were some in each; or what is wrong.
fn verdict(result: &Result<Output>, expected: usize) -> Result<Counts, String> {
    let Ok(output) = result else {
        return Err("the VM failed".to_owned());
    };
    let parts = parts(&output.output);
    let mut sum = Counts::default();
    for (part, counts) in &parts {
        if counts.ran() == 0 {
            return Err(format!("no test ran ({part})"));
        }
        sum += *counts;
    }
    if parts.len() != expected {
        return Err(format!(
            "the tests did not run to their end ({})",
            output.code
        ));
    }
    if sum.failed > 0 {
        return Err("tests failed".to_owned());
    }
    if output.code != 0 {
        return Err(format!("the tests ended with {}", output.code));
    }
    Ok(sum)
}

/// The parts that ran to their end, and their results.
fn parts(output: &str) -> Vec<(String, Counts)> {
    let mut parts = Vec::new();
    let mut name = String::new();
    for line in output.lines() {
        if let Some(part) = line.strip_prefix(PART) {
            part.clone_into(&mut name);
        } else if let Some(counts) = Counts::parse(line) {
            parts.push((name.clone(), counts));
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    fn output(code: i32, passed: u64, failed: u64) -> Result<Output> {
        Ok(Output {
            code,
            output: format!(
                "── part any\ntest result: x. {passed} passed; {failed} failed; 0 ignored; 0 measured\n\
                 ── part virtio\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured\n"
            ),
            console: String::new(),
            cpu: Duration::ZERO,
            elapsed: Duration::from_secs(3),
        })
    }

    #[test]
    fn only_tests_that_ran_and_passed_are_well() {
        assert_eq!(
            verdict(&output(0, 2, 0), 2).map(|counts| counts.passed),
            Ok(3)
        );
        assert!(verdict(&output(0, 2, 0), 3).is_err());
        let wrong = [
            (output(0, 0, 0), "no test ran (any)"),
            (output(101, 2, 1), "tests failed"),
            (output(139, 2, 0), "the tests ended with 139"),
            (Err(anyhow!("timeout")), "the VM failed"),
        ];
        for (result, problem) in wrong {
            assert_eq!(verdict(&result, 2).unwrap_err(), problem);
        }
        let silent = output(125, 1, 0).map(|output| Output {
            output: "can't load x".to_owned(),
            ..output
        });
        assert_eq!(
            verdict(&silent, 2).unwrap_err(),
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
