//! Noticing that files change ("inotify(7)").
//!
//! A file is watched by the folders on the way to it, symbolic links included: editors rename a new
//! file over the old one, and Kubernetes swaps a link to the folder that it is in. What a folder holds
//! beside is of no interest.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    ffi::{OsStr, OsString},
    fs::{self, File},
    io,
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::{Component, Path, PathBuf},
    time::{Duration, Instant},
};

use log::warn;
use rustix::{
    fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags},
    io::Errno,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

use super::{events::Event, readable::Readable};

/// How long nothing must happen until a change counts as done, as editors and copies take several
/// steps, and how long it is waited for at most.
const QUIET: Duration = Duration::from_millis(150);
const LONGEST: Duration = Duration::from_secs(2);

/// How soon to retry what could not be watched.
const RETRY: Duration = Duration::from_secs(5);

/// How many symbolic links one path may go through; as many as the kernel follows
/// ("path_resolution(7)").
const MOST_LINKS: usize = 40;

/// What is watched for in the folders on the way to a file.
const STEPS: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::ONLYDIR);

/// What is watched for in a folder that should lose nothing.
const LOSSES: WatchFlags = WatchFlags::DELETE
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::ONLYDIR);

/// Watches files, while that is asked for.
pub(super) struct Watcher {
    paths: watch::Receiver<Vec<PathBuf>>,
    events: mpsc::Sender<Event>,
    task: Option<JoinHandle<()>>,
}

impl Watcher {
    /// One of `paths` that does not watch yet.
    pub(super) fn new(paths: watch::Receiver<Vec<PathBuf>>, events: mpsc::Sender<Event>) -> Self {
        Self {
            paths,
            events,
            task: None,
        }
    }

    /// Begins to watch, or ends it.
    pub(super) fn set(&mut self, wanted: bool) {
        match &self.task {
            None if wanted => {
                let watching = files(self.paths.clone(), self.events.clone());
                self.task = Some(tokio::spawn(watching));
            }
            Some(task) if !wanted => {
                task.abort();
                self.task = None;
            }
            _ => {}
        }
    }
}

