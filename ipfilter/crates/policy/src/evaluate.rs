//! Whole address sets at once: which sources a policy lets through.
//!
//! The other road, one address at a time, is [`super::explain`]; the two share the statements as
//! written and nothing else, and tests hold them equal.

use std::collections::HashMap;

use jiff::Timestamp;

use ipfilter_addresses::AddressSet;

use super::{
    class::{Class, Classes},
    condition::{Condition, Presence, Test},
    relate::{Factor, implied},
    statement::{Effect, Statement},
    verdict::Verdict,
};

/// What a policy says of all sources at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decisions {
    /// The sources with a request that may be allowed; of all others every request is denied.
    pub may_pass: AddressSet,
    /// The sources every request of which the policy allows.
    pub allowed: AddressSet,
}

/// The sources whose requests a statement matches, the clock left aside.
#[derive(Clone, Debug)]
pub(crate) struct Reach {
    /// Those every request of which it matches.
    pub(crate) certain: AddressSet,
    /// Those with a request that it may match.
    pub(crate) possible: AddressSet,
}

impl Reach {
    fn of(verdict: Verdict) -> Self {
        let set = |holds| {
            if holds {
                AddressSet::all()
            } else {
                AddressSet::empty()
            }
        };
        Self {
            certain: set(verdict == Verdict::Yes),
            possible: set(verdict != Verdict::No),
        }
    }

    fn ranges_len(&self) -> usize {
        self.possible.v4.ranges_len() + self.possible.v6.ranges_len()
    }

    fn and(&self, other: &Self) -> Self {
        Self {
            certain: self.certain.intersection(&other.certain),
            possible: self.possible.intersection(&other.possible),
        }
    }
}

/// The statements' reaches, ready to be put together for any time.
#[derive(Clone, Debug)]
pub(crate) struct Evaluation {
    reaches: Vec<Reach>,
    /// By the Allow; `None` when there are too many pairs of statements to look at.
    covers: Option<HashMap<usize, Vec<Cover>>>,
    implicit_deny: bool,
}

/// What of an Allow a Deny surely takes back, though neither is certain alone.
#[derive(Clone, Debug)]
struct Cover {
    deny: usize,
    sources: AddressSet,
}

/// Pairs of statements that are looked at; beyond it only single statements are.
const MOST_PAIRS: usize = 1_000;

/// The work that looking at pairs may take, in ranges of addresses.
const MOST_WORK: usize = 50_000_000;

