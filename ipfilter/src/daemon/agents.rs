//! The socket that the fleet's agents ask at.

mod conversation;

use std::{collections::BTreeSet, fs, io, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use log::{debug, warn};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc},
};

use self::conversation::converse;
use super::{
    events::Event,
    feed::{bind, may_connect},
    fleet::Desk,
};
use crate::instance::Instance;

/// How many agents may be connected.
const MOST: usize = 8;

/// How long to wait where the kernel has no descriptor left.
const PAUSE: Duration = Duration::from_secs(1);

/// The most users whose attempts are logged, once each.
const MOST_REFUSED: usize = 100;

/// The socket; removed when it is dropped.
#[derive(Debug)]
pub(super) struct Listening {
    path: PathBuf,
    serving: tokio::task::JoinHandle<()>,
}

impl Listening {
    /// Begins to listen. Whoever calls this holds the instance's lock: a socket that is there already is a
    /// dead process's. Needs a runtime to be entered.
    pub(super) fn start(
        instance: &Instance,
        desk: Desk,
        events: mpsc::Sender<Event>,
    ) -> anyhow::Result<Self> {
        let path = instance.agents();
        let listener =
            bind(&path).with_context(|| format!("can't listen at `{}`", path.display()))?;
        let serving = tokio::spawn(serve(listener, instance.clone(), desk, events));
        Ok(Self { path, serving })
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.serving.abort();
        // Best effort: a socket without a process is as good as none.
        let _: io::Result<()> = fs::remove_file(&self.path);
    }
}

async fn serve(
    listener: UnixListener,
    instance: Instance,
    desk: Desk,
    events: mpsc::Sender<Event>,
) {
    let places = Arc::new(Semaphore::new(MOST));
    let mut refused = BTreeSet::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!("can't take in an agent of the fleet: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let (Ok(peer), Some(user)) = (stream.peer_cred(), desk.user()) else {
            continue;
        };
        let uid = peer.uid();
        if !may_connect(uid, &user) {
            if refused.len() < MOST_REFUSED && refused.insert(uid) {
                warn!(
                    "a program of user {uid} may not offer releases: only root and the user in `fleet.user` may, \
                     {user:?} now"
                );
            }
            continue;
        }
        admit(&places, &instance, &desk, &events, stream);
    }
}

fn admit(
    places: &Arc<Semaphore>,
    instance: &Instance,
    desk: &Desk,
    events: &mpsc::Sender<Event>,
    stream: UnixStream,
) {
    let Ok(place) = Arc::clone(places).try_acquire_owned() else {
        return warn!("no more than {MOST} agents of the fleet can be connected");
    };
    let (instance, desk, events) = (instance.clone(), desk.clone(), events.clone());
    tokio::spawn(async move {
        let _place = place;
        if let Err(error) = converse(stream, &instance, &desk, &events).await {
            debug!("an agent of the fleet is cut off: {error:#}");
        }
    });
}
