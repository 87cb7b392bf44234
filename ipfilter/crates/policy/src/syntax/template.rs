//! Text with wildcards and policy variables.
//!
//! Follows the IAM User Guide's "IAM policy elements: Variables and tags": variables are understood
//! with Version 2012-10-17 only, `${*}`, `${?}` and `${$}` are the characters themselves, and
//! `${key, 'default'}` has a value where the key is missing.

use std::borrow::Cow;

use super::key::Key;
use crate::{
    text::{
        glob::{self, Piece},
        problem::{Advice, clip},
    },
    verdict::Verdict,
};

/// What a text may hold besides characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Style {
    pub(crate) wildcards: bool,
    pub(crate) variables: bool,
}

/// A text, ready to be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Any,
    One,
    Variable(Box<Variable>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Variable {
    pub(crate) key: Key,
    pub(crate) default: Option<String>,
}

/// What is known of a variable's value.
pub(crate) enum Value<'v> {
    Known(Cow<'v, str>),
    Missing,
    Unknown,
}

impl Template {
    /// Reads a text.
    pub(crate) fn parse(text: &str, style: Style) -> Result<Self, Advice> {
        let mut template = Self { parts: Vec::new() };
        let mut rest = text;
        while let Some(at) = rest.find(['*', '?', '$']) {
            let (before, special) = rest.split_at(at);
            template.push(before);
            rest = special.get(1..).unwrap_or_default();
            if special.starts_with('$') {
                rest = template.push_dollar(special, style)?;
            } else if !style.wildcards {
                template.push(special.get(..1).unwrap_or_default());
            } else if special.starts_with('*') {
                template.parts.push(Part::Any);
            } else {
                template.parts.push(Part::One);
            }
        }
        template.push(rest);
        Ok(template)
    }

    fn push(&mut self, text: &str) {
        match self.parts.last_mut() {
            Some(Part::Text(before)) => before.push_str(text),
            _ if text.is_empty() => {}
            _ => self.parts.push(Part::Text(text.to_owned())),
        }
    }

    /// Takes what begins with `$`, and returns what follows.
    fn push_dollar<'t>(&mut self, text: &'t str, style: Style) -> Result<&'t str, Advice> {
        let inside = text
            .strip_prefix("${")
            .and_then(|rest| rest.split_once('}'));
        let Some((name, rest)) = inside.filter(|_| style.variables) else {
            self.push("$");
            return Ok(text.get(1..).unwrap_or_default());
        };
        match name {
            "*" | "?" | "$" => self.push(name),
            _ => self
                .parts
                .push(Part::Variable(Box::new(Variable::parse(name)?))),
        }
        Ok(rest)
    }

    /// The text, if it is nothing but text.
    pub(crate) fn literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The policy variables in it.
    pub(crate) fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.parts.iter().filter_map(|part| match part {
            Part::Variable(variable) => Some(variable.as_ref()),
            _ => None,
        })
    }

    /// The six fields of an ARN, of which only the last may hold colons.
    pub(crate) fn fields(&self) -> Vec<Self> {
        let mut fields = vec![Self { parts: Vec::new() }];
        for part in &self.parts {
            let Part::Text(text) = part else {
                if let Some(field) = fields.last_mut() {
                    field.parts.push(part.clone());
                }
                continue;
            };
            for (nth, piece) in text.splitn(7 - fields.len(), ':').enumerate() {
                if nth > 0 {
                    fields.push(Self { parts: Vec::new() });
                }
                if let Some(field) = fields.last_mut() {
                    field.push(piece);
                }
            }
        }
        fields
    }

    /// Whether it matches the whole of `text`, with `fold` applied to the values of variables; `value`
    /// finds those.
    pub(crate) fn matches<'v>(
        &self,
        text: &str,
        fold: impl Fn(&str) -> String,
        value: impl Fn(&Key) -> Value<'v>,
    ) -> Verdict {
        self.filled(fold, value, |pieces| glob::matches(pieces, text).into())
    }

    /// What `judge` says of the template with the values of its variables filled in.
    pub(crate) fn filled<'v>(
        &self,
        fold: impl Fn(&str) -> String,
        value: impl Fn(&Key) -> Value<'v>,
        judge: impl FnOnce(&[Piece<'_>]) -> Verdict,
    ) -> Verdict {
        let mut values = Vec::new();
        for variable in self.variables() {
            match (value(&variable.key), &variable.default) {
                (Value::Known(value), _) => values.push(fold(&value)),
                (Value::Missing, Some(default)) => values.push(fold(default)),
                (Value::Missing, None) => return Verdict::No,
                (Value::Unknown, _) => return Verdict::Maybe,
            }
        }
        let mut values = values.iter();
        let pieces = self.parts.iter().map(|part| match part {
            Part::Text(text) => Piece::Text(text),
            Part::Any => Piece::Any,
            Part::One => Piece::One,
            Part::Variable(_) => Piece::Text(values.next().map_or("", String::as_str)),
        });
        judge(&pieces.collect::<Vec<_>>())
    }
}

impl Variable {
    fn parse(text: &str) -> Result<Self, Advice> {
        let (name, default) = match text.split_once(',') {
            Some((name, default)) => (name.trim(), Some(default.trim())),
            None => (text.trim(), None),
        };
        let quoted = |text: &str| Some(text.strip_prefix('\'')?.strip_suffix('\'')?.to_owned());
        let default = match default {
            Some(default) => Some(quoted(default).ok_or_else(|| {
                Advice::new(format!("`${{{}}}` is not a policy variable", clip(text)))
                    .hint("write a default in single quotes: `${aws:username, 'nobody'}`")
            })?),
            None => None,
        };
        let key = Key::parse(name).ok_or_else(|| not_a_variable(text, name))?;
        Ok(Self { key, default })
    }
}

/// What to say of a text with something in it that only a template has.
pub(crate) fn unrendered(text: &str) -> Option<Advice> {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("${") {
        let (name, behind) = after.split_once('}')?;
        if is_unrendered(name) {
            return Some(not_rendered(name));
        }
        rest = behind;
    }
    None
}

/// Whether this is not the form of a policy variable's name.
fn is_unrendered(name: &str) -> bool {
    !matches!(name, "*" | "?" | "$") && (name.contains("::") || !name.contains(':'))
}

fn not_rendered(name: &str) -> Advice {
    let written = clip(name);
    Advice::new(format!(
        "`${{{written}}}` is not a policy variable: a template was not rendered"
    ))
    .hint(match placeholder(name) {
        Some(what) => format!("put {what} there"),
        None => "render the template, or write the value itself".to_owned(),
    })
}

fn not_a_variable(text: &str, name: &str) -> Advice {
    if is_unrendered(name) {
        return not_rendered(text);
    }
    let written = format!("${{{}}}", clip(text));
    let unknown = Key::explain_unknown(name);
    Advice {
        message: format!("`{written}` is not a policy variable: {}", unknown.message),
        hint: unknown.hint,
    }
}

/// What belongs in place of a placeholder of this name.
pub(crate) fn placeholder(name: &str) -> Option<&'static str> {
    let name: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|character| character.to_ascii_lowercase())
        .collect();
    if name.contains("region") {
        Some("the API's region, such as `us-east-1`, or `*`")
    } else if name.contains("account") {
        Some("the account's twelve digits, or `*`")
    } else if name.contains("partition") {
        Some("`aws`")
    } else if name.contains("api") {
        Some("the API's id, such as `a1b2c3d4e5`, or `*`")
    } else if name.contains("stage") {
        Some("the stage's name, or `*`")
    } else {
        None
    }
}
