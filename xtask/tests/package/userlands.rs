//! Every package in the userlands that it is for: installed, run as a real filter in front of a real server, and
//! removed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use testkit::{
    netns::{HOST, Namespace, Playground},
    process::{Guard, TICK, output},
    root::Root,
    tool,
};

use super::{Made, dist};
use serde_json::Value;

/// How long a program may take to be ready.
const PATIENCE: Duration = Duration::from_secs(60);

/// curl's exit code when time ran out.
const TIMED_OUT: i32 = 28;

/// Allows the playground's client that may call.
const POLICY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies/allow-list.json");

/// Where it is in a root.
const POLICY_THERE: &str = "/policy.json";

/// What is tried, made once.
fn made() -> Result<&'static Made> {
    static MADE: OnceLock<Result<Made>> = OnceLock::new();
    let made = MADE.get_or_init(|| dist("userlands", 1));
    made.as_ref().map_err(|error| anyhow!("{error:#}"))
}

#[test]
#[ignore = "makes roots with three releases of Debian"]
fn the_package_filters_in_every_release_of_debian() -> Result<()> {
    let made = made()?;
    for suite in ["bullseye", "bookworm", "trixie"] {
        let root = Root::debian(suite)?;
        let network = Playground::new(suite)?;
        root.put(&made.file(".deb")?, "/package.deb")?;
        run(&root, &network.host, "dpkg", &["--install", "/package.deb"])?;
        filters(&root, &network).with_context(|| format!("in Debian `{suite}`"))?;
        run(&root, &network.host, "dpkg", &["--purge", "ipfilter"])?;
        leaves_nothing(&root)?;
        println!("Debian `{suite}`: installed, filtered, purged");
    }
    Ok(())
}

#[test]
#[ignore = "makes a root with Debian, and takes rpm"]
fn the_rpm_filters_and_leaves_nothing() -> Result<()> {
    let made = made()?;
    let root = Root::debian("bookworm")?;
    let network = Playground::new("rpm")?;
    let rpm = |arguments: &[&str]| -> Result<String> {
        let mut rpm = Command::new(tool("rpm", "rpm")?);
        rpm.arg("--root")
            .arg(root.path())
            .arg("--dbpath=/var/lib/rpm");
        output(rpm.args(arguments))
    };
    let package = made.file(".rpm")?.display().to_string();
    // This root's own shell and tools are unknown to RPM.
    rpm(&["--install", "--nodeps", &package])?;
    rpm(&["--verify", "--nodeps", "ipfilter"])?;
    filters(&root, &network)?;
    let settings = root.path().join("etc/ipfilter/ipfilter.json");
    fs::write(&settings, "{}")?;
    rpm(&["--erase", "ipfilter"])?;
    ensure!(
        settings.with_extension("json.rpmsave").exists(),
        "a configuration that was changed is gone"
    );
    leaves_nothing(&root)
}

#[test]
#[ignore = "makes a root with Debian"]
fn the_tarball_installs_filters_and_leaves_configuration_only() -> Result<()> {
    let made = made()?;
    let root = Root::debian("trixie")?;
    let network = Playground::new("tarball")?;
    let mut tar = Command::new(tool("tar", "tar")?);
    tar.arg("--extract")
        .arg("--file")
        .arg(made.file(".tar.gz")?);
    output(
        tar.arg("--strip-components=1")
            .arg("--one-top-level")
            .arg("--directory")
            .arg(root.path().join("tmp")),
    )?;
    let unpacked = fs::read_dir(root.path().join("tmp"))?
        .next()
        .context("nothing is in it")??;
    let installer = format!("/tmp/{}/install.sh", unpacked.file_name().display());
    run(&root, &network.host, "sh", &[&installer])?;
    filters(&root, &network)?;
    // What an operator has changed stays when it is installed again.
    let settings = root.path().join("etc/ipfilter/ipfilter.json");
    fs::write(&settings, "{}")?;
    run(&root, &network.host, "sh", &[&installer])?;
    ensure!(
        fs::read(&settings)? == b"{}",
        "a configuration was overwritten"
    );
    run(&root, &network.host, "sh", &[&installer, "--remove"])?;
    ensure!(settings.exists(), "the configuration is gone");
    leaves_nothing(&root)
}

#[test]
#[ignore = "makes packages"]
fn the_image_filters_with_nothing_else_around_it() -> Result<()> {
    let made = made()?;
    let layout = Root::empty()?;
    unpack(&made.file("-oci.tar")?, layout.path())?;
    let root = Root::empty()?;
    unpack(&layer(layout.path())?, root.path())?;
    let files = output(
        Command::new("find")
            .arg(root.path())
            .args(["-type", "f", "-printf", "%f\n"]),
    )?;
    let mut files: Vec<&str> = files.lines().collect();
    files.sort_unstable();
    assert_eq!(
        files,
        [
            "ipfilter",
            "ipfilter-authorize",
            "ipfilter.json",
            "policy.json"
        ]
    );
    filters(&root, &Playground::new("image")?)
}

fn unpack(archive: &Path, folder: &Path) -> Result<()> {
    let mut tar = Command::new(tool("tar", "tar")?);
    output(
        tar.arg("--extract")
            .arg("--file")
            .arg(archive)
            .arg("--directory")
            .arg(folder),
    )?;
    Ok(())
}

