//! The package under a real systemd: installed, started, reloaded, killed, rebooted, upgraded,
//! removed and purged, with clients that try all the while.
//!
//! Two boots of one machine, a shell script each. They print what they looked at, a line each, and
//! what went wrong with the journal's last words.

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
const FILES: [&str; 19] = [
    "usr/bin/ipfilter",
    "usr/bin/ipfilter-authorize",
    "etc/ipfilter/ipfilter.json",
    "usr/lib/systemd/system/ipfilter.service",
    "usr/lib/systemd/system/ipfilter@.service",
    "usr/lib/systemd/system/ipfilter-authorize.service",
    "usr/lib/systemd/system/ipfilter-authorize@.service",
    "usr/lib/sysusers.d/ipfilter.conf",
    "usr/share/doc/ipfilter/integrations/nginx.conf",
    "usr/share/man/man1/ipfilter-authorize.1.gz",
    "usr/lib/systemd/system/ipfilter-verify.service",
    "usr/lib/systemd/system/ipfilter-verify.timer",
    "usr/share/man/man1/ipfilter-run.1.gz",
    "usr/share/man/man5/ipfilter.json.5.gz",
    "usr/share/bash-completion/completions/ipfilter",
    "usr/share/doc/ipfilter/examples/allow-list.json",
    "usr/share/doc/ipfilter/README.md",
    "usr/share/doc/ipfilter/docs/guide/first-day.md",
    "usr/share/doc/ipfilter/docs/picture.svg",
];

#[test]
#[ignore = "makes packages, which takes dpkg-dev"]
fn the_same_sources_give_the_same_packages_with_everything_in_them() -> Result<()> {
    let [one, two] = ["one", "two"].map(|name| target_dir().map(|dir| dir.join("dist").join(name)));
    let (one, two) = (one?, two?);
    let [first, second] = [package(&one, 1)?, package(&two, 1)?];
    assert!(fs::read(&first)? == fs::read(second)?);
    let contents = output(Command::new("dpkg-deb").arg("--contents").arg(first))?;
    let tarball = tarball(&one)?;
    let packed = output(Command::new("tar").arg("-tzf").arg(&tarball))?;
    for file in FILES {
        assert!(contents.contains(&format!(" ./{file}\n")), "{contents}");
        assert!(packed.contains(&format!("-linux/{file}\n")), "{packed}");
    }
    let name = tarball.file_name().context("no name")?;
    assert!(fs::read(&tarball)? == fs::read(two.join(name))?);
    for folder in [one, two] {
        fs::remove_dir_all(folder)?;
    }
    Ok(())
}

fn tarball(folder: &Path) -> Result<PathBuf> {
    fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|end| end == "gz"))
        .context("no tarball")
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

/// Makes the package as `cargo xtask dist` does.
fn package(folder: &Path, revision: u32) -> Result<PathBuf> {
    let mut dist = Command::new(env!("CARGO_BIN_EXE_xtask"));
    dist.args(["dist", "--profile=dev", "--revision"])
        .arg(revision.to_string())
        .arg("--output")
        .arg(folder);
    let said = output(&mut dist)?;
    let line = said.lines().find(|line| line.contains(".deb "));
    let file = line.and_then(|line| line.split(' ').next());
    Ok(file
        .with_context(|| format!("no package in `{said}`"))?
        .into())
}
