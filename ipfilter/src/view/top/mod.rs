//! What `ipfilter top` shows: samples to a screen. Knows no terminal, no clock and no kernel.

mod history;
#[cfg(test)]
mod tests;
mod view;

use std::{cmp::Reverse, net::IpAddr, time::Duration};

use self::history::History;
pub use self::{history::Line, view::draw};
use crate::{kernel::Count, state::Record};

/// What was seen at one moment.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// The instance's name.
    pub instance: String,
    /// The process that keeps it current, if one does.
    pub pid: Option<u32>,
    /// The interfaces that are filtered, as a person reads them.
    pub interfaces: Vec<String>,
    /// How long the plan has been in force.
    pub age: Option<Duration>,
    /// What is written down of the instance.
    pub record: Record,
    /// The counters.
    pub counts: Vec<Count>,
    /// The requests that authorization services have decided.
    pub requests: Vec<RequestCount>,
    /// Who was denied, as far as it is remembered; none where it is not.
    pub top_sources: Option<Vec<TopSourceRow>>,
    /// How long after the sample before this one is.
    pub since: Duration,
}

/// Requests of one API with one outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestCount {
    /// The API's name; none for those that were not judged.
    pub api: Option<String>,
    /// Whether they were allowed.
    pub allowed: bool,
    /// How many.
    pub requests: u64,
}

/// A source that was denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopSourceRow {
    /// Its address.
    pub source: IpAddr,
    /// The API that it last asked for.
    pub api: String,
    /// How many of its packets were denied.
    pub packets: u64,
    /// How long ago the last one was.
    pub ago: Duration,
}

/// What the lists are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The most packets first.
    #[default]
    Most,
    /// The latest first.
    Latest,
    /// By address, or by name.
    Name,
}

impl Order {
    fn next(self) -> Self {
        match self {
            Self::Most => Self::Latest,
            Self::Latest => Self::Name,
            Self::Name => Self::Most,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Most => "most packets",
            Self::Latest => "latest",
            Self::Name => "address",
        }
    }
}

/// What a person has pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A character.
    Character(char),
    /// Up, in a list or a text.
    Up,
    /// Down.
    Down,
    /// Enter.
    Enter,
    /// Backspace.
    Backspace,
    /// Escape.
    Escape,
}

/// What is to be done about a key, beside showing the screen anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Nothing.
    None,
    /// To end.
    End,
    /// Asks why this source is denied; [`Screen::explain`] takes the answer.
    Explain(IpAddr),
}

/// All that a screen shows.
#[derive(Debug, Default)]
pub struct Screen {
    sample: Sample,
    history: History,
    top_sources: Vec<TopSourceRow>,
    /// Shown while time goes on behind it.
    paused: bool,
    order: Order,
    /// Only what has this in it is shown.
    filter: String,
    /// Whether keys go to the filter.
    typing: bool,
    selected: usize,
    /// Why there is no newer sample.
    trouble: Option<String>,
    /// A text over everything else, and how far it is scrolled.
    told: Option<(String, u16)>,
    /// Whether colours may be used.
    colours: bool,
}

impl Screen {
    /// A screen without a sample yet.
    #[must_use]
    pub fn new(colours: bool) -> Self {
        Self {
            colours,
            ..Self::default()
        }
    }

    /// Takes a sample; while paused it is remembered in the rates, and not shown.
    pub fn take(&mut self, sample: Sample) {
        self.trouble = None;
        self.history.push(&sample);
        if !self.paused {
            self.history.show();
            self.sample = sample;
            self.arrange();
        }
    }

    /// Says why there is no sample this time; what is shown stays.
    pub fn fail(&mut self, why: String) {
        self.trouble = Some(why);
    }

    /// Does what a key means.
    pub fn press(&mut self, key: Key) -> Wish {
        if let Some((_, scrolled)) = &mut self.told {
            match key {
                Key::Up => *scrolled = scrolled.saturating_sub(1),
                Key::Down => *scrolled = scrolled.saturating_add(1),
                _ => self.told = None,
            }
            return Wish::None;
        }
        if self.typing {
            return self.type_filter(key);
        }
        match key {
            Key::Character('q') => return Wish::End,
            Key::Character('p' | ' ') => self.paused = !self.paused,
            Key::Character('s') => {
                self.order = self.order.next();
                self.arrange();
            }
            Key::Character('/') => self.typing = true,
            Key::Character('e') | Key::Enter => {
                let talker = self.top_sources.get(self.selected);
                return talker.map_or(Wish::None, |talker| Wish::Explain(talker.source));
            }
            Key::Character('k') | Key::Up => self.selected = self.selected.saturating_sub(1),
            Key::Character('j') | Key::Down => {
                let last = self.top_sources.len().saturating_sub(1);
                self.selected = (self.selected + 1).min(last);
            }
            Key::Escape => {
                self.filter.clear();
                self.arrange();
            }
            Key::Character(_) | Key::Backspace => {}
        }
        Wish::None
    }

    fn type_filter(&mut self, key: Key) -> Wish {
        match key {
            Key::Character(c) => self.filter.push(c),
            Key::Backspace => drop(self.filter.pop()),
            Key::Escape => {
                self.filter.clear();
                self.typing = false;
            }
            Key::Enter => self.typing = false,
            Key::Up | Key::Down => {}
        }
        self.arrange();
        Wish::None
    }

    /// Shows a text until a key is pressed.
    pub fn explain(&mut self, text: String) {
        self.told = Some((text, 0));
    }

    fn shows(&self, text: &str) -> bool {
        text.to_lowercase().contains(&self.filter.to_lowercase())
    }

    /// Puts the sources in order; what was selected stays selected.
    fn arrange(&mut self) {
        let selected = self.top_sources.get(self.selected).map(|one| one.source);
        let mut top_sources = self.sample.top_sources.clone().unwrap_or_default();
        top_sources.retain(|one| self.shows(&format!("{} {}", one.source, one.api)));
        match self.order {
            Order::Most => top_sources.sort_by_key(|one| (Reverse(one.packets), one.source)),
            Order::Latest => top_sources.sort_by_key(|one| (one.ago, one.source)),
            Order::Name => top_sources.sort_by_key(|one| one.source),
        }
        let found =
            selected.and_then(|source| top_sources.iter().position(|one| one.source == source));
        let last = top_sources.len().saturating_sub(1);
        self.selected = found.unwrap_or(self.selected).min(last);
        self.top_sources = top_sources;
    }

    /// The rates, as they are shown.
    fn lines(&self) -> Vec<&Line> {
        let mut lines: Vec<_> = self.history.shown().collect();
        lines.retain(|line| self.shows(&line.name()));
        if self.order == Order::Most {
            lines.sort_by_key(|line| Reverse(line.last()));
        }
        lines
    }
}
