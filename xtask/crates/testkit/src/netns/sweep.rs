//! Removing what owners that died without cleaning up left behind.

use std::{
    fs,
    path::Path,
    process::{self, Command},
    sync::{Mutex, PoisonError},
};

use crate::process::{is_gone, kill, output};

/// Every namespace of ours begins with this; then comes the process id of its owner.
pub(super) const PREFIX: &str = "ipf-";

/// Where iproute2 keeps the names of namespaces.
pub(super) const NAMES: &str = "/run/netns";

/// Sweeps when the process makes its first network. Threads that come meanwhile wait, or they
/// would see their new namespaces taken for leftovers.
pub(super) fn once(ip: &Path) {
    static DONE: Mutex<bool> = Mutex::new(false);
    let mut done = DONE.lock().unwrap_or_else(PoisonError::into_inner);
    if !*done {
        leftovers().iter().for_each(|name| remove(ip, name));
        *done = true;
    }
}

/// Ends every process in the namespace `name`, which must be one of ours, and removes it.
/// Best effort: this runs on drop and for leftovers, where nobody could act on a failure.
pub(super) fn remove(ip: &Path, name: &str) {
    let inside = output(Command::new(ip).args(["netns", "pids", name])).unwrap_or_default();
    inside
        .lines()
        .filter_map(|line| line.trim().parse().ok())
        .filter(|pid| *pid != process::id())
        .for_each(kill);
    if output(Command::new(ip).args(["netns", "del", name])).is_err() {
        // A name whose mount is gone already, as after a crash half way: only the file remains.
        let _: std::io::Result<()> = fs::remove_file(Path::new(NAMES).join(name));
    }
}

fn leftovers() -> Vec<String> {
    let Ok(entries) = fs::read_dir(NAMES) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| owner(name).is_some_and(is_left))
        .collect()
}

/// The process id in a name of ours.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

/// Our own id counts as gone too: this runs before we make anything, so whoever had it was
/// another process.
fn is_left(pid: u32) -> bool {
    pid == process::id() || is_gone(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_read_from_our_names_only() {
        assert_eq!(owner("ipf-4711-0-live-host"), Some(4711));
        assert_eq!(owner("ipf-x-host"), None);
        assert_eq!(owner("somebody-elses"), None);
        assert_eq!(owner("ipf-"), None);
    }

    #[test]
    fn init_is_alive_and_no_process_has_the_largest_number() {
        assert!(!is_left(1));
        assert!(is_left(u32::MAX));
        assert!(is_left(process::id()));
    }
}
