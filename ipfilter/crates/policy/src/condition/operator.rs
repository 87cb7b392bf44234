//! Condition operators.
//!
//! The list is that of the IAM User Guide's "IAM JSON policy elements: Condition operators". Names are
//! taken exactly as documented.

use super::super::{
    problem::{Advice, clip, nearest},
    time::Comparison,
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
    Text,
}

/// A condition operator with its suffix taken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Operator {
    /// The documented name, without `IfExists`.
    pub(crate) name: &'static str,
    pub(crate) family: Family,
    /// Whether it holds when none of the values match.
    pub(crate) negated: bool,
    pub(crate) if_exists: bool,
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
    ("StringEquals", Family::Text, false),
    ("StringEqualsIgnoreCase", Family::Text, false),
    ("StringLike", Family::Text, false),
    ("StringNotEquals", Family::Text, true),
    ("StringNotEqualsIgnoreCase", Family::Text, true),
    ("StringNotLike", Family::Text, true),
];

impl Operator {
    /// The operator of that name.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (base, if_exists) = split(text);
        let &(name, family, negated) = OPERATORS.iter().find(|(name, ..)| *name == base)?;
        (family != Family::Null || !if_exists).then_some(Self {
            name,
            family,
            negated,
            if_exists,
        })
    }

    /// Why there is no operator of that name, and which may be meant.
    pub(crate) fn explain_unknown(text: &str) -> Advice {
        let (base, if_exists) = split(text);
        if base == "Null" {
            return Advice::new("`Null` takes no `IfExists`")
                .hint("write `Null`: it already says whether the key is there");
        }
        if let Some((set @ ("ForAllValues" | "ForAnyValue"), rest)) = text.split_once(':') {
            return Advice::new(format!("`{set}:` is not supported")).hint(format!(
                "an API's requests carry one value a key: write `{}`",
                clip(rest)
            ));
        }
        let advice = Advice::new(format!("unknown condition operator `{}`", clip(text)));
        let suffix = if if_exists { IF_EXISTS } else { "" };
        match nearest(base, OPERATORS.iter().map(|(name, ..)| *name)) {
            Some("Null") => advice.hint("did you mean `Null`?"),
            Some(name) => advice.hint(format!("did you mean `{name}{suffix}`?")),
            None => advice.hint("operators for addresses are `IpAddress` and `NotIpAddress`"),
        }
    }
}

fn split(text: &str) -> (&str, bool) {
    match text.strip_suffix(IF_EXISTS) {
        Some(base) => (base, true),
        None => (text, false),
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
            ("ForAnyValue:StringLike", "`StringLike`"),
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
