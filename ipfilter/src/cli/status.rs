//! `ipfilter status`: what is in force, and what it has done.

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::json;

use super::{Exit, Stop, format::Format, require_root, watch};
use crate::{
    daemon::{self, InForce},
    exposure::{Host, findings},
    instance::Instance,
    kernel::{Count, Filter, Found, host_addresses, listeners, unfiltered},
    published::published,
    state::{FileState, Record, Trial, activity, load_overrides},
    view::{
        exposure::Exposure,
        status::{Counted, Known, Size, Status},
    },
};

/// Show what is deployed, where, since when, what is wrong, and what happened lately
///
/// Without `--instance`, and where there are several, lists all instances that can be seen. Exits with 1
/// if nothing of what is shown is deployed, or `--check` finds something.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,

    /// Show everything that is known, of all instances in all network namespaces that can be seen, or of
    /// the one that `--instance` names
    #[arg(long)]
    all: bool,

    /// Show it again and again, until Ctrl-C
    #[arg(long)]
    watch: bool,

    /// Measure rates for this many seconds, or with `--watch` show it anew every so many (default: half a
    /// second on a terminal; no rates in JSON or in a file; with `--watch`, 2)
    #[arg(long, value_name = "SECONDS", value_parser = interval)]
    interval: Option<Duration>,

    /// Compare with who listens on this host: ports of an API that nobody listens on, and ways to an API
    /// that the filter does not cover
    #[arg(long, conflicts_with = "watch")]
    check: bool,
}

/// What a person waits without noticing much.
const INTERVAL: Duration = Duration::from_millis(500);

/// How often `--watch` shows it anew.
const WATCH: Duration = Duration::from_secs(2);

fn interval(text: &str) -> Result<Duration, String> {
    let seconds = text
        .parse()
        .ok()
        .filter(|seconds| (0.001..=3600.0).contains(seconds));
    let seconds = seconds.ok_or("an interval is 0.001 to 3600 seconds")?;
    Ok(Duration::from_secs_f64(seconds))
}

impl Args {
    fn interval(&self) -> Option<Duration> {
        let read = matches!(self.format, Format::Text) && io::stdout().is_terminal();
        self.interval.or(read.then_some(INTERVAL))
    }
}

/// Shows `named`; or, where none is named, what there is.
pub(super) fn run(args: &Args, named: Option<&Instance>) -> anyhow::Result<Exit> {
    require_root("looking at the filter")?;
    let mut look = Look {
        named,
        before: Vec::new(),
    };
    if args.watch {
        look.take(true)?;
        watch::show(args.interval.unwrap_or(WATCH), args.format, |size| {
            look.take(true)?.text(args, size)
        })?;
        return Ok(Exit::Fine);
    }
    let mut seen = look.take(true)?;
    if let Some(interval) = args.interval().filter(|_| seen.is_any_on()) {
        thread::sleep(interval);
        seen = look.take(true)?;
    }
    let mut unchecked = None;
    let mut is_clean = true;
    if args.check && seen.own.is_on() {
        match check(named.unwrap_or(&Instance::unnamed())) {
            Ok(exposure) => {
                is_clean = exposure.is_clean();
                seen.own.check(exposure);
            }
            Err(error) => unchecked = Some(error),
        }
    }
    anstream::print!("{}", seen.text(args, watch::size())?);
    match unchecked {
        Some(error) => Err(error.context("can't check what is open")),
        None if seen.is_any_on() && is_clean => Ok(Exit::Fine),
        None => Ok(Exit::Failed),
    }
}

/// Compares what is in force with who listens here, and by which ways they are reached.
fn check(instance: &Instance) -> anyhow::Result<Exposure> {
    let found = Filter::of(instance).inspect()?;
    let in_force = InForce::of(instance).map_err(Stop::from)?;
    let plan = in_force.plan(Timestamp::now()).map_err(Stop::from)?;
    let filtered: Vec<_> = found.iter().map(|found| found.interface.clone()).collect();
    let host = Host {
        listeners: listeners()?,
        unfiltered: unfiltered(&filtered)?,
        addresses: host_addresses()?,
        published: published(),
    };
    Ok(Exposure::new(findings(&plan, &host)))
}

/// A look at instances, and what was counted at the one before.
struct Look<'a> {
    named: Option<&'a Instance>,
    before: Vec<(Instance, Vec<Count>, Instant)>,
}

/// What was seen.
struct Seen {
    /// The one that is meant where one is to be shown.
    own: Status,
    /// All of them, where all are to be shown.
    all: Vec<Status>,
    /// Whether one was named.
    is_named: bool,
}

