//! Temporary decisions above the policy: sources that are allowed or blocked whatever it says, until
//! a time. A block wins over an allow, and both win over the policy. No IO, and no clock.

mod input;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, fmt, net::IpAddr};

use ipfilter_addresses::AddressSet;
use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use input::{LONGEST_DAYS, end, parse_duration, parse_source};

/// How many overrides an instance takes.
pub const MOST: usize = 50_000;

/// The longest reason, in bytes.
pub const LONGEST_REASON: usize = 200;

/// What an override does with its sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// They pass.
    Allow,
    /// They are denied.
    Block,
}

impl Effect {
    /// `allow` or `block`, as the commands are called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Block => "block",
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What happens to the sources.
    pub effect: Effect,
    /// The sources.
    pub source: IpNet,
    /// The API that it is for; all of them if none.
    pub api: Option<String>,
    /// When it ends; never if none.
    pub until: Option<Timestamp>,
    /// Why it was made.
    pub reason: Option<String>,
}

/// An override.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// Its number, which no other override of the instance ever has.
    pub id: u64,
    /// When it was asked for.
    pub since: Timestamp,
    /// Whether it is one of the group that this host belongs to: published for all its hosts, and changed there only.
    #[serde(default, skip_serializing_if = "is_false")]
    pub group: bool,
    /// What was asked for.
    #[serde(flatten)]
    pub rule: Rule,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde passes it")]
fn is_false(value: &bool) -> bool {
    !value
}

impl Override {
    /// Whether it is still in force at `now`. Its end is a time of the clock: if the clock is set, it
    /// ends when the clock says so.
    #[must_use]
    pub fn is_active(&self, now: Timestamp) -> bool {
        self.rule.until.is_none_or(|until| now < until)
    }

    /// Whether it is for the API called `api`.
    fn covers(&self, api: &str) -> bool {
        self.rule.api.as_ref().is_none_or(|own| own == api)
    }
}

impl fmt::Display for Override {
    /// Without its source: `block, override 7, until 2026-11-27T16:00:00Z, API petstore: scans`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rule {
            effect,
            api,
            until,
            reason,
            ..
        } = &self.rule;
        let whose = if self.group { " of the group" } else { "" };
        write!(f, "{effect}, override {}{whose}", self.id)?;
        match until {
            Some(until) => write!(f, ", until {until}")?,
            None => write!(f, ", until it is removed")?,
        }
        if let Some(api) = api {
            write!(f, ", API `{api}`")?;
        }
        if let Some(reason) = reason {
            write!(f, ": {reason}")?;
        }
        Ok(())
    }
}

/// A change of an instance's overrides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// A new one; or a new end and reason for one with the same effect, source and API.
    Add(Rule),
    /// The end of those with these numbers.
    Remove(Vec<u64>),
    /// The end of those with this effect, source and API.
    Lift {
        /// Their effect.
        effect: Effect,
        /// Their source.
        source: IpNet,
        /// Their API; that of those for all APIs if none.
        api: Option<String>,
    },
    /// The end of those with this reason, of which there may be none.
    #[serde(rename = "lift_reason")]
    LiftReason(String),
    /// All overrides of the group, in place of those that it had before.
    Group(Vec<Rule>),
}

/// Why a change is refused. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A block that is in force has the last word.
    #[error(
        "`{source_text}` is blocked by override {id}, which an allow does not overrule: remove that first with `ipfilter overrides remove {id}`"
    )]
    Blocked {
        /// The source that was to be allowed.
        source_text: String,
        /// The block's number.
        id: u64,
    },
    /// Its end is not in the future.
    #[error("the override would have ended at {0}: give it a longer time")]
    Over(Timestamp),
    /// There are as many as there can be.
    #[error(
        "there are {MOST} overrides already, which is as many as there can be: write lasting decisions into the policy"
    )]
    Full,
    /// No override has this number.
    #[error("there is no override {0}: `ipfilter overrides` lists them")]
    Unknown(u64),
    /// No override has this source.
    #[error(
        "no override has the effect `{effect}` on `{source_text}`: `ipfilter overrides` lists them"
    )]
    Absent {
        /// The effect asked for.
        effect: Effect,
        /// The source asked for.
        source_text: String,
    },
    /// It is the group's.
    #[error(
        "override {0} is one of the group: it ends on all hosts at once, by a publication of the group's overrides"
    )]
    OfGroup(u64),
    /// A reason that is too long to be shown.
    #[error("the reason is longer than {LONGEST_REASON} bytes: shorten it")]
    Reason,
}

