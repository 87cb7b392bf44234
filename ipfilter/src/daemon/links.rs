//! Noticing that interfaces come and go.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use anyhow::Context as _;

use super::readable::Readable;
use crate::kernel::Monitor;

/// A watch over the interfaces of this network namespace.
pub(super) struct Links {
    monitor: Monitor,
    readable: Readable,
}

impl Links {
    /// Begins to watch. Needs a runtime to be entered.
    pub(super) fn new() -> anyhow::Result<Self> {
        let monitor = Monitor::new()?;
        let descriptor = monitor.as_fd().try_clone_to_owned();
        let readable = descriptor
            .and_then(Readable::new)
            .context("can't watch interfaces")?;
        Ok(Self { monitor, readable })
    }

    /// Waits until some have come, gone or got other names.
    pub(super) async fn changed(&mut self) -> anyhow::Result<()> {
        let drain = |_: &OwnedFd| match self.monitor.drain() {
            Ok(true) => Ok(Ok(())),
            Ok(false) => Err(io::ErrorKind::WouldBlock.into()),
            Err(error) => Ok(Err(error)),
        };
        Ok(self
            .readable
            .read(drain)
            .await
            .context("can't watch interfaces")??)
    }
}
