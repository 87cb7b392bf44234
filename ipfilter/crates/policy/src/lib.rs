//! Resource policies: from text to decisions. No IO.
//!
//! [`parse`] reads a document and reports all that is wrong with it, each problem with its place. A
//! [`Policy`] is then asked in one of three ways, all by the same rules: [`Policy::decide`] judges a whole
//! [`Request`]; [`Policy::explain`] judges every request of one source, as an interface sees them; and
//! [`Policy::at`] does so for all sources at once. [`Policy::next_boundary`] says when the answers of the
//! latter may change.
//!
//! This part knows no table, no packet and no file. An interface knows of a request its source address and
//! the clock; there every element evaluates to yes, no or maybe, and a source is denied for certain only
//! when each of its requests is.
//!
#![doc = include_str!("../../../docs/policy-language.md")]

mod api;
mod compare;
mod evaluate;
mod lint;
mod network;
mod policy;
mod syntax;
#[cfg(test)]
mod tests;
mod text;
mod timeline;

pub use api::{ApiArn, NotAnApiArn};
pub use compare::{Cause, Side, causes};
pub use evaluate::{Context, PRIVATE_BLOCKS, Request, Verdict};
pub use ipfilter_document::problem::{Problem, Severity, StatementId, clip, visible};
pub use network::{
    explain::{Decision, Explanation, Failed, StatementVerdict},
    reach::Decisions,
};
pub use policy::Policy;
pub use syntax::{address::parse_block, statement::Effect};
pub use text::source::{Position, SIZE_LIMIT, Source};

use std::fmt;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use self::{
    syntax::{document, reader::Reader},
    text::{
        problem::Problems,
        source::{Document, Locator},
    },
};

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

/// How far a document can be enforced at an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Enforceable {
    /// Wholly.
    Exactly,
    /// As far as source and clock tell.
    Partly,
    /// It is not a policy.
    Not,
}

impl Parsed {
    /// How far the document can be enforced at an interface.
    #[must_use]
    pub fn enforceable(&self) -> Enforceable {
        match &self.policy {
            None => Enforceable::Not,
            Some(policy) if policy.is_partial() => Enforceable::Partly,
            Some(_) => Enforceable::Exactly,
        }
    }

    /// The policy, if it is good enough to act on; else why it is refused. `allow_partial` accepts one that
    /// can be enforced only partly.
    ///
    /// # Errors
    ///
    /// When it is refused.
    pub fn accept(self, allow_partial: bool) -> Result<Accepted, Refused> {
        let enforceable = self.enforceable();
        match self.policy {
            Some(policy) if enforceable == Enforceable::Exactly || allow_partial => Ok(Accepted {
                policy,
                problems: self.problems,
            }),
            policy => Err(Refused {
                policy: policy.map(Box::new),
                problems: self.problems,
            }),
        }
    }
}

/// A policy to act on.
#[derive(Debug)]
pub struct Accepted {
    /// The policy.
    pub policy: Policy,
    /// What there is to say about it.
    pub problems: Vec<Problem>,
}

/// A document that is not acted on.
#[derive(Debug)]
pub struct Refused {
    /// The policy, if it is legal: it can only partly be enforced.
    pub policy: Option<Box<Policy>>,
    /// What there is to say about it.
    pub problems: Vec<Problem>,
}

/// Reads the policy in `source`: parses it, and analyzes what it means under `options`. What has expired by
/// now is remarked on.
#[must_use]
pub fn parse(source: &Source, options: &Options) -> Parsed {
    parse_at(source, options, Timestamp::now())
}

/// Does what [`parse`] does, at another time.
#[must_use]
pub fn parse_at(source: &Source, options: &Options, now: Timestamp) -> Parsed {
    let mut reader = Reader::default();
    let document = document::open(&mut reader, source);
    let statements = document
        .as_ref()
        .map(|document| document::parse(&mut reader, document));
    let mut problems = reader.problems;
    let policy =
        statements.and_then(|statements| Policy::new(statements, options, now, &mut problems));
    let errors = problems.errors();
    let problems = place(problems, source, document.as_ref());
    Parsed {
        policy: policy.map(|policy| policy.with_maybes(&problems)),
        problems,
        errors,
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
