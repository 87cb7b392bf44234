//! Condition operators.
//!
//! The list is that of the IAM User Guide's "IAM JSON policy elements: Condition operators". Names are
//! taken exactly as documented.

use std::fmt;

use crate::{
    syntax::time::Comparison,
    text::problem::{Advice, clip, nearest},
};

/// What kind of comparison an operator makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Family {
    Address,
    Arn,
    Binary,
    Boolean,
    Date(Comparison),
    Null,
    Numeric(Comparison),
    Text(TextMatch),
}

/// How texts are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TextMatch {
    Exact,
    IgnoreCase,
    Wildcards,
}

/// How the several values that a request may carry are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Quantifier {
    /// `ForAllValues:`.
    All,
    /// `ForAnyValue:`.
    Any,
}

impl Quantifier {
    fn prefix(self) -> &'static str {
        match self {
            Self::All => "ForAllValues:",
            Self::Any => "ForAnyValue:",
        }
    }
}

/// A condition operator without its prefix and suffix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Operator {
    /// The documented name, without `IfExists`.
    pub(crate) name: &'static str,
    pub(crate) family: Family,
    /// Whether it holds when none of the values match.
    pub(crate) negated: bool,
    pub(crate) if_exists: bool,
    pub(crate) quantifier: Option<Quantifier>,
}

/// As it is written.
impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = self.quantifier.map_or("", Quantifier::prefix);
        let suffix = if self.if_exists { IF_EXISTS } else { "" };
        write!(f, "{prefix}{}{suffix}", self.name)
    }
}

const IF_EXISTS: &str = "IfExists";

/// Name, family, negated.
const OPERATORS: &[(&str, Family, bool)] = &[
    ("ArnEquals", Family::Arn, false),
    ("ArnLike", Family::Arn, false),
    ("ArnNotEquals", Family::Arn, true),
    ("ArnNotLike", Family::Arn, true),
    ("BinaryEquals", Family::Binary, false),
    ("Bool", Family::Boolean, false),
    ("DateEquals", Family::Date(Comparison::Equals), false),
    ("DateGreaterThan", Family::Date(Comparison::Greater), false),
    (
        "DateGreaterThanEquals",
        Family::Date(Comparison::GreaterEquals),
        false,
    ),
    ("DateLessThan", Family::Date(Comparison::Less), false),
    (
        "DateLessThanEquals",
        Family::Date(Comparison::LessEquals),
        false,
    ),
    ("DateNotEquals", Family::Date(Comparison::Equals), true),
    ("IpAddress", Family::Address, false),
    ("NotIpAddress", Family::Address, true),
    ("Null", Family::Null, false),
    ("NumericEquals", Family::Numeric(Comparison::Equals), false),
    (
        "NumericGreaterThan",
        Family::Numeric(Comparison::Greater),
        false,
    ),
    (
        "NumericGreaterThanEquals",
        Family::Numeric(Comparison::GreaterEquals),
        false,
    ),
    ("NumericLessThan", Family::Numeric(Comparison::Less), false),
    (
        "NumericLessThanEquals",
        Family::Numeric(Comparison::LessEquals),
        false,
    ),
    (
        "NumericNotEquals",
        Family::Numeric(Comparison::Equals),
        true,
    ),
    ("StringEquals", Family::Text(TextMatch::Exact), false),
    (
        "StringEqualsIgnoreCase",
        Family::Text(TextMatch::IgnoreCase),
        false,
    ),
    ("StringLike", Family::Text(TextMatch::Wildcards), false),
    ("StringNotEquals", Family::Text(TextMatch::Exact), true),
    (
        "StringNotEqualsIgnoreCase",
        Family::Text(TextMatch::IgnoreCase),
        true,
    ),
    ("StringNotLike", Family::Text(TextMatch::Wildcards), true),
];

impl Operator {
    /// The operator of that name.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (quantifier, base, if_exists) = split(text);
        let &(name, family, negated) = OPERATORS.iter().find(|(name, ..)| *name == base)?;
        let plain = quantifier.is_none() && !if_exists;
        (family != Family::Null || plain).then_some(Self {
            name,
            family,
            negated,
            if_exists,
            quantifier,
        })
    }

    /// Whether a request that lacks the key fulfils it: negated operators do, `…IfExists` and
    /// `ForAllValues:`.
    pub(crate) fn holds_without_key(self) -> bool {
        match self.quantifier {
            Some(Quantifier::All) => true,
            Some(Quantifier::Any) => self.if_exists,
            None => self.negated || self.if_exists,
        }
    }

    /// Why there is no operator of that name, and which may be meant.
    pub(crate) fn explain_unknown(text: &str) -> Advice {
        let (quantifier, base, if_exists) = split(text);
        if base == "Null" {
            return Advice::new(
                "`Null` takes neither `IfExists` nor `ForAllValues:` nor `ForAnyValue:`",
            )
            .hint("write `Null`: it already says whether the key is there");
        }
        let advice = Advice::new(format!("unknown condition operator `{}`", clip(text)));
        let prefix = quantifier.map_or("", Quantifier::prefix);
        let suffix = if if_exists { IF_EXISTS } else { "" };
        match nearest(base, OPERATORS.iter().map(|(name, ..)| *name)) {
            Some("Null") => advice.hint("did you mean `Null`?"),
            Some(name) => advice.hint(format!("did you mean `{prefix}{name}{suffix}`?")),
            None => advice.hint("operators for addresses are `IpAddress` and `NotIpAddress`"),
        }
    }
}

fn split(text: &str) -> (Option<Quantifier>, &str, bool) {
    let prefixed = [Quantifier::All, Quantifier::Any]
        .into_iter()
        .find_map(|one| Some((Some(one), text.strip_prefix(one.prefix())?)));
    let (quantifier, rest) = prefixed.unwrap_or((None, text));
    match rest.strip_suffix(IF_EXISTS) {
        Some(base) => (quantifier, base, true),
        None => (quantifier, rest, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_exact() {
        assert!(Operator::parse("NotIpAddressIfExists").unwrap().negated);
        for (name, hint) in [
            ("NotIpAddres", "`NotIpAddress`"),
            ("ipAddress", "`IpAddress`"),
            ("IpAddressIfExist", "`IpAddress"),
            ("NullIfExists", "`Null`"),
            ("NotNull", "`Null`"),
            ("ForAnyValue:StringLke", "`ForAnyValue:StringLike`"),
            ("ForAnyValue:Null", "`Null`"),
            ("IpAddressIfExistsIfExists", "`IpAddress"),
        ] {
            assert_eq!(Operator::parse(name), None);
            let advice = Operator::explain_unknown(name);
            assert!(
                advice.hint.as_ref().unwrap().contains(hint),
                "{name} {advice:?}"
            );
        }
    }

    #[test]
    fn negation_follows_the_name() {
        for (name, _, negated) in OPERATORS {
            assert_eq!(name.contains("Not"), *negated, "{name}");
        }
    }
}