/// What a change came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// There is a new override.
    Added(Override),
    /// One that was there has a new end and reason; the earlier end.
    Renewed(Override, Option<Timestamp>),
    /// These have ended.
    Removed(Vec<Override>),
    /// The group has these now.
    Group(Vec<Override>),
}

/// The overrides of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overrides {
    /// The number of the last one that was made.
    last_id: u64,
    /// Ascending by number.
    all: Vec<Override>,
}

impl Overrides {
    /// All of them, those that have ended since the last change included, in the order of their
    /// numbers.
    pub fn iter(&self) -> impl Iterator<Item = &Override> + Clone {
        self.all.iter()
    }

    /// Those in force at `now`.
    pub fn active(&self, now: Timestamp) -> impl Iterator<Item = &Override> + Clone {
        self.all.iter().filter(move |one| one.is_active(now))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// All times at which one ends.
    pub fn ends(&self) -> impl Iterator<Item = Timestamp> + Clone {
        self.all.iter().filter_map(|one| one.rule.until)
    }

    /// Makes a change at `now`.
    ///
    /// # Errors
    ///
    /// When it makes no sense; then nothing has changed.
    pub fn change(&mut self, change: &Change, now: Timestamp) -> Result<Changed, Refused> {
        match change {
            Change::Add(rule) => self.add(rule, now),
            Change::Remove(ids) => {
                let of_group = |id: &&u64| self.all.iter().any(|one| one.group && one.id == **id);
                if let Some(id) = ids.iter().find(of_group) {
                    return Err(Refused::OfGroup(*id));
                }
                if let Some(id) = ids
                    .iter()
                    .find(|id| !self.active(now).any(|one| one.id == **id))
                {
                    return Err(Refused::Unknown(*id));
                }
                Ok(self.take(|one| ids.contains(&one.id)))
            }
            Change::Lift {
                effect,
                source,
                api,
            } => {
                let is_meant = |one: &Override| {
                    let rule = &one.rule;
                    !one.group && (rule.effect, rule.source, &rule.api) == (*effect, *source, api)
                };
                if !self.active(now).any(is_meant) {
                    return Err(Refused::Absent {
                        effect: *effect,
                        source_text: shown(*source),
                    });
                }
                Ok(self.take(is_meant))
            }
            Change::LiftReason(reason) => {
                let is_meant =
                    |one: &Override| !one.group && one.rule.reason.as_ref() == Some(reason);
                Ok(self.take(|one| is_meant(one) && one.is_active(now)))
            }
            Change::Group(rules) => self.replace_group(rules, now),
        }
    }

    fn take(&mut self, is_meant: impl Fn(&Override) -> bool) -> Changed {
        Changed::Removed(self.all.extract_if(.., |one| is_meant(one)).collect())
    }

    /// Puts overrides of the group in the place of those before. What is there already keeps its number; what has
    /// ended is left out.
    fn replace_group(&mut self, rules: &[Rule], now: Timestamp) -> Result<Changed, Refused> {
        let is_long = |rule: &Rule| {
            let reason = rule.reason.as_ref();
            reason.is_some_and(|reason| reason.len() > LONGEST_REASON)
        };
        if rules.iter().any(is_long) {
            return Err(Refused::Reason);
        }
        let is_active = |rule: &&Rule| rule.until.is_none_or(|until| now < until);
        let rules: Vec<_> = rules.iter().filter(is_active).collect();
        let own = self.active(now).filter(|one| !one.group).count();
        if own + rules.len() > MOST {
            return Err(Refused::Full);
        }
        let mut before: HashMap<_, _> = self
            .all
            .extract_if(.., |one| one.group)
            .map(|one| (one.rule.clone(), one))
            .collect();
        let mut group: Vec<Override> = Vec::with_capacity(rules.len());
        for rule in rules {
            let one = before.remove(rule).unwrap_or_else(|| {
                self.last_id += 1;
                Override {
                    id: self.last_id,
                    since: now,
                    group: true,
                    rule: rule.clone(),
                }
            });
            group.push(one);
        }
        self.all.extend(group.iter().cloned());
        self.all.sort_by_key(|one| one.id);
        Ok(Changed::Group(group))
    }

    fn add(&mut self, rule: &Rule, now: Timestamp) -> Result<Changed, Refused> {
        self.check(rule, now)?;
        let same = |one: &&mut Override| {
            let own = &one.rule;
            !one.group
                && (own.effect, own.source, &own.api) == (rule.effect, rule.source, &rule.api)
        };
        let mut active = self.all.iter_mut().filter(|one| one.is_active(now));
        if let Some(one) = active.find(same) {
            let before = one.rule.until;
            one.rule = rule.clone();
            return Ok(Changed::Renewed(one.clone(), before));
        }
        if self.active(now).count() >= MOST {
            return Err(Refused::Full);
        }
        self.last_id += 1;
        let one = Override {
            id: self.last_id,
            since: now,
            group: false,
            rule: rule.clone(),
        };
        self.all.push(one.clone());
        Ok(Changed::Added(one))
    }

    fn check(&self, rule: &Rule, now: Timestamp) -> Result<(), Refused> {
        if let Some(until) = rule.until.filter(|until| *until <= now) {
            return Err(Refused::Over(until));
        }
        if rule
            .reason
            .as_ref()
            .is_some_and(|reason| reason.len() > LONGEST_REASON)
        {
            return Err(Refused::Reason);
        }
        if rule.effect == Effect::Block {
            return Ok(());
        }
        let blocks = |one: &&Override| {
            let own = &one.rule;
            own.effect == Effect::Block
                && own.source.contains(&rule.source)
                && (own.api.is_none() || own.api == rule.api)
        };
        match self.active(now).find(blocks) {
            Some(one) => Err(Refused::Blocked {
                source_text: shown(rule.source),
                id: one.id,
            }),
            None => Ok(()),
        }
    }

    /// Forgets those that have ended at `now`, which stay ended whatever the clock says later. Says
    /// how many.
    pub fn forget_ended(&mut self, now: Timestamp) -> usize {
        let before = self.all.len();
        self.all.retain(|one| one.is_active(now));
        before - self.all.len()
    }

    /// The sources that may pass to the API called `api` at `now`, where the policy lets those of
    /// `policy` pass.
    #[must_use]
    pub fn apply(&self, api: &str, policy: AddressSet, now: Timestamp) -> AddressSet {
        let of = |effect| {
            let rules = self.active(now).filter(|one| one.covers(api));
            let rules = rules.filter(|one| one.rule.effect == effect);
            AddressSet::from_networks(rules.map(|one| one.rule.source))
        };
        let (allowed, blocked) = (of(Effect::Allow), of(Effect::Block));
        if allowed.is_empty() && blocked.is_empty() {
            return policy;
        }
        policy.union(&allowed).difference(&blocked)
    }

    /// The override that decides about a source at the API called `api`, if one does: a block before
    /// an allow, and of several the narrowest.
    #[must_use]
    pub fn decide(&self, api: &str, source: IpAddr, now: Timestamp) -> Option<&Override> {
        let matching = self
            .active(now)
            .filter(|one| one.covers(api) && one.rule.source.contains(&source));
        matching.max_by_key(|one| {
            (
                one.rule.effect == Effect::Block,
                one.rule.source.prefix_len(),
            )
        })
    }
}

/// A source as operators write it: one address without a prefix length.
#[must_use]
pub fn shown(source: IpNet) -> String {
    if source.prefix_len() == source.max_prefix_len() {
        source.addr().to_string()
    } else {
        source.to_string()
    }
}
