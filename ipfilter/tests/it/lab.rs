//! A playground with the real programs in it: the mock API, `ipfilter run`, and clients.

mod ask;

use std::{
    env,
    fs::{self, File},
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    process::{self, Command, Output, Stdio},
    sync::{
        Once,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::{
    process::Signal,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use testkit::{
    netns::{HOST, Namespace, Playground},
    process::{Guard, TICK, is_gone},
};

pub(crate) use ask::{Answer, ask};

/// How long to wait for a program to be ready, or to do as it is told, before it counts as broken:
/// much longer than it ever takes, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Where the filters' pins are, a folder per instance.
const PINS: &str = "/sys/fs/bpf/ipfilter";

/// The clients' networks.
pub(crate) const GOOD: [&str; 2] = ["198.51.100.0/24", "2001:db8:100::/48"];
pub(crate) const BAD: [&str; 2] = ["203.0.113.0/24", "2001:db8:113::/48"];

/// What [`statuses`] says when one of them may pass, everyone, or nobody.
pub(crate) const ONLY_GOOD: [&str; 4] = ["200", "200", "000", "000"];
pub(crate) const ONLY_BAD: [&str; 4] = ["000", "000", "200", "200"];
pub(crate) const EVERYONE: [&str; 4] = ["200"; 4];
pub(crate) const NOBODY: [&str; 4] = ["000"; 4];

/// Lets everyone in.
const ALLOW_ALL: &str = r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow",
    "Principal": "*", "Action": "execute-api:Invoke", "Resource": "execute-api:/*"}}"#;

/// A policy that lets in who comes from these blocks.
pub(crate) fn allow(blocks: &[&str]) -> String {
    let condition = serde_json::json!({"IpAddress": {"aws:SourceIp": blocks}});
    let policy: serde_json::Value = serde_json::from_str(ALLOW_ALL).expect("JSON");
    let mut policy = policy;
    policy["Statement"]["Condition"] = condition;
    policy.to_string()
}

/// The file of one of the shipped policies.
pub(crate) fn shipped(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
    path.join(name).display().to_string()
}

/// What the names of all tests' instances begin with; then comes the process id of the tests.
const INSTANCES: &str = "it-";

/// The name of a test's instance. Removes first what tests that were killed have left behind.
pub(crate) fn instance(tag: &str) -> String {
    static SWEPT: Once = Once::new();
    SWEPT.call_once(|| {
        sweep(Path::new(PINS), INSTANCES);
        sweep(&env::temp_dir(), &format!("ipfilter-{INSTANCES}"));
    });
    format!("{INSTANCES}{}-{tag}", process::id())
}

/// Removes the folders of instances whose tests are gone: whoever had our own id before us is.
fn sweep(folder: &Path, prefix: &str) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let rest = name.strip_prefix(prefix);
        let owner = rest.and_then(|rest| rest.split('-').next()?.parse().ok());
        if owner.is_some_and(|pid| pid == process::id() || is_gone(pid)) {
            // Best effort, and once more: a BPF file system lists its files anew when some are removed.
            let removed = fs::remove_dir_all(entry.path());
            let _: std::io::Result<()> = removed.or_else(|_| fs::remove_dir_all(entry.path()));
        }
    }
}

/// A network with programs in it. Dropped, it leaves nothing.
pub(crate) struct Lab {
    pub(crate) instance: String,
    pub(crate) folder: PathBuf,
    guards: Vec<Guard>,
    /// Last, so that it outlives the programs in it.
    pub(crate) network: Playground,
}

impl Lab {
    /// The network alone. Needs root.
    pub(crate) fn empty(tag: &str) -> Self {
        testkit::need_root("the live tests, which make network namespaces and load BPF programs,")
            .expect("root");
        let instance = instance(tag);
        let network = Playground::new(tag).expect("a playground");
        let folder = env::temp_dir().join(format!("ipfilter-{instance}"));
        fs::create_dir_all(&folder).expect("a folder");
        Self {
            instance,
            folder,
            guards: Vec::new(),
            network,
        }
    }

