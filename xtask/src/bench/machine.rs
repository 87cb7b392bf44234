//! What machine it was measured on: without that no figure says anything.

use std::{fmt::Write as _, fs, path::Path};

/// The CPU, its caches, the kernel and what it does against attacks on the CPU, as lines of text.
pub(super) fn describe() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = cpus.lines().find(|line| line.starts_with(name))?;
        line.split_once(": ").map(|(_, value)| value.to_owned())
    };
    let mut text = format!(
        "- CPU: {}, {} of them\n",
        field("model name").unwrap_or_else(|| "unknown".into()),
        cpus.lines()
            .filter(|line| line.starts_with("processor"))
            .count()
    );
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // Writing to a string can't fail.
    let _: std::fmt::Result = writeln!(text, "- kernel: {}", kernel.trim());
    let _: std::fmt::Result = writeln!(text, "- caches: {}", caches().join(", "));
    let _: std::fmt::Result = writeln!(text, "- mitigations: {}", mitigations().join("; "));
    text
}

/// Each cache of the first CPU.
fn caches() -> Vec<String> {
    let root = Path::new("/sys/devices/system/cpu/cpu0/cache");
    let cache = |index: u32| {
        let read = |file: &str| {
            let text = fs::read_to_string(root.join(format!("index{index}")).join(file)).ok()?;
            Some(text.trim().to_owned())
        };
        Some(format!(
            "L{} {} {}",
            read("level")?,
            read("type")?,
            read("size")?
        ))
    };
    (0..8).map_while(cache).collect()
}

/// What the kernel does about each weakness that the CPU has.
fn mitigations() -> Vec<String> {
    let root = Path::new("/sys/devices/system/cpu/vulnerabilities");
    let entries = fs::read_dir(root)
        .into_iter()
        .flatten()
        .filter_map(Result::ok);
    let mut all: Vec<String> = entries
        .filter_map(|entry| {
            let text = fs::read_to_string(entry.path()).ok()?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let text = text.trim().to_owned();
            (text != "Not affected").then(|| format!("{name}: {text}"))
        })
        .collect();
    all.sort();
    all
}
