//! How far a policy can be enforced where only the source and the clock are seen.

use std::collections::HashSet;

use jiff::Timestamp;

use ipfilter_addresses::AddressSet;

use super::{
    Authorizer, Policy,
    class::Classes,
    evaluate::Decisions,
    problem::{Advice, Path, Problems, Severity},
    relate::Factor,
    statement::{Effect, Statement},
};

/// The different states of the clock that are looked at; of a policy with more, every uncertain
/// statement is named.
const MOST_STATES: usize = 64;

/// The uncertain statements that are told apart from what others decide; problems are told of fewer.
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
        if policy.implicit_deny && policy.evaluation.is_certain() {
            return None;
        }
        let mut gaps = Self {
            statements: vec![AddressSet::empty(); policy.statements.len()],
            authorizer: AddressSet::empty(),
        };
        let Some(states) = states(policy) else {
            gaps.add(
                policy,
                &vec![true; policy.statements.len()],
                &AddressSet::all(),
            );
            return Some(gaps);
        };
        let mut partial = false;
        for active in states {
            let Decisions { may_pass, allowed } =
                policy.evaluation.decisions(&policy.statements, &active);
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
            let uncertain = policy.evaluation.reach(index);
            let Some(reach) = uncertain.filter(|reach| reach.certain != reach.possible) else {
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
        let factors = policy.factors();
        let statements = policy.statements.iter().zip(&factors).zip(&self.statements);
        for (index, ((statement, factors), sources)) in statements.enumerate() {
            if sources.is_empty() {
                continue;
            }
            problems.statement = Some(statement.id(index));
            let open = factors
                .iter()
                .filter(|factor| factor.is_open(&policy.classes));
            for factor in open {
                let (path, span) = factor.place();
                problems.add(Severity::Maybe, "maybe", path, span, || {
                    Advice::new(factor.unseen()).hint(consequence(statement, sources))
                });
            }
        }
        problems.statement = None;
        if !self.authorizer.is_empty() {
            let path = Path::Root.name("Statement");
            let span = policy
                .statements
                .first()
                .map_or(0..1, |first| first.span.clone());
            problems.add(Severity::Maybe, "authorizer", &path, &span, || {
                authorizer_advice(policy.authorizer, &self.authorizer)
            });
        }
    }
}

fn authorizer_advice(authorizer: Authorizer, sources: &AddressSet) -> Advice {
    Advice::new(format!(
        "under the {authorizer} authorizer only an explicit Deny is final; what no statement matches is decided behind"
    ))
    .hint(format!("{} pass", describe(sources)))
}

fn consequence(statement: &Statement, sources: &AddressSet) -> String {
    let sources = describe(sources);
    match statement.effect {
        Effect::Allow => {
            format!("left to the API: {sources} pass, whether this Allow matches or not")
        }
        Effect::Deny => format!("left to the API: {sources} pass, even where this Deny matches"),
    }
}

/// A set in few words.
pub(crate) fn describe(sources: &AddressSet) -> String {
    const TOLD: usize = 3;
    if *sources == AddressSet::all() {
        return "all sources".to_owned();
    }
    let blocks: Vec<String> = sources
        .networks()
        .take(TOLD)
        .map(|block| format!("`{block}`"))
        .collect();
    match sources.networks().count() - blocks.len() {
        0 => blocks.join(", "),
        more => format!("{} and {more} more blocks", blocks.join(", ")),
    }
}

/// Each combination of statements whose clock conditions hold at some time; `None` when too many.
fn states(policy: &Policy) -> Option<HashSet<Vec<bool>>> {
    let mut states = HashSet::new();
    let times = policy.boundaries.iter().copied();
    // Before the first boundary no statement is as it is after it.
    for time in std::iter::once(Timestamp::MIN)
        .chain(times)
        .take(4 * MOST_STATES)
    {
        states.insert(policy.active(time));
    }
    let all_seen = policy.boundaries.len() < 4 * MOST_STATES && states.len() <= MOST_STATES;
    all_seen.then_some(states)
}

impl Factor<'_> {
    /// Whether it cannot be judged for some source.
    fn is_open(&self, classes: &Classes) -> bool {
        let reach = self.reach(classes);
        reach.certain != reach.possible
    }

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
                condition.operator_name(),
                condition.key.name
            ),
        }
    }
}
