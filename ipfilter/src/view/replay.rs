//! What `ipfilter replay` prints.

use std::{fmt, net::IpAddr};

use ipfilter_traffic::{Count, Decision, SourceCount};
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    addresses::words::{count, grouped},
    replay::Outcome,
};

/// What a policy would have done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    records: u64,
    unreadable: u64,
    decisions: Decisions,
    sources: Vec<Source>,
    /// Sources that are not shown.
    #[serde(skip)]
    more: usize,
    /// Records of further sources, which are not counted one by one.
    #[serde(skip_serializing_if = "is_zero")]
    sources_left_out: u64,
    apis: Vec<Api>,
    /// What changes, where that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<Vec<Change>>,
    /// The first things that could not be read.
    examples: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<Kernel>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Decisions {
    allow: u64,
    deny: u64,
    depends: u64,
    other: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Source {
    source: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    was: Option<&'static str>,
    decision: &'static str,
    count: u64,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Api {
    /// None for what is no API's.
    name: Option<String>,
    decision: &'static str,
    reason: &'static str,
    count: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Change {
    was: &'static str,
    decision: &'static str,
    count: u64,
}

/// What the program in the kernel said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Kernel {
    packets: u64,
    skipped: u64,
    different: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Report {
    /// The report on a replay for the APIs with these names, with the `top` sources.
    pub(crate) fn new(
        outcome: &Outcome,
        names: &[String],
        top: Option<usize>,
        against: bool,
        kernel: bool,
    ) -> Self {
        let tally = &outcome.tally;
        let sources = tally.sources();
        let shown = top.unwrap_or(sources.len()).min(sources.len());
        let changed = tally.changed.iter();
        Self {
            records: tally.records,
            unreadable: tally.unreadable,
            decisions: Decisions {
                allow: tally.decided(Decision::Allow),
                deny: tally.decided(Decision::Deny),
                depends: tally.decided(Decision::Depends),
                other: tally.decided(Decision::Other),
            },
            more: sources.len() - shown,
            sources: sources.iter().take(shown).map(Source::from).collect(),
            sources_left_out: tally.left_out,
            apis: tally
                .counts
                .iter()
                .map(|(it, count)| Api::new(it, *count, names))
                .collect(),
            changed: against.then(|| {
                changed
                    .map(|((was, is), count)| Change {
                        was: was.name(),
                        decision: is.name(),
                        count: *count,
                    })
                    .collect()
            }),
            examples: tally.examples.clone(),
            kernel: kernel.then_some(Kernel {
                packets: outcome.agreement.packets,
                skipped: outcome.agreement.skipped,
                different: outcome.agreement.different,
            }),
        }
    }
}

impl From<&SourceCount> for Source {
    fn from(it: &SourceCount) -> Self {
        Self {
            source: it.source,
            was: it.was.map(Decision::name),
            decision: it.decision.name(),
            count: it.count,
            first: it.first,
            last: it.last,
        }
    }
}

impl Api {
    fn new(it: &Count, count: u64, names: &[String]) -> Self {
        Self {
            name: it.api.and_then(|api| names.get(api)).cloned(),
            decision: it.decision.name(),
            reason: it.reason,
            count,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let records = usize::try_from(self.records).unwrap_or(usize::MAX);
        let number = |number: u64| grouped(number.into());
        writeln!(
            f,
            "{}: {} allow, {} deny, {} depends, {} other; {} unreadable",
            count(records, "record", "records"),
            number(self.decisions.allow),
            number(self.decisions.deny),
            number(self.decisions.depends),
            number(self.decisions.other),
            number(self.unreadable),
        )?;
        for example in &self.examples {
            writeln!(f, "  {example}")?;
        }
        self.write_apis(f)?;
        self.write_changes(f)?;
        self.write_sources(f)?;
        if let Some(kernel) = &self.kernel {
            let agreed = kernel.packets - kernel.different;
            writeln!(
                f,
                "the program in the kernel agrees about {} of {} packets; {} were too short for it",
                number(agreed),
                number(kernel.packets),
                number(kernel.skipped)
            )?;
        }
        Ok(())
    }
}

impl Report {
    fn write_apis(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.apis.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "\n{:<20} {:<9} {:<18} {:>14}",
            "api", "decision", "reason", "records"
        )?;
        for api in &self.apis {
            let name = api.name.as_deref().unwrap_or("-");
            let count = grouped(api.count.into());
            writeln!(
                f,
                "{name:<20} {:<9} {:<18} {count:>14}",
                api.decision, api.reason
            )?;
        }
        Ok(())
    }

    fn write_changes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(changed) = &self.changed else {
            return Ok(());
        };
        writeln!(f)?;
        if changed.is_empty() {
            return writeln!(f, "no record is decided differently");
        }
        for change in changed {
            let number = grouped(change.count.into());
            writeln!(
                f,
                "{number} records change from {} to {}",
                change.was, change.decision
            )?;
        }
        Ok(())
    }

    fn write_sources(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wanted = |it: &&Source| self.changed.is_some() || it.decision == "deny";
        let sources: Vec<&Source> = self.sources.iter().filter(wanted).collect();
        if sources.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "\n{:<39} {:<17} {:>12}  {:<30} last",
            "source", "decision", "records", "first"
        )?;
        for it in &sources {
            let decision = match it.was {
                Some(was) => format!("{was} → {}", it.decision),
                None => it.decision.to_owned(),
            };
            let time = |time: Option<Timestamp>| time.map_or("-".to_owned(), |it| it.to_string());
            writeln!(
                f,
                "{:<39} {decision:<17} {:>12}  {:<30} {}",
                it.source.to_string(),
                grouped(it.count.into()),
                time(it.first),
                time(it.last)
            )?;
        }
        if sources.len() == self.sources.len() && self.more > 0 {
            writeln!(
                f,
                "and {} more: `--top N` shows them",
                grouped(self.more as u128)
            )?;
        }
        Ok(())
    }
}
