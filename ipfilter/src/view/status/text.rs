//! A status as people read it: first what is wrong, then what is on, where and since when, what it
//! does, what comes next, and what happened lately.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::{
    ApiStatus, Status,
    age::{age, until},
    authorization::Authorization,
    counters,
    problems::AUTHORIZATION,
};
use crate::{
    addresses::words::count,
    overrides::{Effect, shown},
};

/// The width of the labels at the left.
const LABEL: usize = 12;

/// How many APIs and other instances a screen has.
const SHOWN: usize = 3;

/// How many of the latest events a screen has, and the whole.
const LATELY: usize = 10;
const EARLIER: usize = 50;

/// How many lines one row of a screen takes at most.
const LINES: usize = 3;

/// The size of a screen in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// How wide it is.
    pub width: usize,
    /// How many lines it has.
    pub height: usize,
}

impl Default for Size {
    fn default() -> Self {
        Self {
            width: 80,
            height: 24,
        }
    }
}

impl Status {
    /// As much as a screen of this size shows, the most important first.
    #[must_use]
    pub fn screen(&self, size: Size) -> String {
        let mut text = Text {
            lines: Vec::new(),
            width: size.width,
            most: LINES,
        };
        self.head(&mut text);
        if self.is_on() {
            for api in self.apis.iter().take(SHOWN) {
                text.row("api", &api.describe());
            }
            if let Some(more) = self.apis.len().checked_sub(SHOWN).filter(|more| *more > 0) {
                text.row("", &format!("and {more} more: `ipfilter status --all`"));
            }
            self.authorization(&mut text);
            text.row("overrides", &self.overrides_in_short());
            self.rest(&mut text);
            text.row("counted", &counters::in_short(&self.counters));
        }
        self.beside_it(&mut text);
        // A line is left for the prompt, and one is empty.
        let room = size.height.saturating_sub(text.lines.len() + 2);
        self.events(&mut text, room.min(LATELY));
        text.finish() + &self.checked()
    }

    /// All that is known.
    #[must_use]
    pub fn whole(&self, size: Size) -> String {
        let mut text = Text {
            lines: Vec::new(),
            width: size.width,
            most: usize::MAX,
        };
        self.head(&mut text);
        if self.is_on() {
            for api in &self.apis {
                text.row("api", &api.describe());
                text.row("policy", &api.policy);
            }
            for one in self.authorization.iter().flat_map(Authorization::each) {
                text.row("service", &one);
            }
            for one in &self.overrides {
                text.row("override", &format!("{} {one}", shown(one.rule.source)));
            }
            self.rest(&mut text);
        }
        self.beside_it(&mut text);
        if self.is_on() {
            text.lines.push(String::new());
            text.lines.extend(counters::table(&self.counters));
        }
        self.events(&mut text, EARLIER);
        text.finish() + &self.checked()
    }

    /// One line among several instances.
    #[must_use]
    pub fn line(&self, size: Size) -> String {
        let mut line = format!("{}: {}", self.instance, self.state().words());
        if self.is_on() {
            let _ = write!(line, " at {}", self.places());
        }
        if let Some(since) = self.since {
            let _ = write!(line, " for {}", age(since));
        }
        if let Some(pid) = self.pid {
            let _ = write!(line, ", process {pid}");
        }
        for problem in &self.problems {
            let _ = write!(line, "; {}", problem.kind.label());
        }
        if let Some(namespace) = &self.namespace {
            let _ = write!(line, "; {namespace}");
        }
        clip(&line, size.width)
    }

    /// What is open or unused, if that was asked for.
    fn checked(&self) -> String {
        self.check
            .as_ref()
            .map_or_else(String::new, ToString::to_string)
    }

