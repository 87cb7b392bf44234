//! What a policy says of one request, or of one source's, and which statements say so.

use std::net::IpAddr;

use jiff::Timestamp;

use super::Policy;
use crate::{
    evaluate::{AskedRequest, Factor, Request, View},
    network::reach::Interface,
    syntax::statement::Effect,
    verdict::Verdict,
};

/// The verdict on a request, or on a source's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// Denied. Of a source: every request is, and the interface drops them.
    Deny,
    /// Allowed. Of a source: every request is.
    Allow,
    /// Not decided here: of a source, it depends on the request; of a request, no statement decides it
    /// and an authorizer has the last word, or what the policy means is not certain.
    Depends,
}

/// A decision and what it rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation<'p> {
    /// The verdict.
    pub decision: Decision,
    /// Whether statements that match decide it: Denys, or for [`Decision::Allow`] an Allow. A denial
    /// without one is because no Allow matches.
    pub explicit: bool,
    /// Whether a request that no statement matches is denied, whatever an authorizer says.
    pub implicit_deny: bool,
    /// Every statement of the policy, in its order.
    pub statements: Vec<StatementVerdict<'p>>,
}

/// Whether a statement matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatementVerdict<'p> {
    /// The statement's index in the policy.
    pub index: usize,
    /// Its `Sid`.
    pub sid: Option<&'p str>,
    /// Its `Effect`.
    pub effect: Effect,
    /// Whether it matches.
    pub matches: Verdict,
    /// The element that keeps it from matching.
    pub failed: Option<Failed<'p>>,
}

/// An element of a statement that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed<'p> {
    /// `Principal` or `NotPrincipal`.
    Principal,
    /// `Action` or `NotAction`.
    Action,
    /// `Resource` or `NotResource`.
    Resource,
    /// The condition on this key.
    Condition(&'p str),
}

impl Policy {
    /// What the policy says of every request from `source` at `now`, as far as an interface can know.
    #[must_use]
    pub fn explain(&self, source: IpAddr, now: Timestamp) -> Explanation<'_> {
        let view = Interface {
            class: self.classes.of(source),
            iam: self.iam(),
            now: Some(now),
            sources: source,
        };
        self.ask(&view, self.implicit_deny)
    }

    /// What the policy says of a request.
    ///
    /// Under IAM authorization a caller of another account needs the policy's Allow besides that of its
    /// own account ("How API Gateway resource policies affect authorization workflow", Table B): there
    /// [`Explanation::implicit_deny`] says that one which no statement matches is denied.
    #[must_use]
    pub fn decide(&self, request: &Request) -> Explanation<'_> {
        let view = AskedRequest::new(request, self.classes.of(request.source), self.iam());
        let mut explanation = self.ask(&view, self.implicit_deny);
        let foreign = view.account().zip(self.account());
        explanation.implicit_deny |= foreign.is_some_and(|(caller, own)| caller != own);
        explanation
    }

    fn ask<V: View<Answer = Verdict>>(&self, view: &V, implicit_deny: bool) -> Explanation<'_> {
        let found = self.rules.find(view);
        let outcome = self.rules.decide(&found, &|_| true);
        let denied = outcome.deny == Verdict::Yes;
        let (decision, explicit) = match outcome.allowed(implicit_deny) {
            Verdict::Yes => (Decision::Allow, true),
            Verdict::Maybe => (Decision::Depends, false),
            Verdict::No => (Decision::Deny, denied),
        };
        let statements = self.rules.all.iter().zip(&found.statements).enumerate();
        Explanation {
            decision,
            explicit,
            implicit_deny,
            statements: statements
                .map(|(index, (rule, found))| StatementVerdict {
                    index,
                    sid: rule.statement.sid.as_deref(),
                    effect: rule.statement.effect,
                    matches: found.answer,
                    failed: found
                        .failed
                        .and_then(|part| rule.factors().nth(part))
                        .map(Failed::of),
                })
                .collect(),
        }
    }
}

impl<'p> Failed<'p> {
    fn of(factor: Factor<'p>) -> Self {
        match factor {
            Factor::Principal(_) => Self::Principal,
            Factor::Action(_) => Self::Action,
            Factor::Resource(..) => Self::Resource,
            Factor::Condition(condition) => Self::Condition(&condition.key.name),
        }
    }
}
