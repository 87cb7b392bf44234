//! One address at a time: what a policy says of it, and which statements say so.
//!
//! Judges the statements as written, each condition by itself; it shares no set arithmetic with
//! [`super::evaluate`].

use std::net::IpAddr;

use jiff::Timestamp;

use super::{
    Policy,
    class::Class,
    condition::{Condition, Presence, Test},
    relate::{Factor, implied},
    statement::Effect,
    verdict::Verdict,
};

/// What becomes of a source's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// Every one is denied: dropped at the interface.
    Deny,
    /// Every one is allowed.
    Allow,
    /// They pass the interface, and are decided behind it.
    Depends,
}

/// A decision and what it rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The source it is about.
    pub source: IpAddr,
    /// What becomes of its requests.
    pub decision: Decision,
    /// Whether a statement that matches every request decides it: a Deny, or for
    /// [`Decision::Allow`] an Allow. A denial without one is for want of an Allow.
    pub explicit: bool,
    /// Every statement of the policy, in its order.
    pub statements: Vec<StatementVerdict>,
}

/// Whether a statement matches a source's requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementVerdict {
    /// The statement's index in the policy.
    pub index: usize,
    /// Its `Sid`.
    pub sid: Option<String>,
    /// Its `Effect`.
    pub effect: Effect,
    /// Whether it matches.
    pub matches: Verdict,
}

impl Policy {
    /// What the policy says of `source` at `now`.
    #[must_use]
    pub fn explain(&self, source: IpAddr, now: Timestamp) -> Explanation {
        let request = Request {
            source,
            class: self.classes.of(source),
            now,
        };
        let factors: Vec<Vec<Factor<'_>>> = self.factors();
        let statements: Vec<StatementVerdict> = self
            .statements
            .iter()
            .zip(&factors)
            .enumerate()
            .map(|(index, (statement, factors))| StatementVerdict {
                index,
                sid: statement.sid.clone(),
                effect: statement.effect,
                matches: request.all_of(factors),
            })
            .collect();
        let strongest = |effect: Effect| {
            let verdicts = statements
                .iter()
                .filter(|statement| statement.effect == effect);
            verdicts
                .map(|statement| statement.matches)
                .max()
                .unwrap_or(Verdict::No)
        };
        let (allow, deny) = (strongest(Effect::Allow), strongest(Effect::Deny));
        let hopeless = || {
            allow == Verdict::No
                || (allow == Verdict::Maybe && self.all_taken_back(&request, &statements, &factors))
        };
        let (decision, explicit) = match (deny, allow) {
            (Verdict::Yes, _) => (Decision::Deny, true),
            (Verdict::No, Verdict::Yes) => (Decision::Allow, true),
            _ if self.implicit_deny && hopeless() => (Decision::Deny, false),
            _ => (Decision::Depends, false),
        };
        Explanation {
            source,
            decision,
            explicit,
            statements,
        }
    }

    /// Whether each Allow that may match is taken back whole by some Deny.
    fn all_taken_back(
        &self,
        request: &Request,
        statements: &[StatementVerdict],
        factors: &[Vec<Factor<'_>>],
    ) -> bool {
        let of = |effect: Effect| {
            let chosen = statements.iter().zip(factors);
            chosen.filter(move |(statement, _)| {
                statement.effect == effect && statement.matches == Verdict::Maybe
            })
        };
        if !self.evaluation.relates() {
            return false;
        }
        of(Effect::Allow).all(|(_, allow)| {
            of(Effect::Deny).any(|(_, deny)| {
                let open = deny.iter().filter(|factor| !implied(factor, allow));
                open.into_iter()
                    .all(|factor| request.judge(factor) == Verdict::Yes)
            })
        })
    }
}

/// What an interface knows of a request.
struct Request {
    source: IpAddr,
    class: Class,
    now: Timestamp,
}

impl Request {
    fn all_of(&self, factors: &[Factor<'_>]) -> Verdict {
        factors
            .iter()
            .map(|factor| self.judge(factor))
            .fold(Verdict::Yes, Verdict::and)
    }

    fn judge(&self, factor: &Factor<'_>) -> Verdict {
        match factor {
            Factor::Principal(principal) => principal.is.verdict(),
            Factor::Action(action) => action.is.invoke.into(),
            Factor::Resource(_, verdict) => *verdict,
            Factor::Condition(condition) => self.judge_condition(condition),
        }
    }

    fn judge_condition(&self, condition: &Condition) -> Verdict {
        let operator = condition.operator;
        match (condition.key.presence(self.class), &condition.test) {
            (presence, Test::Presence { absent, present }) => match presence {
                Presence::Absent => (*absent).into(),
                Presence::Present => (*present).into(),
                Presence::Unknown if *absent && *present => Verdict::Yes,
                Presence::Unknown => Verdict::Maybe,
            },
            (Presence::Absent, _) => Verdict::from(operator.if_exists || operator.negated),
            (_, Test::Instants(..)) => condition.clock_holds(self.now).into(),
            (_, Test::Addresses(listed)) => {
                Verdict::from(listed.contains(self.source)).negate_if(operator.negated)
            }
            (_, Test::Unseen(_)) => Verdict::Maybe,
        }
    }
}