    /// With the mock API at port 80 of the host, and a program at the router's end of the host's
    /// link: without one, veth does not take back what a native program transmits.
    pub(crate) fn new(tag: &str) -> Self {
        let mut lab = Self::empty(tag);
        let policy = lab.write("allow-all.json", ALLOW_ALL);
        let peer = [
            "run",
            "--interface",
            "eth0",
            "--port",
            "1",
            "--mode",
            "native",
            "--policy",
            &policy,
        ];
        let (instance, router) = (lab.peer(), lab.network.router.clone());
        let peer = lab.start(&router, &instance, "peer", &peer);
        let listen = format!("{}:80,[{}]:80", HOST.v4, HOST.v6);
        let (instance, host) = (lab.instance.clone(), lab.network.host.clone());
        let mock = lab.start(&host, &instance, "mock", &["mock", "--listen", &listen]);
        lab.wait_log("peer", "ready", 1);
        lab.wait_log("mock", "listening", 2);
        lab.guards.extend([peer, mock]);
        lab
    }

    fn peer(&self) -> String {
        format!("{}-peer", self.instance)
    }

    /// Writes a file, and returns its path.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.folder.join(name);
        fs::write(&path, content).expect("a file");
        path.display().to_string()
    }

    /// A command of `ipfilter` in the host's namespace.
    pub(crate) fn ipfilter(&self, arguments: &[&str]) -> Command {
        self.command(&self.network.host, &self.instance, arguments)
    }

    /// The same of another binary.
    pub(crate) fn other(&self, binary: &Path, arguments: &[&str]) -> Command {
        self.command_of(binary, &self.network.host, &self.instance, arguments)
    }

    fn command(&self, namespace: &Namespace, instance: &str, arguments: &[&str]) -> Command {
        let binary = Path::new(env!("CARGO_BIN_EXE_ipfilter"));
        self.command_of(binary, namespace, instance, arguments)
    }

    fn command_of(
        &self,
        binary: &Path,
        namespace: &Namespace,
        instance: &str,
        arguments: &[&str],
    ) -> Command {
        let mut command = namespace.command(binary);
        command
            .args(["--instance", instance])
            .args(arguments)
            .env("STATE_DIRECTORY", self.folder.join("state"))
            .env("RUNTIME_DIRECTORY", self.folder.join("run"))
            .env_remove("RUST_LOG")
            .stdin(Stdio::null());
        command
    }

    fn start(&self, namespace: &Namespace, instance: &str, log: &str, arguments: &[&str]) -> Guard {
        self.spawn(self.command(namespace, instance, arguments), log)
    }

    /// Starts a command that writes to the log `log`.
    pub(crate) fn spawn(&self, mut command: Command, log: &str) -> Guard {
        let log = File::create(self.log_path(log)).expect("a log");
        command.stdout(Stdio::null()).stderr(log);
        Guard::spawn_group(&mut command).expect("it starts")
    }

    /// Runs a command to its end: its exit code, and all it said.
    pub(crate) fn tell(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.ipfilter(arguments).output().expect("it starts");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).expect("UTF-8");
        (output.status.code(), said)
    }

    /// `ipfilter run` at the host's interface and the mock's port, once it is ready.
    pub(crate) fn filter(&self, arguments: &[&str]) -> Guard {
        let run = ["run", "--interface", "eth0", "--port", "80"];
        self.run(&[&run[..], arguments].concat(), &[])
    }

    /// An `ipfilter` that stays, with these variables in its environment, once it is ready.
    pub(crate) fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Guard {
        let mut command = self.ipfilter(arguments);
        command.envs(variables.iter().copied());
        self.ready(command)
    }

    /// A command that stays, once it is ready.
    pub(crate) fn ready(&self, command: Command) -> Guard {
        let guard = self.spawn(command, "run");
        self.wait_log("run", "ready", 1);
        guard
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }

    pub(crate) fn log(&self, name: &str) -> String {
        fs::read_to_string(self.log_path(name)).unwrap_or_default()
    }

    /// Waits until a log has `text` so many times.
    pub(crate) fn wait_log(&self, name: &str, text: &str, times: usize) {
        let start = Instant::now();
        while self.log(name).matches(text).count() < times {
            let log = self.log(name);
            // It has given up, which it says last.
            let ended = log.lines().any(|line| line.starts_with("error: "));
            assert!(
                start.elapsed() < PATIENCE && !ended,
                "`{name}` did not say `{text}`:\n{log}"
            );
            thread::sleep(TICK);
        }
    }

    /// Ends the filter's process and takes the filter off.
    pub(crate) fn detach(&self, guard: Guard) {
        guard.stop(PATIENCE).expect("it ends");
        let output = self.ipfilter(&["detach"]).output().expect("it starts");
        assert!(output.status.success(), "{output:?}");
        self.assert_nothing_is_left();
    }

    /// No pin of the instance, and no XDP program at the host's interface.
    pub(crate) fn assert_nothing_is_left(&self) {
        assert!(!self.pins().exists(), "{} is left", self.pins().display());
        let link = self.network.host.ip(["-details", "link", "show", "eth0"]);
        let link = link.expect("an interface");
        assert!(!link.contains("prog/xdp"), "{link}");
    }

    pub(crate) fn pins(&self) -> PathBuf {
        Path::new(PINS).join(self.key())
    }

    /// The name of the instance's directories: the network namespace is no one's but the test's.
    pub(crate) fn key(&self) -> String {
        let namespace = fs::metadata(self.network.host.path()).expect("a namespace");
        format!("{}@{}", self.instance, namespace.ino())
    }

    /// What `status --format json` says.
    pub(crate) fn status(&self) -> serde_json::Value {
        let output = self.ipfilter(&["status", "--format", "json"]).output();
        let output = output.expect("it starts");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    }

    /// Has the filter deploy anew, and waits until it says that it has, or that it can't.
    pub(crate) fn reload(&self, guard: &Guard) {
        let told =
            |log: &str| log.matches("reloaded: ").count() + log.matches("reload failed").count();
        let before = told(&self.log("run"));
        guard.signal(Signal::HUP).expect("it runs");
        let start = Instant::now();
        while told(&self.log("run")) == before {
            assert!(start.elapsed() < PATIENCE, "{}", self.log("run"));
            thread::sleep(TICK);
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.guards.clear();
        let (host, router) = (&self.network.host, &self.network.router);
        for (namespace, instance) in [(host, self.instance.clone()), (router, self.peer())] {
            // Best effort: a test that fails must not leave a filter behind, whatever else is wrong.
            let _: std::io::Result<Output> =
                self.command(namespace, &instance, &["detach"]).output();
        }
        let _: std::io::Result<()> = fs::remove_dir_all(&self.folder);
    }
}

