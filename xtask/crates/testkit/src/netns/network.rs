//! Namespaces and the links between them.

use std::{
    ffi::OsStr,
    fs::File,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::sweep::{self, NAMES, PREFIX, remove};
use crate::{
    need_root,
    process::{Guard, output},
    tool,
};

/// Set in every namespace before its links come up, so that addresses work at once: duplicate
/// address detection would keep IPv6 silent for a second or two.
const SETTINGS: &[&str] = &[
    "ipv6/conf/all/disable_ipv6=0",
    "ipv6/conf/default/disable_ipv6=0",
    "ipv6/conf/all/accept_dad=0",
    "ipv6/conf/default/accept_dad=0",
    "ipv6/conf/default/accept_ra=0",
];

/// Namespaces that belong together; all are removed, with whatever still runs in them, on drop.
///
/// Start programs after the network and drop their guards before it.
#[derive(Debug)]
pub struct Network {
    tools: Tools,
    prefix: String,
    namespaces: Vec<Namespace>,
}

impl Network {
    /// An empty network. `tag` distinguishes the networks of one process for the reader; names are
    /// unique without it. Removes what processes that have died left behind.
    ///
    /// # Errors
    /// [`crate::Refused`] without root, iproute2 or nsenter.
    pub fn new(tag: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        need_root("making network namespaces")?;
        let tools = Tools::find()?;
        sweep::once(&tools.ip);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            tools,
            prefix: format!("{PREFIX}{}-{count}-{tag}", process::id()),
            namespaces: Vec::new(),
        })
    }

    /// Adds a namespace with its loopback up and IPv6 on, connected to nothing yet.
    ///
    /// # Errors
    /// When the system refuses it.
    pub fn add(&mut self, role: &str) -> Result<Namespace> {
        let namespace = Namespace {
            name: format!("{}-{role}", self.prefix),
            tools: self.tools.clone(),
        };
        output(Command::new(&self.tools.ip).args(["netns", "add", &namespace.name]))?;
        self.namespaces.push(namespace.clone());
        namespace.set(SETTINGS)?;
        namespace.ip(["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Joins two namespaces by a veth pair, both ends up and with their addresses (with prefix
    /// length, as `198.51.100.1/24`).
    ///
    /// # Errors
    /// When a name is taken or longer than 15 bytes, or an address is not one.
    pub fn link(
        &self,
        (left, left_name, left_addresses): (&Namespace, &str, &[&str]),
        (right, right_name, right_addresses): (&Namespace, &str, &[&str]),
    ) -> Result<()> {
        left.ip([
            "link",
            "add",
            left_name,
            "type",
            "veth",
            "peer",
            "name",
            right_name,
            "netns",
            &right.name,
        ])?;
        left.bring_up(left_name, left_addresses)?;
        right.bring_up(right_name, right_addresses)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for namespace in &self.namespaces {
            remove(&self.tools.ip, &namespace.name);
        }
    }
}

/// One network namespace: a cheap handle, of no use once its [`Network`] is gone.
#[derive(Debug, Clone)]
pub struct Namespace {
    name: String,
    tools: Tools,
}

impl Namespace {
    /// Its name, as `ip netns` lists it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that represents it, for setns(2).
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new(NAMES).join(&self.name)
    }

    /// A command that will run `program` in this namespace: same mounts, same user, other network.
    /// The process that is started becomes `program`, so its id is the program's.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(&self.tools.nsenter);
        command
            .arg(format!("--net={}", self.path().display()))
            .arg("--")
            .arg(program);
        command
    }

    /// A command that will do in this namespace what `command` does.
    #[must_use]
    pub fn within(&self, command: &Command) -> Command {
        let mut within = self.command(command.get_program());
        within.args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => within.env(name, value),
                None => within.env_remove(name),
            };
        }
        within
    }

    /// Starts a command that [`Self::command`] made; it is killed when the guard is dropped.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn spawn(&self, command: &mut Command) -> Result<Guard> {
        Guard::spawn(command).with_context(|| format!("in namespace `{}`", self.name))
    }

    /// Moves the calling thread into this namespace: sockets that it opens from now on are there.
    ///
    /// # Errors
    /// When it can't.
    pub fn enter(&self) -> Result<()> {
        let file = File::open(self.path())?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .with_context(|| format!("can't enter namespace `{}`", self.name))
    }

    /// Runs `ip` on this namespace, as in `ip(["route", "add", "default", "via", "192.0.2.1"])`,
    /// and returns what it printed.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub fn ip<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Result<String> {
        output(
            Command::new(&self.tools.ip)
                .args(["-n", &self.name])
                .args(arguments),
        )
    }

    /// Makes it pass packets on between its links, both families.
    ///
    /// # Errors
    /// When the system refuses it.
    pub fn forward(&self) -> Result<()> {
        self.set(&["ipv4/ip_forward=1", "ipv6/conf/all/forwarding=1"])
    }

    /// Default routes, one per gateway address, of either family.
    ///
    /// # Errors
    /// When a gateway can't be reached directly.
    pub fn default_routes(&self, gateways: &[&str]) -> Result<()> {
        for gateway in gateways {
            let family = if gateway.contains(':') { "-6" } else { "-4" };
            self.ip([family, "route", "add", "default", "via", gateway])?;
        }
        Ok(())
    }

    fn bring_up(&self, interface: &str, addresses: &[&str]) -> Result<()> {
        self.ip(["link", "set", interface, "up"])?;
        for address in addresses {
            if address.contains(':') {
                self.ip(["addr", "add", address, "dev", interface, "nodad"])?;
            } else {
                self.ip(["addr", "add", address, "dev", interface])?;
            }
        }
        Ok(())
    }

    /// Writes `NAME=VALUE` settings under `/proc/sys/net`, which shows the namespace of whoever
    /// looks: hence from a process inside.
    fn set(&self, settings: &[&str]) -> Result<()> {
        const WRITE: &str =
            r#"for it; do echo "${it#*=}" > "/proc/sys/net/${it%%=*}" || exit 1; done"#;
        output(self.command("sh").args(["-c", WRITE, "sh"]).args(settings))?;
        Ok(())
    }
}

/// The programs that do the work.
#[derive(Debug, Clone)]
struct Tools {
    ip: PathBuf,
    nsenter: PathBuf,
}

impl Tools {
    fn find() -> Result<Self> {
        Ok(Self {
            ip: tool("ip", "iproute2")?,
            nsenter: tool("nsenter", "util-linux")?,
        })
    }
}
