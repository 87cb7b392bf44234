//! Serves metrics and health over HTTP.
//!
//! The daemon's loop owns the data: each request asks it for a [`Snapshot`]. Whatever clients do, the
//! filter and the loop go on: connections are bounded in number and in time, and one that asks for
//! nothing makes room for others.

use std::{
    collections::VecDeque,
    convert::Infallible,
    fs, io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use log::{debug, error, info, warn};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener, UnixStream},
    sync::{mpsc, oneshot},
    task::AbortHandle,
    time::timeout,
};

use super::events::Event;
use crate::{
    endpoint::Endpoint,
    view::{metrics, snapshot::Snapshot},
};

/// How many clients are served at a time.
const CLIENTS: usize = 128;

/// How long a client may say nothing where others wait, and how often it is looked whether one can
/// be taken in.
const GRACE: Duration = Duration::from_millis(200);
const LOOK: Duration = Duration::from_millis(5);

/// How long a client may take to say what it wants.
const ASKING: Duration = Duration::from_secs(5);

/// How long the loop may take to answer: it may be deploying.
const ANSWERING: Duration = Duration::from_secs(8);

/// How long a client may take in all.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long we wait where the kernel has no descriptor left.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest head of a request, in bytes; the least that the HTTP library allows.
const LONGEST: usize = 8192;

/// Who may connect to a Unix socket: its owner and its group.
const MODE: u32 = 0o660;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Serves where the operator wants it, which may change.
#[derive(Debug)]
pub(super) struct Exporter {
    events: mpsc::Sender<Event>,
    wanted: Option<Endpoint>,
    server: Option<Server>,
    /// The last reported reason why metrics are not served.
    failure: String,
}

impl Exporter {
    /// Serves nowhere yet.
    pub(super) fn new(events: mpsc::Sender<Event>) -> Self {
        Self {
            events,
            wanted: None,
            server: None,
            failure: String::new(),
        }
    }

    /// Serves at `wanted` and nowhere else from now on. A failure is logged, and nothing
    /// else suffers: call it again later. Needs a runtime to be entered.
    pub(super) async fn serve_at(&mut self, wanted: Option<Endpoint>) {
        if self.wanted == wanted && (self.server.is_some() || wanted.is_none()) {
            return;
        }
        // What held the address must be gone before it can be taken again.
        if let Some(server) = self.server.take() {
            server.end().await;
        }
        self.wanted = wanted;
        let Some(endpoint) = &self.wanted else {
            return info!("no longer serving metrics");
        };
        match Server::begin(endpoint, self.events.clone()) {
            Ok(server) => {
                info!("serving metrics at {endpoint}");
                if endpoint.is_exposed() {
                    warn!(
                        "anyone who can reach {endpoint} can read the metrics: \
                         use 127.0.0.1 to keep them local"
                    );
                }
                self.server = Some(server);
                self.failure.clear();
            }
            Err(failure) => {
                let failure = format!("{failure:#}");
                if failure != self.failure {
                    error!("no metrics, retrying every 30 s: {failure}");
                }
                self.failure = failure;
            }
        }
    }
}

/// Serves at one place, until it is dropped.
#[derive(Debug)]
struct Server {
    serving: tokio::task::JoinHandle<()>,
    /// The socket's file, and its device and number.
    file: Option<(PathBuf, (u64, u64))>,
}

impl Server {
    fn begin(endpoint: &Endpoint, events: mpsc::Sender<Event>) -> anyhow::Result<Self> {
        let (listener, file) = match endpoint {
            Endpoint::Tcp(address) => {
                let listener = std::net::TcpListener::bind(address)
                    .and_then(|listener| {
                        listener.set_nonblocking(true)?;
                        TcpListener::from_std(listener)
                    })
                    .with_context(|| format!("can't listen at `{address}`"))?;
                (Listener::Tcp(listener), None)
            }
            Endpoint::Unix(path) => {
                let listener =
                    bind(path).with_context(|| format!("can't listen at `{}`", path.display()))?;
                let file = identity(path).map(|identity| (path.clone(), identity));
                (Listener::Unix(listener), file)
            }
        };
        let serving = tokio::spawn(serve(listener, events));
        Ok(Self { serving, file })
    }
}

impl Server {
    /// Ends, and has let go of its address then.
    async fn end(mut self) {
        self.serving.abort();
        // That it was aborted is what it says.
        let _: Result<(), tokio::task::JoinError> = (&mut self.serving).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
        if let Some((path, own)) = &self.file
            && identity(path).as_ref() == Some(own)
        {
            // Best effort: a socket that nobody listens at is replaced by the next who wants it.
            let _: io::Result<()> = fs::remove_file(path);
        }
    }
}

