//! The command line: one file per command.

mod agent;
mod forget;
mod history;
mod keygen;
mod overrides;
mod publish;
mod rollback;
mod status;

use std::{io::Write as _, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use ipfilter_bundle::KeyPair;
use jiff::SignedDuration;

use crate::{
    etcd::{Access, Client, Place},
    outcome::{Exit, Stop},
    store::Store,
};

/// Has many hosts enforce one configuration, which etcd keeps
#[derive(Debug, Parser)]
#[command(name = "ipfilter-fleet", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Publish(publish::Args),
    Status(status::Args),
    History(history::Args),
    Rollback(rollback::Args),
    Allow(overrides::Allow),
    Block(overrides::Block),
    Overrides(overrides::Args),
    Forget(forget::Args),
    Keygen(keygen::Args),
    Agent(agent::Args),
}

/// The group that a command is about.
#[derive(Debug, clap::Args)]
pub(crate) struct Target {
    /// The group: `etcd://HOST[:PORT],…/GROUP`
    #[arg(long, value_name = "URL")]
    to: Place,

    #[command(flatten)]
    access: Access,
}

impl Target {
    /// What is kept of it.
    pub(crate) fn store(&self) -> Result<Store, Stop> {
        let credentials = self.access.read().map_err(Stop::usage)?;
        let client = Client::patient(&self.to, credentials);
        Ok(Store::new(client, self.to.group.clone()))
    }
}

/// The keys to sign with.
#[derive(Debug, clap::Args)]
pub(crate) struct Signing {
    /// Sign with the secret key in this file, which `ipfilter keygen` wrote; may be given several times
    #[arg(long = "sign-key", value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl Signing {
    pub(crate) fn keys(&self) -> Result<Vec<KeyPair>, Stop> {
        let read = self.files.iter().map(|path| {
            let shown = path.display();
            let text = std::fs::read_to_string(path)
                .map_err(|error| Stop::usage(format!("can't read `{shown}`: {error}")))?;
            KeyPair::from_secret_text(text.trim())
                .map_err(|error| Stop::usage(format!("`{shown}`: {error}")))
        });
        read.collect()
    }
}

/// Reads a time such as `60s`.
pub(crate) fn parse_time(text: &str) -> Result<Duration, String> {
    if text == "0" || text == "0s" {
        return Ok(Duration::ZERO);
    }
    let time: SignedDuration = ipfilter_overrides::parse_duration(text)?;
    time.try_into()
        .map_err(|_| format!("`{text}` is not a time: write one such as `60s` or `5m`"))
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are results; anything else is a usage error.
            let exit = if error.use_stderr() { 2 } else { 0 };
            return match error.print() {
                Ok(()) => ExitCode::from(exit),
                Err(_) => ExitCode::FAILURE,
            };
        }
    };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    let stop = match run(cli.command) {
        Ok(exit) => return ExitCode::from(exit as u8),
        Err(stop) => stop,
    };
    if !stop.message.is_empty() {
        // Standard error may be closed; the exit code says the same.
        let _ = writeln!(anstream::stderr(), "error: {}", stop.message.trim_end());
    }
    ExitCode::from(stop.exit as u8)
}

fn run(command: Command) -> Result<Exit, Stop> {
    let mut builder = match command {
        // An agent has little to do, and shares its host with what it is there for.
        Command::Agent(_) => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Publish(args) => publish::run(&args).await,
            Command::Status(args) => status::run(&args).await,
            Command::History(args) => history::run(&args).await,
            Command::Rollback(args) => rollback::run(&args).await,
            Command::Allow(args) => args.run().await,
            Command::Block(args) => args.run().await,
            Command::Overrides(args) => overrides::run(&args).await,
            Command::Forget(args) => forget::run(&args).await,
            Command::Keygen(args) => keygen::run(&args),
            Command::Agent(args) => agent::run(args).await,
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_defined() {
        Cli::command().debug_assert();
    }
}
