//! Waiting until a descriptor of ours has something to read.

use std::{io, os::fd::OwnedFd};

use tokio::io::{Interest, unix::AsyncFd};

/// A descriptor that doesn't block, and who waits for it.
#[derive(Debug)]
pub struct Readable {
    inner: AsyncFd<OwnedFd>,
}

impl Readable {
    /// Takes over `descriptor`, which must not block. Needs a runtime to be entered.
    pub(crate) fn new(descriptor: OwnedFd) -> io::Result<Self> {
        Self::register(descriptor, Interest::READABLE)
    }

    /// The same of one that announces what is urgent, with nothing to read.
    pub(crate) fn urgent(descriptor: OwnedFd) -> io::Result<Self> {
        Self::register(descriptor, Interest::PRIORITY)
    }

    #[expect(unsafe_code, reason = "tokio wants a promise about the descriptor")]
    fn register(descriptor: OwnedFd, interest: Interest) -> io::Result<Self> {
        // SAFETY: the `AsyncFd` owns the descriptor, which always gives the same number and stays
        // open until it is dropped.
        let inner = unsafe { AsyncFd::register_with_interest(descriptor, interest) };
        let inner = inner.map_err(io::Error::from)?;
        Ok(Self { inner })
    }

    /// Waits until an [urgent](Self::urgent) one announces something.
    pub(crate) async fn announced(&self) -> io::Result<()> {
        let mut ready = self.inner.ready(Interest::PRIORITY).await?;
        ready.clear_ready();
        Ok(())
    }

    /// The descriptor.
    pub(crate) fn get(&self) -> &OwnedFd {
        self.inner.get_ref()
    }

    /// What `read` reads, as soon as it no longer says that it would block.
    pub(crate) async fn read<T>(
        &self,
        mut read: impl FnMut(&OwnedFd) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            let mut ready = self.inner.readable().await?;
            if let Ok(result) = ready.try_io(|inner| read(inner.get_ref())) {
                return result;
            }
        }
    }
}
