//! What a host is called, and what distinguishes it from another one that is called the same.

use std::{fs, os::unix::fs::MetadataExt as _};

use ipfilter_bundle::Digest;

/// The longest name.
const LONGEST: usize = 64;

/// The name of this host, unless another one is given.
pub(crate) fn name(given: Option<&str>) -> Result<String, String> {
    let name = match given {
        Some(name) => name.to_owned(),
        None => rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
    };
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > LONGEST || !name.chars().all(legal) {
        return Err(format!(
            "`{name}` is no name for a host: give 1 to {LONGEST} letters, digits, hyphens, underscores and dots \
             with `--name`"
        ));
    }
    Ok(name)
}

/// What this boot of this network namespace alone has: clones of a machine share all that is on disk.
pub(crate) fn id() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = fs::metadata("/proc/self/ns/net").map_or(0, |it| it.ino());
    let digest = Digest::of(format!("{} {namespace}", boot.trim()).as_bytes());
    format!("{digest:.12}")
}
