//! A sender and a receiver, joined by a veth pair, the receiver's work in a thread of its own.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{self, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use testkit::{
    netns::{Namespace, Network},
    process::{Guard, output},
    tool,
};

use super::Bench;

/// What it takes, with the Debian packages that have it.
pub(super) const TOOLS: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("ethtool", "ethtool"),
    ("taskset", "util-linux"),
    ("renice", "bsdutils"),
];

/// The receiver's address.
pub(super) const RECEIVER: &str = "192.0.2.2";

/// The sender's.
pub(super) const SENDER: &str = "192.0.2.1";

/// The processor that the receiver's work is done on; the sender's is the first.
pub(super) const RECEIVING_CPU: &str = "1";

/// One sender and one receiver.
pub(super) struct Bed {
    /// Where frames come from.
    pub(super) sender: Namespace,
    /// Where they go to.
    pub(super) receiver: Namespace,
    /// The receiver's interface. Its name is its own on the whole machine, as its thread's is.
    pub(super) interface: String,
    /// Last, so that it outlives what runs in it.
    _network: Network,
}

/// What a receiver has done so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    pub(super) frames: u64,
    pub(super) nanoseconds: u64,
}

/// Has a thread of its own poll an interface.
fn poll_in_thread(namespace: &Namespace, interface: &str) -> Result<()> {
    write_in_sys(namespace, &format!("{interface}/threaded"), "1")
}

/// Writes to a file below `/sys/class/net`, where `ip netns exec` shows the namespace's own interfaces.
fn write_in_sys(namespace: &Namespace, file: &str, value: &str) -> Result<()> {
    let line = format!("echo {value} > /sys/class/net/{file}");
    let arguments = ["netns", "exec", namespace.name(), "sh", "-c", &line];
    output(Command::new(tool("ip", "iproute2")?).args(arguments))?;
    Ok(())
}

/// How long the receiver's processor has been busy, with whatever.
pub(super) fn receiver_busy() -> Result<Duration> {
    /// In which proc(5) counts here.
    const TICKS_PER_SECOND: u64 = 100;
    let stat = fs::read_to_string("/proc/stat")?;
    let name = format!("cpu{RECEIVING_CPU} ");
    let line = stat.lines().find_map(|line| line.strip_prefix(&name));
    let ticks = line.context("no such processor")?.split(' ').enumerate();
    // All but what the fourth and the fifth say, which is how long it was idle, and the guests' time, which is
    // in the others as well.
    let busy = ticks.filter(|(place, _)| [0, 1, 2, 5, 6].contains(place));
    let busy: u64 = busy
        .filter_map(|(_, ticks)| ticks.parse::<u64>().ok())
        .sum();
    Ok(Duration::from_millis(busy * 1000 / TICKS_PER_SECOND))
}

impl Bed {
    pub(super) fn new() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mut network = Network::new("bench")?;
        let sender = network.add("sender")?;
        let receiver = network.add("receiver")?;
        let interface = format!(
            "b{}x{}",
            process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        network.link(
            (&sender, "tx0", &[&format!("{SENDER}/24")]),
            (&receiver, &interface, &[&format!("{RECEIVER}/24")]),
        )?;
        let bed = Self {
            sender,
            receiver,
            interface,
            _network: network,
        };
        // Frames that XDP sends are taken by interfaces that poll (NAPI), which this turns on.
        for (namespace, name) in [(&bed.sender, "tx0"), (&bed.receiver, &bed.interface)] {
            let ethtool = tool("ethtool", "ethtool")?;
            output(namespace.command(ethtool).args(["-K", name, "gro", "on"]))?;
        }
        poll_in_thread(&bed.receiver, &bed.interface)?;
        Ok(bed)
    }

    /// Has each side's packets taken on its own processor, also those that no thread polls for: what comes in by a
    /// veth without a program is handled on the processor that sent it, unless receive packet steering
    /// ("Scaling in the Linux Networking Stack" in the kernel's documentation) sends it elsewhere.
    pub(super) fn steered(&self) -> Result<()> {
        poll_in_thread(&self.sender, "tx0")?;
        let masks = [
            (&self.sender, "tx0", "1"),
            (&self.receiver, self.interface.as_str(), "2"),
        ];
        for (namespace, interface, mask) in masks {
            let file = format!("{interface}/queues/rx-0/rps_cpus");
            write_in_sys(namespace, &file, mask)?;
        }
        Ok(())
    }

    /// A program of the benchmark's own (`drop`, `lean`, `pass`) at an interface, until the guard is dropped.
    pub(super) fn attach(
        bench: &Bench<'_>,
        namespace: &Namespace,
        interface: &str,
        program: &str,
    ) -> Result<Guard> {
        let mut command = namespace.command(&bench.kernel);
        command
            .args([program, "--interface", interface])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut guard = namespace.spawn(&mut command)?;
        let stdout = guard.child().stdout.take().context("no pipe")?;
        BufReader::new(stdout).read_line(&mut String::new())?;
        Ok(guard)
    }

    /// The receiver's hardware address.
    pub(super) fn mac(&self) -> Result<String> {
        let address = self.link()?.get("address").cloned();
        let address = address.as_ref().and_then(Value::as_str);
        Ok(address.context("no hardware address")?.to_owned())
    }

    fn link(&self) -> Result<Value> {
        let text = self
            .receiver
            .ip(["-s", "-j", "link", "show", "dev", &self.interface])?;
        let links: Value = serde_json::from_str(&text)?;
        links.get(0).cloned().context("no such link")
    }

    /// The thread that polls the receiver's interface. Another may come with another program.
    fn thread(&self) -> Result<u32> {
        let name = format!("napi/{}-", self.interface);
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(5) {
            for entry in fs::read_dir("/proc")?.filter_map(Result::ok) {
                let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
                if comm.starts_with(&name) {
                    return Ok(entry.file_name().to_string_lossy().parse()?);
                }
            }
            thread::sleep(Duration::from_millis(20));
        }
        bail!(
            "no thread polls `{}`: the kernel must be 5.12 or newer",
            self.interface
        )
    }

    /// Puts the receiver's thread on its processor, before whatever else wants to run there: with others in
    /// between it would find its caches full of what is theirs.
    pub(super) fn pin(&self) -> Result<()> {
        let thread = self.thread()?.to_string();
        output(Command::new(tool("taskset", "util-linux")?).args(["-pc", RECEIVING_CPU, &thread]))?;
        output(Command::new(tool("renice", "bsdutils")?).args(["-n", "-20", "-p", &thread]))?;
        Ok(())
    }

    pub(super) fn work(&self) -> Result<Work> {
        let frames = self.link()?;
        let frames = frames
            .pointer("/stats64/rx/packets")
            .and_then(Value::as_u64);
        let schedule = fs::read_to_string(format!("/proc/{}/schedstat", self.thread()?))?;
        let spent = schedule.split(' ').next().unwrap_or_default();
        Ok(Work {
            frames: frames.context("no count of frames")?,
            nanoseconds: spent.parse().context("no CPU time")?,
        })
    }
}