impl Look<'_> {
    fn take(&mut self, rates: bool) -> anyhow::Result<Seen> {
        let default = Instance::unnamed();
        let own = self.named.unwrap_or(&default);
        let others: Vec<_> = match self.named {
            Some(_) => Vec::new(),
            None => Instance::all()
                .into_iter()
                .filter(|one| one != own)
                .collect(),
        };
        let is_named = self.named.is_some();
        let own_status = self.status(own, rates)?;
        let mut all = Vec::new();
        for instance in &others {
            all.push(self.status(instance, rates)?);
        }
        Ok(Seen {
            own: own_status,
            all,
            is_named,
        })
    }

    fn status(&mut self, instance: &Instance, rates: bool) -> anyhow::Result<Status> {
        let filter = Filter::of(instance);
        let found = filter.inspect()?;
        let mut unreadable = Vec::new();
        let record = read(Record::load(instance), "who deployed what", &mut unreadable);
        let overrides = read(
            load_overrides(instance),
            "the overrides, which the next start goes without",
            &mut unreadable,
        );
        let events = read(activity(instance), "what happened lately", &mut unreadable);
        let trial = read(
            Trial::load(instance),
            "whether a change is on trial",
            &mut unreadable,
        );
        let counted = if found.is_empty() {
            Counted::default()
        } else {
            let counters = filter.counters(api_count(&found)).map_err(Into::into);
            let counters = read(counters, "the counters", &mut unreadable);
            self.count(instance, counters, rates)
        };
        let pid = instance.owner()?;
        let services = pid.map_or(Ok(None), |_| daemon::services(instance));
        // A process that begins or ends, or is of an older version, does not answer; without a section it need not.
        let is_configured = record.current().is_some_and(|now| now.authorize.is_some());
        let services = match services {
            Err(_) if !is_configured => None,
            services => read(services, "what authorization services do", &mut unreadable),
        };
        let fleet = match pid {
            Some(_) => read(
                daemon::fleet(instance),
                "how the host is in its fleet",
                &mut unreadable,
            ),
            None => None,
        };
        let status = Status::new(Known {
            instance,
            pid,
            fleet,
            found: &found,
            files: files(&record),
            record,
            overrides,
            services,
            counted,
            events,
            trial,
            unreadable,
        });
        Ok(status.beside(filter.namesakes(), filter.strays()?))
    }

    /// The counters, and what they were at the look before.
    fn count(&mut self, instance: &Instance, counts: Vec<Count>, rates: bool) -> Counted {
        let now = Instant::now();
        let before = self.before.iter().position(|(one, ..)| one == instance);
        let before = before.map(|index| self.before.swap_remove(index));
        self.before.push((instance.clone(), counts.clone(), now));
        let before = before.filter(|_| rates);
        Counted {
            counts,
            before: before.map(|(_, counts, then)| (counts, now.duration_since(then))),
        }
    }
}

/// What was read; or nothing, and why it can't be.
fn read<T: Default>(result: anyhow::Result<T>, what: &str, unreadable: &mut Vec<String>) -> T {
    result.unwrap_or_else(|error| {
        unreadable.push(format!("{what}: {error:#}"));
        T::default()
    })
}

/// The files that what is in force was made from, and what they hold by now.
fn files(record: &Record) -> Vec<(PathBuf, FileState)> {
    let current = record.current().into_iter();
    let files = current.flat_map(|deployed| &deployed.files);
    files
        .map(|file| (file.path.clone(), file.state()))
        .collect()
}

impl Seen {
    fn is_any_on(&self) -> bool {
        self.own.is_on() || self.all.iter().any(Status::is_on)
    }

    /// Those of which there is something to show.
    fn all(&self) -> impl Iterator<Item = &Status> {
        let own = Some(&self.own).filter(|own| self.all.is_empty() || own.is_there());
        own.into_iter().chain(&self.all)
    }

    fn text(&self, args: &Args, size: Size) -> anyhow::Result<String> {
        if args.format == Format::Json {
            return self.json(args);
        }
        if args.all {
            let all: Vec<_> = self.all().map(|one| one.whole(size)).collect();
            return Ok(all.join("\n"));
        }
        if self.is_named || self.all.is_empty() || args.check {
            return Ok(self.own.screen(size));
        }
        let mut lines: Vec<_> = self.all().map(|one| one.line(size)).collect();
        lines.push(
            "`ipfilter --instance NAME status` shows one, `ipfilter status --all` all".into(),
        );
        Ok(lines.join("\n") + "\n")
    }

    fn json(&self, args: &Args) -> anyhow::Result<String> {
        let value = if args.all {
            json!({ "instances": self.all().collect::<Vec<_>>() })
        } else {
            let mut value = serde_json::to_value(&self.own)?;
            if !self.is_named
                && let Some(object) = value.as_object_mut()
            {
                let all: Vec<_> = self.all().map(Status::in_short).collect();
                object.insert("instances".into(), all.into());
            }
            value
        };
        Ok(format!("{value}\n"))
    }
}

fn api_count(found: &[Found]) -> usize {
    let apis = found.iter().filter_map(|found| found.config);
    apis.map(|config| config.apis.bits().count_ones() as usize)
        .max()
        .unwrap_or(0)
}
