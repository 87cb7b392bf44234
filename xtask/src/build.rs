//! Building the `ipfilter` binary.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use anyhow::{Result, anyhow, bail};
use serde_json::Value;
use testkit::process::{Guard, Interrupt, output};

/// Cargo, the one that runs us.
pub(crate) fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// How to build, by cargo's names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Profile {
    /// As it is to be used
    #[default]
    Release,
    /// In less time
    Dev,
}

/// Builds `ipfilter` in release; where the binary is.
///
/// # Errors
/// As [`binary`].
pub(crate) fn release(interrupt: &Interrupt) -> Result<PathBuf> {
    binary(Profile::Release, interrupt)
}

/// Builds `ipfilter`; where the binary is.
///
/// # Errors
/// When the build fails; what it said is on standard error.
pub(crate) fn binary(profile: Profile, interrupt: &Interrupt) -> Result<PathBuf> {
    if profile == Profile::Dev {
        return executable(&for_trying(interrupt)?, "ipfilter");
    }
    let mut command = cargo();
    command.args(["build", "--release", "--package=ipfilter", "--bin=ipfilter"]);
    let messages = messages(&mut command, interrupt)?;
    executable(&messages, "ipfilter")
}

/// Builds the `ipfilter` binary and the integration tests that call it, in release; where the two
/// are.
///
/// # Errors
/// As [`release`].
pub(crate) fn integration_tests(interrupt: &Interrupt) -> Result<(PathBuf, PathBuf)> {
    let mut command = cargo();
    command.args(["test", "--no-run", "--release", "--package=ipfilter"]);
    let messages = messages(command.arg("--test=it"), interrupt)?;
    Ok((
        executable(&messages, "ipfilter")?,
        executable(&messages, "it")?,
    ))
}

/// Builds the benchmark inside the kernel; where it is.
///
/// # Errors
/// As [`release`].
pub(crate) fn bench(interrupt: &Interrupt) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["bench", "--no-run", "--package=ipfilter", "--bench=kernel"]);
    executable(&messages(&mut command, interrupt)?, "kernel")
}

/// Writes manual pages and completions, dated `epoch` (seconds since 1970), into `folder`.
///
/// # Errors
/// As [`binary`].
pub(crate) fn manual(folder: &Path, epoch: u64, interrupt: &Interrupt) -> Result<()> {
    let program = executable(&for_trying(interrupt)?, "manual")?;
    let mut command = Command::new(program);
    command.env("SOURCE_DATE_EPOCH", epoch.to_string());
    output(command.arg(folder))?;
    Ok(())
}

/// Builds `ipfilter` and its example `manual` as the tests are built, so that nothing is built twice.
fn for_trying(interrupt: &Interrupt) -> Result<String> {
    let mut command = cargo();
    command.args(["build", "--workspace", "--bin=ipfilter", "--example=manual"]);
    messages(&mut command, interrupt)
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

/// Where cargo put the binary or test `name`, by its messages.
fn executable(messages: &str, name: &str) -> Result<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| {
            message
                .pointer("/target/name")
                .is_some_and(|target| target == name)
        })
        .find_map(|message| message.get("executable")?.as_str().map(PathBuf::from))
        .ok_or_else(|| anyhow!("cargo did not say where it put `{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_is_found_among_the_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"clap"},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"ipfilter"},"executable":null}"#,
            "\nnot json\n",
            r#"{"reason":"compiler-artifact","target":{"name":"ipfilter"},"executable":"/t/ipfilter"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        let found = executable(messages, "ipfilter").unwrap();
        assert_eq!(found, PathBuf::from("/t/ipfilter"));
        assert!(executable(messages, "clap").is_err());
        assert!(executable("", "ipfilter").is_err());
    }
}
