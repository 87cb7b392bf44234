//! Provides what building and testing need: a toolchain for the BPF programs and a few tools.
//!
//! It looks at what is there, takes one step towards what is missing, and looks again; so it can be
//! interrupted anywhere, and does nothing when nothing is missing. Steps use apt-get, cargo and
//! rustup, each said before it is taken; where one can't be taken, the commands are shown instead.

mod apt;
pub(crate) mod cross;
mod linker;
mod probe;
mod recipe;

use std::{
    io::stderr,
    os::fd::AsFd as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use testkit::{
    process::{Interrupt, shown},
    tool,
};
use toolchain::{LINKED, Lack, Origin, Toolchain};

/// The programs that the playground and the tests call, and the Debian packages that have them.
const TOOLS: &[(&str, &str)] = &[
    ("curl", "curl"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("tmux", "tmux"),
];

/// What can be done about a lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Install a distribution's Rust with `core` for BPF, and make it known to rustup.
    Distribution,
    /// Build a linker with this major version of LLVM.
    Linker(u32),
}

/// Brings everything about, saying what it does and why on standard error; says nothing when there
/// is nothing to do.
///
/// # Errors
/// [`testkit::Refused`], with the commands to run, where it can't act itself; else what failed.
pub(crate) fn run(interrupt: &Interrupt) -> Result<Toolchain> {
    tools("the playground and the tests call them", TOOLS, interrupt)?;
    toolchain(interrupt)
}

/// Installs those of `tools` (programs and the Debian packages that have them) that are missing.
///
/// # Errors
/// As [`run`].
pub(crate) fn tools(
    why: &str,
    tools: &[(&str, &'static str)],
    interrupt: &Interrupt,
) -> Result<()> {
    let mut missing: Vec<&str> = missing(tools);
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    apt::install(why, &missing, interrupt)
}

fn missing(tools: &[(&str, &'static str)]) -> Vec<&'static str> {
    tools
        .iter()
        .filter(|(name, package)| tool(name, package).is_err())
        .map(|(_, package)| *package)
        .collect()
}

fn toolchain(interrupt: &Interrupt) -> Result<Toolchain> {
    let mut taken = Vec::new();
    loop {
        let (lacks, problems) = match look()? {
            Look::Complete(toolchain) => return Ok(toolchain),
            Look::Lacking { lacks, problems } => (lacks, problems),
        };
        let step = decide(&lacks, linker::has_llvm);
        if taken.contains(&step) {
            bail!("set-up did not help: {}", problems.join("; "));
        }
        eprintln!("set-up: {}", problems.join("; "));
        match step {
            Step::Distribution => distribution(interrupt)?,
            Step::Linker(llvm) => linker::install(llvm, interrupt)?,
        }
        taken.push(step);
    }
}

/// What there is.
enum Look {
    /// A toolchain that builds.
    Complete(Toolchain),
    /// None; what each candidate lacks, and all that is wrong, told.
    Lacking {
        lacks: Vec<Lack>,
        problems: Vec<String>,
    },
}

fn look() -> Result<Look> {
    let mut lacks = Vec::new();
    let mut problems = Vec::new();
    for &origin in Origin::all() {
        match Toolchain::of(origin) {
            Ok(found) => match probe::build(&found)? {
                Ok(()) => return Ok(Look::Complete(found)),
                Err(said) => problems.push(format!("{origin} can't build for BPF: {said}")),
            },
            Err(lack) => {
                problems.push(lack.to_string());
                lacks.push(lack);
            }
        }
    }
    Ok(Look::Lacking { lacks, problems })
}

/// A linker where it is all that is missing and can be built, else the distribution's Rust.
fn decide(lacks: &[Lack], has_llvm: impl Fn(u32) -> bool) -> Step {
    lacks
        .iter()
        .find_map(|lack| match lack {
            Lack::Linker(Origin::Nightly, version) if !has_llvm(version.llvm) => None,
            Lack::Linker(_, version) => Some(Step::Linker(version.llvm)),
            Lack::Compiler(_) | Lack::Core(..) => None,
        })
        .unwrap_or(Step::Distribution)
}

fn distribution(interrupt: &Interrupt) -> Result<()> {
    let packages = apt::rust_packages(interrupt)?;
    apt::install(
        "a Rust with `core` for BPF ready-made; it does not replace rustup's",
        packages,
        interrupt,
    )?;
    if tool("rustup", "rustup").is_err() {
        return Ok(());
    }
    act(
        &format!("rustup calls the distribution's Rust `{LINKED}` from now on"),
        Command::new("rustup").args(["toolchain", "link", LINKED, "/usr"]),
        interrupt,
    )
}

/// Says why, shows the command and runs it to its end, with its output on standard error.
fn act(why: &str, command: &mut Command, interrupt: &Interrupt) -> Result<()> {
    let line = with_settings(command);
    eprintln!("set-up: {why}\n  $ {line}");
    // Not ended by a signal: apt must not be killed half way. A terminal signals it by itself.
    let status = command
        .stdin(Stdio::null())
        .stdout(stderr().as_fd().try_clone_to_owned()?)
        .status()
        .with_context(|| format!("can't start `{line}`"))?;
    interrupt.check()?;
    if !status.success() {
        bail!("`{line}` failed ({status}); what it said is above");
    }
    Ok(())
}

/// The command line with the variables that are set for it; without `PATH`, which is long and the
/// same for everybody.
fn with_settings(command: &Command) -> String {
    let settings = command.get_envs().filter(|(name, _)| *name != "PATH");
    settings
        .filter_map(|(name, value)| {
            let value = value?.to_string_lossy();
            Some(format!("{}={value} ", name.to_string_lossy()))
        })
        .chain([shown(command)])
        .collect()
}

#[cfg(test)]
mod tests {
    use toolchain::Version;

    use super::*;

    fn version(release: &str, llvm: u32) -> Version {
        Version {
            release: release.to_owned(),
            llvm,
        }
    }

    #[test]
    fn with_nothing_there_the_distribution_is_asked() {
        let lacks = [
            Lack::Compiler(Origin::Linked),
            Lack::Compiler(Origin::Nightly),
        ];
        assert_eq!(decide(&lacks, |_| true), Step::Distribution);
        assert_eq!(decide(&[], |_| true), Step::Distribution);
    }

    #[test]
    fn a_nightly_without_sources_is_passed_over() {
        let lacks = [
            Lack::Compiler(Origin::Linked),
            Lack::Core(Origin::Nightly, version("1.97.0-nightly", 22)),
        ];
        assert_eq!(decide(&lacks, |_| true), Step::Distribution);
    }

    #[test]
    fn a_complete_nightly_gets_a_linker_only_where_its_llvm_is_to_be_had() {
        let lacks = [
            Lack::Compiler(Origin::Linked),
            Lack::Linker(Origin::Nightly, version("1.99.0-nightly", 23)),
        ];
        assert_eq!(decide(&lacks, |llvm| llvm == 23), Step::Linker(23));
        assert_eq!(decide(&lacks, |llvm| llvm == 22), Step::Distribution);
    }

    #[test]
    fn the_distributions_rust_gets_the_linker_it_lacks() {
        let lacks = [Lack::Linker(Origin::Linked, version("1.96.0", 22))];
        assert_eq!(decide(&lacks, |_| false), Step::Linker(22));
    }
}
