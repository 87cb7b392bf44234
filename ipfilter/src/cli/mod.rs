//! The command line: one file per subcommand.
//!
//! Flags are validated first and turned into working objects after; results go to standard output,
//! everything else to standard error; only [`main`] turns an outcome into an exit code.

mod allow;
mod authorize;
mod await_confirm;
mod block;
mod check;
mod compile;
mod complete;
mod confirm;
mod delegate;
mod deploy;
mod detach;
mod diff;
mod events;
mod explain;
mod export;
mod fleet;
mod format;
mod hand_over;
mod import;
mod init;
mod live;
mod logging;
mod manual;
mod mock;
mod overrides;
mod policy_file;
mod probe;
mod reload;
mod replay;
mod requests;
mod rollback;
mod run;
mod status;
mod stop;
mod subject;
mod top;
mod verify;
mod watch;

use std::{
    fmt,
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
};

use clap::{Parser, Subcommand};
use log::warn;

use crate::{config::Unusable, failure::Failure, files, instance::Instance, kernel, state::Record};

/// How a command ended, as its exit code (see the README's table of exit codes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All went well.
    Fine = 0,
    /// It failed while doing it.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// A policy is invalid.
    InvalidPolicy = 3,
    /// A policy is legal but can only partly be enforced at the interface.
    PartialPolicy = 4,
    /// Refused: it needs root, or a kernel feature that is not there.
    Refused = 5,
    /// What was compared differs, and that was asked.
    Different = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error that knows its exit code. Any other error ends with [`Exit::Failed`].
#[derive(Debug)]
pub struct Stop {
    /// The exit code.
    pub exit: Exit,
    /// The message to the operator; empty if everything has been printed already.
    pub message: String,
    /// Whether the message is a policy's problems, rendered with headings of their own.
    pub rendered: bool,
}

impl Stop {
    fn failed(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Failed,
            ..Self::usage(message)
        }
    }

    fn usage(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Usage,
            message: message.into(),
            rendered: false,
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Stop {}

impl From<Unusable> for Stop {
    fn from(unusable: Unusable) -> Self {
        Failure::from(unusable).into()
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        let exit = match &failure {
            Failure::Policy(_) => Exit::InvalidPolicy,
            Failure::Partial(_) => Exit::PartialPolicy,
            Failure::Usage(_) | Failure::Guarded(_) | Failure::Config(_) => Exit::Usage,
            Failure::Dataplane(kernel::Error::Refused(_)) => Exit::Refused,
            Failure::Dataplane(_) | Failure::Other(_) => Exit::Failed,
        };
        Self {
            exit,
            message: failure.to_string(),
            rendered: matches!(failure, Failure::Policy(_) | Failure::Config(_)),
        }
    }
}

/// Let only the clients that a resource policy allows reach an API, at the network interface
#[derive(Debug, Parser)]
#[command(name = "ipfilter", version)]
struct Cli {
    /// The filter to act on, where this host has several
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        help = "The filter to act on, where this host has several [default: default]"
    )]
    instance: Option<Instance>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(check::Args),
    Explain(explain::Args),
    Compile(compile::Args),
    Diff(diff::Args),
    Replay(Box<replay::Args>),
    Init(init::Args),
    Import(import::Args),
    Export(export::Args),
    Run(run::Args),
    Reload(reload::Args),
    Confirm(confirm::Args),
    Rollback(rollback::Args),
    Allow(allow::Args),
    Block(block::Args),
    Overrides(overrides::Args),
    Deploy(deploy::Args),
    Status(status::Args),
    Events(events::Args),
    Probe(probe::Args),
    Top(top::Args),
    Verify(verify::Args),
    Stop(stop::Args),
    Detach(detach::Args),
    Authorize(authorize::Args),
    Publish(fleet::Publish),
    Fleet(fleet::Fleet),
    Keygen(fleet::Keygen),
    Mock(mock::Args),
    #[command(hide = true)]
    AwaitConfirm(await_confirm::Args),
    #[command(hide = true)]
    Complete(complete::Args),
    #[command(hide = true)]
    Manual(manual::Args),
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    if let Some(stop) = refuse_control_characters() {
        return finish(Err(stop.into()));
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are results; anything else is a usage error.
            let exit = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Fine
            };
            return match error.print() {
                Ok(()) => exit.into(),
                Err(error) => finish(Err(error.into())),
            };
        }
    };
    let unnamed = Instance::unnamed();
    logging::begin(cli.instance.as_ref().unwrap_or(&unnamed));
    survive_size_limit();
    finish(dispatch(cli))
}

