//! `ipfilter events`: follow the packets and requests that do not get through.

use std::{
    collections::HashMap,
    io::{self, Write as _},
    net::IpAddr,
    time::Duration,
};

use anyhow::{Context as _, bail};
use ipnet::IpNet;
use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, poll};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

use super::{Exit, explain::parse_time, format::Format, record, require_root};
use crate::{
    daemon::{self, Readable},
    instance::Instance,
    kernel::{Denial, Filter, Follower, Reader},
    overrides::parse_duration,
    state::recorded,
    view::event::{DeniedEvent, RequestEvent, Unreported},
};

/// Show denied packets and requests as they arrive, until Ctrl-C, or with `--since` the packets that were kept
///
/// Shows at most as many packets per second per CPU as the setting `events` allows, and the denied requests that
/// an authorization service reports to `ipfilter run`, at most 50 a second; the others are counted once a second.
/// Exits with 1 if nothing is deployed, or no longer.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Output format; JSON is one object per line
    #[arg(long, value_enum, default_value_t)]
    format: Format,

    /// Only packets from this interface, and no requests
    #[arg(long, value_delimiter = ',', value_name = "IF,...")]
    interface: Vec<String>,

    /// Only what is for this API
    #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
    api: Vec<String>,

    /// Only what comes from this address or block
    #[arg(long, value_delimiter = ',', value_name = "CIDR,...", value_parser = block)]
    source: Vec<IpNet>,

    /// Show those that were kept since this time, and end: RFC 3339, seconds since 1970, or how long ago, such
    /// as `2h`. The setting `record` has them kept
    #[arg(long, value_name = "TIME", value_parser = since, allow_hyphen_values = true)]
    since: Option<Timestamp>,

    /// Only those until this time
    #[arg(long, value_name = "TIME", value_parser = since, requires = "since", allow_hyphen_values = true)]
    until: Option<Timestamp>,
}

/// How often unreported packets are counted out, and names are looked up anew.
const PAUSE: Duration = Duration::from_secs(1);

fn block(text: &str) -> Result<IpNet, String> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    text.parse()
        .or(address)
        .map_err(|_| "write an address, or a block such as 203.0.113.0/24".into())
}

fn since(text: &str) -> Result<Timestamp, String> {
    parse_time(text).or_else(|error| {
        let ago = parse_duration(text).map_err(|_| format!("{error}, or how long ago, as `2h`"))?;
        Timestamp::now().checked_sub(ago).map_err(|_| error)
    })
}

/// A line that was kept.
#[derive(Deserialize)]
#[serde(untagged)]
enum Kept {
    Denied(DeniedEvent),
    Unreported(Unreported),
}

/// Shows what was kept.
fn show_kept(args: &Args, instance: &Instance, since: Timestamp) -> anyhow::Result<Exit> {
    let until = args.until.unwrap_or(Timestamp::MAX);
    let mut out = io::BufWriter::new(io::stdout().lock());
    let files = recorded(instance, since, |line, kept: Kept| {
        let (time, text) = match &kept {
            Kept::Denied(event) if !args.wants(event) => return Ok(()),
            Kept::Denied(event) => (event.time, event.to_string()),
            Kept::Unreported(unreported) => (unreported.time, unreported.to_string()),
        };
        if (since..=until).contains(&time) {
            match args.format {
                Format::Text => writeln!(out, "{text}")?,
                Format::Json => writeln!(out, "{line}")?,
            }
        }
        Ok(())
    })?;
    out.flush()?;
    if files == 0 {
        bail!(
            "no denied packets of instance `{}` are kept: the setting `record` has them kept",
            instance.name()
        );
    }
    Ok(Exit::Fine)
}

