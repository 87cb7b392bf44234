//! Settings whose value is one of a few names.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use ipfilter_document::{
    json::{Kind, Node},
    problem::{Advice, Path, clip, nearest},
    reader::Reader,
};
use ipfilter_plan::{Deny, Lookup};
use ipfilter_policy::Authorizer;
use serde::{Deserialize, Serialize};

use super::value::{Value, unexpected};
use crate::mode::Mode;

/// A value that is one of a few names.
pub trait Choice: Copy + Default + PartialEq + Send + Sync + 'static {
    /// Each name, its value, and its help text.
    const CHOICES: &'static [(&'static str, Self, &'static str)];

    /// Its name.
    #[must_use]
    fn name(self) -> &'static str {
        let found = Self::CHOICES.iter().find(|(_, value, _)| *value == self);
        found.map_or("", |(name, ..)| name)
    }
}

/// The value called `text`.
fn named<T: Choice>(text: &str) -> Option<T> {
    let found = T::CHOICES.iter().find(|(name, ..)| *name == text);
    found.map(|(_, value, _)| *value)
}

/// What takes a choice on the command line.
pub fn choice<T: Choice>() -> impl TypedValueParser<Value = T> {
    let values = T::CHOICES.iter();
    let values = values.map(|(name, _, help)| PossibleValue::new(*name).help(*help));
    PossibleValuesParser::new(values)
        .try_map(|text| named::<T>(&text).ok_or("it is not one of the choices"))
}

macro_rules! choices {
    ($($type:ident { $($name:literal = $variant:ident $help:literal,)+ })+) => {$(
        impl Choice for $type {
            const CHOICES: &'static [(&'static str, Self, &'static str)] =
                &[$(($name, Self::$variant, $help)),+];
        }

        impl Value for $type {
            fn takes() -> String {
                let names = Self::CHOICES.iter().map(|(name, ..)| format!("\"{name}\""));
                let names: Vec<_> = names.collect();
                match names.split_last() {
                    Some((last, rest)) if !rest.is_empty() => {
                        format!("{} or {last}", rest.join(", "))
                    }
                    _ => names.concat(),
                }
            }

            fn shown(&self) -> Option<String> {
                Some(format!("\"{}\"", self.name()))
            }

            fn read(reader: &mut Reader, node: Node<'_>, path: &Path<'_>) -> Option<Self> {
                read_choice(reader, node, path)
            }
        }
    )+};
}

fn read_choice<T: Choice + Value>(
    reader: &mut Reader,
    node: Node<'_>,
    path: &Path<'_>,
) -> Option<T> {
    if node.kind() != Kind::String {
        unexpected(reader, node, path, &T::takes());
        return None;
    }
    let text = reader.text(node, path, "this value")?;
    let value = named(&text);
    if value.is_none() {
        let names = T::CHOICES.iter().map(|(name, ..)| *name);
        reader.error("value", &(path, node.span()), || {
            let advice = Advice::new(format!("`{}` is not {}", clip(&text), T::takes()));
            match nearest(&text, names) {
                Some(name) => advice.hint(format!("did you mean `{name}`?")),
                None => advice,
            }
        });
    }
    value
}

/// What to do at the start if a policy is broken and there is no last good plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnError {
    /// Deny everyone at the APIs whose policies are broken.
    #[default]
    DenyAll,
    /// End with an error.
    Fail,
}

choices! {
    Deny {
        "drop" = Drop "Drop them without an answer",
        "reject" = Reject "Answer with a TCP reset, or ICMP for UDP",
        "respond" = Respond "Answer with 403 Forbidden, or a TLS alert",
    }
    Mode {
        "auto" = Auto "Native XDP, else traffic control, else generic XDP",
        "native" = Native "XDP in the driver",
        "generic" = Generic "XDP after the driver",
        "tc" = Tc "Traffic control, ingress",
    }
    Lookup {
        "auto" = Auto "Whichever is faster for the policy",
        "trie" = Trie "The kernel's longest-prefix-match trie",
        "intervals" = Intervals "The interval table",
    }
    Authorizer {
        "none" = None "The policy alone",
        "cognito" = Cognito "A Cognito user pool",
        "iam" = Iam "IAM",
        "lambda" = Lambda "A Lambda function",
    }
    OnError {
        "deny-all" = DenyAll "Deny everyone at the APIs whose policies are broken",
        "fail" = Fail "End with an error",
    }
}
