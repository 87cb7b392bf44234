//! From the outcomes of statements to a decision.

use super::{answer::Answer, calls::Calls, rules::Factor, view::View};
use crate::{
    syntax::statement::{Effect, Statement},
    verdict::Verdict,
};

/// A statement, ready to be matched for one API.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) statement: Statement,
    pub(crate) calls: Calls,
}

impl Rule {
    /// The parts of its match; all must hold.
    pub(crate) fn factors(&self) -> impl Iterator<Item = Factor<'_>> {
        let Statement {
            principal,
            action,
            resource,
            conditions,
            ..
        } = &self.statement;
        // What is decided soonest comes first.
        [
            Factor::Action(action),
            Factor::Resource(resource, &self.calls),
        ]
        .into_iter()
        .chain(conditions.iter().map(Factor::Condition))
        .chain([Factor::Principal(principal)])
    }

    /// Whether its conditions on the clock hold.
    pub(crate) fn is_active(&self, now: jiff::Timestamp) -> bool {
        let mut clocks = self
            .statement
            .conditions
            .iter()
            .filter(|one| one.is_clock());
        clocks.all(|condition| condition.clock_holds(now))
    }

    /// Whether the parts hold that `wanted` chooses, and which one certainly does not.
    fn holds<V: View>(
        &self,
        view: &V,
        wanted: impl Fn(usize) -> bool,
    ) -> (V::Answer, Option<usize>) {
        let mut all = V::Answer::of(true.into());
        for (index, factor) in self.factors().enumerate() {
            let aside = view.is_timeless() && factor.is_clock();
            if aside || !wanted(index) {
                continue;
            }
            all = all.and(factor.holds(view));
            if all.is_no() {
                return (all, Some(index));
            }
        }
        (all, None)
    }
}

/// The statements of a policy, and what is known of them taken together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    pub(crate) all: Vec<Rule>,
    pub(crate) pairs: Vec<Pair>,
    pub(crate) covers: Vec<Cover>,
}

/// Two statements of one effect, of each of which a part holds whenever the other's does not.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    /// Each with the index of that part.
    pub(crate) statements: [(usize, usize); 2],
}

/// A Deny that takes back what an Allow gives.
#[derive(Clone, Debug)]
pub(crate) struct Cover {
    pub(crate) allow: usize,
    pub(crate) deny: usize,
    /// The indices of the Deny's parts that do not follow from the Allow's.
    pub(crate) open: Vec<usize>,
}

/// The outcome of a policy's statements.
#[derive(Clone, Debug)]
pub(crate) struct Findings<A> {
    pub(crate) statements: Vec<Found<A>>,
    /// By pair, whether one of the two matches.
    pub(crate) pairs: Vec<A>,
    /// By cover, whether the Deny matches what the Allow matches.
    pub(crate) covers: Vec<A>,
}

/// The outcome of one statement.
#[derive(Clone, Debug)]
pub(crate) struct Found<A> {
    pub(crate) answer: A,
    /// The index of the part that certainly does not hold, if there is one.
    pub(crate) failed: Option<usize>,
}

/// The outcome of the statements of each effect.
pub(crate) struct Outcome<A> {
    pub(crate) allow: A,
    pub(crate) deny: A,
}

impl<A: Answer> Outcome<A> {
    /// Whether a request is allowed. `is_final` says whether one that no statement matches is denied.
    pub(crate) fn allowed(self, is_final: bool) -> A {
        let allow = match is_final {
            true => self.allow,
            false => self.allow.or(A::of(Verdict::Maybe)),
        };
        allow.and(self.deny.not())
    }
}

/// Which statements can match.
pub(crate) type Scope<'s> = &'s dyn Fn(usize) -> bool;

impl Rules {
    /// The outcome of each statement by itself.
    pub(crate) fn find_statements<V: View>(&self, view: &V) -> Vec<Found<V::Answer>> {
        let statements = self.all.iter().map(|rule| rule.holds(view, |_| true));
        let found = statements.map(|(answer, failed)| Found { answer, failed });
        found.collect()
    }

