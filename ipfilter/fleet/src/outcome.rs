//! How commands end, and what they print.

use std::{fmt, io::Write as _};

use jiff::Timestamp;

use crate::{etcd, store};

/// How a command ended, as its exit code: those of `ipfilter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All went well.
    Fine = 0,
    /// It failed while doing it, or a group is not as it is to be.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// A policy is invalid.
    InvalidPolicy = 3,
    /// A policy is legal but can only partly be enforced at the interface.
    PartialPolicy = 4,
}

/// Why a command ended early.
#[derive(Debug)]
pub(crate) struct Stop {
    pub(crate) exit: Exit,
    /// Empty if everything has been printed already.
    pub(crate) message: String,
}

impl Stop {
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Failed,
            message: message.into(),
        }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Usage,
            message: message.into(),
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<store::Failure> for Stop {
    fn from(failure: store::Failure) -> Self {
        Self::failed(failure.to_string())
    }
}

impl From<etcd::Failure> for Stop {
    fn from(failure: etcd::Failure) -> Self {
        Self::failed(failure.to_string())
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::failed(error.to_string())
    }
}

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

/// Who runs the command, as they are called here.
pub(crate) fn operator() -> String {
    let names = ["SUDO_USER", "USER", "LOGNAME"].map(std::env::var);
    let user = names.into_iter().find_map(Result::ok);
    let uid = rustix::process::getuid().as_raw();
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    format!("{}@{host}", user.unwrap_or_else(|| format!("uid {uid}")))
}

/// A time without fractions of a second.
pub(crate) fn shown(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second())
        .unwrap_or(time)
        .to_string()
}

/// Prints to standard output. A reader that has gone away has read all that it wanted.
pub(crate) fn print(text: &str) -> Result<(), Stop> {
    match anstream::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Prints a value as JSON.
pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<(), Stop> {
    let text = serde_json::to_string(value).map_err(|error| Stop::failed(error.to_string()))?;
    print(&format!("{text}\n"))
}
