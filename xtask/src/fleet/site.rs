//! The machines of the story, and the programs on them.

use std::{
    env,
    fs::{self, File},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{self, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use testkit::{
    etcd::{Cluster, Options},
    netns::{Spoke, Star},
    process::{Guard, Interrupt, TICK, is_gone, output},
};

use super::traffic;

/// How long programs may take to be ready.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where the filters' pins are, a folder per instance.
const PINS: &str = "/sys/fs/bpf/ipfilter";

/// What the names of instances and folders begin with; then comes the process id of their owner.
const PREFIX: &str = "fleet-";

/// The group.
const GROUP: &str = "web";

/// The sources of the clients: one that every policy allows, one that none does, one that can be blocked.
pub(super) const ALLOWED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
/// See [`ALLOWED`].
pub(super) const DENIED: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// See [`ALLOWED`].
pub(super) const GUEST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 77);

/// Everything. The order of the fields is that in which it ends.
pub(super) struct Site {
    /// What shows the packets of one source that the filters deny.
    denials: Vec<Guard>,
    agents: Vec<Guard>,
    filters: Vec<Guard>,
    pub(super) etcd: Cluster,
    pub(super) hosts: Vec<Spoke>,
    pub(super) members: Vec<Spoke>,
    pub(super) allowed: Spoke,
    pub(super) denied: Spoke,
    pub(super) guest: Spoke,
    desk: Spoke,
    ipfilter: PathBuf,
    fleet: PathBuf,
    pub(super) folder: PathBuf,
    instance: String,
    _star: Star,
}

impl Site {
    /// Starts everything, and waits until all hosts report to the group.
    pub(super) fn new(
        ipfilter: &Path,
        fleet: &Path,
        hosts: u8,
        interrupt: &Interrupt,
    ) -> Result<Self> {
        sweep();
        let instance = format!("{PREFIX}{}", process::id());
        let folder = env::temp_dir().join(format!("ipfilter-{instance}"));
        fs::create_dir_all(&folder)?;
        let mut star = Star::new("fleet")?;
        let machines = |star: &mut Star, role: &str, count: u8| -> Result<Vec<Spoke>> {
            (1..=count)
                .map(|number| star.add(&format!("{role}{number}"), &[]))
                .collect()
        };
        let members = machines(&mut star, "etcd", 3)?;
        let hosts = machines(&mut star, "host", hosts)?;
        let client = |star: &mut Star, role: &str, source: Ipv4Addr| -> Result<Spoke> {
            let client = star.add(role, &[source])?;
            let gateway = Ipv4Addr::from(u32::from(client.address) - 1).to_string();
            let source = source.to_string();
            client.namespace.ip([
                "route", "replace", "default", "via", &gateway, "src", &source,
            ])?;
            Ok(client)
        };
        let (allowed, denied, guest) = (
            client(&mut star, "allowed", ALLOWED)?,
            client(&mut star, "denied", DENIED)?,
            client(&mut star, "guest", GUEST)?,
        );
        let desk = star.add("desk", &[])?;
        let at: Vec<_> = members
            .iter()
            .map(|it| (it.namespace.clone(), it.address))
            .collect();
        let etcd = Cluster::start(&at, &folder, Options::default())?;
        let mut site = Self {
            denials: Vec::new(),
            agents: Vec::new(),
            filters: Vec::new(),
            etcd,
            hosts,
            members,
            allowed,
            denied,
            guest,
            desk,
            ipfilter: ipfilter.to_owned(),
            fleet: fleet.to_owned(),
            folder,
            instance,
            _star: star,
        };
        site.populate(interrupt)?;
        Ok(site)
    }

    /// A filter, an agent and an API at each host.
    fn populate(&mut self, interrupt: &Interrupt) -> Result<()> {
        let key = self.folder.join("key");
        let public = output(Command::new(&self.fleet).arg("keygen").arg(&key))?;
        let config = json!({"fleet": {"follow": self.url(), "trusted_keys": [public.trim()],
            "interfaces": {"public": ["eth0"]}}});
        let path = self.folder.join("host.json");
        fs::write(&path, config.to_string())?;
        for index in 0..self.hosts.len() {
            let mut run = self.ipfilter(index);
            run.arg("run").arg("--config").arg(&path);
            let filter = self.start(&mut run, &format!("host{}.log", index + 1))?;
            self.filters.push(filter);
        }
        for index in 0..self.hosts.len() {
            let host = self.hosts.get(index).context("no such host")?;
            traffic::serve(host)?;
            let socket = self.socket(index)?;
            self.until(interrupt, &format!("host{}.log", index + 1), || {
                socket.exists()
            })?;
            let agent = self.start_agent(index)?;
            self.agents.push(agent);
        }
        let count = self.hosts.len();
        self.until(interrupt, "agent1.log", || {
            let status = self.status();
            let hosts = status.pointer("/hosts").and_then(Value::as_array);
            hosts.map_or(0, Vec::len) == count
        })
    }

    fn start_agent(&self, index: usize) -> Result<Guard> {
        let host = self.hosts.get(index).context("no such host")?;
        let name = name(index);
        let mut agent = host.namespace.command(&self.fleet);
        agent
            .args([
                "agent",
                "--follow",
                &self.url(),
                "--name",
                &name,
                "--socket",
            ])
            .arg(self.socket(index)?);
        self.start(&mut agent, &format!("agent{}.log", index + 1))
    }

    /// Where the filter of a host listens for agents.
    fn socket(&self, index: usize) -> Result<PathBuf> {
        let host = self.hosts.get(index).context("no such host")?;
        let inode = std::os::unix::fs::MetadataExt::ino(&fs::metadata(host.namespace.path())?);
        let name = format!("{}@{inode}.fleet", self.instance);
        Ok(self.home(index).join("run").join(name))
    }

    fn home(&self, index: usize) -> PathBuf {
        self.folder.join(name(index))
    }

    fn start(&self, command: &mut Command, log: &str) -> Result<Guard> {
        let log = File::create(self.folder.join(log))?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        Guard::spawn_group(command)
    }

    /// A command of `ipfilter` at a host.
    fn ipfilter(&self, index: usize) -> Command {
        let namespace = self.hosts.get(index).map(|host| &host.namespace);
        let mut command = namespace
            .unwrap_or(&self.desk.namespace)
            .command(&self.ipfilter);
        command
            .args(["--instance", &self.instance])
            .env("STATE_DIRECTORY", self.home(index).join("state"))
            .env("RUNTIME_DIRECTORY", self.home(index).join("run"));
        command
    }

    fn url(&self) -> String {
        format!("etcd://{}/{GROUP}", self.etcd.endpoints())
    }

    /// Runs a command of `ipfilter-fleet` about the group.
    pub(super) fn run(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = self.desk.namespace.command(&self.fleet);
        command.args(arguments).args(["--to", &self.url()]);
        if matches!(
            arguments.first(),
            Some(&("publish" | "rollback" | "block" | "allow"))
        ) {
            command.arg("--sign-key").arg(self.folder.join("key"));
        }
        Ok(command.stdin(Stdio::null()).output()?)
    }

    /// What `fleet status` says.
    pub(super) fn status(&self) -> Value {
        let output = self.run(&["status", "--format", "json"]);
        output
            .ok()
            .and_then(|it| serde_json::from_slice(&it.stdout).ok())
            .unwrap_or_default()
    }

    /// What `fleet status` shows.
    pub(super) fn shown(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.run(&["status"])?.stdout).into_owned())
    }

    /// Writes a configuration; its path.
    pub(super) fn config(&self, interface: &str, policy: &str) -> Result<String> {
        let folder = self.folder.join("config");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("policy.json"), policy)?;
        let config = json!({"interfaces": [interface],
            "apis": [{"name": "api", "ports": [traffic::PORT], "policy": "policy.json"}]});
        let path = folder.join("ipfilter.json");
        fs::write(&path, config.to_string())?;
        Ok(path.display().to_string())
    }

    /// What the filter of a host says that it has in force: by `ipfilter status`, and not by the agent.
    pub(super) fn in_force(&self, index: usize) -> Option<String> {
        let output = self
            .ipfilter(index)
            .args(["status", "--format", "json"])
            .output()
            .ok()?;
        let status: Value = serde_json::from_slice(&output.stdout).ok()?;
        status
            .pointer("/fleet/in_force/generation")
            .map(Value::to_string)
    }

    /// Has every packet of this source that a filter denies written down from now on.
    pub(super) fn watch_denials(&mut self, source: Ipv4Addr) -> Result<()> {
        for index in 0..self.hosts.len() {
            let mut events = self.ipfilter(index);
            events.args([
                "events",
                "--format",
                "json",
                "--source",
                &source.to_string(),
            ]);
            let guard = self.start(&mut events, &format!("denials{}.log", index + 1))?;
            self.denials.push(guard);
        }
        Ok(())
    }

    /// What was written down since.
    pub(super) fn denials(&mut self) -> Result<Vec<String>> {
        let mut denials = Vec::new();
        for (index, guard) in self.denials.iter_mut().enumerate() {
            let log = fs::read_to_string(self.folder.join(format!("denials{}.log", index + 1)))?;
            if let Some(status) = guard.ended()? {
                bail!("`ipfilter events` ended ({status}): {log}");
            }
            denials.extend(log.lines().map(str::to_owned));
        }
        Ok(denials)
    }

    /// The logs, for whoever looks for what went wrong.
    pub(super) fn log(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(name)).unwrap_or_default()
    }

    fn until(&self, interrupt: &Interrupt, log: &str, holds: impl Fn() -> bool) -> Result<()> {
        let begun = Instant::now();
        while !holds() {
            interrupt.check()?;
            if begun.elapsed() > PATIENCE {
                bail!("not ready after {PATIENCE:?}:\n{}", self.log(log).trim());
            }
            thread::sleep(TICK);
        }
        Ok(())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.denials.clear();
        self.agents.clear();
        self.filters.clear();
        for index in 0..self.hosts.len() {
            // Best effort: whatever fails, nothing of it is to be left.
            let _: std::io::Result<Output> = self.ipfilter(index).arg("detach").output();
        }
        let _: std::io::Result<()> = fs::remove_dir_all(&self.folder);
    }
}

/// What a host is called in the group.
pub(super) fn name(index: usize) -> String {
    format!("host-{:02}", index + 1)
}

/// Removes pins and files of those that died without cleaning up.
fn sweep() {
    for (folder, prefix) in [
        (PathBuf::from(PINS), PREFIX.to_owned()),
        (env::temp_dir(), format!("ipfilter-{PREFIX}")),
    ] {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let owner = name
                .strip_prefix(&prefix)
                .and_then(|rest| rest.split('@').next());
            let owner = owner.and_then(|owner| owner.parse().ok());
            if owner.is_some_and(is_gone) {
                // Somebody else may be removing it.
                let _: std::io::Result<()> = fs::remove_dir_all(entry.path());
            }
        }
    }
}
