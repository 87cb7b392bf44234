//! Whether a deployment's source tables fit into the memory that is left, asked before anything is
//! loaded: the kernel would find out half way, with the machine out of memory.

use std::{fs, path::Path};

use super::error::Error;
use crate::plan::{Need, Tables};

/// Bytes of memory that may be used, and who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limit {
    bytes: usize,
    by: &'static str,
}

/// Refuses tables that take more memory than there is.
///
/// # Errors
/// [`Error::Refused`], with how much would fit.
pub(super) fn check(tables: &Tables) -> Result<(), Error> {
    let needs = [tables.v4.need(), tables.v6.need()];
    available().map_or(Ok(()), |limit| within(&needs, limit))
}

fn within(needs: &[Need], limit: Limit) -> Result<(), Error> {
    let mut left = limit.bytes;
    for need in needs {
        let bytes = need.bytes();
        if bytes > left {
            let Need {
                family,
                table,
                count,
                each,
                unit,
                instead,
            } = need;
            let instead = instead.map(|what| format!(", or {what}"));
            return Err(Error::Refused(format!(
                "the {family} {table} has {count} {unit} of {each} bytes, {} MiB, but {} lets it have \
                 {} MiB, room for {} {unit}: use fewer prefixes{}",
                mebibytes(bytes),
                limit.by,
                mebibytes(left),
                left / each,
                instead.unwrap_or_default(),
            )));
        }
        left -= bytes;
    }
    Ok(())
}

fn mebibytes(bytes: usize) -> usize {
    bytes >> 20
}

/// The lowest of the limits that can be read. Kernels before 5.11 count tables against the process's
/// locked memory as well; that limit is lifted before loading.
fn available() -> Option<Limit> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok();
    let machine = meminfo
        .as_deref()
        .and_then(mem_available)
        .map(|bytes| Limit {
            bytes,
            by: "the machine's free memory (`MemAvailable`)",
        });
    let group = fs::read_to_string("/proc/self/cgroup")
        .ok()
        .and_then(|groups| group_left(&groups, Path::new("/sys/fs/cgroup")))
        .map(|bytes| Limit {
            bytes,
            by: "the memory limit of this process's control group",
        });
    machine
        .into_iter()
        .chain(group)
        .min_by_key(|limit| limit.bytes)
}

/// `MemAvailable` of proc_meminfo(5), which is in kB of 1,024 bytes.
fn mem_available(meminfo: &str) -> Option<usize> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// What the limits of a control group of version 2 leave, those above it included; `root` is where the
/// groups are.
fn group_left(groups: &str, root: &Path) -> Option<usize> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let own = root.join(path);
    let number = |group: &Path, file: &str| -> Option<usize> {
        let text = fs::read_to_string(group.join(file)).ok()?;
        text.trim().parse().ok()
    };
    own.ancestors()
        .take_while(|group| group.starts_with(root))
        .filter_map(|group| {
            let limit = number(group, "memory.max")?;
            Some(limit.saturating_sub(number(group, "memory.current")?))
        })
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit {
        bytes: 64 << 20,
        by: "someone",
    };

    fn trie(family: &'static str, count: usize) -> Need {
        Need {
            family,
            table: "trie",
            count,
            each: 128,
            unit: "entries",
            instead: Some("`--lookup intervals`, which takes a tenth"),
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_number_that_does() {
        assert!(within(&[trie("IPv4", 1 << 19), trie("IPv6", 0)], LIMIT).is_ok());
        let error = within(&[trie("IPv4", 1_000_000), trie("IPv6", 0)], LIMIT).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the IPv4 trie has 1000000 entries of 128 bytes, 122 MiB, but someone lets it have 64 MiB, \
             room for 524288 entries: use fewer prefixes, or `--lookup intervals`, which takes a tenth"
        );
    }

    #[test]
    fn both_families_share_what_there_is() {
        let half = 1 << 18;
        assert!(within(&[trie("IPv4", half), trie("IPv6", half)], LIMIT).is_ok());
        let error = within(&[trie("IPv4", half), trie("IPv6", half + 1)], LIMIT).unwrap_err();
        assert!(error.to_string().contains("IPv6 trie"), "{error}");
    }

    #[test]
    fn available_memory_is_read_in_bytes() {
        let meminfo = "MemTotal:       8000 kB\nMemFree:  10 kB\nMemAvailable:   1000 kB\n";
        assert_eq!(mem_available(meminfo), Some(1_024_000));
        assert_eq!(mem_available("MemTotal: 1 kB\n"), None);
        assert!(available().is_some_and(|limit| limit.bytes > 0));
    }

    #[test]
    fn the_tightest_group_above_counts() {
        let root = std::env::temp_dir().join(format!("ipfilter-groups-{}", std::process::id()));
        let inner = root.join("a/b");
        fs::create_dir_all(&inner).unwrap();
        for (group, max, current) in [("a", "1000\n", "900\n"), ("a/b", "max\n", "50\n")] {
            fs::write(root.join(group).join("memory.max"), max).unwrap();
            fs::write(root.join(group).join("memory.current"), current).unwrap();
        }
        let left = group_left("1:cpu:/x\n0::/a/b\n", &root);
        let none = group_left("1:cpu:/x\n", &root);
        fs::remove_dir_all(&root).unwrap();
        assert_eq!((left, none), (Some(100), None));
    }
}
