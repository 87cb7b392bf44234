//! Conditions: an operator, a key and values.
//!
//! Follows the IAM User Guide's "IAM JSON policy elements: Condition" and "Conditions with multiple
//! context keys or values": operators AND, keys AND, values OR, values of a negated operator NOR.

mod operator;
mod value;

pub(crate) use operator::{Operator, Quantifier, TextMatch};
pub(crate) use value::{Block, Test, Texts, Written, parse_number};

use std::{collections::HashMap, ops::Range};

use self::operator::Family;
use super::{
    key::{Holds, Key, Origin},
    reader::{Member, Reader},
};
use crate::text::{
    json::Node,
    problem::{Advice, Path, clip},
};

/// One key under one operator.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    pub(crate) operator: Operator,
    pub(crate) key: Key,
    pub(crate) test: Test,
    pub(crate) written: Written,
    pub(crate) path: String,
    pub(crate) span: Range<usize>,
    /// The bytes that the values take.
    pub(crate) values: Range<usize>,
}

impl Condition {
    /// Whether it is about the clock alone, which is no matter of sources.
    pub(crate) fn is_clock(&self) -> bool {
        self.key.is_clock() && matches!(self.test, Test::Instants(..))
    }
}

/// Reads a statement's `Condition`.
pub(crate) fn parse(reader: &mut Reader, node: Node<'_>, path: &Path<'_>) -> Vec<Condition> {
    let mut conditions = Vec::new();
    for member in reader.object(node, path, "`Condition`").unwrap_or_default() {
        let path = path.name(&member.name);
        match Operator::parse(&member.name) {
            Some(operator) => conditions.extend(parse_keys(reader, operator, &member, &path)),
            None => reader.error("operator", &(&path, member.key.span()), || {
                Operator::explain_unknown(&member.name)
            }),
        }
    }
    conditions
}

fn parse_keys(
    reader: &mut Reader,
    operator: Operator,
    member: &Member<'_>,
    path: &Path<'_>,
) -> Vec<Condition> {
    let what = format!("`{}`", member.name);
    let mut seen: HashMap<String, String> = HashMap::new();
    let mut conditions = Vec::new();
    for entry in reader.object(member.value, path, &what).unwrap_or_default() {
        let path = path.name(&entry.name);
        let at = (&path, entry.key.span());
        let Some(key) = Key::parse(&entry.name) else {
            reader.error("key", &at, || Key::explain_unknown(&entry.name));
            continue;
        };
        if let Some(first) = seen.insert(key.name.to_ascii_lowercase(), entry.name.to_string()) {
            reader.error("duplicate", &at, || {
                let (first, again) = (clip(&first), clip(&entry.name));
                Advice::new(format!("`{again}` is the same key as `{first}`"))
                    .hint("keys are compared without regard to case: merge them into one list")
            });
            continue;
        }
        if let Some(advice) = misfit(operator, &key) {
            reader.error("misfit", &at, || advice);
            continue;
        }
        if matches!(operator.family, Family::Text(_)) && key.holds == Holds::Address {
            reader.warn("text-address", &at, || {
                Advice::new(format!(
                    "`{}` compares `{}` as text",
                    operator.name, key.name
                ))
                .hint("use `IpAddress` or `NotIpAddress`, which know addresses")
            });
        }
        let (test, written) = value::parse(reader, operator, &key, entry.value, &path);
        conditions.push(Condition {
            test,
            written,
            operator,
            key,
            path: path.to_string(),
            span: entry.key.span().start..entry.value.span().end,
            values: entry.value.span(),
        });
    }
    conditions
}

/// Why the operator cannot test the key, if it cannot.
fn misfit(operator: Operator, key: &Key) -> Option<Advice> {
    if operator.quantifier.is_some() && key.many == Some(false) {
        let plain = Operator {
            quantifier: None,
            ..operator
        };
        return Some(
            Advice::new(format!(
                "`{operator}` cannot test `{}`, which has one value",
                key.name
            ))
            .hint(format!("write `{plain}`")),
        );
    }
    if key.is_foreign() || key.name.contains('/') || operator.family == Family::Null {
        return None;
    }
    let fits = match (operator.family, key.holds) {
        (Family::Address, holds) => holds == Holds::Address,
        (Family::Date(_), holds) => holds == Holds::Date,
        (Family::Numeric(_), Holds::Date) => key.origin == Origin::Epoch,
        (Family::Arn | Family::Binary | Family::Boolean | Family::Numeric(_), holds) => {
            holds == Holds::Other
        }
        (Family::Text(_) | Family::Null, _) => true,
    };
    if fits {
        return None;
    }
    let advice = Advice::new(format!("`{}` cannot test `{}`", operator.name, key.name));
    Some(match (key.holds, operator.family) {
        (Holds::Address, _) => {
            advice.hint("it holds an address: use `IpAddress` or `NotIpAddress`")
        }
        (Holds::Date, _) => advice.hint("it holds a time: use `DateGreaterThan` or `DateLessThan`"),
        (Holds::Other, Family::Address) => {
            advice.hint("keys that hold addresses are `aws:SourceIp` and `aws:VpcSourceIp`")
        }
        (Holds::Other, _) => {
            advice.hint("keys that hold times are `aws:CurrentTime` and `aws:EpochTime`")
        }
    })
}
