//! Building the `ipfilter` binary.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use anyhow::{Result, anyhow, bail};
use serde_json::Value;
use testkit::process::{Guard, Interrupt, output};

use crate::setup::cross::Compiler;
pub(crate) use crate::sources::cargo;

/// How to build, by cargo's names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Profile {
    /// As it is to be used
    #[default]
    Release,
    /// As the tests are
    Dev,
}

/// Builds `ipfilter` in release, for this machine; where the binary is.
///
/// # Errors
/// When the build fails; what it said is on standard error.
pub(crate) fn release(interrupt: &Interrupt) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--release", "--package=ipfilter", "--bin=ipfilter"]);
    let messages = messages(&mut command, interrupt)?;
    executable(&messages, BINARY)
}

/// Builds `ipfilter`, for this machine; where the binary is.
///
/// # Errors
/// As [`release`].
pub(crate) fn binary(profile: Profile, interrupt: &Interrupt) -> Result<PathBuf> {
    match profile {
        Profile::Release => release(interrupt),
        Profile::Dev => Ok(tests(interrupt)?.ipfilter),
    }
}

/// Builds `ipfilter-authorize`, for this machine; where the binary is.
///
/// # Errors
/// As [`release`].
pub(crate) fn service(profile: Profile, interrupt: &Interrupt) -> Result<PathBuf> {
    beside(profile, "ipfilter-authorize", SERVICE, interrupt)
}

/// Builds `ipfilter-fleet`; where the binary is.
///
/// # Errors
/// As [`release`].
pub(crate) fn fleet(profile: Profile, interrupt: &Interrupt) -> Result<PathBuf> {
    beside(profile, "ipfilter-fleet", FLEET, interrupt)
}

/// Builds a program that goes with `ipfilter`, and lies beside it.
fn beside(profile: Profile, name: &str, target: Target, interrupt: &Interrupt) -> Result<PathBuf> {
    let mut command = cargo();
    match profile {
        Profile::Release => {
            let package = [format!("--package={name}"), format!("--bin={name}")];
            command.args(["build", "--release"]).args(package);
        }
        Profile::Dev => {
            command.args(["test", "--no-run"]).args(TESTS);
        }
    }
    executable(&messages(&mut command, interrupt)?, target)
}

/// Builds the programs that packages ship, to run on any Linux of the compiler's architecture.
///
/// # Errors
/// As [`release`].
pub(crate) fn shipped(
    compiler: &Compiler,
    profile: Profile,
    interrupt: &Interrupt,
) -> Result<Shipped> {
    let mut command = compiler.cargo(&["build", "--bins"]);
    command.args(["--package=ipfilter", "--package=ipfilter-authorize"]);
    if profile == Profile::Release {
        command.arg("--release");
    }
    let messages = messages(&mut command, interrupt)?;
    Ok(Shipped {
        ipfilter: executable(&messages, BINARY)?,
        authorize: executable(&messages, SERVICE)?,
    })
}

/// The programs that packages ship.
#[derive(Debug, Clone)]
pub(crate) struct Shipped {
    pub(crate) ipfilter: PathBuf,
    pub(crate) authorize: PathBuf,
}

/// What all tests are built with, always the same, so that nothing is built twice.
pub(crate) const TESTS: &[&str] = &["--workspace", "--lib", "--bins", "--tests", "--examples"];

/// The integration tests, and the binary that they call.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) ipfilter: PathBuf,
    pub(crate) tests: PathBuf,
}

/// Builds all tests.
///
/// # Errors
/// As [`release`].
pub(crate) fn tests(interrupt: &Interrupt) -> Result<Built> {
    let mut command = cargo();
    let messages = messages(command.args(["test", "--no-run"]).args(TESTS), interrupt)?;
    Ok(Built {
        ipfilter: executable(&messages, BINARY)?,
        tests: executable(&messages, INTEGRATION_TESTS)?,
    })
}

/// Builds the integration tests for another architecture.
///
/// # Errors
/// As [`release`].
pub(crate) fn cross_tests(compiler: &Compiler, interrupt: &Interrupt) -> Result<Built> {
    let mut command = compiler.cargo(&["test", "--no-run"]);
    command.args(["--package=ipfilter", "--test=it"]);
    let messages = messages(&mut command, interrupt)?;
    Ok(Built {
        ipfilter: executable(&messages, BINARY)?,
        tests: executable(&messages, INTEGRATION_TESTS)?,
    })
}

