//! Telling someone at a terminal what takes so long.

use std::{
    io::{self, IsTerminal as _, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How long something may take before anything is said.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often it is said how long it takes.
const TICK: Duration = Duration::from_millis(250);

/// Something that may take long. While it is there, a line on standard error says so, from the first
/// second on, if that is a terminal; dropped, it takes the line away.
#[derive(Debug)]
pub struct Progress {
    writer: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Begins something; `what` is as in "reading policies".
    #[must_use]
    pub fn of(what: &'static str) -> Self {
        Self::with(move || what.to_owned())
    }

    /// Begins something of which `done` says how far it has come, out of `total`.
    #[must_use]
    pub fn through(what: &'static str, total: u64, done: Arc<AtomicU64>) -> Self {
        Self::with(move || share(what, done.load(Ordering::Relaxed), total))
    }

    fn with(what: impl Fn() -> String + Send + 'static) -> Self {
        let shown = io::stderr().is_terminal();
        Self {
            writer: shown.then(|| {
                let (done, waiting) = mpsc::channel();
                let ticker = move || show(what, PATIENCE, &waiting, io::stderr());
                (done, thread::spawn(ticker))
            }),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((done, writer)) = self.writer.take() {
            drop(done);
            // A writer that could not write is no reason to stop.
            let _: thread::Result<()> = writer.join();
        }
    }
}

/// What is done, with a bar and its share if the whole is known.
fn share(what: &str, done: u64, total: u64) -> String {
    const WIDTH: u64 = 20;
    if total == 0 {
        return what.to_owned();
    }
    let done = done.min(total);
    let filled = usize::try_from(done.saturating_mul(WIDTH) / total).unwrap_or(0);
    let bar = "█".repeat(filled) + &"░".repeat(20_usize.saturating_sub(filled));
    format!("{what} {bar} {} %", done.saturating_mul(100) / total)
}

/// Writes to `out` how long it takes, until the other end of `waiting` is gone.
fn show(
    what: impl Fn() -> String,
    patience: Duration,
    waiting: &mpsc::Receiver<()>,
    mut out: impl Write,
) {
    let start = Instant::now();
    let mut pause = patience;
    let mut written = false;
    while waiting.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
        let seconds = start.elapsed().as_secs_f64();
        written |= write!(out, "\r{} … {seconds:.1} s", what()).is_ok();
        pause = TICK;
    }
    if written {
        // Back to the line's beginning, and erase it (ECMA-48, EL).
        let _ = write!(out, "\r\x1b[K");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(patience: Duration, work: Duration) -> String {
        let (done, waiting) = mpsc::channel();
        let worker = thread::spawn(move || {
            thread::sleep(work);
            drop(done);
        });
        let mut out = Vec::new();
        show(|| "loading tables".to_owned(), patience, &waiting, &mut out);
        worker.join().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_share_has_a_bar() {
        assert_eq!(share("reading", 1, 0), "reading");
        assert_eq!(share("reading", 0, 4), "reading ░░░░░░░░░░░░░░░░░░░░ 0 %");
        assert_eq!(share("reading", 2, 4), "reading ██████████░░░░░░░░░░ 50 %");
        assert_eq!(share("reading", 9, 4), "reading ████████████████████ 100 %");
    }

    #[test]
    fn what_is_quick_says_nothing() {
        assert_eq!(shown(Duration::from_secs(60), Duration::ZERO), "");
    }

    #[test]
    fn what_takes_long_says_so_and_leaves_no_trace() {
        let shown = shown(Duration::ZERO, Duration::from_millis(50));
        assert!(shown.starts_with("\rloading tables … 0."), "{shown:?}");
        assert!(shown.ends_with("\r\x1b[K"), "{shown:?}");
    }
}
