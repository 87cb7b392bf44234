//! How far a policy can be enforced where only the source and the clock are seen.

use std::collections::HashSet;

use jiff::Timestamp;

use ipfilter_addresses::AddressSet;
use ipnet::IpNet;

use super::Policy;
use crate::{
    class::{Class, Classes},
    evaluate::Factor,
    network::reach::Decisions,
    options::Authorizer,
    syntax::statement::{Effect, Statement},
    text::problem::{Advice, Path, Problems, Severity},
};

/// The different states of the clock that are looked at; of a policy with more, every uncertain
/// statement is named.
const MOST_STATES: usize = 64;

/// The uncertain statements that are distinguished from what others decide; fewer are reported.
const MOST_NARROWED: usize = 64;

/// What the interface lets through undecided.
pub(crate) struct Gaps {
    /// For each statement the sources it leaves undecided.
    statements: Vec<AddressSet>,
    /// The sources undecided because no statement names them and the authorizer has the last word.
    authorizer: AddressSet,
}

impl Gaps {
    /// The gaps of `policy`, over all time; `None` when it is enforced exactly.
    pub(crate) fn of(policy: &Policy) -> Option<Self> {
        if policy.implicit_deny && policy.is_certain() {
            return None;
        }
        let mut gaps = Self {
            statements: vec![AddressSet::empty(); policy.statements_len()],
            authorizer: AddressSet::empty(),
        };
        let Some(states) = states(policy) else {
            gaps.add(
                policy,
                &vec![true; policy.statements_len()],
                &AddressSet::all(),
            );
            return Some(gaps);
        };
        let mut partial = false;
        for active in states {
            let Decisions { may_pass, allowed } = policy.decisions(&active);
            let gap = may_pass.difference(&allowed);
            if !gap.is_empty() {
                partial = true;
                gaps.add(policy, &active, &gap);
            }
        }
        partial.then_some(gaps)
    }

    fn add(&mut self, policy: &Policy, active: &[bool], gap: &AddressSet) {
        let mut parts = Vec::new();
        let statements = self.statements.iter_mut().zip(active).enumerate();
        for (index, (sources, _)) in statements.filter(|(_, (_, active))| **active) {
            let uncertain = policy.reach(index);
            let Some(reach) = uncertain.filter(|reach| !reach.is_certain()) else {
                continue;
            };
            let mut part = reach.possible.difference(&reach.certain);
            if parts.len() < MOST_NARROWED {
                part = part.intersection(gap);
            }
            *sources = sources.union(&part);
            parts.push(part);
        }
        let rest = || gap.difference(&AddressSet::union_all(parts));
        if !policy.implicit_deny {
            self.authorizer = self.authorizer.union(&rest());
        }
    }

    /// Notes each element that cannot be judged, and what it lets through.
    pub(crate) fn report(&self, policy: &Policy, problems: &mut Problems) {
        let rules = policy.rules.all.iter().zip(&self.statements);
        for (index, (rule, sources)) in rules.enumerate() {
            if sources.is_empty() {
                continue;
            }
            problems.statement = Some(rule.statement.id(index));
            let is_open = |factor: &Factor<'_>| !policy.part(factor).is_certain();
            let mut open: Vec<Factor<'_>> = rule.factors().filter(is_open).collect();
            open.sort_by_key(|factor| factor.place().1.start);
            for factor in open {
                let (path, span) = factor.place();
                problems.add(Severity::Maybe, "maybe", path, span, || {
                    let sources = describe(sources, &policy.classes);
                    Advice::new(factor.unseen()).hint(consequence(&rule.statement, &sources))
                });
            }
        }
        problems.statement = None;
        if !self.authorizer.is_empty() {
            let path = Path::Root.name("Statement");
            problems.add(Severity::Maybe, "authorizer", &path, &policy.span(), || {
                let sources = describe(&self.authorizer, &policy.classes);
                authorizer_advice(policy.authorizer, &sources)
            });
        }
    }
}

fn authorizer_advice(authorizer: Authorizer, sources: &str) -> Advice {
    Advice::new(format!(
        "under the {authorizer} authorizer only an explicit Deny is final; the authorizer decides what no statement matches"
    ))
    .hint(format!("{sources} pass"))
}

fn consequence(statement: &Statement, sources: &str) -> String {
    match statement.effect {
        Effect::Allow => {
            format!("left to the API: {sources} pass, whether this Allow matches or not")
        }
        Effect::Deny => format!("left to the API: {sources} pass, even where this Deny matches"),
    }
}

/// More blocks than these are counted.
const TOLD: usize = 3;

/// A set as a person would say it: what it holds, or all but what it lacks.
pub(crate) fn describe(sources: &AddressSet, classes: &Classes) -> String {
    let everyone = AddressSet::all();
    let wholes = [
        (&everyone, "all sources"),
        (classes.members(Class::Public), "all public sources"),
        (classes.members(Class::Vpc), "all private sources"),
    ];
    let exceptions = wholes.iter().filter_map(|(whole, name)| {
        let missing = whole.difference(sources);
        let count = missing.networks().take(TOLD + 1).count();
        let is_part = sources.difference(whole).is_empty();
        (is_part && count <= TOLD).then_some((count, *name, missing))
    });
    let shortest = exceptions.min_by_key(|(count, ..)| *count);
    match shortest {
        Some((0, name, _)) => name.to_owned(),
        Some((count, name, missing)) if count < sources.networks().take(TOLD + 1).count() => {
            let missing = list(&missing);
            match name {
                "all sources" => format!("all but {missing}"),
                _ => format!("{name} but {missing}"),
            }
        }
        _ => list(sources),
    }
}

/// The first blocks of a set; a block of one address is named by it.
fn list(sources: &AddressSet) -> String {
    let name = |block: IpNet| match block.prefix_len() == block.max_prefix_len() {
        true => format!("`{}`", block.addr()),
        false => format!("`{block}`"),
    };
    let blocks: Vec<String> = sources.networks().take(TOLD).map(name).collect();
    match sources.networks().count() - blocks.len() {
        0 => blocks.join(", "),
        1 => format!("{} and one more block", blocks.join(", ")),
        more => format!("{} and {more} more blocks", blocks.join(", ")),
    }
}

/// Each combination of statements whose clock conditions hold at some time; `None` when too many.
fn states(policy: &Policy) -> Option<HashSet<Vec<bool>>> {
    let mut states = HashSet::new();
    let times = policy.boundaries().iter().copied();
    // Before the first boundary no statement is as it is after it.
    for time in std::iter::once(Timestamp::MIN)
        .chain(times)
        .take(4 * MOST_STATES)
    {
        states.insert(policy.active(time));
    }
    let all_seen = policy.boundaries().len() < 4 * MOST_STATES && states.len() <= MOST_STATES;
    all_seen.then_some(states)
}

impl Factor<'_> {
    fn place(&self) -> (&String, &std::ops::Range<usize>) {
        match self {
            Self::Principal(element) => (&element.path, &element.span),
            Self::Action(element) => (&element.path, &element.span),
            Self::Resource(element, _) => (&element.path, &element.span),
            Self::Condition(condition) => (&condition.path, &condition.span),
        }
    }

    fn unseen(&self) -> String {
        match self {
            Self::Principal(_) => "who makes a request is not seen at the interface".to_owned(),
            Self::Action(_) | Self::Resource(..) => {
                "stage, method and path of a request are not seen at the interface".to_owned()
            }
            Self::Condition(condition) => format!(
                "`{}` on `{}` cannot be judged at the interface",
                condition.operator, condition.key.name
            ),
        }
    }
}
