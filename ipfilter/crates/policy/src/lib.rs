//! Resource policies: from text to decisions. No IO.
//!
//! [`parse`] reads a document and reports all that is wrong with it, each problem with its place. A
//! [`Policy`] is then asked in one of two ways: [`Policy::at`] gives the sets of sources that may pass
//! and that are allowed at a time, [`Policy::explain`] judges one source and names the statements behind
//! the answer. [`Policy::next_boundary`] says when the answers may change.
//!
//! This part knows no table, no packet and no file. What it can know of a request is its source address
//! and the clock; every element evaluates to yes, no or maybe, and a source is denied for certain only
//! when each of its requests is.
//!
#![doc = include_str!("LANGUAGE.md")]

mod action;
mod address;
mod api;
mod class;
mod compare;
mod condition;
mod document;
mod evaluate;
mod explain;
mod lint;
mod partial;
mod pattern;
mod principal;
mod relate;
mod resource;
mod source;
mod statement;
#[cfg(test)]
mod tests;
mod time;
mod timeline;
mod verdict;

pub use address::parse_block;
pub use api::{ApiArn, NotAnApiArn};
pub use class::PRIVATE_BLOCKS;
pub use compare::{Cause, Side, causes};
pub use evaluate::Decisions;
pub use explain::{Decision, Explanation, StatementVerdict};
pub use ipfilter_document::problem::{Problem, Severity, StatementId, clip, visible};
pub use source::{Position, SIZE_LIMIT, Source};
pub use statement::Effect;
pub use verdict::Verdict;

use std::fmt;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use self::{
    api::Known,
    class::Classes,
    evaluate::Evaluation,
    partial::Gaps,
    problem::Problems,
    relate::Factor,
    source::{Document, Locator},
    statement::Statement,
};
use ipfilter_addresses::AddressSet;
use ipfilter_document::{json, problem};

/// What reads a policy's values, beside the sources that arrive by each way.
mod reader {
    pub(crate) use ipfilter_document::reader::Member;
    pub(crate) type Reader<'c> = ipfilter_document::reader::Reader<&'c super::Classes>;
}

/// What a policy is judged with, beside its own text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// The API the policy is attached to. Without it the ARNs in the policy must agree on one.
    pub api_arn: Option<ApiArn>,
    /// What authorizes requests beside the policy.
    pub authorizer: Authorizer,
    /// The sources that arrive through a VPC endpoint; `None` stands for [`PRIVATE_BLOCKS`].
    pub vpc_cidrs: Option<Vec<IpNet>>,
}

/// What authorizes requests beside the policy (API Gateway Developer Guide, "How API Gateway resource
/// policies affect authorization workflow").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Authorizer {
    /// The policy alone: what no statement allows is denied.
    #[default]
    None,
    /// A Cognito user pool: as with none.
    Cognito,
    /// IAM: only an explicit Deny of the policy is final.
    Iam,
    /// A Lambda function: only an explicit Deny of the policy is final.
    Lambda,
}

impl fmt::Display for Authorizer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::None => "none",
            Self::Cognito => "cognito",
            Self::Iam => "iam",
            Self::Lambda => "lambda",
        })
    }
}

/// What came of reading a document.
#[derive(Debug)]
pub struct Parsed {
    /// The policy; `None` exactly when a problem is an error.
    pub policy: Option<Policy>,
    /// Everything there is to say about the document, in its order; of each kind the first ones.
    pub problems: Vec<Problem>,
    /// How many errors there are, those not told included.
    pub errors: usize,
}

/// A policy that can be judged.
#[derive(Clone, Debug)]
pub struct Policy {
    statements: Vec<Statement>,
    /// What each statement's resources come to for this API.
    resources: Vec<Verdict>,
    classes: Classes,
    authorizer: Authorizer,
    implicit_deny: bool,
    evaluation: Evaluation,
    boundaries: Vec<Timestamp>,
    maybes: Vec<Problem>,
}

