//! A statement's resources, made ready for one API.

use super::{
    answer::Answer as _,
    view::{View, value_of},
};
use crate::{
    api::Known,
    syntax::{
        resource::{Form, Pattern, Resource},
        template::{Style, Template, Value, Variable},
    },
    text::{
        glob,
        pattern::{self, Places},
    },
    verdict::Verdict,
};

/// The calls of one API that a statement is about, or all but those.
#[derive(Clone, Debug)]
pub(crate) struct Calls {
    except: bool,
    ways: Vec<Way>,
}

/// How a call can be among them.
#[derive(Clone, Debug)]
enum Way {
    /// Every call is.
    Every,
    /// Those are whose `/STAGE/METHOD/PATH` matches.
    Matching(Template),
    /// That is not certain.
    Unclear,
}

/// More places in a pattern at which the calls could begin are not told apart.
const MOST_TAILS: usize = 16;

impl Calls {
    pub(crate) fn new(resource: &Resource, api: &Known) -> Self {
        let patterns = resource.patterns.iter();
        Self {
            except: resource.except,
            ways: patterns
                .flat_map(|pattern| ways(pattern, resource.variables, api))
                .collect(),
        }
    }

    /// Whether the call that is asked for is among them.
    pub(crate) fn cover<V: View>(&self, view: &V) -> V::Answer {
        let ways = self.ways.iter().map(|way| way.covers(view));
        V::Answer::of(ways.max().unwrap_or(Verdict::No)).negate_if(self.except)
    }
}

/// Whether a call of the API can match the pattern.
pub(crate) fn matches_a_call(pattern: &Pattern, variables: bool, api: &Known) -> bool {
    !ways(pattern, variables, api).is_empty()
}

fn ways(pattern: &Pattern, variables: bool, api: &Known) -> Vec<Way> {
    match pattern.form {
        Form::Everything => vec![Way::Every],
        Form::Short => pattern
            .short()
            .and_then(|calls| way(calls, variables))
            .into_iter()
            .collect(),
        Form::Arn => arn_ways(&pattern.written, variables, api),
    }
}

fn arn_ways(written: &str, variables: bool, api: &Known) -> Vec<Way> {
    let places = api.places(written);
    let tails: Vec<&str> = places.tails().take(MOST_TAILS + 1).collect();
    let names_api_by_variable = || {
        let api = written
            .splitn(6, ':')
            .nth(5)
            .and_then(|rest| rest.split('/').next());
        variables && api.is_some_and(|api| api.contains("${"))
    };
    if tails.len() > MOST_TAILS || (tails.is_empty() && names_api_by_variable()) {
        return vec![Way::Unclear];
    }
    tails
        .into_iter()
        .filter_map(|tail| way(tail, variables))
        .collect()
}

/// How a call matches what follows the API's name in a pattern; `None` when none can.
fn way(tail: &str, variables: bool) -> Option<Way> {
    if covers_calls(tail) {
        return Some(Way::Every);
    }
    let style = Style {
        wildcards: true,
        variables,
    };
    let Ok(template) = Template::parse(tail, style) else {
        return Some(Way::Unclear);
    };
    let is_open = template.variables().next().is_some();
    let stages = Places::start(tail).then("/").then_some();
    let call = stages.then("/").then_some().then("/");
    (is_open || !call.is_empty()).then_some(Way::Matching(template))
}

/// Whether `tail` matches `/STAGE/METHOD/PATH` for every stage, method and path.
fn covers_calls(tail: &str) -> bool {
    let slashes = tail.bytes().filter(|byte| *byte == b'/').count();
    tail.ends_with('*')
        && tail.starts_with(['/', '*'])
        && slashes <= 3
        && tail.bytes().all(|byte| matches!(byte, b'/' | b'*'))
        && !tail.contains("//")
}