impl Evaluation {
    /// `implicit_deny` says whether a request that no statement matches is denied for certain.
    pub(crate) fn new(
        statements: &[Statement],
        factors: &[Vec<Factor<'_>>],
        classes: &Classes,
        implicit_deny: bool,
    ) -> Self {
        let parts: Vec<Vec<Reach>> = factors
            .iter()
            .map(|factors| factors.iter().map(|factor| factor.reach(classes)).collect())
            .collect();
        let reaches = parts.iter().map(|parts| all_of(parts.iter())).collect();
        let mut evaluation = Self {
            reaches,
            covers: None,
            implicit_deny,
        };
        if implicit_deny {
            evaluation.covers = evaluation.find_covers(statements, factors, &parts);
        }
        evaluation
    }

    fn find_covers(
        &self,
        statements: &[Statement],
        factors: &[Vec<Factor<'_>>],
        parts: &[Vec<Reach>],
    ) -> Option<HashMap<usize, Vec<Cover>>> {
        let allows = self.uncertain(statements, Effect::Allow);
        let denies = self.uncertain(statements, Effect::Deny);
        let ranges = |index: &usize| self.reach(*index).map_or(0, Reach::ranges_len);
        let ranges: usize = denies.iter().map(ranges).sum();
        if allows.len().saturating_mul(denies.len()) > MOST_PAIRS
            || allows.len().saturating_mul(ranges) > MOST_WORK
        {
            return None;
        }
        let mut covers: HashMap<usize, Vec<Cover>> = HashMap::new();
        for allow in allows {
            let Some(given) = factors.get(allow) else {
                continue;
            };
            for &deny in &denies {
                let pair = factors.get(deny).zip(parts.get(deny));
                let cover =
                    pair.and_then(|(factors, parts)| self.cover(deny, factors, parts, given));
                if let Some(cover) = cover {
                    covers.entry(allow).or_default().push(cover);
                }
            }
        }
        Some(covers)
    }

    /// What the Deny takes back of an Allow whose factors are `given`.
    fn cover(
        &self,
        deny: usize,
        factors: &[Factor<'_>],
        parts: &[Reach],
        given: &[Factor<'_>],
    ) -> Option<Cover> {
        let open = factors
            .iter()
            .zip(parts)
            .filter(|(factor, _)| !implied(factor, given));
        let sources = all_of(open.map(|(_, reach)| reach)).certain;
        let sources = sources.intersection(&self.reach(deny)?.possible);
        (!sources.is_empty()).then_some(Cover { deny, sources })
    }

    /// The statements of that effect that are uncertain of some source.
    fn uncertain(&self, statements: &[Statement], effect: Effect) -> Vec<usize> {
        let reaches = self.reaches.iter().zip(statements).enumerate();
        reaches
            .filter(|(_, (reach, statement))| {
                statement.effect == effect && reach.certain != reach.possible
            })
            .map(|(index, _)| index)
            .collect()
    }

    /// Whether pairs of statements are looked at.
    pub(crate) fn relates(&self) -> bool {
        self.covers.is_some()
    }

    /// Where a statement reaches.
    pub(crate) fn reach(&self, index: usize) -> Option<&Reach> {
        self.reaches.get(index)
    }

    /// Whether every statement is certain of every source.
    pub(crate) fn is_certain(&self) -> bool {
        self.reaches
            .iter()
            .all(|reach| reach.certain == reach.possible)
    }

    /// The policy's decisions while exactly the statements of `active` can match.
    pub(crate) fn decisions(&self, statements: &[Statement], active: &[bool]) -> Decisions {
        let is_active = |index: usize| active.get(index).copied().unwrap_or(false);
        let collect = |effect: Effect, part: &dyn Fn(usize, &Reach) -> AddressSet| {
            let chosen = self.reaches.iter().enumerate().zip(statements);
            let sets = chosen
                .filter(|((index, _), statement)| statement.effect == effect && is_active(*index))
                .map(|((index, reach), _)| part(index, reach))
                .collect();
            AddressSet::union_all(sets)
        };
        let denied = collect(Effect::Deny, &|_, reach| reach.certain.clone());
        let may_pass = if self.implicit_deny {
            collect(Effect::Allow, &|index, reach| {
                let covers = self.covers.as_ref().and_then(|covers| covers.get(&index));
                let mut possible = reach.possible.clone();
                for cover in covers
                    .into_iter()
                    .flatten()
                    .filter(|cover| is_active(cover.deny))
                {
                    possible = possible.difference(&cover.sources);
                }
                possible.union(&reach.certain)
            })
        } else {
            AddressSet::all()
        };
        let allowed = collect(Effect::Allow, &|_, reach| reach.certain.clone());
        let doubted = collect(Effect::Deny, &|_, reach| reach.possible.clone());
        Decisions {
            may_pass: may_pass.difference(&denied),
            allowed: allowed.difference(&doubted),
        }
    }
}

fn all_of<'r>(mut parts: impl Iterator<Item = &'r Reach>) -> Reach {
    let Some(first) = parts.next() else {
        return Reach::of(Verdict::Yes);
    };
    parts.fold(first.clone(), |reach, part| reach.and(part))
}

impl Factor<'_> {
    /// The sources of whose requests it holds; the clock, which is no matter of sources, holds here.
    pub(crate) fn reach(&self, classes: &Classes) -> Reach {
        match self {
            Self::Principal(principal) => Reach::of(principal.is.verdict()),
            Self::Action(action) => Reach::of(action.is.invoke.into()),
            Self::Resource(_, verdict) => Reach::of(*verdict),
            Self::Condition(condition) => condition_reach(condition, classes),
        }
    }
}

fn condition_reach(condition: &Condition, classes: &Classes) -> Reach {
    let parts = [Class::Public, Class::Vpc].map(|class| {
        let members = classes.members(class);
        let part = class_reach(condition, class, members);
        Reach {
            certain: part.certain.intersection(members),
            possible: part.possible.intersection(members),
        }
    });
    let [public, vpc] = parts;
    Reach {
        certain: public.certain.union(&vpc.certain),
        possible: public.possible.union(&vpc.possible),
    }
}

fn class_reach(condition: &Condition, class: Class, members: &AddressSet) -> Reach {
    let operator = condition.operator;
    let verdict = match (&condition.test, condition.key.presence(class)) {
        (Test::Instants(..), _) => Verdict::Yes,
        (
            Test::Presence {
                absent: true,
                present: true,
            },
            _,
        ) => Verdict::Yes,
        (Test::Presence { absent, .. }, Presence::Absent) => (*absent).into(),
        (Test::Presence { present, .. }, Presence::Present) => (*present).into(),
        (_, Presence::Absent) => (operator.negated || operator.if_exists).into(),
        (Test::Addresses(listed), Presence::Present) => {
            let set = if operator.negated {
                members.difference(listed)
            } else {
                listed.intersection(members)
            };
            return Reach {
                certain: set.clone(),
                possible: set,
            };
        }
        _ => Verdict::Maybe,
    };
    Reach::of(verdict)
}

impl Statement {
    /// The times at which [`Self::is_active`] can change.
    pub(crate) fn boundaries(&self) -> impl Iterator<Item = Timestamp> + '_ {
        self.conditions.iter().flat_map(Condition::boundaries)
    }

    /// Whether its conditions on the clock hold.
    pub(crate) fn is_active(&self, now: Timestamp) -> bool {
        self.conditions
            .iter()
            .all(|condition| condition.clock_holds(now))
    }
}

impl Condition {
    /// Whether it holds at `now`, if it is about the clock; else yes.
    pub(crate) fn clock_holds(&self, now: Timestamp) -> bool {
        match &self.test {
            Test::Instants(comparison, values) => {
                let any = values.iter().any(|value| comparison.holds(now, *value));
                any != self.operator.negated
            }
            _ => true,
        }
    }

    /// The times at which [`Self::clock_holds`] can change.
    pub(crate) fn boundaries(&self) -> Vec<Timestamp> {
        match &self.test {
            Test::Instants(comparison, values) => values
                .iter()
                .flat_map(|value| comparison.boundaries(*value))
                .collect(),
            _ => Vec::new(),
        }
    }
}
