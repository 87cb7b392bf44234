//! `ipfilter top`: what goes on right now, on the whole terminal.

use std::{
    env,
    io::{self, IsTerminal as _},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use jiff::Timestamp;
use ratatui::DefaultTerminal;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::{Exit, Stop, live, require_root};
use crate::{
    daemon,
    instance::Instance,
    kernel::{self, Filter, Found},
    state::Record,
    view::top::{Key, RequestCount, Sample, Screen, TopSourceRow, Wish, draw},
};

/// Watch live what the filter does: rates by verdict, denied sources, the deployment
///
/// Reads the kernel's counters, so it works without a running `ipfilter run`. Requests that an authorization
/// service decides are shown while it runs, which they are reported to.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Seconds between two updates
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    interval: Duration,
}

/// How many denied sources are shown at most.
const TOP_SOURCES: usize = 1000;

/// How soon a signal is noticed.
const NOTICE: Duration = Duration::from_millis(100);

fn interval(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok();
    let seconds = seconds.filter(|seconds| (0.1..=3600.0).contains(seconds));
    let seconds = seconds.ok_or("write seconds from 0.1 to 3600")?;
    Ok(Duration::from_secs_f64(seconds))
}

pub(super) fn run(args: &Args, instance: &Instance) -> anyhow::Result<Exit> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        let message =
            "top needs a terminal: `ipfilter status --format json` is for files and pipes";
        return Err(Stop::usage(message).into());
    }
    require_root("looking at the filter")?;
    let end = Arc::new(AtomicBool::new(false));
    // SIGHUP ends it at once, as is its wont: the terminal has gone, and who reads from it reads nothing
    // for ever.
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&end)).context("can't receive signals")?;
    }
    let mut top = Top {
        instance,
        filter: Filter::of(instance),
        screen: Screen::new(env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())),
        interval: args.interval,
        last: Instant::now(),
    };
    // Looked at before the terminal is another's: what is wrong stays readable.
    top.refresh()?;
    // The log would be written over the screen.
    log::set_max_level(log::LevelFilter::Off);
    // A panic restores the terminal, too.
    let mut terminal = ratatui::try_init().context("can't use the terminal")?;
    let outcome = top.show(&mut terminal, &end);
    // Nothing can be done where the terminal has gone.
    let _: io::Result<()> = ratatui::try_restore();
    outcome?;
    Ok(Exit::Fine)
}

struct Top<'a> {
    instance: &'a Instance,
    filter: Filter,
    screen: Screen,
    interval: Duration,
    last: Instant,
}

impl Top<'_> {
    fn show(&mut self, terminal: &mut DefaultTerminal, end: &AtomicBool) -> anyhow::Result<()> {
        while !end.load(Ordering::Relaxed) {
            terminal.draw(|frame| draw(frame, &self.screen))?;
            let due = self.last + self.interval;
            let wait = due.saturating_duration_since(Instant::now());
            if event::poll(wait.min(NOTICE))?
                && let Event::Key(key) = event::read()?
                && self.press(key)
            {
                return Ok(());
            }
            if Instant::now() >= due {
                // It may be moving just now, or have been detached: the daemon repairs that.
                if let Err(error) = self.refresh() {
                    self.screen.fail(format!("{error:#}"));
                }
            }
        }
        Ok(())
    }

    /// Whether it is to end.
    fn press(&mut self, key: KeyEvent) -> bool {
        if key.kind == KeyEventKind::Release {
            return false;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let pressed = match key.code {
            KeyCode::Char('c' | 'd') if control => return true,
            KeyCode::Char(c) if !control => Key::Character(c),
            KeyCode::Up => Key::Up,
            KeyCode::Down => Key::Down,
            KeyCode::Enter => Key::Enter,
            KeyCode::Backspace => Key::Backspace,
            KeyCode::Esc => Key::Escape,
            _ => return false,
        };
        match self.screen.press(pressed) {
            Wish::None => false,
            Wish::End => true,
            Wish::Explain(source) => {
                let answer = self.explain(source);
                self.screen.explain(answer);
                false
            }
        }
    }

    fn explain(&self, source: IpAddr) -> String {
        live::describe(self.instance, source).unwrap_or_else(|error| format!("{error:#}"))
    }

    /// Who was denied; none where it is not remembered, or by another version of ipfilter.
    fn top_sources(&self, record: &Record) -> Option<Vec<TopSourceRow>> {
        let apis = record.current().map_or(&[][..], |now| &now.apis);
        let now = kernel::monotonic();
        let top_sources = self.filter.top_sources(TOP_SOURCES).ok()?.into_iter();
        let shown = top_sources.map(|one| TopSourceRow {
            source: one.source,
            api: match apis.get(one.api as usize) {
                Some(api) => api.name.clone(),
                None => format!("#{}", one.api),
            },
            packets: one.packets,
            ago: Duration::from_nanos(now.saturating_sub(one.last)),
        });
        Some(shown.collect())
    }

    /// What authorization services have decided; nothing while no process runs the instance, to which they report.
    fn requests(&self) -> Vec<RequestCount> {
        let Ok(all) = daemon::requests(self.instance, None) else {
            return Vec::new();
        };
        let decided = all.decided.into_iter().map(|one| RequestCount {
            api: Some(one.api),
            allowed: one.allowed,
            requests: one.requests,
        });
        let refused = all.refused.into_iter().map(|one| RequestCount {
            api: None,
            allowed: false,
            requests: one.requests,
        });
        decided.chain(refused).collect()
    }

    /// Takes a sample.
    fn refresh(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        let since = now.duration_since(self.last);
        self.last = now;
        let found = self.filter.inspect()?;
        let record = Record::load(self.instance).unwrap_or_default();
        let counts = match found.as_slice() {
            [] => Vec::new(),
            _ => self.filter.counters(apis(&found))?,
        };
        let interfaces = found.iter().map(|found| {
            let (name, hook) = (&found.interface.name, found.hook.name());
            format!("{name} ({hook})")
        });
        let deployed = record.current().map(|deployed| deployed.since);
        let age = deployed.and_then(|since| Timestamp::now().duration_since(since).try_into().ok());
        let top_sources = self.top_sources(&record);
        self.screen.take(Sample {
            instance: self.instance.name().to_owned(),
            pid: self.instance.owner()?,
            interfaces: interfaces.collect(),
            age,
            record,
            counts,
            requests: self.requests(),
            top_sources,
            since,
        });
        Ok(())
    }
}

/// How many APIs are in force.
fn apis(found: &[Found]) -> usize {
    let configs = found.iter().filter_map(|found| found.config);
    let counts = configs.map(|config| config.apis.bits().count_ones() as usize);
    counts.max().unwrap_or(0)
}
