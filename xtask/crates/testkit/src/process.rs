//! Child processes that never outlive their owner, and the signals that ask us to stop.

use std::{
    ffi::OsStr,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, ExitStatus, Output},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// How long waiting loops sleep between two looks.
pub const TICK: Duration = Duration::from_millis(10);

/// A running child process, killed and reaped when this is dropped.
#[derive(Debug)]
pub struct Guard {
    child: Child,
    name: String,
    leads_group: bool,
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
        Ok(Self {
            child,
            name,
            leads_group: false,
        })
    }

    /// Starts `command` as the leader of a process group of its own: signals then go to all its
    /// descendants, and those that the terminal sends to us don't reach it.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn spawn_group(command: &mut Command) -> Result<Self> {
        let mut guard = Self::spawn(command.process_group(0))?;
        guard.leads_group = true;
        Ok(guard)
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
    /// When the system can't say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Sends a signal to this process, or to its group.
    ///
    /// # Errors
    /// When the signal can't be sent, the process having ended for instance.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.send(signal)
            .with_context(|| format!("can't send a signal to `{}`", self.name))
    }

    fn send(&self, signal: Signal) -> rustix::io::Result<()> {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .ok_or(rustix::io::Errno::SRCH)?;
        if self.leads_group {
            kill_process_group(pid, signal)
        } else {
            kill_process(pid, signal)
        }
    }

    /// Waits for the end; `None` when it still runs after `limit`.
    ///
    /// # Errors
    /// When the system can't say.
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
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Once it has been reaped its id may be anybody's.
        if matches!(self.child.try_wait(), Ok(None)) {
            // Fails when it ended this very moment.
            let _: rustix::io::Result<()> = self.send(Signal::KILL);
        }
        let _: std::io::Result<ExitStatus> = self.child.wait();
    }
}

/// Whether no process has the id `pid`.
#[must_use]
pub fn is_gone(pid: u32) -> bool {
    !Path::new("/proc").join(pid.to_string()).exists()
}

/// What the process `pid` has computed, and those of its children that have ended; nothing where
/// proc(5) can't say.
#[must_use]
pub fn cpu_time(pid: u32) -> Option<Duration> {
    /// `utime`, `stime`, `cutime` and `cstime`, counted from behind the name, which is in
    /// parentheses.
    const FIELDS: std::ops::Range<usize> = 11..15;
    /// In which proc(5) counts here.
    const TICKS_PER_SECOND: u64 = 100;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = fields.get(FIELDS)?.iter();
    let ticks: u64 = ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Some(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
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

    /// Runs `command` to its end, or ends it and all its descendants when a signal arrives first.
    ///
    /// # Errors
    /// When it can't be started, or on a signal.
    pub fn run(&self, command: &mut Command) -> Result<ExitStatus> {
        self.wait(Guard::spawn_group(command)?)
    }

    /// As [`Self::run`], for one that is running.
    ///
    /// # Errors
    /// On a signal.
    pub fn wait(&self, mut guard: Guard) -> Result<ExitStatus> {
        loop {
            if let Some(status) = guard.ended()? {
                self.check()?;
                return Ok(status);
            }
            if self.seen() {
                if guard.signal(Signal::TERM).is_ok() {
                    guard.wait(Duration::from_secs(2))?;
                }
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

/// The command line of `command`, to show: with the program's name, wherever it is.
#[must_use]
pub fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    std::iter::once(name)
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader},
        process::Stdio,
    };

    use super::*;

    #[test]
    fn dropping_a_guard_ends_its_process() {
        let guard = Guard::spawn(Command::new("sleep").arg("60")).unwrap();
        let folder = format!("/proc/{}", guard.id());
        assert!(Path::new(&folder).exists());
        drop(guard);
        assert!(!Path::new(&folder).exists());
    }

    #[test]
    fn a_group_ends_with_its_leader() {
        let mut shell = Command::new("sh");
        shell.args(["-c", "sleep 60 & echo $!; wait"]);
        let mut guard = Guard::spawn_group(shell.stdout(Stdio::piped())).unwrap();
        let mut line = String::new();
        BufReader::new(guard.child().stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let sleeper = line.trim().parse().unwrap();
        assert!(!is_gone(sleeper));
        drop(guard);
        // Whoever adopts it has to reap it first.
        let start = Instant::now();
        while is_running(sleeper) {
            assert!(start.elapsed() < Duration::from_secs(5));
        }
    }

    /// Whether it runs: a process that has ended is gone or a zombie (proc_pid_stat(5)).
    fn is_running(pid: u32) -> bool {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z"))
    }

    #[test]
    fn what_a_process_computes_is_counted() {
        let mut guard =
            Guard::spawn(Command::new("sh").args(["-c", "while :; do :; done"])).unwrap();
        while cpu_time(guard.id()).unwrap() < Duration::from_millis(50) {
            assert!(guard.ended().unwrap().is_none());
        }
        let id = guard.id();
        drop(guard);
        assert_eq!(cpu_time(id), None);
    }

    #[test]
    fn stopping_is_polite_first() {
        let guard = Guard::spawn(Command::new("sleep").arg("60")).unwrap();
        let status = guard.stop(Duration::from_secs(5)).unwrap();
        assert!(!status.success());
    }

    #[test]
    fn a_command_is_shown_by_name() {
        let command = |program| {
            let mut command = Command::new(program);
            command.args(["fmt", "--all"]);
            command
        };
        assert_eq!(shown(&command("/usr/bin/cargo")), "cargo fmt --all");
        assert_eq!(shown(&command("cargo")), "cargo fmt --all");
    }

    #[test]
    fn a_failing_command_tells_what_it_said() {
        let error = output(Command::new("sh").args(["-c", "echo oh dear >&2; exit 3"]));
        let message = error.unwrap_err().to_string();
        assert!(message.contains("oh dear"), "{message}");
        assert!(message.contains("exit status: 3"), "{message}");
    }
}
