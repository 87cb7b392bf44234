//! Every setting, once: its name in the configuration file, its option on the command line, its help,
//! type and default. What reads files, the command line, the manual and the state on disk derive from
//! these definitions.
//!
//! A field's name is its name in the file. `#[arg(…)]` is its option, or `skip` where it has none.

use std::{net::IpAddr, path::PathBuf};

use ipfilter_bundle::Release;
use ipfilter_plan::{
    CALLER_RATE, Deny, EVENT_RATE, Lookup, PortSet, Protocols, REJECT_RATE, RESPOND_RATE, Response,
    Share,
};
use ipfilter_policy::{ApiArn, Authorizer};
use ipnet::IpNet;
use jiff::SignedDuration;

use super::{
    authorize::Authorize,
    choice::{Choice as _, OnError, choice},
    fleet::Fleet,
    recording::Recording,
    table::settings,
    value::{AnswerRate, cidr, duration, flag, path},
};
use crate::{endpoint::Endpoint, mode::Mode, protected};

settings! {
    /// What is filtered, and how.
    pub struct Config {
        /// Interface to filter, by name or by a pattern such as `eth*`
        #[arg(long = "interface", required_unless_present = "config", value_delimiter = ',', value_name = "IF,...")]
        pub interfaces: Vec<String>,

        /// Filter only packets to this address of the host (default: to any address of either family, as
        /// with `::` or `0.0.0.0`)
        #[arg(long = "address", value_delimiter = ',', value_name = "IP,...", value_parser = protected::parse)]
        pub addresses: Vec<IpAddr>,

        /// Where to attach the filter
        #[arg(long, value_parser = choice::<Mode>(), default_value = Mode::default().name())]
        pub mode: Mode,

        /// Which table to look up sources in
        #[arg(long, value_parser = choice::<Lookup>(), default_value = Lookup::default().name())]
        pub lookup: Lookup,

        /// Send at most this many resets and ICMP messages per second per CPU (`reject`)
        #[arg(long, value_name = "N")]
        pub reject_rate: AnswerRate = AnswerRate(REJECT_RATE),

        /// Send at most this many answers per second per CPU to denied clients (`respond`)
        #[arg(long, value_name = "N")]
        pub respond_rate: AnswerRate = AnswerRate(RESPOND_RATE),

        /// Report at most this many denied packets per second per CPU to `ipfilter events` and the log.
        /// This never limits what is denied. With 0, denied sources are not remembered either
        #[arg(long, value_name = "N")]
        pub events: u32 = EVENT_RATE,

        /// Remember which sources call and are allowed to, for `diff --live`: up to this many of their packets per
        /// second per CPU are counted one by one, beyond that a sample. With 0, none is remembered
        #[arg(long, value_name = "N")]
        pub allowed_sources: u32 = CALLER_RATE,

        /// Log denied packets while `ipfilter run` is running, at most as many as `events` allows
        #[arg(long)]
        pub log_denied: bool,

        /// Keep the denied packets that are reported on disk, while `ipfilter run` is running, for so many days
        /// and in so many bytes; `ipfilter events --since` shows them
        #[arg(skip)]
        pub record: Option<Recording>,

        /// Whenever a plan is deployed, close the established TCP connections of sources that it denies
        #[arg(long)]
        pub cut: bool,

        /// The authorization service behind the filter
        #[arg(skip)]
        pub authorize: Option<Authorize>,

        /// The fleet that this host belongs to: once a bundle of its group is in force, that says what is filtered
        #[arg(skip)]
        pub fleet: Option<Fleet>,
    } parts {
        /// What only a process that stays running can do.
        #[arg(skip)]
        pub service: Service,
    } also {
        /// The file it was read from; none for the command line.
        #[arg(skip)]
        pub file: Option<PathBuf>,
        /// The APIs: at least one, unless a fleet is followed.
        #[arg(skip)]
        pub apis: Vec<ApiConfig>,
        /// The release whose bundle said so; none where the file did.
        #[arg(skip)]
        pub release: Option<Release>,
    }
}

settings! {
    /// What only a process that stays running can do.
    #[command(next_help_heading = "Options of the running process")]
    pub struct Service {
        /// Serve metrics for Prometheus at `/metrics` and health at `/healthz`, on `ADDRESS:PORT`, on a
        /// port of 127.0.0.1, or on a Unix socket, `unix:PATH`
        #[arg(long, value_name = "ADDR")]
        pub metrics: Option<Endpoint>,

        /// Reload when the configuration or a policy changes on disk
        #[arg(long)]
        pub watch: bool,

        /// What to do at the start if a policy is broken and there is no last good plan. The default
        /// under a service manager is `deny-all`; otherwise a broken policy is always an error
        #[arg(long, value_name = "WHAT", value_parser = choice::<OnError>())]
        pub on_error: Option<OnError>,

        /// Detach the filter when the process ends
        #[arg(long)]
        pub detach_on_exit: bool,

        /// Roll back each change, this first one included, unless `ipfilter confirm` follows within this
        /// time, such as `60s`
        #[arg(long, value_name = "TIME", value_parser = duration)]
        pub confirm: Option<SignedDuration>,
    } parts {
    } also {
    }
}

