//! The socket that authorization services read at.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use log::{debug, info, warn};
use rustix::process::geteuid;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::Semaphore,
};

use super::{Feed, conversation};
use crate::{config::User, instance::Instance};

/// How many services may be connected.
const MOST: usize = 16;

/// How long to wait where the kernel has no descriptor left, and until a place can be taken anew: a service that
/// comes and goes must not fill the log.
const PAUSE: Duration = Duration::from_secs(1);

/// The most users whose attempts are logged, once each.
const MOST_REFUSED: usize = 100;

/// Where users have their numbers ("passwd(5)"). The name service is not asked: this program links no
/// modules of it, and the package's own user is in the file.
const USERS: &str = "/etc/passwd";

/// The socket; removed when it is dropped.
#[derive(Debug)]
pub(in super::super) struct Listening {
    path: PathBuf,
    serving: tokio::task::JoinHandle<()>,
}

impl Listening {
    /// Begins to listen. Whoever calls this holds the instance's lock: a socket that is there already is a
    /// dead process's. Needs a runtime to be entered.
    pub(in super::super) fn start(instance: &Instance, feed: Feed) -> anyhow::Result<Self> {
        let path = instance.feed();
        let listener =
            bind(&path).with_context(|| format!("can't listen at `{}`", path.display()))?;
        let serving = tokio::spawn(serve(listener, feed));
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

/// A socket at `path` that everybody may connect to; who has is seen from the connection.
pub(in super::super) fn bind(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if let Some(folder) = path.parent() {
        open_to_passers(folder)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

/// Lets other users reach what is in a folder of this user's, but not list it.
fn open_to_passers(folder: &Path) -> io::Result<()> {
    let metadata = fs::metadata(folder)?;
    let mode = metadata.mode() & 0o7777;
    if metadata.uid() == geteuid().as_raw() && mode & 0o011 != 0o011 {
        fs::set_permissions(folder, fs::Permissions::from_mode(mode | 0o011))?;
    }
    Ok(())
}

async fn serve(listener: UnixListener, feed: Feed) {
    let places = Arc::new(Semaphore::new(MOST));
    let mut refused = BTreeSet::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!("can't accept a connection from an authorization service: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let peer = stream.peer_cred().map(|peer| (peer.uid(), peer.pid()));
        let user = feed.0.state.borrow().user.clone();
        match peer {
            Ok((uid, pid)) if may_connect(uid, &user) => admit(&places, &feed, (uid, pid), stream),
            Ok((uid, _)) => {
                if refused.len() < MOST_REFUSED && refused.insert(uid) {
                    warn!(
                        "a program of user {uid} may not read the policies: only root and the user \
                         in `authorize.user` may, {user:?} now"
                    );
                }
            }
            Err(error) => debug!("whoever has connected is gone: {error}"),
        }
    }
}

fn admit(places: &Arc<Semaphore>, feed: &Feed, (uid, pid): (u32, Option<i32>), stream: UnixStream) {
    let Ok(place) = Arc::clone(places).try_acquire_owned() else {
        return warn!("no more than {MOST} authorization services can be connected");
    };
    let feed = feed.clone();
    tokio::spawn(async move {
        let _place = place;
        let id = feed.connected(uid, pid);
        info!("an authorization service of user {uid} is connected");
        match conversation::follow(&feed, id, stream).await {
            Ok(()) => info!("an authorization service of user {uid} is gone"),
            Err(error) => warn!("an authorization service of user {uid} is cut off: {error:#}"),
        }
        feed.gone(id);
        tokio::time::sleep(PAUSE).await;
    });
}

/// Whether a program of the user `uid` is one of `user`, of root, or of this process's own.
pub(in super::super) fn may_connect(uid: u32, user: &User) -> bool {
    let is_named = || match user {
        User::Id(id) => uid == *id,
        User::Named(name) => fs::read_to_string(USERS)
            .is_ok_and(|users| number(&users, name).is_some_and(|id| id == uid)),
    };
    uid == 0 || uid == geteuid().as_raw() || is_named()
}

/// The number of the user `name` in the text of "passwd(5)".
fn number(users: &str, name: &str) -> Option<u32> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let is_it = fields.next() == Some(name);
        is_it.then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let users = "root:x:0:0::/root:/bin/sh\nipfilter-authorize-2:x:7:7:::\n\
                     broken\nipfilter-authorize:x:998:998:::/usr/sbin/nologin\n";
        assert_eq!(number(users, "ipfilter-authorize"), Some(998));
        assert_eq!(number(users, "ipfilter"), None);
        assert_eq!(number(users, "broken"), None);
    }

    #[test]
    fn only_root_and_the_named_user_may_read() {
        assert!(may_connect(0, &User::Id(998)));
        assert!(may_connect(998, &User::Id(998)));
        assert!(!may_connect(999, &User::Id(998)));
        assert!(!may_connect(
            65_534,
            &User::Named("no-such-user-here".into())
        ));
    }
}
