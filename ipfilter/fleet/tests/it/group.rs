//! A group on an etcd of its own, in network namespaces.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;
use testkit::{
    etcd::{Cluster, Options},
    netns::{Spoke, Star},
    process::{Guard, TICK},
};

use crate::host::Host;

/// How long something may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A group of hosts. The order of the fields is that in which they end.
pub(crate) struct Group {
    pub(crate) hosts: Vec<Host>,
    pub(crate) etcd: Cluster,
    /// Where commands and agents run.
    pub(crate) desk: Spoke,
    pub(crate) members: Vec<Spoke>,
    pub(crate) folder: TempDir,
    /// What tells etcd who it is that commands and agents act for.
    pub(crate) access: Vec<String>,
    _star: Star,
}

impl Group {
    /// One on so many members of etcd, without hosts.
    pub(crate) fn new(tag: &str, members: usize) -> Self {
        Self::with(tag, members, Options::default())
    }

    pub(crate) fn with(tag: &str, count: usize, options: Options) -> Self {
        let mut star = Star::new(tag).unwrap();
        let members: Vec<_> = (0..count)
            .map(|index| star.add(&format!("etcd{index}"), &[]).unwrap())
            .collect();
        let desk = star.add("desk", &[]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let at: Vec<_> = members
            .iter()
            .map(|it| (it.namespace.clone(), it.address))
            .collect();
        let etcd = Cluster::start(&at, folder.path(), options).unwrap();
        Self {
            hosts: Vec::new(),
            etcd,
            desk,
            members,
            folder,
            access: Vec::new(),
            _star: star,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("etcd://{}/web", self.etcd.endpoints())
    }

    /// Adds a host with an agent.
    pub(crate) fn add(&mut self, name: &str) -> usize {
        let mut host = Host::new(name, self.folder.path());
        host.agent = Some(self.agent(&host, name));
        self.hosts.push(host);
        self.hosts.len() - 1
    }

    /// An agent for a host, by a name.
    pub(crate) fn agent(&self, host: &Host, name: &str) -> Guard {
        let mut command = self
            .desk
            .namespace
            .command(env!("CARGO_BIN_EXE_ipfilter-fleet"));
        command
            .args(["agent", "--follow", &self.url(), "--name", name, "--socket"])
            .arg(&host.socket)
            .args(&self.access);
        let log = File::options()
            .create(true)
            .append(true)
            .open(&host.log)
            .unwrap();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        Guard::spawn(&mut command).unwrap()
    }

    /// A command of `ipfilter-fleet` about this group.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self
            .desk
            .namespace
            .command(env!("CARGO_BIN_EXE_ipfilter-fleet"));
        command
            .args(arguments)
            .args(["--to", &self.url()])
            .args(&self.access)
            .stdin(Stdio::null());
        command
    }

    /// Runs a command: its exit code, and all that it said.
    pub(crate) fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        said(&mut self.command(arguments))
    }

    /// Runs a command that must end well.
    pub(crate) fn must(&self, arguments: &[&str]) -> String {
        let (code, said) = self.run(arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {said}\n{}", self.logs());
        said
    }

    /// Writes a configuration whose policy allows these blocks; its path.
    pub(crate) fn config(&self, blocks: &[&str]) -> PathBuf {
        config(self.folder.path(), blocks)
    }

    /// Publishes such a configuration.
    pub(crate) fn publish(&self, blocks: &[&str], more: &[&str]) -> (Option<i32>, String) {
        let config = self.config(blocks);
        let arguments = [
            "publish",
            "--yes",
            "--create",
            "--timeout",
            "30s",
            "--config",
        ];
        let path = config.display().to_string();
        self.run(&[&arguments[..], &[&path], more].concat())
    }

    /// What `status` says, and its exit code.
    pub(crate) fn status(&self) -> (Option<i32>, Value) {
        let output = self
            .command(&["status", "--format", "json"])
            .output()
            .unwrap();
        let value = serde_json::from_slice(&output.stdout);
        (
            output.status.code(),
            value.unwrap_or_else(|_| panic!("{output:?}")),
        )
    }

    /// What `status` says of a host.
    pub(crate) fn host(&self, name: &str) -> Value {
        let (_, status) = self.status();
        let hosts = status["hosts"].as_array().unwrap();
        let host = hosts.iter().find(|host| host["host"] == name);
        host.cloned()
            .unwrap_or_else(|| panic!("no `{name}` in {status}"))
    }

    /// Waits until all hosts report.
    pub(crate) fn gathered(&self) {
        self.wait("the hosts report", || {
            let output = self
                .command(&["status", "--format", "json"])
                .output()
                .unwrap();
            let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            let hosts = status["hosts"].as_array();
            hosts.is_some_and(|hosts| hosts.len() == self.hosts.len())
        });
    }

    pub(crate) fn logs(&self) -> String {
        let logs = self
            .hosts
            .iter()
            .map(|host| format!("{}:\n{}", host.name, host.said()));
        logs.collect()
    }

    /// Waits until `holds`.
    pub(crate) fn wait(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < PATIENCE, "{what}\n{}", self.logs());
            thread::sleep(TICK);
        }
    }
}

/// Runs a command: its exit code, and all that it said.
pub(crate) fn said(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.code(), said)
}

pub(crate) fn config(folder: &Path, blocks: &[&str]) -> PathBuf {
    let folder = folder.join("config");
    fs::create_dir_all(&folder).unwrap();
    let policy = serde_json::json!({"Version": "2012-10-17", "Statement": {"Effect": "Allow",
        "Principal": "*", "Action": "execute-api:Invoke", "Resource": "execute-api:/*",
        "Condition": {"IpAddress": {"aws:SourceIp": blocks}}}});
    fs::write(folder.join("policy.json"), policy.to_string()).unwrap();
    let config = serde_json::json!({"interfaces": ["eth0"],
        "apis": [{"name": "api", "ports": [80], "policy": "policy.json"}]});
    let path = folder.join("ipfilter.json");
    fs::write(&path, config.to_string()).unwrap();
    path
}
