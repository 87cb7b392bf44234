//! Building the `ipfilter` binary.

use std::{
    env,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
};

use anyhow::{Result, anyhow, bail};
use serde_json::Value;
use xtask::process::{Guard, Interrupt};

/// Cargo, the one that runs us.
pub(crate) fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Builds `ipfilter` in release; where the binary is.
///
/// # Errors
/// When the build fails; what it said is on standard error.
pub(crate) fn release(interrupt: &Interrupt) -> Result<PathBuf> {
    let mut command = cargo();
    command
        .args(["build", "--release", "--package=ipfilter", "--bin=ipfilter"])
        .arg("--message-format=json-render-diagnostics")
        .stdout(Stdio::piped());
    let mut guard = Guard::spawn_group(&mut command)?;
    let stdout = guard.child().stdout.take();
    let reader = thread::spawn(move || stdout.map(std::io::read_to_string));
    let status = interrupt.wait(guard)?;
    if !status.success() {
        bail!("building `ipfilter` failed; what cargo said is above");
    }
    let messages = match reader.join() {
        Ok(Some(text)) => text?,
        _ => String::new(),
    };
    executable(&messages).ok_or_else(|| anyhow!("cargo did not say where it put `ipfilter`"))
}

/// The binary in cargo's messages, one JSON object a line.
fn executable(messages: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| {
            message
                .pointer("/target/name")
                .is_some_and(|name| name == "ipfilter")
        })
        .find_map(|message| message.get("executable")?.as_str().map(PathBuf::from))
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
        assert_eq!(executable(messages), Some(PathBuf::from("/t/ipfilter")));
        assert_eq!(executable(""), None);
    }
}
