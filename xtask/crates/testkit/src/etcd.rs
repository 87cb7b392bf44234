//! A cluster of etcd, each member in a namespace of its own.

use std::{
    fs::{self, File},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;

use crate::{
    netns::Namespace,
    process::{Guard, TICK, output},
    program::{ETCD, ETCDCTL},
};

/// How long members may take to be ready.
const PATIENCE: Duration = Duration::from_secs(60);

/// Its port for clients.
pub const PORT: u16 = 2379;

/// A cluster. Dropped, it ends; its files are whoever's folder they are in.
#[derive(Debug)]
pub struct Cluster {
    members: Vec<Member>,
    folder: PathBuf,
    arguments: Vec<String>,
    scheme: &'static str,
    ctl: Vec<String>,
}

#[derive(Debug)]
struct Member {
    name: String,
    namespace: Namespace,
    address: Ipv4Addr,
    guard: Option<Guard>,
}

/// What distinguishes a cluster from any other.
#[derive(Debug, Default)]
pub struct Options {
    /// More arguments of etcd's.
    pub arguments: Vec<String>,
    /// Whether clients speak TLS.
    pub tls: bool,
    /// More arguments of `etcdctl`.
    pub ctl: Vec<String>,
}

impl Cluster {
    /// Starts one with a member at each of these addresses, and waits until it has a leader. Its data is in `folder`.
    ///
    /// # Errors
    /// When it can't be got, or is not ready in time.
    pub fn start(at: &[(Namespace, Ipv4Addr)], folder: &Path, options: Options) -> Result<Self> {
        let members = at
            .iter()
            .enumerate()
            .map(|(index, (namespace, address))| Member {
                name: format!("etcd{index}"),
                namespace: namespace.clone(),
                address: *address,
                guard: None,
            });
        let mut cluster = Self {
            members: members.collect(),
            folder: folder.to_owned(),
            arguments: options.arguments,
            scheme: if options.tls { "https" } else { "http" },
            ctl: options.ctl,
        };
        for index in 0..cluster.members.len() {
            cluster.launch(index)?;
        }
        cluster.ready()?;
        Ok(cluster)
    }

    /// Where clients find it: `HOST:PORT,…`.
    #[must_use]
    pub fn endpoints(&self) -> String {
        let endpoints = self
            .members
            .iter()
            .map(|it| format!("{}:{PORT}", it.address));
        endpoints.collect::<Vec<_>>().join(",")
    }

    /// How many members it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The folder of a member's data.
    #[must_use]
    pub fn data(&self, index: usize) -> PathBuf {
        self.folder.join(format!("etcd{index}"))
    }

    /// Starts a member that does not run.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn launch(&mut self, index: usize) -> Result<()> {
        let data = self.data(index);
        let log = self.folder.join(format!("etcd{index}.log"));
        let all = self.members.iter();
        let peers = all.map(|it| format!("{}=http://{}:2380", it.name, it.address));
        let peers = peers.collect::<Vec<_>>().join(",");
        let member = self.members.get_mut(index).context("no such member")?;
        let (scheme, address) = (self.scheme, member.address);
        let etcd = ETCD.command()?;
        let mut command = member.namespace.command(etcd.get_program());
        let peer = format!("http://{address}:2380");
        let client = format!("{scheme}://{address}:{PORT}");
        command
            .arg("--data-dir")
            .arg(&data)
            .args(["--name", &member.name, "--initial-cluster", &peers])
            .args([
                "--initial-cluster-state",
                "new",
                "--initial-cluster-token",
                "test",
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args(["--heartbeat-interval", "100", "--election-timeout", "1000"])
            .args(&self.arguments)
            .env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH)
            .stdin(Stdio::null())
            .stdout(File::options().create(true).append(true).open(&log)?)
            .stderr(File::options().create(true).append(true).open(&log)?);
        member.guard = Some(member.namespace.spawn(&mut command)?);
        Ok(())
    }

    /// Kills a member.
    pub fn kill(&mut self, index: usize) {
        if let Some(member) = self.members.get_mut(index) {
            member.guard = None;
        }
    }

    /// Has a member stand still, or go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&self, index: usize, pauses: bool) -> Result<()> {
        let signal = if pauses { Signal::STOP } else { Signal::CONT };
        let member = self.members.get(index).context("no such member")?;
        member
            .guard
            .as_ref()
            .context("it does not run")?
            .signal(signal)
    }

    /// Waits until all members that run serve clients.
    ///
    /// # Errors
    /// When they do not in time; with what they said.
    pub fn ready(&self) -> Result<()> {
        let begun = Instant::now();
        for (index, member) in self.members.iter().enumerate() {
            if member.guard.is_none() {
                continue;
            }
            while let Err(error) = self.ctl_at(index, &["endpoint", "health"]) {
                if begun.elapsed() > PATIENCE {
                    let log = self.folder.join(format!("etcd{index}.log"));
                    let said = fs::read_to_string(log).unwrap_or_default();
                    let tail: Vec<_> = said.lines().rev().take(15).collect();
                    bail!("etcd is not ready: {error:#}\n{}", tail.join("\n"));
                }
                thread::sleep(TICK);
            }
        }
        Ok(())
    }

    /// Runs `etcdctl` at a member's, and returns what it printed.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub fn ctl_at(&self, index: usize, arguments: &[&str]) -> Result<String> {
        output(self.ctl_command(index)?.args(arguments))
    }

    /// Runs `etcdctl` at the first member that runs.
    ///
    /// # Errors
    /// As [`Cluster::ctl_at`].
    pub fn ctl(&self, arguments: &[&str]) -> Result<String> {
        let running = self.members.iter().position(|it| it.guard.is_some());
        self.ctl_at(running.context("no member runs")?, arguments)
    }

    /// A command of `etcdctl` at a member's.
    ///
    /// # Errors
    /// When it can't be got.
    pub fn ctl_command(&self, index: usize) -> Result<Command> {
        let member = self.members.get(index).context("no such member")?;
        let mut command = member.namespace.command(ETCDCTL.command()?.get_program());
        let endpoint = format!("{}://{}:{PORT}", self.scheme, member.address);
        command
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &endpoint, "--dial-timeout", "2s"])
            .args(&self.ctl);
        Ok(command)
    }

    /// Which member leads.
    ///
    /// # Errors
    /// When none does in time.
    pub fn leader(&self) -> Result<usize> {
        let begun = Instant::now();
        loop {
            for (index, member) in self.members.iter().enumerate() {
                if member.guard.is_none() {
                    continue;
                }
                let status = self
                    .ctl_at(index, &["endpoint", "status"])
                    .unwrap_or_default();
                // ENDPOINT, ID, VERSION, DB SIZE, IS LEADER, …
                if status.split(", ").nth(4) == Some("true") {
                    return Ok(index);
                }
            }
            if begun.elapsed() > PATIENCE {
                bail!("no member of etcd leads");
            }
            thread::sleep(TICK);
        }
    }
}