/// Reads the policy in `source`.
#[must_use]
pub fn parse(source: &Source, options: &Options) -> Parsed {
    let classes = Classes::new(options.vpc_cidrs.as_deref());
    let mut reader = reader::Reader::new(&classes);
    let Some(document) = document::open(&mut reader, source) else {
        return Parsed {
            policy: None,
            errors: reader.problems.errors(),
            problems: place(reader.problems, source, None),
        };
    };
    let statements = document::parse(&mut reader, &document);
    let known = match &options.api_arn {
        Some(arn) => Known::from(arn),
        None => {
            let resources = statements
                .iter()
                .flat_map(|statement| &statement.resource.is.patterns);
            Known::infer(&mut reader, resources)
        }
    };
    let mut problems = reader.problems;
    if problems.errors() > 0 {
        return Parsed {
            policy: None,
            errors: problems.errors(),
            problems: place(problems, source, Some(&document)),
        };
    }
    let mut policy = Policy::new(statements, &known, classes, options.authorizer);
    lint::remark(&policy, &mut problems);
    if let Some(gaps) = Gaps::of(&policy) {
        gaps.report(&policy, &mut problems);
    }
    let problems = place(problems, source, Some(&document));
    let maybes = problems
        .iter()
        .filter(|problem| problem.severity == Severity::Maybe);
    policy.maybes = maybes.cloned().collect();
    Parsed {
        policy: Some(policy),
        problems,
        errors: 0,
    }
}

/// The problems in order, their spans and places those of the file.
fn place(problems: Problems, source: &Source, document: Option<&Document<'_>>) -> Vec<Problem> {
    let mut problems = problems.finish();
    let mut locator = Locator::new(source.text());
    let mut unwrapped = document.map(Document::unwrapped);
    for problem in &mut problems {
        if let Some(unwrapped) = &mut unwrapped {
            let start = unwrapped.outer(problem.span.start);
            // Ends do not ascend as beginnings do.
            problem.span = start..unwrapped.clone().outer(problem.span.end);
        }
        let place = locator.locate(problem.span.start);
        (problem.line, problem.column) = (place.line, place.column);
    }
    problems
}

impl Policy {
    fn new(
        statements: Vec<Statement>,
        known: &Known,
        classes: Classes,
        authorizer: Authorizer,
    ) -> Self {
        let resources: Vec<Verdict> = statements
            .iter()
            .map(|statement| statement.resource.is.verdict(known))
            .collect();
        let implicit_deny = matches!(authorizer, Authorizer::None | Authorizer::Cognito);
        let evaluation = {
            let factors = factors(&statements, &resources);
            Evaluation::new(&statements, &factors, &classes, implicit_deny)
        };
        let mut boundaries: Vec<Timestamp> =
            statements.iter().flat_map(Statement::boundaries).collect();
        boundaries.sort_unstable();
        boundaries.dedup();
        Self {
            statements,
            resources,
            classes,
            authorizer,
            implicit_deny,
            evaluation,
            boundaries,
            maybes: Vec::new(),
        }
    }

    /// The sources that may pass and those that are allowed at `now`.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> Decisions {
        self.evaluation
            .decisions(&self.statements, &self.active(now))
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

    /// The networks that conditions name, as few as they come to for each condition; some twice,
    /// where several name them.
    pub fn networks(&self) -> impl Iterator<Item = IpNet> + '_ {
        let conditions = self.statements.iter().flat_map(|one| &one.conditions);
        let listed = conditions.filter_map(|condition| match &condition.test {
            condition::Test::Addresses(listed) => Some(listed),
            _ => None,
        });
        listed.flat_map(AddressSet::networks)
    }

    /// How many statements there are.
    #[must_use]
    pub fn statements_len(&self) -> usize {
        self.statements.len()
    }

    /// The `Sid` of a statement.
    #[must_use]
    pub fn sid(&self, statement: usize) -> Option<&str> {
        self.statements.get(statement)?.sid.as_deref()
    }

    /// For each statement whether its conditions on the clock hold.
    fn active(&self, now: Timestamp) -> Vec<bool> {
        self.statements
            .iter()
            .map(|statement| statement.is_active(now))
            .collect()
    }

    fn factors(&self) -> Vec<Vec<Factor<'_>>> {
        factors(&self.statements, &self.resources)
    }
}

fn factors<'s>(statements: &'s [Statement], resources: &[Verdict]) -> Vec<Vec<Factor<'s>>> {
    statements
        .iter()
        .zip(resources)
        .map(|(statement, resource)| statement.factors(*resource))
        .collect()
}
