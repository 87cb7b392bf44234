//! What to filter and how: the options that `run` and `deploy` share.

use std::{net::IpAddr, path::PathBuf};

use clap::ValueEnum;

use super::{Stop, compile::LookupKind, policy_options::PolicyOptions};
use crate::{
    endpoint::Endpoint,
    files::{self, BODY_LIMIT},
    kernel,
    plan::{Deny, EVENT_RATE, PortSet, Protocols, REJECT_RATE, Response},
    state::{ApiSpec, ConfigSource, Spec},
};

/// The options that a configuration file takes the place of.
const SINGLE: [&str; 12] = [
    "interface",
    "port",
    "policy",
    "udp",
    "address",
    "deny",
    "respond_body",
    "respond_type",
    "reject_rate",
    "events",
    "log_denied",
    "mode",
];

/// What to filter and how.
#[derive(Debug, clap::Args)]
pub(super) struct Target {
    /// A configuration file, for several APIs or interfaces, in place of the options that name one;
    /// reloading reads it anew
    #[arg(long, value_name = "FILE", conflicts_with_all = SINGLE)]
    config: Option<PathBuf>,

    /// Interface to filter, or a pattern such as `eth*`; repeat it, or give a list
    #[arg(
        long,
        required_unless_present = "config",
        value_delimiter = ',',
        value_name = "IF"
    )]
    interface: Vec<String>,

    /// Port of the API, or a range such as 8000-8010; repeat it, or give a list
    #[arg(
        long,
        required_unless_present = "config",
        value_delimiter = ',',
        value_name = "PORTS"
    )]
    port: Vec<PortSet>,

    /// The resource policy
    #[arg(long, value_name = "FILE", required_unless_present = "config")]
    policy: Option<PathBuf>,

    /// Filter UDP as well as TCP, for HTTP/3
    #[arg(long)]
    udp: bool,

    /// Filter only what goes to this address of the host; repeat it, or give a list (default: all)
    #[arg(long, value_delimiter = ',', value_name = "IP", value_parser = parse_address)]
    address: Vec<IpAddr>,

    /// What happens to packets from denied sources
    #[arg(long, value_enum, default_value_t)]
    deny: DenyArg,

    /// The body of the 403 that `--deny respond` sends; about 1,000 bytes fit
    #[arg(long, value_name = "FILE")]
    respond_body: Option<PathBuf>,

    /// The media type of that body [default: application/json]
    #[arg(long, value_name = "MEDIA/TYPE", requires = "respond_body")]
    respond_type: Option<String>,

    /// The most resets and ICMP messages that `--deny reject` sends, a second and CPU
    #[arg(long, value_name = "N", default_value_t = REJECT_RATE)]
    reject_rate: u32,

    /// The most denied packets that `ipfilter events` and the log are told of, a second and CPU; 0 for
    /// none, then denied sources are not remembered either. It does not limit what is denied
    #[arg(long, value_name = "N", default_value_t = EVENT_RATE)]
    events: u32,

    /// Log denied packets, as far as `--events` goes, while `ipfilter run` stays
    #[arg(long)]
    log_denied: bool,

    /// Where at the interface the filter stands
    #[arg(long, value_enum, default_value_t)]
    mode: ModeArg,

    /// Which table sources are looked up in
    #[arg(long, value_enum, default_value_t)]
    lookup: LookupKind,

    #[command(flatten)]
    policy_options: PolicyOptions,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
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

impl From<ModeArg> for kernel::Mode {
    fn from(mode: ModeArg) -> Self {
        match mode {
            ModeArg::Auto => Self::Auto,
            ModeArg::Native => Self::Native,
            ModeArg::Generic => Self::Generic,
            ModeArg::Tc => Self::Tc,
        }
    }
}

pub(super) fn parse_address(text: &str) -> Result<IpAddr, String> {
    text.parse()
        .map_err(|_| "write one IPv4 or IPv6 address, without a prefix length".to_owned())
}

impl Target {
    /// What is asked for, in the daemon's terms; `metrics` is where they are served whatever the
    /// configuration says.
    pub(super) fn asked(&self, metrics: Option<Endpoint>) -> Result<ConfigSource, Stop> {
        let lookup = self.lookup.into();
        let options = (&self.policy_options).into();
        let allow_partial = self.policy_options.allow_partial;
        if let Some(path) = &self.config {
            return Ok(ConfigSource::File {
                path: path.clone(),
                lookup,
                options,
                allow_partial,
                metrics,
            });
        }
        let ports = self
            .port
            .iter()
            .cloned()
            .reduce(|all, more| all.union(&more))
            .ok_or_else(|| Stop::usage("no port: give `--port`"))?;
        let policy = self
            .policy
            .clone()
            .ok_or_else(|| Stop::usage("no policy: give `--policy`"))?;
        let spec = Spec {
            config: None,
            interfaces: self.interface.clone(),
            apis: vec![ApiSpec {
                name: "api".into(),
                ports,
                protocols: if self.udp {
                    Protocols::BOTH
                } else {
                    Protocols::TCP
                },
                policy,
                deny: self.deny.into(),
                response: self.response()?,
            }],
            addresses: self.address.clone(),
            mode: self.mode.into(),
            reject_rate: self.reject_rate,
            events: self.events,
            log_denied: self.log_denied,
            lookup,
            options,
            allow_partial,
            metrics,
        };
        Ok(ConfigSource::Line(Box::new(spec)))
    }

    fn response(&self) -> Result<Response, Stop> {
        let Some(path) = &self.respond_body else {
            return Ok(Response::default());
        };
        if self.deny != DenyArg::Respond {
            return Err(Stop::usage(
                "`--respond-body` is sent by `--deny respond` only: give both, or neither",
            ));
        }
        let body = files::read(path, BODY_LIMIT).map_err(|error| {
            let path = path.display();
            Stop::usage(format!("can't read `--respond-body` `{path}`: {error}"))
        })?;
        let default = Response::default();
        let media_type = self.respond_type.as_deref();
        Response::new(media_type.unwrap_or(default.content_type()), body)
            .map_err(|error| Stop::usage(error.to_string()))
    }
}