pub(super) fn run(args: &Args, instance: &Instance) -> anyhow::Result<Exit> {
    require_root("following what is denied")?;
    if let Some(since) = args.since {
        return show_kept(args, instance, since);
    }
    let filter = Filter::of(instance);
    if filter.inspect()?.is_empty() {
        bail!("nothing is deployed as instance `{}`", instance.name());
    }
    let _lock = instance.lock_events()?;
    let follower = filter.follow_denials(Reader::Anyone)?;
    let shown = Shown {
        args,
        instance,
        interfaces: HashMap::new(),
        apis: Vec::new(),
        filter,
        requests: daemon::requests(instance, None).map_or(0, |all| all.count),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(follow(follower, shown))
}

async fn follow(mut follower: Follower, mut shown: Shown<'_>) -> anyhow::Result<Exit> {
    let readable = Readable::new(follower.descriptor()?).context("can't wait for events")?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut ticks = tokio::time::interval(PAUSE);
    loop {
        let mut first = None;
        let take = |_: &_| {
            first = follower.next_denial();
            match first {
                Some(_) => Ok(()),
                None => Err(io::ErrorKind::WouldBlock.into()),
            }
        };
        tokio::select! {
            read = readable.read(take) => read?,
            _ = ticks.tick() => {
                shown.tick(&mut follower)?;
                if !follower.is_live() {
                    bail!("the filter was detached, or replaced by another version of ipfilter");
                }
                if is_closed() {
                    return Ok(Exit::Fine);
                }
            }
            _ = interrupt.recv() => return Ok(Exit::Fine),
            _ = terminate.recv() => return Ok(Exit::Fine),
        }
        if let Some(denial) = first {
            shown.denial(&denial)?;
        }
    }
}

/// Whether nobody reads our standard output any more.
fn is_closed() -> bool {
    let stdout = io::stdout();
    let mut asked = [PollFd::new(&stdout, PollFlags::empty())];
    let now = rustix::time::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut asked, Some(&now)).is_ok()
        && asked
            .iter()
            .any(|state| state.revents().contains(PollFlags::ERR))
}

/// What is shown, and how.
struct Shown<'a> {
    args: &'a Args,
    instance: &'a Instance,
    filter: Filter,
    /// Names by number.
    interfaces: HashMap<u32, String>,
    /// Names by index.
    apis: Vec<String>,
    /// How many denied requests there were before those that are still to be shown.
    requests: u64,
}

impl Shown<'_> {
    fn tick(&mut self, follower: &mut Follower) -> anyhow::Result<()> {
        self.look_up();
        let requests = self.requests()?;
        let unreported = follower.unreported()?.saturating_add(requests);
        if unreported > 0 {
            self.print(&Unreported {
                time: Timestamp::now(),
                unreported,
            })?;
        }
        Ok(())
    }

    /// Shows the requests that were denied since this was last done, and says how many more there were. There
    /// are none while no process runs the instance: services report to it.
    fn requests(&mut self) -> anyhow::Result<u64> {
        if !self.args.interface.is_empty() {
            return Ok(0);
        }
        let Ok(new) = daemon::requests(self.instance, Some(self.requests)) else {
            return Ok(0);
        };
        self.requests = new.count;
        for denied in new.denied {
            let event = RequestEvent::from(denied);
            if self.args.admits(event.api.as_ref(), event.source) {
                self.print(&event)?;
            }
        }
        Ok(new.unreported)
    }

    /// A deployment may have taken over.
    fn look_up(&mut self) {
        if let Ok(names) = self.filter.interface_names() {
            self.interfaces = names;
        }
        let record = record(self.instance);
        let apis = record
            .current()
            .into_iter()
            .flat_map(|deployed| &deployed.apis);
        self.apis = apis.map(|api| api.name.clone()).collect();
    }

    fn denial(&mut self, denial: &Denial) -> anyhow::Result<()> {
        let is_known = |this: &Self| {
            let api = denial.api.is_none_or(|api| this.apis.len() > api as usize);
            api && this.interfaces.contains_key(&denial.interface)
        };
        if !is_known(self) {
            self.look_up();
        }
        let interface = self.interfaces.get(&denial.interface);
        let api = denial.api.and_then(|api| self.apis.get(api as usize));
        let event = DeniedEvent::new(
            denial,
            interface.map(String::as_str),
            api.map(String::as_str),
        );
        if self.args.wants(&event) {
            self.print(&event)?;
        }
        Ok(())
    }

    fn print(&self, what: &(impl Serialize + std::fmt::Display)) -> anyhow::Result<()> {
        let mut stdout = io::stdout().lock();
        match self.args.format {
            Format::Text => writeln!(stdout, "{what}")?,
            Format::Json => writeln!(stdout, "{}", serde_json::to_string(what)?)?,
        }
        Ok(stdout.flush()?)
    }
}

impl Args {
    fn wants(&self, event: &DeniedEvent) -> bool {
        let interface = self.interface.is_empty() || self.interface.contains(&event.interface);
        interface && self.admits(event.api.as_ref(), event.source)
    }

    fn admits(&self, api: Option<&String>, source: Option<IpAddr>) -> bool {
        let is_wanted = self.api.is_empty() || api.is_some_and(|api| self.api.contains(api));
        let from = |source| self.source.iter().any(|block| block.contains(&source));
        is_wanted && (self.source.is_empty() || source.is_some_and(from))
    }
}
