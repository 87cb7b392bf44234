//! One run of the playground: its programs, its files, and taking all of it away again.

use std::{
    env,
    fmt::Display,
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use testkit::{
    netns::{HOST, Playground},
    process::{Guard, Interrupt, TICK, output},
};

use super::{DROP, REJECT, RESPOND};

/// How long programs may take to be ready, and to end. Generous: the verifier's time alone runs to
/// seconds on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the filters' pins are, a folder per instance.
pub(super) const PINS: &str = "/sys/fs/bpf/ipfilter";

/// What the name of a playground's folder, among the temporary files, has before the instance's.
pub(super) const FOLDER: &str = "ipfilter-";

/// The policy that all its APIs have, in its folder.
const POLICY_FILE: &str = "policy.json";

/// The instance of a playground with this owner.
pub(super) fn instance_name(owner: impl Display) -> String {
    format!("playground-{owner}")
}

/// A network with programs in it. Dropped or closed, it leaves nothing: no process, no filter, no
/// namespace, no file.
pub(super) struct Session {
    binary: PathBuf,
    instance: String,
    folder: PathBuf,
    mock: Option<Guard>,
    filter: Option<Guard>,
    detached: bool,
    /// Last, so that it outlives the programs in it.
    network: Playground,
}

impl Session {
    pub(super) fn new(binary: &Path, network: Playground) -> Result<Self> {
        let instance = instance_name(process::id());
        let folder = folder(&instance);
        for (_, folder) in settings(&folder) {
            fs::create_dir_all(&folder)
                .with_context(|| format!("can't make the folder `{}`", folder.display()))?;
        }
        Ok(Self {
            binary: binary.to_owned(),
            instance,
            folder,
            mock: None,
            filter: None,
            detached: true,
            network,
        })
    }

    pub(super) fn network(&self) -> &Playground {
        &self.network
    }

    /// Starts the mock integration on the host and waits until it answers there.
    pub(super) fn serve(&mut self, interrupt: &Interrupt) -> Result<()> {
        let listen: Vec<String> = [DROP, REJECT, RESPOND]
            .iter()
            .map(|port| format!("{}:{port},[{}]:{port}", HOST.v4, HOST.v6))
            .collect();
        let listen = listen.join(",");
        let mut mock = self.start("mock", &["--listen", &listen])?;
        let host = format!("http://{}/", HOST.v4);
        self.until(&mut mock, "mock", interrupt, |session| {
            let mut curl = session.network.host.command("curl");
            curl.args(["--silent", "--noproxy", "*", "--max-time", "1", &host]);
            output(&mut curl).is_ok()
        })?;
        self.mock = Some(mock);
        Ok(())
    }

    /// Deploys the policy on the host's interface, for an API with each deny action, and waits until it is in force.
    pub(super) fn filter(&mut self, policy: &Path, interrupt: &Interrupt) -> Result<()> {
        self.detached = false;
        fs::copy(policy, self.policy()).context("can't copy the policy")?;
        let apis = [("drop", DROP), ("reject", REJECT), ("respond", RESPOND)].map(|(deny, port)| {
            json!({"name": deny, "ports": [port], "policy": POLICY_FILE, "deny": deny})
        });
        let config = self.folder.join("ipfilter.json");
        let text = json!({"interfaces": ["eth0"], "apis": apis}).to_string();
        fs::write(&config, text).context("can't write the configuration")?;
        let mut filter = self.start("run", &["--config", &config.to_string_lossy()])?;
        self.until(&mut filter, "run", interrupt, |session| {
            output(session.ipfilter("status").args(["--format", "json"])).is_ok()
        })?;
        self.filter = Some(filter);
        Ok(())
    }

    /// Exchanges the two clients' networks in the policy, and reloads.
    pub(super) fn swap_clients(&self) -> Result<()> {
        let mut text = fs::read_to_string(self.policy())?;
        for (one, other) in [
            ("198.51.100.0/24", "203.0.113.0/24"),
            ("2001:db8:100::/48", "2001:db8:113::/48"),
        ] {
            text = text
                .replace(one, "@")
                .replace(other, one)
                .replace('@', other);
        }
        fs::write(self.policy(), text)?;
        output(&mut self.ipfilter("reload"))?;
        Ok(())
    }

    fn policy(&self) -> PathBuf {
        self.folder.join(POLICY_FILE)
    }

    /// Ends `ipfilter run`, which leaves the filter in place, and detaches the filter.
    pub(super) fn detach(&mut self) -> Result<()> {
        if let Some(filter) = self.filter.take() {
            filter.stop(PATIENCE)?;
        }
        if !self.detached {
            output(&mut self.ipfilter("detach"))?;
            self.detached = true;
        }
        let pins = Path::new(PINS).join(&self.instance);
        if pins.exists() {
            bail!("`ipfilter detach` left `{}` behind", pins.display());
        }
        Ok(())
    }

    /// Removes everything; unlike dropping, it reports what fails.
    pub(super) fn close(mut self) -> Result<()> {
        self.detach()?;
        match self.mock.take() {
            Some(mock) => mock.stop(PATIENCE).map(drop),
            None => Ok(()),
        }
    }

    /// A shell on the host, with commands that run others as one of the clients; until it ends.
    pub(super) fn shell(&self) -> Result<()> {
        let programs = self.folder.join("bin");
        fs::create_dir_all(&programs)?;
        let clients = [
            ("allowed", &self.network.allowed),
            ("denied", &self.network.denied),
        ];
        for (name, client) in clients {
            let line = format!("exec nsenter --net={} -- \"$@\"", client.path().display());
            script(&programs.join(name), &line)?;
        }
        let own = format!(
            "exec {} --instance {} \"$@\"",
            self.binary.display(),
            self.instance
        );
        script(&programs.join("ipfilter"), &own)?;
        println!(
            "\nA shell on the host, in {folder}; `exit` ends the playground. To try:\n  \
             denied curl -m 1 http://{host}:{DROP}/\n  denied curl http://{host}:{RESPOND}/\n  \
             ipfilter status\n  ipfilter top\n  edit {POLICY_FILE}, then: ipfilter reload",
            folder = self.folder.display(),
            host = HOST.v4,
        );
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(programs).chain(env::split_paths(&path));
        let shell = env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
        let mut shell = self.network.host.command(shell);
        shell
            .envs(settings(&self.folder))
            .env("PATH", env::join_paths(folders)?)
            .current_dir(&self.folder);
        // How the last command in it ended is nothing to us.
        shell.status().context("can't start a shell")?;
        Ok(())
    }

    fn ipfilter(&self, command: &str) -> Command {
        let mut ipfilter = self.network.host.command(&self.binary);
        ipfilter
            .args(["--instance", &self.instance, command])
            .envs(settings(&self.folder));
        ipfilter
    }

    /// Starts a command of `ipfilter` that stays, with what it says in a log.
    fn start(&self, command: &str, arguments: &[&str]) -> Result<Guard> {
        let log = File::create(self.log(command)).context("can't write a log")?;
        let mut ipfilter = self.ipfilter(command);
        ipfilter
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        // In a group of its own: Ctrl-C is for us, who then clean up in order.
        Guard::spawn_group(&mut ipfilter)
    }

    /// Waits until `ready` says so; fails when the program ends or takes too long, with its log.
    fn until(
        &self,
        guard: &mut Guard,
        command: &str,
        interrupt: &Interrupt,
        ready: impl Fn(&Self) -> bool,
    ) -> Result<()> {
        let start = Instant::now();
        while !ready(self) {
            interrupt.check()?;
            let log = || fs::read_to_string(self.log(command)).unwrap_or_default();
            if let Some(status) = guard.ended()? {
                bail!("`ipfilter {command}` ended ({status}):\n{}", log().trim());
            }
            if start.elapsed() > PATIENCE {
                bail!(
                    "`ipfilter {command}` is not ready after {PATIENCE:?}:\n{}",
                    log().trim()
                );
            }
            thread::sleep(TICK);
        }
        Ok(())
    }

    fn log(&self, command: &str) -> PathBuf {
        self.folder.join(format!("{command}.log"))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Err(error) = self.detach() {
            eprintln!("cleaning up: {error:#}");
        }
        self.mock = None;
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!(
                "cleaning up: can't remove `{}`: {error}",
                self.folder.display()
            );
        }
    }
}

fn script(file: &Path, line: &str) -> Result<()> {
    fs::write(file, format!("#!/bin/sh\n{line}\n"))?;
    fs::set_permissions(file, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Where `ipfilter` keeps its state: not where the machine's own filters do.
fn settings(folder: &Path) -> [(&'static str, PathBuf); 2] {
    [
        ("STATE_DIRECTORY", folder.join("state")),
        ("RUNTIME_DIRECTORY", folder.join("run")),
    ]
}

/// Takes off the filter of a playground whose owner is dead.
pub(super) fn detach_leftover(binary: &Path, instance: &str) -> Result<()> {
    let mut detach = Command::new(binary);
    detach
        .args(["--instance", instance, "detach"])
        .envs(settings(&folder(instance)));
    output(&mut detach).context("can't detach the filter of an earlier playground")?;
    Ok(())
}

fn folder(instance: &str) -> PathBuf {
    env::temp_dir().join(format!("{FOLDER}{instance}"))
}