/// The file of the only layer, found as a container engine finds it.
fn layer(layout: &Path) -> Result<PathBuf> {
    let read = |path: &Path| -> Result<Value> { Ok(serde_json::from_slice(&fs::read(path)?)?) };
    let blob = |value: &Value, path: &str| {
        let digest = value.pointer(path).and_then(Value::as_str);
        let digest = digest.and_then(|text| text.strip_prefix("sha256:"));
        let digest = digest.with_context(|| format!("no digest at {path}"))?;
        Ok::<_, anyhow::Error>(layout.join("blobs/sha256").join(digest))
    };
    let index = read(&layout.join("index.json"))?;
    let manifest = read(&blob(&index, "/manifests/0/digest")?)?;
    let config = read(&blob(&manifest, "/config/digest")?)?;
    assert_eq!(
        config.pointer("/architecture"),
        index.pointer("/manifests/0/platform/architecture")
    );
    let entry = config.pointer("/config/Entrypoint/0");
    assert_eq!(entry.and_then(Value::as_str), Some("/usr/bin/ipfilter"));
    blob(&manifest, "/layers/0/digest")
}

fn leaves_nothing(root: &Root) -> Result<()> {
    for file in [
        "usr/bin/ipfilter",
        "usr/bin/ipfilter-authorize",
        "usr/share/doc/ipfilter",
    ] {
        ensure!(!root.path().join(file).exists(), "`{file}` is left behind");
    }
    Ok(())
}

fn run(root: &Root, namespace: &Namespace, program: &str, arguments: &[&str]) -> Result<String> {
    let mut command = root.command(namespace, program)?;
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    output(command.args(arguments))
}

/// The program of a root, as an instance of this test alone.
fn ipfilter(root: &Root, namespace: &Namespace, arguments: &[&str]) -> Result<Command> {
    let mut command = root.command(namespace, "/usr/bin/ipfilter")?;
    command.args(["--instance", &format!("userland-{}", process::id())]);
    command.args(arguments).stdin(Stdio::null());
    Ok(command)
}

/// Detaches even if a test fails.
struct Attached<'a>(&'a Root, &'a Namespace);

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        let detached =
            ipfilter(self.0, self.1, &["detach"]).and_then(|mut command| output(&mut command));
        if let Err(error) = detached {
            eprintln!("cleaning up: {error:#}");
        }
    }
}

/// Serves and filters with the programs in this root, asks from both sides, and detaches.
fn filters(root: &Root, network: &Playground) -> Result<()> {
    root.put(Path::new(POLICY), POLICY_THERE)?;
    let host = &network.host;
    let version = output(root.command(host, "/usr/bin/ipfilter")?.arg("--version"))?;
    ensure!(version.starts_with("ipfilter "), "{version}");
    let checked = ipfilter(root, host, &["check", POLICY_THERE])?.output()?;
    ensure!(
        checked.status.success(),
        "check: {}",
        String::from_utf8_lossy(&checked.stderr)
    );
    let listen = format!("{}:80", HOST.v4);
    let mut server =
        Guard::spawn(ipfilter(root, host, &["mock", "--listen", &listen])?.stderr(Stdio::null()))?;
    until("the server", &mut server, || {
        ask(&network.allowed).is_ok_and(|code| code == 0)
    })?;
    ensure!(ask(&network.denied)? == 0, "nobody is filtered yet");
    let filter = [
        "run",
        "--interface",
        "eth0",
        "--port",
        "80",
        "--policy",
        POLICY_THERE,
    ];
    let mut filter = Guard::spawn(&mut ipfilter(root, host, &filter)?)?;
    let _attached = Attached(root, host);
    until("the filter", &mut filter, || {
        let status = ipfilter(root, host, &["status"]).and_then(|mut command| output(&mut command));
        status.is_ok()
    })?;
    ensure!(
        ask(&network.allowed)? == 0,
        "the client that may call gets no answer"
    );
    let code = ask(&network.denied)?;
    ensure!(
        code == TIMED_OUT,
        "the client that may not call: curl ended with {code}"
    );
    filter.stop(PATIENCE)?;
    ensure!(
        ask(&network.denied)? == TIMED_OUT,
        "the filter went with its process"
    );
    output(&mut ipfilter(root, host, &["verify"])?)?;
    Ok(())
}

/// curl's exit code.
fn ask(client: &Namespace) -> Result<i32> {
    let mut curl = client.command("curl");
    curl.args([
        "--silent",
        "--noproxy",
        "*",
        "--connect-timeout",
        "2",
        "--max-time",
        "5",
        "--output",
        "/dev/null",
    ]);
    let status = curl.arg(format!("http://{}/", HOST.v4)).status()?;
    status.code().context("curl was killed")
}

fn until(what: &str, guard: &mut Guard, ready: impl Fn() -> bool) -> Result<()> {
    let start = Instant::now();
    while !ready() {
        if let Some(status) = guard.ended()? {
            bail!("{what} ended: {status}");
        }
        ensure!(
            start.elapsed() < PATIENCE,
            "{what} is not ready after {PATIENCE:?}"
        );
        thread::sleep(TICK);
    }
    Ok(())
}