/// The status that each client gets over either family: `200`, or `000` where it is blocked.
pub(crate) fn statuses(lab: &Lab) -> [String; 4] {
    let (allowed, denied) = (&lab.network.allowed, &lab.network.denied);
    [
        (allowed, HOST.v4),
        (allowed, HOST.v6),
        (denied, HOST.v4),
        (denied, HOST.v6),
    ]
    .map(|(client, host)| ask(client, host).status())
}

/// Waits until `holds`.
pub(crate) fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        thread::sleep(TICK);
    }
}

/// The host's mock API as a URL, for either family: IPv6 goes in brackets.
pub(crate) fn urls(scheme: &str) -> [String; 2] {
    [
        format!("{scheme}://{}:80/", HOST.v4),
        format!("{scheme}://[{}]:80/", HOST.v6),
    ]
}

/// What curl comes to: its exit code and the status of its answers. It waits for as long as a busy
/// machine may take: whether somebody is blocked without an answer, [`ask`] finds out sooner.
pub(crate) fn curl(client: &Namespace, arguments: &[&str]) -> (Option<i32>, String) {
    let output = client
        .command("curl")
        .args(["--silent", "--noproxy", "*", "--output", "/dev/null"])
        .args(["--write-out", "%{http_code} "])
        .args(["--max-time", &PATIENCE.as_secs().to_string()])
        .args(arguments)
        .output()
        .expect("curl, which is needed here: apt-get install curl");
    let statuses = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.code(), statuses)
}

/// Sets a flag when it is dropped, also by a panic: else threads that look at it would be waited for, and the
/// test would hang rather than fail.
pub(crate) struct Ended<'f>(pub(crate) &'f AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Runs `what` on a thread that has moved into the namespace.
pub(crate) fn inside<'scope, T: Send + 'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    namespace: &Namespace,
    what: impl FnOnce() -> T + Send + 'scope,
) -> thread::ScopedJoinHandle<'scope, T> {
    let file = File::open(namespace.path()).expect("a namespace");
    scope.spawn(move || {
        let kind = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(file.as_fd(), kind).expect("root may move");
        what()
    })
}
