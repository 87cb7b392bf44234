//! The package under a real systemd: installed, started, reloaded, killed, rebooted, upgraded,
//! removed and purged, with clients that try all the while.
//!
//! Two boots of one machine, a shell script each. They print what they looked at, a line each, and
//! what went wrong with the journal's last words.

#[path = "package/userlands.rs"]
mod userlands;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use testkit::{
    process::output,
    target_dir,
    vm::{
        Nic,
        systemd::{Boot, System},
    },
};

/// What both scripts use.
const COMMON: &str = include_str!("package/common.sh");

/// From the installation to a power cut.
const FIRST: &str = include_str!("package/first.sh");

/// From a boot with a broken policy to the purge.
const SECOND: &str = include_str!("package/second.sh");

#[test]
#[ignore = "boots a VM twice, and fetches Debian 12 for that when it is not there yet"]
fn the_package_never_opens_the_door_and_leaves_nothing_behind() -> Result<()> {
    let folder = target_dir()?.join("dist/tried");
    let old = package(&folder.join("1"), 1)?;
    let new = package(&folder.join("2"), 2)?;
    let mut system = System::new()?;
    // The host's and, in a namespace of the same VM, the clients'.
    system.nics = vec![Nic::Virtio, Nic::Virtio];
    system.cpus = 2;
    let mut first = boot(FIRST);
    let policies = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies");
    first.files = vec![
        (old, "/opt/old.deb".into()),
        (new, "/opt/new.deb".into()),
        (policies.into(), "/opt/policies".into()),
    ];
    first.power_cut = true;
    run(&mut system, "first boot", &first)?;
    run(&mut system, "second boot", &boot(SECOND))
}

/// Of each kind of file, one.
const FILES: [&str; 20] = [
    "usr/bin/ipfilter",
    "usr/bin/ipfilter-authorize",
    "etc/ipfilter/ipfilter.json",
    "usr/lib/systemd/system/ipfilter.service",
    "usr/lib/systemd/system/ipfilter@.service",
    "usr/lib/systemd/system/ipfilter-authorize.service",
    "usr/lib/systemd/system/ipfilter-authorize@.service",
    "usr/lib/sysusers.d/ipfilter.conf",
    "usr/share/doc/ipfilter/integrations/nginx.conf",
    "usr/share/man/man8/ipfilter-authorize.8.gz",
    "usr/lib/systemd/system/ipfilter-verify.service",
    "usr/lib/systemd/system/ipfilter-verify.timer",
    "usr/share/man/man8/ipfilter-run.8.gz",
    "usr/share/man/man5/ipfilter.json.5.gz",
    "usr/share/man/man7/ipfilter-policy.7.gz",
    "usr/share/bash-completion/completions/ipfilter",
    "usr/share/doc/ipfilter/examples/allow-list.json",
    "usr/share/doc/ipfilter/README.md",
    "usr/share/doc/ipfilter/docs/guide/first-day.md",
    "usr/share/doc/ipfilter/docs/picture.svg",
];

#[test]
#[ignore = "makes packages, which takes dpkg-dev"]
fn the_same_sources_give_the_same_packages_with_everything_in_them() -> Result<()> {
    let [one, two] = [dist("one", 1)?, dist("two", 1)?];
    assert!(one.files.len() > 5, "{:?}", one.files);
    for (file, again) in one.files.iter().zip(&two.files) {
        assert!(fs::read(file)? == fs::read(again)?, "{}", file.display());
    }
    let contents = output(
        Command::new("dpkg-deb")
            .arg("--contents")
            .arg(one.file(".deb")?),
    )?;
    let packed = output(Command::new("tar").arg("-tzf").arg(one.file(".tar.gz")?))?;
    let rpm = output(Command::new("rpm").args(["-qpl"]).arg(one.file(".rpm")?))?;
    for file in FILES {
        assert!(contents.contains(&format!(" ./{file}\n")), "{contents}");
        assert!(packed.contains(&format!("-linux/{file}\n")), "{packed}");
        assert!(rpm.contains(&format!("/{file}\n")), "{rpm}");
    }
    let folder = target_dir()?.join("dist");
    let mut check = Command::new("sha256sum");
    output(
        check
            .args(["--check", "--strict", "SHA256SUMS"])
            .current_dir(folder.join("one")),
    )?;
    for name in ["one", "two"] {
        fs::remove_dir_all(folder.join(name))?;
    }
    Ok(())
}

fn boot(script: &str) -> Boot {
    let mut boot = Boot::new(format!("{COMMON}\n{script}\nend\n"));
    boot.timeout = Duration::from_secs(600);
    boot
}

fn run(system: &mut System, name: &str, boot: &Boot) -> Result<()> {
    let output = system.boot(boot)?;
    let seconds = output.elapsed.as_secs_f64();
    println!("── {name}, {seconds:.1} s\n{}", output.output);
    ensure!(
        output.code == 0 && output.output.contains("ok: "),
        "{name} ended with {}; the console said:\n{}",
        output.code,
        output.console
    );
    Ok(())
}

fn package(folder: &Path, revision: u32) -> Result<PathBuf> {
    dist_in(folder, revision)?.file(".deb")
}

/// What `cargo xtask dist` made.
struct Made {
    files: Vec<PathBuf>,
}

impl Made {
    /// The first file whose name ends so.
    fn file(&self, end: &str) -> Result<PathBuf> {
        self.files
            .iter()
            .find(|file| file.display().to_string().ends_with(end))
            .cloned()
            .with_context(|| format!("no `{end}` among {:?}", self.files))
    }
}

/// Makes all packages as `cargo xtask dist` does, for this machine's architecture, in a folder of this name.
fn dist(name: &str, revision: u32) -> Result<Made> {
    dist_in(&target_dir()?.join("dist").join(name), revision)
}

fn dist_in(folder: &Path, revision: u32) -> Result<Made> {
    let mut dist = Command::new(env!("CARGO_BIN_EXE_xtask"));
    dist.args(["dist", "--profile=dev", "--architecture"])
        .arg(std::env::consts::ARCH)
        .arg("--revision")
        .arg(revision.to_string())
        .arg("--output")
        .arg(folder);
    let said = output(&mut dist)?;
    let files = said
        .lines()
        .filter_map(|line| line.rsplit_once(' ')?.0.rsplit_once(' '));
    Ok(Made {
        files: files.map(|(file, _)| file.into()).collect(),
    })
}