/// A socket at `path`, in the place of one whose process has died.
fn bind(path: &Path) -> anyhow::Result<UnixListener> {
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

/// Which file there is at `path`.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A connection of either kind.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl Stream for tokio::net::TcpStream {}
impl Stream for UnixStream {}

impl Listener {
    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Tcp(listener) => Box::new(listener.accept().await?.0),
            Self::Unix(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

async fn serve(listener: Listener, events: mpsc::Sender<Event>) {
    let mut clients = Clients::default();
    loop {
        match listener.accept().await {
            Ok(stream) => {
                clients.make_room().await;
                clients.serve(stream, events.clone());
            }
            Err(error) => {
                debug!("can't accept a metrics client: {error}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// The clients that are served, the oldest first.
#[derive(Default)]
struct Clients(VecDeque<Client>);

struct Client {
    serving: AbortHandle,
    since: Instant,
    /// Whether it has said what it wants.
    has_asked: Arc<AtomicBool>,
}

impl Clients {
    /// Waits until one more can be served. Where there are too many, the oldest that has asked for
    /// nothing makes room: who keeps a connection and says nothing must not keep others from being
    /// served.
    async fn make_room(&mut self) {
        loop {
            self.0.retain(|client| !client.serving.is_finished());
            if self.0.len() < CLIENTS {
                return;
            }
            let is_idle =
                |client: &Client| !client.has_asked.load(Relaxed) && client.since.elapsed() > GRACE;
            match self
                .0
                .iter()
                .position(is_idle)
                .and_then(|at| self.0.remove(at))
            {
                Some(client) => client.serving.abort(),
                None => tokio::time::sleep(LOOK).await,
            }
        }
    }

    fn serve(&mut self, stream: Box<dyn Stream>, events: mpsc::Sender<Event>) {
        let has_asked = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&has_asked);
        let serving = tokio::spawn(async move {
            match timeout(PATIENCE, converse(stream, events, &asked)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!("a metrics client: {error}"),
                Err(_) => debug!("a metrics client took too long"),
            }
        });
        self.0.push_back(Client {
            serving: serving.abort_handle(),
            since: Instant::now(),
            has_asked,
        });
    }
}

/// One request per connection, so that no client is served for long.
async fn converse(
    stream: Box<dyn Stream>,
    events: mpsc::Sender<Event>,
    has_asked: &AtomicBool,
) -> hyper::Result<()> {
    let answer = |request| {
        has_asked.store(true, Relaxed);
        let events = events.clone();
        async move { Ok::<_, Infallible>(answer(&request, &events).await) }
    };
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(ASKING)
        .max_buf_size(LONGEST)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service_fn(answer))
        .await
}

async fn answer(
    request: &Request<Incoming>,
    events: &mpsc::Sender<Event>,
) -> Response<Full<Bytes>> {
    let page = match request.uri().path() {
        "/metrics" => page,
        "/healthz" => health,
        _ => return say(StatusCode::NOT_FOUND, "there is /metrics and /healthz\n"),
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = say(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        let allowed = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(ALLOW, allowed);
        return response;
    }
    match timeout(ANSWERING, ask(events)).await {
        Ok(Some(snapshot)) => page(&snapshot),
        _ => say(StatusCode::SERVICE_UNAVAILABLE, "busy, or about to end\n"),
    }
}

async fn ask(events: &mpsc::Sender<Event>) -> Option<Snapshot> {
    let (sender, receiver) = oneshot::channel();
    events.send(Event::Look(sender)).await.ok()?;
    receiver.await.ok()
}

fn page(snapshot: &Snapshot) -> Response<Full<Bytes>> {
    match metrics::render(snapshot) {
        Ok(text) => {
            let mut response = say(StatusCode::OK, text);
            let kind = HeaderValue::from_static(metrics::MEDIA_TYPE);
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        Err(error) => say(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n")),
    }
}

fn health(snapshot: &Snapshot) -> Response<Full<Bytes>> {
    let ailments = snapshot.ailments();
    let (status, mut page) = match ailments.is_empty() {
        true => (StatusCode::OK, "ok\n".to_owned()),
        false => {
            let lines = ailments.iter().map(|ailment| format!("{ailment}\n"));
            (StatusCode::SERVICE_UNAVAILABLE, lines.collect())
        }
    };
    // What is wrong there changes nothing that is in force.
    if let Some(fleet) = &snapshot.fleet {
        page += &fleet.lines();
    }
    say(status, page)
}

fn say(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    response
}