/// Arguments are shown in messages and logs, and must not write on the operator's terminal.
fn refuse_control_characters() -> Option<Stop> {
    let mut arguments = std::env::args_os().enumerate().skip(1);
    let (number, argument) = arguments.find(|(_, argument)| {
        let mut characters = argument.to_string_lossy().into_owned();
        characters.retain(char::is_control);
        !characters.is_empty()
    })?;
    Some(Stop::usage(format!(
        "argument {number}, `{}`, contains a control character: remove it",
        files::shown(Path::new(&argument))
    )))
}

/// A file that may grow no larger ("setrlimit(2)", `RLIMIT_FSIZE`) is an error of the write, and no
/// signal that ends the process.
fn survive_size_limit() {
    let seen = Arc::new(AtomicBool::new(false));
    if let Err(error) = signal_hook::flag::register(libc::SIGXFSZ, seen) {
        warn!("a file size limit may end this process: {error}");
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<Exit> {
    let named = cli.instance;
    let instance = named.clone().unwrap_or_else(Instance::unnamed);
    match cli.command {
        Command::Check(args) => check::run(&args),
        Command::Explain(args) => explain::run(&args, &instance),
        Command::Compile(args) => compile::run(&args),
        Command::Diff(args) => diff::run(&args, &instance),
        Command::Replay(args) => replay::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Run(args) => run::run(&args, &instance),
        Command::Reload(args) => reload::run(&args, &instance),
        Command::Confirm(args) => confirm::run(&args, &instance),
        Command::AwaitConfirm(args) => await_confirm::run(&args, &instance),
        Command::Rollback(args) => rollback::run(&args, &instance),
        Command::Deploy(args) => deploy::run(&args, &instance),
        Command::Status(args) => status::run(&args, named.as_ref()),
        Command::Events(args) => events::run(&args, &instance),
        Command::Probe(args) => probe::run(&args, &instance),
        Command::Top(args) => top::run(&args, &instance),
        Command::Verify(args) => verify::run(&args, &instance),
        Command::Allow(args) => allow::run(&args, &instance),
        Command::Block(args) => block::run(&args, &instance),
        Command::Overrides(args) => overrides::run(args, &instance),
        Command::Stop(args) => stop::run(&args, &instance),
        Command::Detach(args) => detach::run(&args, &instance),
        Command::Authorize(args) => authorize::run(&args),
        Command::Publish(args) => fleet::publish(&args),
        Command::Fleet(args) => fleet::fleet(&args),
        Command::Keygen(args) => fleet::keygen(&args),
        Command::Mock(args) => mock::run(args),
        Command::Complete(args) => Ok(complete::run(&args)),
        Command::Manual(args) => manual::run(&args),
    }
}

fn finish(result: anyhow::Result<Exit>) -> ExitCode {
    let error = match result {
        Ok(exit) => return exit.into(),
        Err(error) => error,
    };
    if is_broken_pipe(&error) {
        return Exit::Fine.into();
    }
    let error = match error.downcast::<Failure>() {
        Ok(failure) => Stop::from(failure).into(),
        Err(error) => error,
    };
    let stop = error.downcast_ref::<Stop>();
    let exit = stop.map_or(Exit::Failed, |stop| stop.exit);
    let message = format!("{error:#}");
    if !message.is_empty() {
        let rendered = stop.is_some_and(|stop| stop.rendered);
        let heading = if rendered { "" } else { "error: " };
        // Standard error may be closed; the exit code tells all the same.
        let _ = writeln!(anstream::stderr(), "{heading}{}", message.trim_end());
    }
    exit.into()
}

/// A reader that has gone away is not a failure: `head` has read all that it wanted.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let kind = match (
            cause.downcast_ref::<io::Error>(),
            cause.downcast_ref::<serde_json::Error>(),
        ) {
            (Some(error), _) => Some(error.kind()),
            (_, Some(error)) => error.io_error_kind(),
            _ => None,
        };
        kind == Some(io::ErrorKind::BrokenPipe)
    })
}

/// What is written down of an instance. The kernel knows without it what it does.
fn record(instance: &Instance) -> Record {
    Record::load(instance).unwrap_or_else(|error| {
        warn!("the stored state can't be read, so it is missing here: {error:#}");
        Record::default()
    })
}

/// Refuses to go on without root, before anything is tried.
fn require_root(what: &str) -> Result<(), Stop> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Stop {
        exit: Exit::Refused,
        message: format!("{what} needs root: run it with `sudo`"),
        rendered: false,
    })
}
