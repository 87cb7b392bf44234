//! Taking connections in, and finding out which protocol each one speaks.

use std::{
    fs, io,
    net::SocketAddr,
    os::{
        fd::AsFd,
        unix::fs::{FileTypeExt as _, PermissionsExt as _},
    },
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use ipfilter_config::Endpoint;
use rustix::net::{RecvFlags, recv};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::Semaphore,
    time::{sleep, timeout},
};

use crate::{gate::Gate, http, question::Peer, spoe};

/// The most connections of trusted proxies at a time; others wait in the kernel.
const MOST_CONNECTIONS: usize = 4096;

/// The most connections of anybody else, who gets only that answer. More are closed: they must not keep
/// proxies from being answered.
const MOST_STRANGERS: usize = 128;

/// How long a connection of somebody else may take in all.
const STRANGERS: Duration = Duration::from_secs(10);

/// How long the first byte of a connection may take.
const FIRST_BYTE: Duration = Duration::from_secs(75);

/// How long to wait where the kernel has no descriptor left.
const PAUSE: Duration = Duration::from_millis(200);

/// Who may connect to a Unix socket: its owner and its group.
const MODE: u32 = 0o660;

/// Where questions come in.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Listens at `endpoint`. Needs a runtime to be entered.
    pub(crate) async fn bind(endpoint: &Endpoint) -> anyhow::Result<Self> {
        let bound = match endpoint {
            Endpoint::Tcp(address) => Self::tcp(*address).await,
            Endpoint::Unix(path) => bind(path).map(Self::Unix),
        };
        bound.with_context(|| format!("can't listen at `{endpoint}`"))
    }

    async fn tcp(address: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self::Tcp(TcpListener::bind(address).await?))
    }

    /// Answers every connection, for ever.
    pub(crate) async fn serve(self, gate: Arc<Gate>) {
        let places = Places::default();
        loop {
            let accepted = match &self {
                Self::Tcp(listener) => match listener.accept().await {
                    Ok((stream, from)) => {
                        // Answers are small, and callers wait for them.
                        let _: io::Result<()> = stream.set_nodelay(true);
                        places.take(&gate, Peer::Remote(from.ip()), stream).await;
                        Ok(())
                    }
                    Err(error) => Err(error),
                },
                Self::Unix(listener) => match listener.accept().await {
                    Ok((stream, _)) => {
                        places.take(&gate, Peer::Local, stream).await;
                        Ok(())
                    }
                    Err(error) => Err(error),
                },
            };
            if let Err(error) = accepted {
                log::warn!("can't accept a connection: {error}");
                sleep(PAUSE).await;
            }
        }
    }
}

/// How many can be answered at a time.
struct Places {
    proxies: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            proxies: Arc::new(Semaphore::new(MOST_CONNECTIONS)),
            strangers: Arc::new(Semaphore::new(MOST_STRANGERS)),
        }
    }
}

impl Places {
    /// Answers a connection: a trusted proxy's as soon as there is a place for it, anybody else's if there is
    /// one.
    async fn take(&self, gate: &Arc<Gate>, peer: Peer, stream: impl Peek) {
        let gate = Arc::clone(gate);
        if peer.is_trusted(&gate.in_force().service.trusted) {
            // It is never closed.
            let Ok(place) = Arc::clone(&self.proxies).acquire_owned().await else {
                return;
            };
            tokio::spawn(async move {
                let _place = place;
                converse(gate, peer, stream).await;
            });
        } else if let Ok(place) = Arc::clone(&self.strangers).try_acquire_owned() {
            tokio::spawn(async move {
                let _place = place;
                // Whoever takes too long is answered by the end.
                let _: Result<(), tokio::time::error::Elapsed> =
                    timeout(STRANGERS, converse(gate, peer, stream)).await;
            });
        }
    }
}

/// A socket at `path`, in the place of one whose process has ended.
pub(crate) fn bind(path: &Path) -> anyhow::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
        Ok(there) if !there.file_type().is_socket() => {
            bail!("something else is there: remove it, or choose another path")
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            bail!("another process listens there: choose another path")
        }
        Ok(_) => fs::remove_file(path)?,
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
    Ok(listener)
}

/// A connection whose first byte can be looked at without taking it.
trait Peek: AsyncRead + AsyncWrite + AsFd + Unpin + Send + Sync + 'static {
    fn first_byte(&self) -> impl Future<Output = io::Result<Option<u8>>> + Send;
}

fn peek(stream: impl AsFd) -> io::Result<Option<u8>> {
    let mut byte = [0];
    let (read, _) = recv(stream, &mut byte[..], RecvFlags::PEEK | RecvFlags::DONTWAIT)?;
    Ok((read > 0).then_some(byte[0]))
}

impl Peek for TcpStream {
    async fn first_byte(&self) -> io::Result<Option<u8>> {
        self.async_io(Interest::READABLE, || peek(self)).await
    }
}

impl Peek for UnixStream {
    async fn first_byte(&self) -> io::Result<Option<u8>> {
        self.async_io(Interest::READABLE, || peek(self)).await
    }
}

/// HAProxy begins with the length of a frame, whose first byte is 0 as no frame is that long; HTTP begins
/// with a letter.
async fn converse(gate: Arc<Gate>, peer: Peer, stream: impl Peek) {
    match timeout(FIRST_BYTE, stream.first_byte()).await {
        Ok(Ok(Some(0))) => spoe::serve(gate, peer, stream).await,
        Ok(Ok(Some(_))) => http::serve(gate, peer, stream).await,
        Ok(Ok(None) | Err(_)) | Err(_) => {}
    }
}
