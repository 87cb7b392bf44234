//! Clients that connect to every host all the time: one that every policy allows, and one that none does.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use testkit::{
    netns::{Namespace, Spoke},
    process::output,
};

/// The port of the API.
pub(super) const PORT: u16 = 80;

/// How long a connection that is dropped is waited for.
const SILENCE: Duration = Duration::from_millis(60);

/// How long one that is let in may take. A lost packet is sent again after a second.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the clients saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Connections of the client that is always allowed.
    pub(super) let_in: AtomicU64,
    /// Those of them that failed.
    pub(super) lost: AtomicU64,
    /// Tries of the client that never is.
    pub(super) kept_out: AtomicU64,
    /// Those of them that were let in.
    pub(super) slipped: AtomicU64,
}

/// Clients at work; they end when this is dropped.
pub(super) struct Traffic {
    pub(super) seen: Arc<Seen>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    allowed: Namespace,
    /// The retransmissions of the client that is allowed, before it began.
    before: u64,
}

/// Answers connections at the port of the API, for as long as the process lives.
pub(super) fn serve(host: &Spoke) -> Result<()> {
    let namespace = host.namespace.clone();
    let (sender, listening) = mpsc::channel();
    thread::spawn(move || {
        let listener = namespace
            .enter()
            .and_then(|()| Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))?));
        let (listener, result) = match listener {
            Ok(listener) => (Some(listener), Ok(())),
            Err(error) => (None, Err(error)),
        };
        // Nobody waits any more when the command was interrupted.
        let _: std::result::Result<(), _> = sender.send(result);
        for stream in listener.iter().flat_map(TcpListener::incoming) {
            drop(stream);
        }
    });
    listening.recv()?.context("can't listen at a host")
}

impl Traffic {
    /// Begins.
    pub(super) fn start(allowed: &Spoke, denied: &Spoke, hosts: &[Spoke]) -> Result<Self> {
        let seen = Arc::new(Seen::default());
        let stop = Arc::new(AtomicBool::new(false));
        let targets: Vec<SocketAddr> = hosts
            .iter()
            .map(|host| (IpAddr::from(host.address), PORT).into())
            .collect();
        let mut traffic = Self {
            before: retransmissions(&allowed.namespace)?,
            allowed: allowed.namespace.clone(),
            seen,
            stop,
            threads: Vec::new(),
        };
        traffic.client(&allowed.namespace, &targets, |seen, target| {
            seen.let_in.fetch_add(1, Relaxed);
            if TcpStream::connect_timeout(&target, PATIENCE).is_err() {
                seen.lost.fetch_add(1, Relaxed);
            }
            thread::sleep(Duration::from_millis(2));
        })?;
        // Several at once, as each waits for an answer that does not come.
        for chunk in targets.chunks(targets.len().div_ceil(4)) {
            traffic.client(&denied.namespace, chunk, |seen, target| {
                seen.kept_out.fetch_add(1, Relaxed);
                if TcpStream::connect_timeout(&target, SILENCE).is_ok() {
                    seen.slipped.fetch_add(1, Relaxed);
                }
            })?;
        }
        Ok(traffic)
    }

    fn client(
        &mut self,
        namespace: &Namespace,
        targets: &[SocketAddr],
        connect: impl Fn(&Seen, SocketAddr) + Send + 'static,
    ) -> Result<()> {
        let (namespace, targets) = (namespace.clone(), targets.to_vec());
        let (seen, stop) = (Arc::clone(&self.seen), Arc::clone(&self.stop));
        let (sender, entered) = mpsc::channel();
        self.threads.push(thread::spawn(move || {
            let result = namespace.enter();
            let is_there = result.is_ok();
            // As above.
            let _: std::result::Result<(), _> = sender.send(result);
            while is_there && !stop.load(Relaxed) {
                targets.iter().for_each(|target| connect(&seen, *target));
            }
        }));
        entered.recv()?
    }

    /// How many first packets of the client that is always allowed were sent again, for want of an answer in time.
    pub(super) fn repeated(&self) -> Result<u64> {
        Ok(retransmissions(&self.allowed)?.saturating_sub(self.before))
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            // A client that panicked has said so.
            let _: thread::Result<()> = thread.join();
        }
    }
}

/// How many first packets of connections had to be sent again from this namespace, since they were lost. Others are
/// also sent again when a busy machine acknowledges them late.
fn retransmissions(namespace: &Namespace) -> Result<u64> {
    let text = output(namespace.command("cat").arg("/proc/net/netstat"))?;
    let mut lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, values) = (
        lines.next().unwrap_or_default(),
        lines.next().unwrap_or_default(),
    );
    let mut pairs = names.split(' ').zip(values.split(' '));
    let found = pairs.find(|(name, _)| *name == "TCPSynRetrans");
    let (_, value) = found.ok_or_else(|| anyhow!("the kernel does not count retransmissions"))?;
    Ok(value.parse()?)
}

/// How long it takes until a client is no longer let in by any host.
pub(super) fn until_kept_out(
    client: &Spoke,
    hosts: &[Spoke],
    patience: Duration,
) -> Result<Option<Duration>> {
    let namespace = client.namespace.clone();
    let targets: Vec<SocketAddr> = hosts
        .iter()
        .map(|host| (IpAddr::from(host.address), PORT).into())
        .collect();
    let asking = thread::spawn(move || {
        namespace.enter()?;
        let begun = Instant::now();
        while begun.elapsed() < patience {
            let is_open = |target| TcpStream::connect_timeout(target, SILENCE).is_ok();
            let took = begun.elapsed();
            if !targets.iter().any(is_open) {
                return Ok(Some(took));
            }
        }
        Ok(None)
    });
    asking.join().map_err(|_| anyhow!("asking failed"))?
}
