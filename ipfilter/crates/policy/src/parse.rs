//! From text to a policy, or to what is wrong with it.

use jiff::Timestamp;

use crate::{
    lint,
    options::Options,
    policy::{Policy, partial::Gaps},
    syntax::{document, reader::Reader},
    text::{
        problem::{Problem, Problems},
        source::{Document, Locator, Source},
    },
};

/// The outcome of reading a document.
#[derive(Debug)]
pub struct Parsed {
    /// The policy; `None` exactly when a problem is an error.
    pub policy: Option<Policy>,
    /// Everything there is to say about the document, in its order; of each kind the first ones.
    pub problems: Vec<Problem>,
    /// How many errors there are, including those not reported.
    pub errors: usize,
}

/// How far a document can be enforced at an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Enforceable {
    /// Wholly.
    Exactly,
    /// As far as source and clock decide.
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
    let policy = statements.and_then(|statements| Policy::new(statements, options, &mut problems));
    if let Some(policy) = &policy {
        lint::remark(policy, options, now, &mut problems);
        if let Some(gaps) = Gaps::of(policy) {
            gaps.report(policy, &mut problems);
        }
    }
    let mut unwrapped = document.as_ref().map(Document::unwrapped);
    let outer = |offset| match &mut unwrapped {
        Some(unwrapped) => unwrapped.outer(offset),
        None => offset,
    };
    let policy = policy.map(|policy| policy.placed(outer));
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