/// Sends [`Event::Files`] when one of the paths may lead to something else, and once
/// each time they have become others.
async fn files(mut paths: watch::Receiver<Vec<PathBuf>>, events: mpsc::Sender<Event>) {
    loop {
        let watching = Watch::files(&paths.borrow_and_update());
        // What has changed before we watched it is found by looking.
        if events.send(Event::Files).await.is_err() {
            return;
        }
        let watching = match watching {
            Ok(watching) => watching,
            Err(error) => {
                warn!("can't watch the files for changes, checking every few seconds: {error}");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        tokio::select! {
            () = watching.settled() => {}
            changed = paths.changed() => if changed.is_err() { return },
        }
    }
}

/// Sends [`Event::Repair`] when `folder` loses something, or is lost: also with the file system that it is on,
/// which says nothing when it is unmounted while somebody holds it.
pub(super) async fn losses(folder: PathBuf, events: mpsc::Sender<Event>) {
    let mounts = Mounts::new();
    if let Err(error) = &mounts {
        warn!("can't see whether the BPF file system is unmounted: {error}");
    }
    loop {
        let pause = match Watch::folder(&folder) {
            // An error here is a loss as well.
            Ok(watching) => {
                let changed = async {
                    match &mounts {
                        Ok(mounts) => tokio::select! {
                            changed = watching.changed() => changed,
                            changed = mounts.changed() => changed,
                        },
                        Err(_) => watching.changed().await,
                    }
                };
                changed.await.map_or(RETRY, |()| QUIET)
            }
            Err(_) => RETRY,
        };
        if events.send(Event::Repair).await.is_err() {
            return;
        }
        tokio::time::sleep(pause).await;
    }
}

/// What is mounted where, in this mount namespace and in that of process 1, which is the host's unless this is a
/// container: pins are in one of the two. The files say when that changes ("proc_pid_mounts(5)").
struct Mounts {
    own: Readable,
    /// None where it is out of sight, or this process's own.
    host: Option<Readable>,
}

impl Mounts {
    fn new() -> io::Result<Self> {
        let open = |process: &str| {
            let file = File::open(format!("/proc/{process}/mountinfo"))?;
            Readable::urgent(file.into())
        };
        let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
        let host = namespace("1").filter(|host| Some(host) != namespace("self").as_ref());
        Ok(Self {
            own: open("self")?,
            host: host.and_then(|_| open("1").ok()),
        })
    }

    /// Waits for a change since it was last waited for.
    async fn changed(&self) -> io::Result<()> {
        match &self.host {
            Some(host) => tokio::select! {
                changed = self.own.announced() => changed,
                changed = host.announced() => changed,
            },
            None => self.own.announced().await,
        }
    }
}

/// Folders that are watched, and the names in them that are of interest.
#[derive(Debug)]
struct Watch {
    inotify: Readable,
    /// By watch descriptor; all names where there are none.
    names: HashMap<i32, HashSet<OsString>>,
}

impl Watch {
    fn new() -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        Ok(Self {
            inotify: Readable::new(inotify)?,
            names: HashMap::new(),
        })
    }

    /// Watches what leads to `paths`. Folders that are not there are no error: what is missing shows
    /// in the one before.
    fn files(paths: &[PathBuf]) -> io::Result<Self> {
        let mut watching = Self::new()?;
        for path in paths {
            for (folder, name) in steps(&std::path::absolute(path)?) {
                match inotify::add_watch(watching.inotify.get(), &folder, STEPS) {
                    Ok(watch) => {
                        watching.names.entry(watch).or_default().insert(name);
                    }
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => break,
                    Err(errno) => return Err(errno.into()),
                }
            }
        }
        Ok(watching)
    }

    /// Watches for losses in one folder.
    fn folder(path: &Path) -> io::Result<Self> {
        let watching = Self::new()?;
        inotify::add_watch(watching.inotify.get(), path, LOSSES)?;
        Ok(watching)
    }

    /// Waits for something of interest.
    async fn changed(&self) -> io::Result<()> {
        while !self
            .inotify
            .read(|inotify| read(inotify, &self.names))
            .await?
        {}
        Ok(())
    }

    /// Waits for something of interest, and until it is over.
    async fn settled(&self) {
        if let Err(error) = self.changed().await {
            warn!("can't watch the files for changes: {error}");
            return tokio::time::sleep(RETRY).await;
        }
        let start = Instant::now();
        while start.elapsed() < LONGEST && timeout(QUIET, self.changed()).await.is_ok() {}
    }
}

/// Reads what there is, and returns whether any of it is of interest.
fn read(inotify: &OwnedFd, names: &HashMap<i32, HashSet<OsString>>) -> io::Result<bool> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = Reader::new(inotify, &mut buffer);
    let mut any = false;
    let mut interesting = false;
    loop {
        match reader.next() {
            Ok(event) => {
                any = true;
                let name = event
                    .file_name()
                    .map(|name| OsStr::from_bytes(name.to_bytes()));
                let asked = names.get(&event.wd());
                interesting |= match (asked, name) {
                    (Some(asked), Some(name)) => asked.contains(name),
                    // A folder without names, a folder itself, or events that were lost.
                    _ => true,
                } || event.events().contains(ReadFlags::QUEUE_OVERFLOW);
            }
            Err(Errno::AGAIN) if any => return Ok(interesting),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// The folders on the way to `path`, which is absolute, and the name that is looked up in each.
fn steps(path: &Path) -> Vec<(PathBuf, OsString)> {
    let mut steps = Vec::new();
    let mut at = PathBuf::from("/");
    let mut links = 0;
    let mut ahead: VecDeque<OsString> = names(path);
    while let Some(name) = ahead.pop_front() {
        if name == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&name);
        steps.push((at.clone(), name));
        match next.read_link() {
            Ok(target) if links < MOST_LINKS => {
                links += 1;
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                for name in names(&target).into_iter().rev() {
                    ahead.push_front(name);
                }
            }
            _ => at = next,
        }
    }
    steps
}

fn names(path: &Path) -> VecDeque<OsString> {
    let components = path.components().filter_map(|component| match component {
        Component::ParentDir => Some("..".into()),
        Component::Normal(name) => Some(name.to_owned()),
        _ => None,
    });
    components.collect()
}

#[cfg(test)]
mod tests {
    use std::{env, os::unix::fs::symlink, process};

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = env::temp_dir().join(format!("ipfilter-watch-{}-{name}", process::id()));
        let _: io::Result<()> = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder.canonicalize().unwrap()
    }

    /// Whether `path` is seen to change by what `act` does.
    async fn sees(path: &Path, act: impl FnOnce()) -> bool {
        let watching = Watch::files(&[path.to_owned()]).unwrap();
        act();
        let changed = timeout(Duration::from_millis(300), watching.changed()).await;
        changed.is_ok()
    }

    #[tokio::test]
    async fn every_way_to_change_a_file_is_seen_and_others_are_not() {
        let folder = folder("ways");
        let path = folder.join("policy.json");
        let other = folder.join("other.json");
        assert!(sees(&path, || fs::write(&path, "1").unwrap()).await, "made");
        assert!(
            sees(&path, || fs::write(&path, "2").unwrap()).await,
            "written"
        );
        fs::write(&other, "3").unwrap();
        assert!(
            sees(&path, || fs::rename(&other, &path).unwrap()).await,
            "renamed over"
        );
        assert!(!sees(&path, || fs::write(&other, "4").unwrap()).await);
        assert!(!sees(&path, || drop(fs::read(&path).unwrap())).await);
        assert!(
            sees(&path, || fs::remove_file(&path).unwrap()).await,
            "removed"
        );
        let deep = folder.join("a/b/policy.json");
        assert!(
            sees(&deep, || fs::create_dir(folder.join("a")).unwrap()).await,
            "a folder on the way"
        );
        fs::remove_dir_all(&folder).unwrap();
    }

    /// Kubernetes: `policy.json` → `..data/policy.json`, `..data` → `..1`, which is swapped for `..2`.
    #[tokio::test]
    async fn the_swap_of_a_link_on_the_way_is_seen() {
        let folder = folder("links");
        for version in ["..1", "..2"] {
            fs::create_dir(folder.join(version)).unwrap();
            fs::write(folder.join(version).join("policy.json"), version).unwrap();
        }
        let (path, data) = (folder.join("policy.json"), folder.join("..data"));
        symlink("..1", &data).unwrap();
        symlink("..data/policy.json", &path).unwrap();
        let names: Vec<_> = steps(&path).into_iter().map(|(_, name)| name).collect();
        assert!(names.ends_with(&["policy.json", "..data", "..1", "policy.json"].map(Into::into)));
        let swap = || {
            symlink("..2", folder.join("..new")).unwrap();
            fs::rename(folder.join("..new"), &data).unwrap();
        };
        assert!(sees(&path, swap).await);
        assert_eq!(fs::read_to_string(&path).unwrap(), "..2");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn links_in_a_circle_end() {
        let folder = folder("circle");
        let path = folder.join("policy.json");
        symlink(&path, &path).unwrap();
        assert!(steps(&path).len() < 1000);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[tokio::test]
    async fn losses_are_seen_and_gains_are_not() {
        let folder = folder("losses");
        let watching = Watch::folder(&folder).unwrap();
        fs::write(folder.join("pin"), "").unwrap();
        let quiet = timeout(Duration::from_millis(100), watching.changed()).await;
        assert!(quiet.is_err());
        fs::remove_file(folder.join("pin")).unwrap();
        watching.changed().await.unwrap();
        fs::remove_dir_all(&folder).unwrap();
    }
}
