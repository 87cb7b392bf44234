//! Threads for what must not hold up the loop: building plans, and writing to the disk.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc,
    thread,
};

use log::error;

type Work = Box<dyn FnOnce() + Send>;

/// A thread that does what it is given, one after the other. Dropped, it finishes that first.
#[derive(Debug)]
pub(super) struct Worker {
    work: Option<mpsc::Sender<Work>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Worker {
    /// Starts the thread.
    pub(super) fn start(name: &str) -> io::Result<Self> {
        let (work, waiting) = mpsc::channel::<Work>();
        let run = move || {
            for work in waiting {
                // The panic has been printed; the thread is needed further on.
                if catch_unwind(AssertUnwindSafe(work)).is_err() {
                    error!("an internal error; the process continues. Please report it");
                }
            }
        };
        let thread = thread::Builder::new().name(name.into()).spawn(run)?;
        Ok(Self {
            work: Some(work),
            thread: Some(thread),
        })
    }

    /// Has it do this, after what it was given before.
    pub(super) fn run(&self, work: impl FnOnce() + Send + 'static) {
        if let Some(sender) = &self.work {
            // The thread ends only after this.
            let _: Result<(), mpsc::SendError<Work>> = sender.send(Box::new(work));
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.work.take());
        if let Some(thread) = self.thread.take() {
            // It does not panic.
            let _: thread::Result<()> = thread.join();
        }
    }
}
