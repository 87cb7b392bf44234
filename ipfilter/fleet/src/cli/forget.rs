//! `ipfilter fleet forget`: a host that is gone for good.

use super::Target;
use crate::{
    outcome::{Exit, Stop, print},
    store::LAST,
};

/// Remove what is remembered of hosts that are gone for good
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,

    /// Their names
    #[arg(required = true, value_name = "HOST")]
    hosts: Vec<String>,
}

pub(super) async fn run(args: &Args) -> Result<Exit, Stop> {
    let store = args.target.store()?;
    let (found, _) = store.reports().await?;
    for host in &args.hosts {
        let mut of_host = found.iter().filter(|found| found.name == *host).peekable();
        if of_host.peek().is_none() {
            return Err(Stop::failed(format!(
                "group `{}` knows no host `{host}`: `ipfilter fleet status` lists them",
                store.group
            )));
        }
        if of_host.any(|found| found.id != LAST) {
            return Err(Stop::failed(format!(
                "`{host}` reports to the group: stop its agent first, or it comes back"
            )));
        }
    }
    for host in &args.hosts {
        store.forget(host).await?;
        print(&format!("forgot `{host}`\n"))?;
    }
    Ok(Exit::Fine)
}
