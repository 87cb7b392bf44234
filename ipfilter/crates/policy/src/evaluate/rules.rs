//! The rules: when an element of a statement holds.
//!
//! Follows the IAM User Guide's "IAM JSON policy elements: Condition operators", "Conditions with multiple
//! context keys or values", "Single-valued vs. multivalued context keys", "AWS JSON policy elements:
//! Principal" and "… NotPrincipal".

use std::borrow::Cow;

use jiff::Timestamp;

use super::{
    answer::Answer,
    calls::Calls,
    view::{Attribute, View, value_of},
};
use crate::{
    syntax::{
        action::Action,
        condition::{Condition, Operator, Quantifier, Test, TextMatch, Texts, parse_number},
        principal::Principal,
        resource::Resource,
        statement::Element,
        template::{Template, Value},
        time::Instant,
    },
    verdict::Verdict,
};

/// One part of a statement's match; all must hold.
#[derive(Clone, Copy)]
pub(crate) enum Factor<'s> {
    Principal(&'s Element<Principal>),
    Action(&'s Element<Action>),
    Resource(&'s Element<Resource>, &'s Calls),
    Condition(&'s Condition),
}

impl Factor<'_> {
    /// Whether it is about the clock alone.
    pub(crate) fn is_clock(&self) -> bool {
        matches!(self, Self::Condition(condition) if condition.is_clock())
    }

    /// Whether it holds.
    pub(crate) fn holds<V: View>(&self, view: &V) -> V::Answer {
        match self {
            Self::Principal(principal) => caller_is(&principal.is, view),
            Self::Action(action) => V::Answer::of(action.is.covers(view.action()).into()),
            Self::Resource(_, calls) => calls.cover(view),
            Self::Condition(condition) => condition_holds(condition, view),
        }
    }
}

fn caller_is<V: View>(principal: &Principal, view: &V) -> V::Answer {
    let named = |names: &[String]| names.iter().any(|name| principal.named.contains(name));
    let is = match view.caller() {
        _ if principal.everyone => Verdict::Yes,
        None => Verdict::Maybe,
        // What is excepted is the caller itself, not all that it belongs to.
        Some(caller) if principal.except => named(&caller.own).into(),
        Some(caller) => named(&caller.all).into(),
    };
    V::Answer::of(is).negate_if(principal.except)
}

fn condition_holds<V: View>(condition: &Condition, view: &V) -> V::Answer {
    let operator = condition.operator;
    let attribute = view.attribute(&condition.key);
    let verdict = match (&condition.test, attribute) {
        (Test::Presence { absent, present }, attribute) => match attribute {
            Attribute::Absent => (*absent).into(),
            Attribute::Unknown if absent == present => (*absent).into(),
            Attribute::Unknown => Verdict::Maybe,
            _ => (*present).into(),
        },
        (_, Attribute::Absent) => operator.holds_without_key().into(),
        (_, Attribute::Present | Attribute::Unknown) => Verdict::Maybe,
        (Test::Addresses(listed), Attribute::Source(_)) => {
            return view.source_in(&listed.set).negate_if(operator.negated);
        }
        (Test::Instants(..), Attribute::Clock(now, _)) => condition.clock_holds(now).into(),
        (_, Attribute::Source(None)) => Verdict::Maybe,
        (test, Attribute::Source(Some(source))) => {
            let text = source.to_string();
            compare(operator, test, std::iter::once(text.as_str()), view)
        }
        (test, Attribute::Clock(now, form)) => match form.show(now) {
            Some(text) => compare(operator, test, std::iter::once(text.as_str()), view),
            None => Verdict::Maybe,
        },
        (test, Attribute::One(text)) => {
            compare(operator, test, std::iter::once(text.as_ref()), view)
        }
        (test, Attribute::Many(texts)) => {
            compare(operator, test, texts.iter().map(String::as_str), view)
        }
    };
    V::Answer::of(verdict)
}

impl Condition {
    /// Whether it holds at `now`, if it is about the clock; else yes.
    pub(crate) fn clock_holds(&self, now: Timestamp) -> bool {
        match &self.test {
            Test::Instants(comparison, instants) => {
                let any = instants
                    .iter()
                    .any(|instant| comparison.holds(now, *instant));
                any != self.operator.negated
            }
            _ => true,
        }
    }

    /// The times at which [`Self::clock_holds`] can change.
    pub(crate) fn boundaries(&self) -> Vec<Timestamp> {
        match &self.test {
            Test::Instants(comparison, instants) => instants
                .iter()
                .flat_map(|instant| comparison.boundaries(*instant))
                .collect(),
            _ => Vec::new(),
        }
    }
}

/// Puts together what a test says of each value that the request carries.
fn compare<'v, V: View>(
    operator: Operator,
    test: &Test,
    mut values: impl Iterator<Item = &'v str>,
    view: &V,
) -> Verdict {
    let each = |value: &str| matches(test, value, view);
    match operator.quantifier {
        None => values
            .map(each)
            .max()
            .unwrap_or(Verdict::No)
            .negate_if(operator.negated),
        Some(Quantifier::Any) => values
            .map(|value| each(value).negate_if(operator.negated))
            .max()
            .unwrap_or(Verdict::No),
        Some(Quantifier::All) => values
            .by_ref()
            .map(|value| each(value).negate_if(operator.negated))
            .min()
            .unwrap_or(Verdict::Yes),
    }
}

