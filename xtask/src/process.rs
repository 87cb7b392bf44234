//! Child processes that never outlive their owner, and the signals that ask us to stop.

use std::{
    process::{Child, Command, ExitStatus, Output},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How long waiting loops sleep between two looks.
pub const TICK: Duration = Duration::from_millis(10);

/// A running child process, killed and reaped when this is dropped.
#[derive(Debug)]
pub struct Guard {
    child: Child,
    name: String,
}

impl Guard {
    /// Starts `command`.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command
            .spawn()
            .with_context(|| format!("can't start `{name}`"))?;
        Ok(Self { child, name })
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The child itself: for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// How the process ended, or `None` while it runs.
    ///
    /// # Errors
    /// When the system can't tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Sends a signal to this one process.
    ///
    /// # Errors
    /// When the signal can't be sent, the process having ended for instance.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(self.pid()?, signal)
            .with_context(|| format!("can't send a signal to `{}`", self.name))
    }

    /// Waits for the end; `None` when it still runs after `limit`.
    ///
    /// # Errors
    /// When the system can't tell.
    pub fn wait(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        let start = Instant::now();
        loop {
            let ended = self.ended()?;
            if ended.is_some() || start.elapsed() > limit {
                return Ok(ended);
            }
            thread::sleep(TICK);
        }
    }

    /// Asks the process to end (SIGTERM) and waits for it; kills it after `limit`.
    ///
    /// # Errors
    /// When it had to be killed, or had ended before.
    pub fn stop(mut self, limit: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.ended()? {
            bail!("`{}` had ended before it was stopped: {status}", self.name);
        }
        self.signal(Signal::TERM)?;
        self.wait(limit)?
            .ok_or_else(|| anyhow!("`{}` did not end within {limit:?} of SIGTERM", self.name))
    }

    fn pid(&self) -> Result<Pid> {
        i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .ok_or_else(|| anyhow!("`{}` has no process id", self.name))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Both fail only when the process has been reaped already.
        let _: std::io::Result<()> = self.child.kill();
        let _: std::io::Result<ExitStatus> = self.child.wait();
    }
}

/// Kills the process `pid`, which need not be a child. Whether it existed does not matter.
pub(crate) fn kill(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended by itself: that is what was wanted.
        let _: rustix::io::Result<()> = kill_process(pid, Signal::KILL);
    }
}

/// Whether SIGINT or SIGTERM has arrived.
#[derive(Debug, Clone)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From now on SIGINT, SIGTERM and SIGHUP end nothing by themselves; they are noted here.
    ///
    /// # Errors
    /// When the system refuses the handlers.
    pub fn install() -> Result<Self> {
        let seen = Arc::new(AtomicBool::new(false));
        for signal in [
            signal_hook::consts::SIGINT,
            signal_hook::consts::SIGTERM,
            signal_hook::consts::SIGHUP,
        ] {
            signal_hook::flag::register(signal, Arc::clone(&seen))
                .context("can't watch for signals")?;
        }
        Ok(Self(seen))
    }

    /// Whether one has arrived.
    #[must_use]
    pub fn seen(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// An error once one has arrived.
    ///
    /// # Errors
    /// `interrupted`.
    pub fn check(&self) -> Result<()> {
        if self.seen() {
            bail!("interrupted");
        }
        Ok(())
    }

    /// Runs `command` to its end, or ends it when a signal arrives first.
    ///
    /// # Errors
    /// When it can't be started, or on a signal.
    pub fn run(&self, command: &mut Command) -> Result<ExitStatus> {
        let mut guard = Guard::spawn(command)?;
        loop {
            if let Some(status) = guard.ended()? {
                self.check()?;
                return Ok(status);
            }
            if self.seen() {
                // The terminal has told the child too: let it clean up before it is killed.
                guard.wait(Duration::from_secs(2))?;
                bail!("interrupted");
            }
            thread::sleep(TICK);
        }
    }
}

/// Runs `command`, which must succeed, and returns what it printed on standard output.
///
/// # Errors
/// When it can't be started or fails; the message carries what it said on standard error.
pub fn output(command: &mut Command) -> Result<String> {
    let line = shown(command);
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .output()
        .with_context(|| format!("can't start `{line}`"))?;
    if !status.success() {
        let said = String::from_utf8_lossy(&stderr);
        bail!("`{line}` failed ({status}): {}", said.trim());
    }
    String::from_utf8(stdout).with_context(|| format!("`{line}` printed something not UTF-8"))
}

/// The command line of `command`, to show.
#[must_use]
pub fn shown(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropping_a_guard_ends_its_process() {
        let guard = Guard::spawn(Command::new("sleep").arg("60")).unwrap();
        let folder = format!("/proc/{}", guard.id());
        assert!(std::path::Path::new(&folder).exists());
        drop(guard);
        assert!(!std::path::Path::new(&folder).exists());
    }

    #[test]
    fn stopping_is_polite_first() {
        let guard = Guard::spawn(Command::new("sleep").arg("60")).unwrap();
        let status = guard.stop(Duration::from_secs(5)).unwrap();
        assert!(!status.success());
    }

    #[test]
    fn a_failing_command_tells_what_it_said() {
        let error = output(Command::new("sh").args(["-c", "echo oh dear >&2; exit 3"]));
        let message = error.unwrap_err().to_string();
        assert!(message.contains("oh dear"), "{message}");
        assert!(message.contains("exit status: 3"), "{message}");
    }
}
