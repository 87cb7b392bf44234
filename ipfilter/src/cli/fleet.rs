//! `ipfilter publish`, `fleet` and `keygen`: hand over to the program that talks to etcd.

use std::ffi::OsString;

use super::{Exit, delegate::become_program};

/// The program. It talks to other hosts, so it is not part of this one, which may load programs.
const PROGRAM: &str = "ipfilter-fleet";

/// Check a configuration, store it in etcd, and have a group of hosts enforce it
///
/// Runs `ipfilter-fleet publish`, found beside this program or in `PATH`, with the arguments that follow. It needs
/// no privileges. `ipfilter-fleet publish --help` lists its options.
#[derive(Debug, clap::Args)]
pub(super) struct Publish {
    /// What to pass to `ipfilter-fleet publish`
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGUMENT"
    )]
    arguments: Vec<OsString>,
}

/// Show, roll back or override what a group of hosts enforces, or follow it on a host
///
/// Runs `ipfilter-fleet`, found beside this program or in `PATH`, with the arguments that follow: `status`,
/// `history`, `rollback`, `allow`, `block`, `overrides`, `forget`, or `agent`. It needs no privileges.
#[derive(Debug, clap::Args)]
pub(super) struct Fleet {
    /// What to pass to `ipfilter-fleet`
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGUMENT"
    )]
    arguments: Vec<OsString>,
}

/// Make a pair of keys to sign releases with
///
/// Runs `ipfilter-fleet keygen` with the arguments that follow.
#[derive(Debug, clap::Args)]
pub(super) struct Keygen {
    /// What to pass to `ipfilter-fleet keygen`
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGUMENT"
    )]
    arguments: Vec<OsString>,
}

/// Does not return unless the program can't be started.
pub(super) fn publish(args: &Publish) -> anyhow::Result<Exit> {
    become_program(PROGRAM, &with("publish", &args.arguments))
}

/// Likewise.
pub(super) fn fleet(args: &Fleet) -> anyhow::Result<Exit> {
    become_program(PROGRAM, &args.arguments)
}

/// Likewise.
pub(super) fn keygen(args: &Keygen) -> anyhow::Result<Exit> {
    become_program(PROGRAM, &with("keygen", &args.arguments))
}

fn with(command: &str, arguments: &[OsString]) -> Vec<OsString> {
    let command = [OsString::from(command)];
    command
        .into_iter()
        .chain(arguments.iter().cloned())
        .collect()
}