    /// The outcome of the statements, each by itself and together.
    pub(crate) fn find<V: View>(&self, view: &V) -> Findings<V::Answer> {
        let statements = self.find_statements(view);
        let possible = |index: usize| {
            let found: Option<&Found<V::Answer>> = statements.get(index);
            found.is_some_and(|found| !found.answer.is_no())
        };
        let (pairs, covers) = self.relate(view, &possible);
        Findings {
            statements,
            pairs,
            covers,
        }
    }

    /// The outcome of statements taken together: the pairs and the covers. Only those statements can
    /// match that are `possible`.
    pub(crate) fn relate<V: View>(
        &self,
        view: &V,
        possible: Scope<'_>,
    ) -> (Vec<V::Answer>, Vec<V::Answer>) {
        let no = || V::Answer::of(false.into());
        let holds = |statement: usize, wanted: &dyn Fn(usize) -> bool| {
            let rule = self.all.get(statement);
            rule.map_or_else(no, |rule| rule.holds(view, wanted).0)
        };
        let pairs = self.pairs.iter().map(|pair| {
            let [(first, aside), (second, other_aside)] = pair.statements;
            if !possible(first) || !possible(second) {
                return no();
            }
            holds(first, &|part| part != aside).and(holds(second, &|part| part != other_aside))
        });
        let covers = self.covers.iter().map(|cover| {
            if !possible(cover.allow) || !possible(cover.deny) {
                return no();
            }
            holds(cover.deny, &|part| cover.open.contains(&part))
        });
        (pairs.collect(), covers.collect())
    }

    /// Combines the outcomes of statements; only those can match that `active` says.
    pub(crate) fn decide<A: Answer>(&self, found: &Findings<A>, active: Scope<'_>) -> Outcome<A> {
        Outcome {
            allow: self.any(found, Effect::Allow, active),
            deny: self.any(found, Effect::Deny, active),
        }
    }

    fn any<A: Answer>(&self, found: &Findings<A>, effect: Effect, active: Scope<'_>) -> A {
        let has_effect = |statement: usize| {
            let rule = self.all.get(statement);
            rule.is_some_and(|rule| rule.statement.effect == effect)
        };
        let statements = found.statements.iter().enumerate();
        let statements = statements
            .filter(|(index, one)| has_effect(*index) && active(*index) && !one.answer.is_no())
            .map(|(index, one)| self.taken_back(index, one.answer.clone(), found, active));
        let pairs = self
            .pairs
            .iter()
            .zip(&found.pairs)
            .filter(|(pair, answer)| {
                let [(first, _), (second, _)] = pair.statements;
                has_effect(first) && active(first) && active(second) && !answer.is_no()
            });
        let pairs = pairs.map(|(_, answer)| answer.clone());
        union(statements.chain(pairs).collect())
    }

    /// What is left of an Allow where a Deny takes it back.
    fn taken_back<A: Answer>(
        &self,
        allow: usize,
        answer: A,
        found: &Findings<A>,
        active: Scope<'_>,
    ) -> A {
        let covers = self.covers.iter().zip(&found.covers);
        covers
            .filter(|(cover, _)| cover.allow == allow && active(cover.deny))
            .fold(answer, |answer, (_, taken)| answer.unless_certain(taken))
    }
}

/// Whether any holds, in time that grows with the answers' total size.
fn union<A: Answer>(mut answers: Vec<A>) -> A {
    while answers.len() > 1 {
        let mut halved = Vec::with_capacity(answers.len().div_ceil(2));
        let mut pairs = answers.into_iter();
        while let Some(first) = pairs.next() {
            halved.push(match pairs.next() {
                Some(second) => first.or(second),
                None => first,
            });
        }
        answers = halved;
    }
    answers.pop().unwrap_or_else(|| A::of(false.into()))
}