settings! {
    /// One API.
    pub struct ApiConfig {
        /// What status, counters and logs call the API
        #[arg(skip = "api")]
        pub name: String,

        /// Port of the API, or a range such as 8000-8010
        #[arg(long = "port", required_unless_present = "config", value_delimiter = ',', value_name = "PORTS,...")]
        pub ports: Vec<PortSet>,

        /// Filter UDP as well as TCP, for HTTP/3
        #[arg(long = "udp", action = clap::ArgAction::SetTrue, value_parser = flag(Protocols::TCP, Protocols::BOTH))]
        pub protocols: Protocols,

        /// The file with the resource policy
        #[arg(long, value_name = "FILE", required_unless_present = "config", value_parser = path(), default_value = "", hide_default_value = true)]
        pub policy: PathBuf,

        /// What to do with packets from denied sources
        #[arg(long, value_parser = choice::<Deny>(), default_value = Deny::default().name())]
        pub deny: Deny,

        /// A file with the body of the 403 that `respond` sends; about 1,000 bytes fit
        #[arg(long, value_name = "FILE")]
        pub respond_body: Option<PathBuf>,

        /// The media type of that body (default: application/json)
        #[arg(long, value_name = "MEDIA/TYPE", requires = "respond_body")]
        pub respond_type: Option<String>,

        /// The names that clients know the API by (`Host`), for the authorization service to tell APIs apart
        #[arg(skip)]
        pub hosts: Vec<String>,

        /// Judge, count and report packets, but never deny one
        #[arg(long)]
        pub monitor: bool,

        /// Deny only this share of the sources that may not call, such as `0.05`, chosen by a hash of the address
        /// that stays the same; let the others through, counted as `would_deny`
        #[arg(long, value_name = "SHARE", conflicts_with = "monitor")]
        pub enforce: Share = Share::ALL,
    } parts {
        /// How its policy is understood.
        #[command(flatten)]
        pub options: PolicyOptions,
    } also {
        /// What `respond` says: `respond_body` as it was read.
        #[arg(skip)]
        pub response: Response,
    }
}

settings! {
    /// How a policy is understood.
    #[command(next_help_heading = "Policy options")]
    pub struct PolicyOptions {
        /// The API that the policy is attached to (default: the one that the policy's ARNs agree on)
        #[arg(long, value_name = "ARN")]
        pub api_arn: Option<ApiArn>,

        /// What authorizes requests besides the policy; with `iam` and `lambda` only an explicit Deny
        /// is final
        #[arg(long, value_parser = choice::<Authorizer>(), default_value = Authorizer::default().name())]
        pub authorizer: Authorizer,

        /// The sources that arrive through a VPC endpoint, as `aws:VpcSourceIp` (default: the private
        /// ranges)
        #[arg(long, value_name = "CIDR,...", value_delimiter = ',', value_parser = cidr)]
        pub vpc_cidr: Vec<IpNet>,

        /// Accept a policy that an interface can enforce only in part
        #[arg(long)]
        pub allow_partial: bool,
    } parts {
    } also {
    }
}

/// One address.
pub fn address(text: &str) -> Result<IpAddr, String> {
    text.parse()
        .map_err(|_| "write an IPv4 or IPv6 address, without a prefix length".to_owned())
}

impl Config {
    /// The addresses to protect; none for all.
    #[must_use]
    pub fn protected(&self) -> Vec<IpAddr> {
        protected::addresses(&self.addresses)
    }

    /// Whether there is nothing to filter until the first bundle of the fleet arrives.
    #[must_use]
    pub fn awaits_bundle(&self) -> bool {
        self.fleet.is_some() && self.apis.is_empty()
    }

    /// Whether it names this interface, pattern or address.
    #[must_use]
    pub fn names(&self, name: &str) -> bool {
        self.interfaces.iter().any(|other| other == name)
            || self.addresses.iter().any(|other| other.to_string() == name)
    }
}

impl ApiConfig {
    /// The share of sources that it denies: none if it is monitored.
    #[must_use]
    pub fn share(&self) -> Share {
        if self.monitor {
            Share::NONE
        } else {
            self.enforce
        }
    }

    /// All of its ports.
    #[must_use]
    pub fn port_set(&self) -> Option<PortSet> {
        let ports = self.ports.iter().cloned();
        ports.reduce(|all, more| all.union(&more))
    }
}

impl Config {
    /// Whether a policy of `api` may be deployed that an interface can enforce only in part.
    #[must_use]
    pub fn accepts_partial(&self, api: &ApiConfig) -> bool {
        api.options.allow_partial || self.authorize.is_some()
    }
}

impl From<&PolicyOptions> for ipfilter_policy::Options {
    fn from(options: &PolicyOptions) -> Self {
        Self {
            api_arn: options.api_arn.clone(),
            authorizer: options.authorizer,
            vpc_cidrs: (!options.vpc_cidr.is_empty()).then(|| options.vpc_cidr.clone()),
        }
    }
}
