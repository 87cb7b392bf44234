//! `ipfilter detach`: take the filter off.

use std::{thread::sleep, time::Duration};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::{Exit, require_root};
use crate::{instance::Instance, kernel::Filter};

/// Take the filter off all its interfaces: everyone can reach the API again
///
/// A process that runs the instance is stopped first (SIGTERM), or its next reload would put the
/// filter back on.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

pub(super) fn run(_: &Args, instance: &Instance) -> anyhow::Result<Exit> {
    require_root("taking the filter off")?;
    stop_owner(instance)?;
    let interfaces = Filter::of(instance).detach()?;
    if interfaces.is_empty() {
        println!("nothing was attached");
    }
    for interface in interfaces {
        println!("detached from `{}`", interface.name);
    }
    Ok(Exit::Fine)
}

fn stop_owner(instance: &Instance) -> anyhow::Result<()> {
    let Some(owner) = instance.owner()? else {
        return Ok(());
    };
    let pid = Pid::from_raw(owner.cast_signed()).context("the lock file names no process")?;
    kill_process(pid, Signal::TERM).with_context(|| format!("can't stop process {owner}"))?;
    let mut waited = Duration::ZERO;
    while instance.owner()?.is_some() {
        if waited > PATIENCE {
            bail!(
                "process {owner} runs this instance and does not stop; end it, then detach again"
            );
        }
        sleep(PAUSE);
        waited += PAUSE;
    }
    Ok(())
}
