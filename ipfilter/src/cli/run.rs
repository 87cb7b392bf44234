//! `ipfilter run`: deploy, and stay to keep it current.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::ValueEnum;

use super::{Exit, Stop, compile::LookupKind, policy_options::PolicyOptions, require_root};
use crate::{
    daemon::{ApiSpec, Daemon, Spec},
    dataplane,
    instance::Instance,
    plan::{Deny, PortSet, Protocols, Response},
};

/// Filter interfaces by a policy, and stay: SIGHUP deploys anew, SIGTERM and SIGINT end it
///
/// The filter stays attached when the process ends, unless `--detach-on-exit` is given: `ipfilter
/// detach` takes it off. Careful with the port you log in through: an API port that is also your SSH
/// port locks out whoever the policy does not name.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Interface to filter; repeat it, or give a list
    #[arg(long, required = true, value_delimiter = ',', value_name = "IF")]
    interface: Vec<String>,

    /// Port of the API, or a range such as 8000-8010; repeat it, or give a list
    #[arg(long, required = true, value_delimiter = ',', value_name = "PORTS")]
    port: Vec<PortSet>,

    /// The resource policy
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,

    /// What happens to packets from denied sources
    #[arg(long, value_enum, default_value_t)]
    deny: DenyArg,

    /// Where at the interface the filter stands
    #[arg(long, value_enum, default_value_t)]
    mode: ModeArg,

    /// Which table sources are looked up in
    #[arg(long, value_enum, default_value_t)]
    lookup: LookupKind,

    /// Take the filter off when the process ends
    #[arg(long)]
    detach_on_exit: bool,

    #[command(flatten)]
    policy_options: PolicyOptions,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum DenyArg {
    /// Silence
    #[default]
    Drop,
    /// TCP reset, or ICMP for UDP
    Reject,
    /// 403 Forbidden, or a TLS alert
    Respond,
}

impl From<DenyArg> for Deny {
    fn from(deny: DenyArg) -> Self {
        match deny {
            DenyArg::Drop => Self::Drop,
            DenyArg::Reject => Self::Reject,
            DenyArg::Respond => Self::Respond,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum ModeArg {
    /// Native XDP; else traffic control; else generic XDP
    #[default]
    Auto,
    /// XDP in the driver
    Native,
    /// XDP after the driver
    Generic,
    /// Traffic control, ingress
    Tc,
}

impl From<ModeArg> for dataplane::Mode {
    fn from(mode: ModeArg) -> Self {
        match mode {
            ModeArg::Auto => Self::Auto,
            ModeArg::Native => Self::Native,
            ModeArg::Generic => Self::Generic,
            ModeArg::Tc => Self::Tc,
        }
    }
}

impl Args {
    fn spec(&self) -> Option<Spec> {
        let ports = self
            .port
            .iter()
            .cloned()
            .reduce(|all, more| all.union(&more))?;
        Some(Spec {
            interfaces: self.interface.clone(),
            apis: vec![ApiSpec {
                name: "api".into(),
                ports,
                protocols: Protocols::TCP,
                policy: self.policy.clone(),
                deny: self.deny.into(),
                response: Response::default(),
            }],
            addresses: Vec::new(),
            mode: self.mode.into(),
            lookup: self.lookup.into(),
            options: (&self.policy_options).into(),
            allow_partial: self.policy_options.allow_partial,
        })
    }
}

pub(super) fn run(args: &Args, instance: Instance) -> anyhow::Result<Exit> {
    require_root("filtering an interface")?;
    let spec = args.spec().context("no port: give `--port`")?;
    let _lock = instance.lock()?;
    let mut daemon = Daemon::start(instance, spec).map_err(Stop::from)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let served = runtime.block_on(daemon.serve());
    if args.detach_on_exit {
        daemon.detach()?;
    }
    served?;
    Ok(Exit::Fine)
}