impl Way {
    fn covers<V: View>(&self, view: &V) -> Verdict {
        let template = match self {
            Self::Every => return Verdict::Yes,
            Self::Unclear => return Verdict::Maybe,
            Self::Matching(template) => template,
        };
        let Some(call) = view.call() else {
            let is_missing = |variable: &Variable| {
                variable.default.is_none()
                    && matches!(value_of(view, &variable.key), Value::Missing)
            };
            let never = template.variables().any(is_missing);
            return if never { Verdict::No } else { Verdict::Maybe };
        };
        template.filled(
            str::to_owned,
            |key| value_of(view, key),
            |pieces| match glob::matches(pieces, call) {
                // Whether wildcards reach over a colon of the path is documented in two ways.
                true if call.contains(':') && !pattern::matches(pieces, call) => Verdict::Maybe,
                matches => matches.into(),
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ApiArn;

    #[derive(Debug, PartialEq)]
    enum Covered {
        Every,
        Some,
        None,
    }

    fn covered(written: &str, api: &Known) -> Covered {
        let form = match written {
            "*" => Form::Everything,
            _ if written.starts_with("execute-api:") => Form::Short,
            _ => Form::Arn,
        };
        let pattern = Pattern {
            written: written.to_owned(),
            form,
            path: String::new(),
            span: 0..0,
        };
        let ways = ways(&pattern, true, api);
        match ways.iter().any(|way| matches!(way, Way::Every)) {
            true => Covered::Every,
            false if ways.is_empty() => Covered::None,
            false => Covered::Some,
        }
    }

    fn named() -> Known {
        let arn: ApiArn = "arn:aws:execute-api:us-east-1:123456789012:abcdef1234"
            .parse()
            .unwrap();
        Known::from(&arn)
    }

    #[test]
    fn what_covers_every_call() {
        for text in [
            "*",
            "execute-api:/*",
            "execute-api:/*/*",
            "execute-api:/*/*/*",
            "arn:aws:execute-api:*:*:*",
            "arn:aws:execute-api:us-east-?:123456789012:abcdef1234/*",
            "arn:aws:execute-api:us-east-1:123456789012:*/*/*/*",
            "arn:aws:execute-api:us-east-1:123456789012:abc*",
            "arn:aws:execute-api:*",
            "arn:aws:execute-api:us-*",
            "arn:*",
        ] {
            assert_eq!(covered(text, &named()), Covered::Every, "{text}");
            assert_eq!(covered(text, &Known::default()), Covered::Every, "{text}");
        }
    }

    #[test]
    fn what_is_narrower_is_maybe() {
        for text in [
            "execute-api:/prod/*",
            "execute-api:/*/GET/*",
            "execute-api:/*/*/*/*",
            "execute-api:/*/*/",
            "execute-api:/$default/GET/*",
            "execute-api:/${aws:username}/*",
            "arn:aws:execute-api:*:*/*/DELETE/*",
            "arn:aws:execute-api:*:abcdef1234/prod/*",
            "arn:aws:execute-api:us-east-1:123456789012:abcdef1234/prod/GET/pets",
        ] {
            assert_eq!(covered(text, &named()), Covered::Some, "{text}");
            assert_eq!(covered(text, &Known::default()), Covered::Some, "{text}");
        }
    }

    #[test]
    fn what_no_call_can_match() {
        for text in [
            "arn:aws:execute-api:us-east-1:123456789012:other/*",
            "arn:aws:execute-api:eu-west-1:123456789012:abcdef1234/*",
            "arn:aws-cn:execute-api:us-east-1:123456789012:abcdef1234/*",
        ] {
            assert_eq!(covered(text, &named()), Covered::None, "{text}");
        }
        for text in [
            "execute-api:/prod/",
            "execute-api:/prod",
            "execute-api://*",
            "arn:aws:execute-api:us-east-1:123456789012:abcdef1234",
            "arn:aws:execute-api:us-east-1:*/*/DELETE/*",
            "arn:aws:execute-api",
        ] {
            assert_eq!(covered(text, &named()), Covered::None, "{text}");
            assert_eq!(covered(text, &Known::default()), Covered::None, "{text}");
        }
    }

    #[test]
    fn hostile_patterns_are_read_in_bounded_time() {
        let stars = "*a".repeat(20_000);
        let text = format!("arn:aws:execute-api:*:*:{stars}/*");
        covered(&text, &named());
        covered(&text, &Known::default());
    }
}
