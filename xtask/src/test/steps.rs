//! The steps of a test run: what they print, how long they took, what failed.

use std::{
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use testkit::process::{self, Guard, Interrupt, shown};

use super::{counts::Counts, kernels::Results};
use crate::table;

/// Steps taken one after the other.
pub(super) struct Steps<'a> {
    pub(super) interrupt: &'a Interrupt,
    start: Instant,
    failed: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl<'a> Steps<'a> {
    pub(super) fn new(interrupt: &'a Interrupt) -> Self {
        Self {
            interrupt,
            start: Instant::now(),
            failed: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// A step that can't fail without ending the run.
    pub(super) fn timed<T>(
        &mut self,
        name: &'static str,
        run: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        eprintln!("── {name}");
        let (start, cpu) = (Instant::now(), cpu_time());
        let value = run()?;
        self.done(name, start.elapsed(), cpu_time().saturating_sub(cpu));
        Ok(value)
    }

    /// Runs a command.
    pub(super) fn plain(&mut self, name: &'static str, command: &mut Command) -> Result<()> {
        self.command(name, command, |steps, command| {
            let status = steps.interrupt.run(command)?;
            Ok((status.success(), ()))
        })
    }

    /// Runs cargo's tests, passing on what they print while summing up their results.
    pub(super) fn tests(&mut self, name: &'static str, command: &mut Command) -> Result<Counts> {
        self.command(name, command, |steps, command| {
            let mut guard = Guard::spawn_group(command.stdout(Stdio::piped()))?;
            let stdout = guard.child().stdout.take();
            let reader = thread::spawn(move || stdout.map(Counts::pass_on).unwrap_or_default());
            let status = steps.interrupt.wait(guard)?;
            let counts = reader
                .join()
                .map_err(|_| anyhow!("reading what the tests print failed"))?;
            Ok((status.success(), counts))
        })
    }

    fn command<T>(
        &mut self,
        name: &'static str,
        command: &mut Command,
        run: impl FnOnce(&mut Self, &mut Command) -> Result<(bool, T)>,
    ) -> Result<T> {
        eprintln!("── {name}: {}", shown(command));
        let (start, cpu) = (Instant::now(), cpu_time());
        let (success, value) = run(self, command.stdin(Stdio::null()))?;
        self.done(name, start.elapsed(), cpu_time().saturating_sub(cpu));
        if !success {
            eprintln!("── {name} failed");
            self.failed.push(name);
        }
        Ok(value)
    }

    /// Adds the counts of VMs to those of the other steps.
    pub(super) fn vms(
        &mut self,
        name: &'static str,
        mut counts: Counts,
        results: &Results,
    ) -> Result<Counts> {
        print!("{}", results.table());
        counts += results.counts();
        self.done(name, results.elapsed, results.cpu());
        if !results.all_well() {
            self.failed.push(name);
        }
        Ok(counts)
    }

    fn done(&mut self, name: &str, elapsed: Duration, cpu: Duration) {
        let seconds = |time: Duration| format!("{:.1}", time.as_secs_f64());
        eprintln!("── {name}, {} s", seconds(elapsed));
        self.rows
            .push(vec![name.to_owned(), seconds(elapsed), seconds(cpu)]);
    }

    /// Prints the table of the steps, what failed, and last the counts.
    pub(super) fn close(mut self, counts: Counts) -> ExitCode {
        if counts.ran() == 0 {
            self.failed.push("tests: none ran");
        }
        self.rows.push(vec![
            "all".to_owned(),
            format!("{:.1}", self.start.elapsed().as_secs_f64()),
        ]);
        let head = ["step", "seconds", "CPU seconds"];
        print!("{}", table::render(&head, &self.rows));
        for step in &self.failed {
            eprintln!("failed: {step}");
        }
        println!("{counts}");
        let all_well = self.failed.is_empty() && counts.failed == 0;
        ExitCode::from(u8::from(!all_well))
    }
}

/// What this process and all children of it that have ended have computed: a step's share is the
/// difference, but for a VM that ends meanwhile.
fn cpu_time() -> Duration {
    process::cpu_time(std::process::id()).unwrap_or_default()
}
