//! Taking connections in, where that is configured and changed, and finding out which protocol each one speaks.

use std::{
    fs, io,
    net::SocketAddr,
    os::{
        fd::AsFd,
        unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use ipfilter_config::{Authorize, Endpoint};
use log::{info, warn};
use rustix::net::{RecvFlags, recv};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::Semaphore,
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{gate::Gate, http, question::Peer, read, spoe};

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

/// Where connections are taken in at the moment.
#[derive(Debug)]
pub(crate) struct Listening {
    gate: Arc<Gate>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    at: Endpoint,
    serving: JoinHandle<()>,
    /// The socket's file, with its device and number.
    file: Option<(PathBuf, (u64, u64))>,
}

impl Listening {
    /// Nowhere yet.
    pub(crate) fn new(gate: Arc<Gate>) -> Self {
        Self { gate, open: None }
    }

    /// Listens where `authorize` says, and nowhere else from now on. Connections that are there stay. Where
    /// that is impossible nothing changes.
    pub(crate) async fn at(&mut self, authorize: &Authorize) -> anyhow::Result<()> {
        let endpoint = &authorize.listen;
        if self.open.as_ref().is_some_and(|open| open.at == *endpoint) {
            return Ok(());
        }
        read::check(authorize)?;
        let listener = Listener::bind(endpoint).await?;
        if endpoint.is_exposed() {
            warn!(
                "{endpoint} can be reached from other hosts: their requests are denied unless \
                 `trusted_proxies` names them, but a Unix socket or 127.0.0.1 is safer"
            );
        }
        let policies = &self.gate.in_force().service.digest;
        info!("deciding requests at {endpoint}, policies {policies}");
        let open = Open {
            at: endpoint.clone(),
            file: file(endpoint),
            serving: tokio::spawn(listener.serve(Arc::clone(&self.gate))),
        };
        if let Some(before) = self.open.replace(open) {
            info!("no longer listening at {}", before.at);
            before.close().await;
        }
        Ok(())
    }

    /// Waits until listening breaks off, which nothing but a mistake in this program leads to.
    pub(crate) async fn broken(&mut self) -> anyhow::Error {
        let Some(open) = &mut self.open else {
            return std::future::pending().await;
        };
        match (&mut open.serving).await {
            Ok(()) => anyhow::anyhow!("listening ended"),
            Err(error) => anyhow::Error::new(error).context("listening broke off"),
        }
    }
}

impl Open {
    async fn close(self) {
        self.serving.abort();
        // That it was aborted is how it ends.
        let _: Result<(), tokio::task::JoinError> = self.serving.await;
        if let Some((path, number)) = self.file
            && numbered(&path) == Some(number)
        {
            // Best effort: a socket that nobody listens at is as good as none.
            let _: io::Result<()> = fs::remove_file(path);
        }
    }
}

fn file(endpoint: &Endpoint) -> Option<(PathBuf, (u64, u64))> {
    match endpoint {
        Endpoint::Unix(path) => Some((path.clone(), numbered(path)?)),
        Endpoint::Tcp(_) => None,
    }
}

fn numbered(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// A socket that connections come in by.
#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Listens at `endpoint`. Needs a runtime to be entered.
    async fn bind(endpoint: &Endpoint) -> anyhow::Result<Self> {
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
    async fn serve(self, gate: Arc<Gate>) {
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
                warn!("can't accept a connection: {error}");
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
