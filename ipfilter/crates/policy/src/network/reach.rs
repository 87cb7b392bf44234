//! An interface's view of requests: of one source's, or of all sources' at once.

use std::net::IpAddr;

use ipfilter_addresses::AddressSet;
use jiff::Timestamp;

use crate::{
    class::{Class, Classes},
    evaluate::{Answer, Attribute, Caller, ClockText, Factor, Findings, Found, Reach, Rules, View},
    syntax::{
        action::INVOKE,
        condition::Condition,
        key::{Key, Origin, Presence},
        statement::Statement,
    },
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

impl From<Reach> for Decisions {
    fn from(allowed: Reach) -> Self {
        Self {
            may_pass: allowed.possible,
            allowed: allowed.certain,
        }
    }
}

/// What an interface knows of requests of one class of sources.
pub(crate) struct Interface<S> {
    pub(crate) class: Class,
    /// Whether IAM authorizes callers.
    pub(crate) iam: bool,
    /// The time; `None` leaves the clock aside.
    pub(crate) now: Option<Timestamp>,
    pub(crate) sources: S,
}

/// The sources that are asked about.
pub(crate) trait Sources {
    type Answer: Answer;

    /// Whether they are in the set.
    fn are_in(&self, set: &AddressSet) -> Self::Answer;
}

/// One.
impl Sources for IpAddr {
    type Answer = Verdict;

    fn are_in(&self, set: &AddressSet) -> Verdict {
        set.contains(*self).into()
    }
}

/// Every one.
pub(crate) struct Every;

impl Sources for Every {
    type Answer = Reach;

    fn are_in(&self, set: &AddressSet) -> Reach {
        Reach::exactly(set.clone())
    }
}

impl<S: Sources> View for Interface<S> {
    type Answer = S::Answer;

    fn attribute(&self, key: &Key) -> Attribute<'_> {
        match (key.presence(self.class, self.iam), key.origin) {
            (Presence::Absent, _) => Attribute::Absent,
            (Presence::Unknown, _) => Attribute::Unknown,
            (Presence::Present, Origin::Source(_)) => Attribute::Source(None),
            (Presence::Present, Origin::Clock | Origin::Epoch) => match self.now {
                Some(now) => Attribute::Clock(now, ClockText::Unclear),
                None => Attribute::Present,
            },
            (Presence::Present, _) => Attribute::Present,
        }
    }

    fn source_in(&self, set: &AddressSet) -> S::Answer {
        self.sources.are_in(set)
    }

    fn caller(&self) -> Option<&Caller> {
        None
    }

    fn call(&self) -> Option<&str> {
        None
    }

    fn action(&self) -> &str {
        INVOKE
    }

    fn is_timeless(&self) -> bool {
        self.now.is_none()
    }
}

/// All sources of a class, the clock left aside.
fn every(class: Class, iam: bool) -> Interface<Every> {
    Interface {
        class,
        iam,
        now: None,
        sources: Every,
    }
}

/// The outcome of each statement for all sources; the clock is ignored.
pub(crate) fn find_statements(rules: &Rules, classes: &Classes, iam: bool) -> Findings<Reach> {
    let find = |class| {
        let found = rules.find_statements(&every(class, iam));
        found.into_iter().map(|found| found.answer).collect()
    };
    let statements = both(classes, find).into_iter();
    Findings {
        statements: statements
            .map(|answer| Found {
                answer,
                failed: None,
            })
            .collect(),
        pairs: Vec::new(),
        covers: Vec::new(),
    }
}

/// Adds the outcome of statements taken together.
pub(crate) fn relate(rules: &Rules, classes: &Classes, iam: bool, findings: &mut Findings<Reach>) {
    let possible = |statement: usize| {
        let found = findings.statements.get(statement);
        found.is_some_and(|found| !found.answer.is_no())
    };
    let mut related = both(classes, |class| {
        let (pairs, covers) = rules.relate(&every(class, iam), &possible);
        pairs.into_iter().chain(covers).collect()
    });
    findings.covers = related.split_off(rules.pairs.len());
    findings.pairs = related;
}

/// The outcome of a part for all sources; the clock is ignored.
pub(crate) fn part(factor: &Factor<'_>, classes: &Classes, iam: bool) -> Reach {
    if factor.is_clock() {
        return Reach::of(Verdict::Yes);
    }
    let find = |class| vec![factor.holds(&every(class, iam))];
    let mut parts = both(classes, find);
    parts.pop().unwrap_or_else(|| Reach::of(Verdict::Maybe))
}

/// Asks of each class of sources, and puts the answers together.
fn both(classes: &Classes, find: impl Fn(Class) -> Vec<Reach>) -> Vec<Reach> {
    let [public, vpc] = Class::BOTH.map(|class| {
        let members = classes.members(class);
        let found = find(class).into_iter();
        found.map(|reach| reach.within(members)).collect::<Vec<_>>()
    });
    let both = public.into_iter().zip(vpc);
    both.map(|(public, vpc)| public.or(vpc)).collect()
}

impl Statement {
    /// The times at which [`Self::is_active`] can change.
    pub(crate) fn boundaries(&self) -> impl Iterator<Item = Timestamp> + '_ {
        let clocks = self.conditions.iter().filter(|one| one.is_clock());
        clocks.flat_map(Condition::boundaries)
    }
}