    fn title(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{} of {namespace}", self.instance),
            None => self.instance.clone(),
        }
    }

    fn head(&self, text: &mut Text) {
        let kept = match (self.pid, self.is_on()) {
            (Some(pid), _) => format!(", kept current by process {pid}"),
            (None, true) => ", and no process picks up changes (`ipfilter run` would)".into(),
            (None, false) => String::new(),
        };
        let what = self.state().words();
        text.row("instance", &format!("{}: {what}{kept}", self.title()));
        if let Some(trial) = &self.trial {
            text.row(trial.label(), &trial.words());
        }
        for problem in &self.problems {
            text.row(problem.kind.label(), &problem.what);
        }
        if let Some(fleet) = &self.fleet {
            text.row("fleet", &fleet.summary());
        }
        if !self.is_on() {
            return;
        }
        text.row("interface", &self.places());
        if let Some(since) = self.since {
            let plan = self.digest.as_deref().map_or_else(String::new, |digest| {
                format!(", plan {}", digest.get(..12).unwrap_or(digest))
            });
            text.row("since", &format!("{since} ({} ago){plan}", age(since)));
        }
        if text.most > LINES
            && let Some(digest) = &self.digest
        {
            text.row("plan", digest);
        }
    }

    fn places(&self) -> String {
        let places = self.interfaces.iter();
        let places: Vec<_> = places
            .map(|one| format!("{} ({})", one.name, one.mode))
            .collect();
        places.join(", ")
    }

    /// The authorization services, unless that is said among the problems.
    fn authorization(&self, text: &mut Text) {
        let all = self.authorization.as_ref();
        if let Some(all) = all.filter(|all| all.problem().is_none()) {
            text.row(AUTHORIZATION, &all.words());
        }
    }

    fn overrides_in_short(&self) -> String {
        if self.overrides.is_empty() {
            return "none: the policy alone decides".into();
        }
        let of = |effect| {
            let overrides = self.overrides.iter();
            overrides.filter(|one| one.rule.effect == effect).count()
        };
        let [blocks, allows] = [Effect::Block, Effect::Allow].map(of);
        let counts = [(blocks, "block", "blocks"), (allows, "allow", "allows")];
        let counts = counts.into_iter().filter(|(number, ..)| *number > 0);
        let counts: Vec<_> = counts
            .map(|(number, one, many)| count(number, one, many))
            .collect();
        let counts = counts.join(", ");
        let next = self.overrides.iter().filter_map(|one| one.rule.until).min();
        match next {
            Some(next) => format!("{counts}; the next ends {next:.0} (in {})", until(next)),
            None => format!("{counts}, until removed"),
        }
    }

    /// What the files say, and what comes next.
    fn rest(&self, text: &mut Text) {
        let changed: Vec<_> = self.files.iter().filter(|file| !file.is_same()).collect();
        match changed.as_slice() {
            [] if self.files.is_empty() => {}
            [] => text.row("files", "as deployed"),
            changed => {
                let files: Vec<_> = changed.iter().map(|file| file.describe()).collect();
                let files = files.join(", ");
                let how = match self.pid {
                    Some(_) => "`ipfilter reload` deploys what the files say",
                    None => "`ipfilter deploy` or `run` deploys what the files say",
                };
                text.row("files", &format!("{files} since the deployment: {how}"));
            }
        }
        match self.next_boundary {
            None => text.row("next change", "none by the clock"),
            // That is a problem already.
            Some(_) if self.overdue => {}
            Some(next) => {
                let nobody = if self.pid.is_none() {
                    ", which no process will deploy: start `ipfilter run`"
                } else {
                    ""
                };
                text.row(
                    "next change",
                    &format!("{next:.0} (in {}), by the clock{nobody}", until(next)),
                );
            }
        }
    }

    /// What is not this instance's and could be taken for it.
    fn beside_it(&self, text: &mut Text) {
        for namespace in &self.elsewhere {
            text.row("elsewhere", &format!("the same name, in {namespace}"));
        }
        if !self.others.is_empty() {
            let names = self.others.join(", ");
            text.row(
                "others",
                &format!("{names}: see `ipfilter --instance NAME status`"),
            );
        }
        match self.other_namespaces.len() {
            0 => {}
            _ if text.most > LINES => text.row("there too", &self.other_namespaces.join(", ")),
            more => {
                let more = count(more, "instance", "instances");
                let what =
                    format!("{more} of other network namespaces: `ipfilter status` lists them");
                text.row("there too", &what);
            }
        }
    }

    fn events(&self, text: &mut Text, most: usize) {
        if self.events.is_empty() || most == 0 {
            return;
        }
        text.lines.push(String::new());
        let this_year = Timestamp::now().strftime("%Y").to_string();
        for event in self.events.iter().take(most) {
            let year = event.time.strftime("%Y").to_string();
            let format = if year == this_year {
                "%m-%d %H:%M:%S"
            } else {
                "%Y-%m-%d %H:%M"
            };
            let line = format!(
                "{:<16} {:<16} {:<10} {}",
                event.time.strftime(format).to_string(),
                event.label,
                event.by,
                event.what
            );
            let width = if text.most > LINES {
                usize::MAX
            } else {
                text.width
            };
            text.lines.push(clip(line.trim_end(), width));
        }
    }
}

