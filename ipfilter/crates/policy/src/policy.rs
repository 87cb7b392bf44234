//! A policy that can be judged.

pub(crate) mod explain;
mod knowledge;
pub(crate) mod partial;

use std::ops::Range;

use ipnet::IpNet;
use jiff::Timestamp;

pub use knowledge::Knowledge;

use crate::{
    api::Known,
    class::Classes,
    evaluate::{Calls, Factor, Findings, Reach, Rule, Rules},
    network::{
        reach::{self, Decisions},
        relate,
    },
    options::{Authorizer, Options},
    syntax::{condition::Test, statement::Statement},
    text::problem::{Problem, Problems, Severity},
};

/// A policy that can be judged.
#[derive(Clone, Debug)]
pub struct Policy {
    pub(crate) rules: Rules,
    pub(crate) classes: Classes,
    pub(crate) authorizer: Authorizer,
    /// Whether a request that no statement matches is denied, whatever else decides.
    pub(crate) implicit_deny: bool,
    pub(crate) api: Known,
    /// The outcome of the statements at an interface; the clock is ignored.
    findings: Findings<Reach>,
    boundaries: Vec<Timestamp>,
    maybes: Vec<Problem>,
    /// Where in the file each statement begins.
    offsets: Vec<usize>,
}

impl Policy {
    /// Makes statements ready to be judged; `None` if an error was noted.
    pub(crate) fn new(
        statements: Vec<Statement>,
        options: &Options,
        problems: &mut Problems,
    ) -> Option<Self> {
        let api = match &options.api_arn {
            Some(arn) => Known::from(arn),
            None => {
                let resources = statements.iter();
                Known::infer(
                    problems,
                    resources.flat_map(|one| &one.resource.is.patterns),
                )
            }
        };
        if problems.errors() > 0 {
            return None;
        }
        let mut boundaries: Vec<Timestamp> =
            statements.iter().flat_map(Statement::boundaries).collect();
        boundaries.sort_unstable();
        boundaries.dedup();
        let rules = statements.into_iter().map(|statement| Rule {
            calls: Calls::new(&statement.resource.is, &api),
            statement,
        });
        let mut rules = Rules {
            all: rules.collect(),
            ..Rules::default()
        };
        let classes = Classes::new(options.vpc_cidrs.as_deref());
        let iam = options.authorizer == Authorizer::Iam;
        let implicit_deny = matches!(options.authorizer, Authorizer::None | Authorizer::Cognito);
        let mut findings = reach::find_statements(&rules, &classes, iam);
        relate::find(&mut rules, &findings, implicit_deny);
        reach::relate(&rules, &classes, iam, &mut findings);
        Some(Self {
            rules,
            classes,
            authorizer: options.authorizer,
            implicit_deny,
            api,
            findings,
            boundaries,
            maybes: Vec::new(),
            offsets: Vec::new(),
        })
    }

    /// Keeps where in the file each statement begins, by where in the policy's text it does.
    pub(crate) fn placed(mut self, mut outer: impl FnMut(usize) -> usize) -> Self {
        let statements = self.rules.all.iter();
        let offsets = statements.map(|rule| outer(rule.statement.span.start));
        self.offsets = offsets.collect();
        self
    }

    /// The byte of the file at which the statement with this index begins.
    #[must_use]
    pub fn offset(&self, statement: usize) -> Option<usize> {
        self.offsets.get(statement).copied()
    }

    /// Keeps those of the problems that say what cannot be judged.
    pub(crate) fn with_maybes(mut self, problems: &[Problem]) -> Self {
        let maybes = problems
            .iter()
            .filter(|problem| problem.severity == Severity::Maybe);
        self.maybes = maybes.cloned().collect();
        self
    }

    /// The sources that may pass and those that are allowed at `now`.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> Decisions {
        self.decisions(&self.active(now))
    }

    /// The first time after `after` at which [`Self::at`] may give another answer.
    #[must_use]
    pub fn next_boundary(&self, after: Timestamp) -> Option<Timestamp> {
        let next = self
            .boundaries
            .partition_point(|boundary| *boundary <= after);
        self.boundaries.get(next).copied()
    }

    /// All times at which [`Self::at`] may change its answer, ascending.
    #[must_use]
    pub fn boundaries(&self) -> &[Timestamp] {
        &self.boundaries
    }

    /// Whether some source passes the interface though not every request of it is allowed.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        !self.maybes.is_empty()
    }

    /// The elements that cannot be judged at the interface, each with what it lets through.
    #[must_use]
    pub fn maybes(&self) -> &[Problem] {
        &self.maybes
    }

    /// The networks that conditions name, as few as possible for each condition; some twice,
    /// where several name them.
    pub fn networks(&self) -> impl Iterator<Item = IpNet> + '_ {
        let conditions = self
            .rules
            .all
            .iter()
            .flat_map(|rule| &rule.statement.conditions);
        let listed = conditions.filter_map(|condition| match &condition.test {
            Test::Addresses(listed) => Some(&listed.set),
            _ => None,
        });
        listed.flat_map(ipfilter_addresses::AddressSet::networks)
    }

    /// How many statements there are.
    #[must_use]
    pub fn statements_len(&self) -> usize {
        self.rules.all.len()
    }

    /// The `Sid` of a statement.
    #[must_use]
    pub fn sid(&self, statement: usize) -> Option<&str> {
        self.rules.all.get(statement)?.statement.sid.as_deref()
    }

    /// The account that the API belongs to, if that is known.
    pub(crate) fn account(&self) -> Option<&str> {
        self.api.account.as_deref()
    }

    /// Whether IAM authorizes callers.
    pub(crate) fn iam(&self) -> bool {
        self.authorizer == Authorizer::Iam
    }

    /// For each statement whether its conditions on the clock hold.
    pub(crate) fn active(&self, now: Timestamp) -> Vec<bool> {
        self.rules
            .all
            .iter()
            .map(|rule| rule.is_active(now))
            .collect()
    }

    /// The decisions while exactly the statements of `active` can match.
    pub(crate) fn decisions(&self, active: &[bool]) -> Decisions {
        let is_active = |statement: usize| active.get(statement).copied().unwrap_or(false);
        let outcome = self.rules.decide(&self.findings, &is_active);
        outcome.allowed(self.implicit_deny).into()
    }

    /// Where a statement reaches.
    pub(crate) fn reach(&self, statement: usize) -> Option<&Reach> {
        Some(&self.findings.statements.get(statement)?.answer)
    }

    /// The outcome of a part of a statement for all sources; the clock is ignored.
    pub(crate) fn part(&self, factor: &Factor<'_>) -> Reach {
        reach::part(factor, &self.classes, self.iam())
    }

    /// Whether every statement is certain of every source.
    pub(crate) fn is_certain(&self) -> bool {
        let mut found = self.findings.statements.iter();
        found.all(|found| found.answer.is_certain())
    }

    /// Where the first statement is written.
    pub(crate) fn span(&self) -> Range<usize> {
        let first = self.rules.all.first();
        first.map_or(0..1, |rule| rule.statement.span.clone())
    }
}