/// Builds the benchmark inside the kernel; where it is.
///
/// # Errors
/// As [`release`].
pub(crate) fn bench(interrupt: &Interrupt) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["bench", "--no-run", "--package=ipfilter", "--bench=kernel"]);
    executable(&messages(&mut command, interrupt)?, BENCHMARK)
}

/// Has the binary write its manual pages and completions, dated `epoch` (seconds since 1970), into
/// `folder`.
///
/// # Errors
/// When it fails.
pub(crate) fn manual(binary: &Path, folder: &Path, epoch: u64) -> Result<()> {
    let mut command = Command::new(binary);
    command.env("SOURCE_DATE_EPOCH", epoch.to_string());
    output(command.arg("manual").arg(folder))?;
    Ok(())
}

/// Runs a build; what cargo says about what it made, one JSON object a line.
fn messages(command: &mut Command, interrupt: &Interrupt) -> Result<String> {
    command
        .arg("--message-format=json-render-diagnostics")
        .stdout(Stdio::piped());
    let mut guard = Guard::spawn_group(command)?;
    let stdout = guard.child().stdout.take();
    let reader = thread::spawn(move || stdout.map(std::io::read_to_string));
    let status = interrupt.wait(guard)?;
    if !status.success() {
        bail!("building `ipfilter` failed; what cargo said is above");
    }
    match reader.join() {
        Ok(Some(text)) => Ok(text?),
        _ => Ok(String::new()),
    }
}

/// A target by its main file, as several crates have one of the same name; and whether it is meant
/// as a test: a binary's own tests are the same target once more.
#[derive(Debug, Clone, Copy)]
struct Target {
    main: &'static str,
    test: bool,
}

const BINARY: Target = Target {
    main: "/ipfilter/src/main.rs",
    test: false,
};

const SERVICE: Target = Target {
    main: "/ipfilter/authorize/src/main.rs",
    test: false,
};

const FLEET: Target = Target {
    main: "/ipfilter/fleet/src/main.rs",
    test: false,
};

const INTEGRATION_TESTS: Target = Target {
    main: "/ipfilter/tests/it/main.rs",
    test: true,
};

const BENCHMARK: Target = Target {
    main: "/ipfilter/benches/kernel/main.rs",
    test: true,
};

/// Where cargo put what it made of a target, by its messages.
fn executable(messages: &str, target: Target) -> Result<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| {
            let main = message.pointer("/target/src_path").and_then(Value::as_str);
            let test = message.pointer("/profile/test").and_then(Value::as_bool);
            main.is_some_and(|main| main.ends_with(target.main)) && test == Some(target.test)
        })
        .find_map(|message| message.get("executable")?.as_str().map(PathBuf::from))
        .ok_or_else(|| anyhow!("cargo did not say what it made of `{}`", target.main))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What cargo says of one target.
    fn artifact(main: &str, test: bool, executable: &str) -> String {
        serde_json::json!({
            "reason": "compiler-artifact",
            "target": {"src_path": main},
            "profile": {"test": test},
            "executable": executable,
        })
        .to_string()
    }

    #[test]
    fn targets_are_told_apart_by_file_and_purpose() {
        let messages = [
            artifact(
                "/w/ipfilter/crates/policy/tests/it/main.rs",
                true,
                "/t/other",
            ),
            artifact("/w/ipfilter/src/main.rs", true, "/t/its-tests"),
            "not json".to_owned(),
            artifact("/w/ipfilter/src/main.rs", false, "/t/ipfilter"),
            artifact("/w/ipfilter/authorize/src/main.rs", false, "/t/service"),
            artifact("/w/ipfilter/tests/it/main.rs", true, "/t/it"),
        ]
        .join("\n");
        let found = |target| executable(&messages, target).ok();
        assert_eq!(found(BINARY), Some("/t/ipfilter".into()));
        assert_eq!(found(SERVICE), Some("/t/service".into()));
        assert_eq!(found(INTEGRATION_TESTS), Some("/t/it".into()));
        assert_eq!(found(BENCHMARK), None);
    }
}