impl ApiStatus {
    /// What the API is and who may call it.
    fn describe(&self) -> String {
        let Self {
            name,
            ports,
            deny,
            monitor,
            share,
            sources,
            ..
        } = self;
        let denied = if *monitor {
            "monitor: denies nobody".to_owned()
        } else if let Some(leniency) = share.leniency() {
            format!("{leniency}: {deny}; the others pass")
        } else {
            format!("denied: {deny}")
        };
        let sources = if sources.is_empty() {
            String::new()
        } else {
            format!(" for {sources}")
        };
        format!("{name}: ports {ports}{sources}; {denied}")
    }
}

/// Lines with labels at their left.
struct Text {
    lines: Vec<String>,
    width: usize,
    /// How many lines a row has at most.
    most: usize,
}

impl Text {
    /// Adds a row, in as many lines as it needs and may have.
    fn row(&mut self, label: &str, what: &str) {
        let room = self.width.saturating_sub(LABEL).max(1);
        let mut lines = what.lines().flat_map(|line| wrapped(line, room)).peekable();
        let mut taken = Vec::new();
        while let Some(line) = lines.next() {
            if taken.len() + 1 == self.most && lines.peek().is_some() {
                taken.push(clip(&format!("{line} …"), room));
                break;
            }
            taken.push(line);
        }
        for (index, line) in taken.into_iter().enumerate() {
            let label = if index == 0 { label } else { "" };
            let line = format!("{label:<LABEL$}{line}");
            self.lines.push(line.trim_end().to_owned());
        }
    }

    fn finish(self) -> String {
        self.lines.join("\n") + "\n"
    }
}

/// A line in pieces of this width, broken at spaces where there are some.
fn wrapped(line: &str, width: usize) -> Vec<String> {
    let mut pieces = vec![String::new()];
    for word in line.split(' ') {
        let mut word: String = word.to_owned();
        while let Some(last) = pieces.last_mut() {
            let used = last.chars().count();
            let space = usize::from(used > 0);
            if used + space + word.chars().count() <= width {
                if space == 1 {
                    last.push(' ');
                }
                last.push_str(&word);
                break;
            }
            if used > 0 {
                pieces.push(String::new());
            } else {
                let (head, tail) = match word.char_indices().nth(width) {
                    Some((end, _)) => word.split_at(end),
                    None => (word.as_str(), ""),
                };
                last.push_str(head);
                word = tail.to_owned();
                pieces.push(String::new());
            }
        }
    }
    pieces
}

/// A line of at most this width.
fn clip(line: &str, width: usize) -> String {
    if line.chars().count() <= width {
        return line.to_owned();
    }
    let kept: String = line.chars().take(width.saturating_sub(1)).collect();
    kept + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_at_spaces_and_else_anywhere() {
        assert_eq!(wrapped("", 5), [""]);
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("abcdefgh ij", 3), ["abc", "def", "gh", "ij"]);
        assert_eq!(clip("abcdef", 4), "abc…");
        assert_eq!(clip("äöü", 3), "äöü");
    }
}