/// Whether one of the test's values matches `value`.
fn matches<V: View>(test: &Test, value: &str, view: &V) -> Verdict {
    match test {
        Test::Addresses(listed) => {
            let address = value.parse();
            address
                .is_ok_and(|address| listed.set.contains(address))
                .into()
        }
        Test::Instants(comparison, instants) => {
            let value = Instant::from_date(value);
            let holds =
                |value: &Instant| instants.iter().any(|one| comparison.compares(value, one));
            value.as_ref().is_ok_and(holds).into()
        }
        Test::Numbers(comparison, numbers) => {
            let holds = |value: f64| numbers.iter().any(|one| comparison.compares(&value, one));
            parse_number(value).is_some_and(holds).into()
        }
        Test::Booleans { yes, no } => {
            let is = |text: &str| value.eq_ignore_ascii_case(text);
            ((*yes && is("true")) || (*no && is("false"))).into()
        }
        Test::Texts(texts) => texts_match(texts, value, view),
        Test::Arns(arns) => {
            let fields: Vec<&str> = value.splitn(6, ':').collect();
            let matches = arns.iter().map(|arn| arn_matches(arn, &fields, view));
            matches.max().unwrap_or(Verdict::No)
        }
        Test::Presence { .. } => Verdict::Maybe,
    }
}

fn texts_match<V: View>(texts: &Texts, value: &str, view: &V) -> Verdict {
    let fold = |text: &str| match texts.how {
        TextMatch::IgnoreCase => text.to_lowercase(),
        TextMatch::Exact | TextMatch::Wildcards => text.to_owned(),
    };
    let value = match texts.how {
        TextMatch::IgnoreCase => Cow::Owned(value.to_lowercase()),
        TextMatch::Exact | TextMatch::Wildcards => Cow::Borrowed(value),
    };
    if texts.exact.contains(value.as_ref()) {
        return Verdict::Yes;
    }
    let matches = texts
        .templates
        .iter()
        .map(|template| template.matches(&value, fold, |key| value_of(view, key)));
    matches.max().unwrap_or(Verdict::No)
}

/// ARNs are compared field by field.
fn arn_matches<V: View>(arn: &[Template], fields: &[&str], view: &V) -> Verdict {
    let whole = |field: &Template| field.matches("", str::to_owned, |_| Value::Missing);
    if let [any] = arn
        && whole(any) == Verdict::Yes
        && any.literal().is_none()
    {
        // A lone asterisk.
        return (fields.len() == 6).into();
    }
    if arn.len() != fields.len() || arn.len() != 6 {
        return Verdict::No;
    }
    let fields = arn.iter().zip(fields);
    let matches =
        fields.map(|(arn, field)| arn.matches(field, str::to_owned, |key| value_of(view, key)));
    matches.min().unwrap_or(Verdict::No)
}
