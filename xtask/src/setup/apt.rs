//! Debian's and Ubuntu's packages: what is installed, what could be, and installing it.

use std::{fmt::Display, process::Command};

use anyhow::Result;
use testkit::{
    Refused, need_root,
    process::{Interrupt, output},
    tool,
};

use super::{act, recipe};

/// Packages that together are a Rust with `core` for BPF: rustc, cargo, core. Debian's stable
/// releases carry a newer Rust for building browsers, under names of its own.
const RUSTS: &[&[&str]] = &[
    &["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"],
    &["rustc", "cargo", "libstd-rust-dev-bpf"],
];

/// The oldest Rust that builds this workspace.
const OLDEST: &str = env!("CARGO_PKG_RUST_VERSION");

/// The packages of the newest suitable Rust that this system offers.
///
/// # Errors
/// [`Refused`] when it offers none, with the ways there are besides.
pub(super) fn rust_packages(interrupt: &Interrupt) -> Result<&'static [&'static str]> {
    need_apt()?;
    if let Some(packages) = choose(&policy(&RUSTS.concat())?, OLDEST) {
        return Ok(packages);
    }
    update(
        "the package lists offer no Rust with `core` for BPF",
        interrupt,
    )?;
    choose(&policy(&RUSTS.concat())?, OLDEST).ok_or_else(|| {
        Refused(format!(
            "this distribution's package lists, as far as they could be fetched, have no Rust from \
             {OLDEST} on with `core` for BPF; {}",
            by_nightly()
        ))
        .into()
    })
}

/// Installs those of `packages` that are not installed; nothing else is removed for them.
///
/// # Errors
/// [`Refused`] when that is not possible here, with the commands to run.
pub(super) fn install(why: &str, packages: &[&str], interrupt: &Interrupt) -> Result<()> {
    let wanted = missing(packages, &installed(packages));
    if wanted.is_empty() {
        return Ok(());
    }
    need_apt()?;
    need_root(&format!("`apt-get install {}`", wanted.join(" ")))
        .map_err(|error| or_by_hand(&error))?;
    if wanted.iter().any(|name| !is_offered(name)) {
        update("the package lists lack what is needed", interrupt)?;
    }
    refuse_removals(&wanted)?;
    let why = format!("installing {} ({why})", wanted.join(", "));
    let install = || {
        act(
            &why,
            apt("install").args(["--yes", "--no-remove"]).args(&wanted),
            interrupt,
        )
    };
    if install().is_ok() {
        return Ok(());
    }
    interrupt.check()?;
    update("old package lists may be why this failed", interrupt)?;
    unless_interrupted(install(), interrupt)
}

/// Whether the package lists have `package`.
pub(super) fn is_offered(package: &str) -> bool {
    policy(&[package]).is_ok_and(|text| candidate(&text, package).is_some())
}

fn need_apt() -> Result<()> {
    tool("apt-get", "apt").map_err(|_| {
        Refused(format!(
            "set-up installs packages on Debian and Ubuntu only; {}",
            by_nightly()
        ))
    })?;
    Ok(())
}

fn apt(verb: &str) -> Command {
    let mut command = Command::new("apt-get");
    command
        .args([
            verb,
            "--no-install-recommends",
            "--quiet",
            "-oDpkg::Use-Pty=0",
        ])
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn update(why: &str, interrupt: &Interrupt) -> Result<()> {
    need_root("`apt-get update`").map_err(|error| or_by_hand(&error))?;
    let mut command = Command::new("apt-get");
    unless_interrupted(
        act(why, command.args(["update", "--quiet"]), interrupt),
        interrupt,
    )
}

/// A failure that leaves set-up to the user.
fn unless_interrupted(result: Result<()>, interrupt: &Interrupt) -> Result<()> {
    interrupt.check()?;
    result.map_err(|error| or_by_hand(&format!("{error:#}")).into())
}

fn or_by_hand(error: &impl Display) -> Refused {
    Refused(format!("{error}; set-up by hand is\n{}", by_hand()))
}

fn refuse_removals(packages: &[&str]) -> Result<()> {
    let plan = output(apt("install").arg("--simulate").args(packages))
        .map_err(|error| or_by_hand(&format!("{error:#}")))?;
    let removed = removals(&plan);
    if removed.is_empty() {
        return Ok(());
    }
    Err(Refused(format!(
        "installing {} would remove {}: if you can do without, run `apt-get install {}`; else {}",
        packages.join(", "),
        removed.join(", "),
        packages.join(" "),
        by_nightly()
    ))
    .into())
}

fn policy(packages: &[&str]) -> Result<String> {
    output(
        Command::new("apt-cache")
            .arg("policy")
            .args(packages)
            .env("LC_ALL", "C"),
    )
}

/// Names and states, a line each, of those that dpkg knows. It fails when it does not know one.
fn installed(packages: &[&str]) -> String {
    Command::new("dpkg-query")
        .args(["--show", "--showformat=${Package} ${db:Status-Status}\\n"])
        .args(packages)
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default()
}

fn missing<'a>(packages: &[&'a str], installed: &str) -> Vec<&'a str> {
    let is_there = |name: &str| {
        installed
            .lines()
            .any(|line| line == format!("{name} installed"))
    };
    packages
        .iter()
        .copied()
        .filter(|name| !is_there(name))
        .collect()
}

/// The version of `package` that `apt-cache policy` calls the candidate.
fn candidate<'a>(policy: &'a str, package: &str) -> Option<&'a str> {
    policy
        .lines()
        .skip_while(|line| line.strip_suffix(':') != Some(package))
        .skip(1)
        .take_while(|line| line.starts_with(' '))
        .find_map(|line| line.trim().strip_prefix("Candidate: "))
        .filter(|version| *version != "(none)")
}

/// The newest of [`RUSTS`] that is offered whole and not older than `oldest`.
fn choose(policy: &str, oldest: &str) -> Option<&'static [&'static str]> {
    RUSTS
        .iter()
        .filter(|packages| {
            packages
                .iter()
                .all(|name| candidate(policy, name).is_some())
        })
        .filter_map(|packages| Some((release(candidate(policy, packages.first()?)?)?, *packages)))
        .filter(|(version, _)| Some(*version) >= release(oldest))
        .max_by_key(|(version, _)| *version)
        .map(|(_, packages)| packages)
}

/// Major and minor number at the beginning of a version.
fn release(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The packages that a simulated installation removes.
fn removals(plan: &str) -> Vec<&str> {
    plan.lines()
        .filter_map(|line| line.strip_prefix("Remv ")?.split(' ').next())
        .collect()
}

/// Set-up on Debian and Ubuntu, as commands.
fn by_hand() -> String {
    let packages = policy(&RUSTS.concat())
        .ok()
        .and_then(|text| choose(&text, OLDEST))
        .or(RUSTS.first().copied())
        .unwrap_or_default();
    format!(
        "  apt-get update && apt-get install curl iproute2 {}\n\
         \x20 rustup toolchain link ipfilter-bpf /usr\n\
         \x20 LLVM=$(/usr/bin/rustc -vV | sed -n 's/^LLVM version: \\([0-9]*\\).*/\\1/p')\n\
         \x20 apt-get install {}\n\
         \x20 {}",
        packages.join(" "),
        recipe::packages("$LLVM").join(" "),
        recipe::command_line("$LLVM"),
    )
}

/// Set-up anywhere, as commands.
fn by_nightly() -> String {
    format!(
        "a nightly Rust will do as well:\n\
         \x20 rustup toolchain install nightly --component rust-src\n\
         \x20 LLVM=$(rustc +nightly -vV | sed -n 's/^LLVM version: \\([0-9]*\\).*/\\1/p')\n\
         \x20 # with the development files of that LLVM installed in LLVM_PREFIX:\n\
         \x20 {}",
        recipe::command_line("$LLVM"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOKWORM: &str = "rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0+dfsg1-1~deb12u2\n  \
        Version table:\n     1.96.0+dfsg1-1~deb12u2 500\n        500 http://mirror.example x\n\
        cargo-web:\n  Installed: (none)\n  Candidate: 1.96.0+dfsg1-1~deb12u2\n\
        libstd-rust-web-dev-bpf:\n  Installed: (none)\n  Candidate: 1.96.0+dfsg1-1~deb12u2\n\
        rustc:\n  Installed: (none)\n  Candidate: 1.63.0+dfsg1-2\n\
        cargo:\n  Installed: (none)\n  Candidate: 0.66.0+ds1-1\n";

    fn offers(rustc: &str, core: &str) -> String {
        ["rustc", "cargo", "libstd-rust-dev-bpf"]
            .iter()
            .zip([rustc, rustc, core])
            .map(|(name, version)| format!("{name}:\n  Installed: x\n  Candidate: {version}\n"))
            .collect()
    }

    #[test]
    fn the_candidate_is_that_of_the_package_asked_for() {
        assert_eq!(candidate(BOOKWORM, "rustc"), Some("1.63.0+dfsg1-2"));
        assert_eq!(
            candidate(BOOKWORM, "rustc-web"),
            Some("1.96.0+dfsg1-1~deb12u2")
        );
        assert_eq!(candidate(BOOKWORM, "libstd-rust-dev-bpf"), None);
        assert_eq!(
            candidate("a:\n  Candidate: (none)\nb:\n  Candidate: 1\n", "a"),
            None
        );
    }

    #[test]
    fn a_rust_is_chosen_whole_and_new_enough_and_newest() {
        let web = RUSTS[0];
        let plain = RUSTS[1];
        assert_eq!(choose(BOOKWORM, "1.88"), Some(web));
        assert_eq!(choose(BOOKWORM, "1.97"), None);
        assert_eq!(choose(&offers("1.97.1", "1.97.1"), "1.88"), Some(plain));
        assert_eq!(choose(&offers("1.97.1", "(none)"), "1.88"), None);
        assert_eq!(choose(&offers("1.85.0", "1.85.0"), "1.88"), None);
        let both = format!(
            "{}{}",
            &BOOKWORM[..BOOKWORM.find("rustc:").unwrap()],
            offers("1.99", "1.99")
        );
        assert_eq!(choose(&both, "1.88"), Some(plain));
        assert_eq!(choose("", "1.88"), None);
    }

    #[test]
    fn only_installed_packages_are_there() {
        let dpkg = "curl installed\niproute2 config-files\n";
        assert_eq!(
            missing(&["curl", "iproute2", "cur"], dpkg),
            ["iproute2", "cur"]
        );
        assert!(missing(&["curl"], dpkg).is_empty());
    }

    #[test]
    fn what_would_be_removed_is_named() {
        let plan = "Remv cargo-web [1.96.0+dfsg1]\nRemv rustc-web [1.96.0]\nInst rustc (1.63.0)\n";
        assert_eq!(removals(plan), ["cargo-web", "rustc-web"]);
        assert!(removals("Inst rustc (1.63.0)\n").is_empty());
    }

    #[test]
    fn releases_compare_as_numbers() {
        assert!(release("1.100.0") > release("1.96.0+dfsg1"));
        assert_eq!(release("1.88"), Some((1, 88)));
        assert_eq!(release("unknown"), None);
    }
}
