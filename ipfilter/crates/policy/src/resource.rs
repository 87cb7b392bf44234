//! What a statement is about: which calls of which API.
//!
//! Follows the API Gateway Developer Guide's "Access policy language overview for Amazon API Gateway" and
//! "Control access for invoking an API" (resource format), and the IAM User Guide's "IAM JSON policy
//! elements: Resource" and "… NotResource". A call's resource is `API/STAGE/METHOD/PATH`, where the path
//! may be empty; `*` crosses slashes but not colons.

use std::ops::Range;

use super::{
    api::{ApiArn, Known, PARTITIONS},
    json::Node,
    pattern,
    problem::{Advice, Path, clip},
    reader::Reader,
    verdict::Verdict,
};

/// The resources a statement names, or all but those.
#[derive(Clone, Debug)]
pub(crate) struct Resource {
    /// Whether the element is `NotResource`.
    pub(crate) except: bool,
    pub(crate) patterns: Vec<Pattern>,
}

/// One resource, with wildcards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    pub(crate) form: Form,
    pub(crate) path: String,
    pub(crate) span: Range<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `*`.
    Everything,
    /// `execute-api:/stage/METHOD/path`: of the API the policy is attached to.
    Short(String),
    /// A full ARN: the API's fields, then `API/STAGE/METHOD/PATH`.
    Arn(Box<ArnPattern>),
}

/// An ARN of `execute-api` with wildcards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ArnPattern {
    pub(crate) partition: String,
    pub(crate) region: String,
    pub(crate) account: String,
    pub(crate) rest: String,
}

impl ArnPattern {
    /// The part of the last field that names the API.
    pub(crate) fn api(&self) -> &str {
        self.rest.split('/').next().unwrap_or_default()
    }
}

impl Resource {
    /// Reads `Resource`, or `NotResource` when `except`.
    pub(crate) fn parse(
        reader: &mut Reader<'_>,
        node: Node<'_>,
        path: &Path<'_>,
        except: bool,
    ) -> Self {
        let mut patterns = Vec::new();
        reader.each(node, path, "a resource", |reader, node, path| {
            let Some(text) = reader.text(node, path, "a resource") else {
                return;
            };
            match parse_form(&text) {
                Ok(form) => patterns.push(Pattern {
                    form,
                    path: path.to_string(),
                    span: node.span(),
                }),
                Err(advice) => reader.error("resource", &(path, node.span()), || advice),
            }
        });
        Self { except, patterns }
    }

    /// Whether the calls of the API are among them.
    pub(crate) fn verdict(&self, api: &Known) -> Verdict {
        self.patterns
            .iter()
            .map(|pattern| pattern.form.verdict(api))
            .fold(Verdict::No, Verdict::or)
            .negate_if(self.except)
    }
}

fn parse_form(text: &str) -> Result<Form, Advice> {
    if text == "*" {
        return Ok(Form::Everything);
    }
    if let Some(rest) = text.strip_prefix("execute-api:") {
        return match rest.strip_prefix('/') {
            Some(_) => Ok(Form::Short(rest.to_owned())),
            None => Err(
                Advice::new(format!("`{}` is not a resource of an API", clip(text))).hint(
                    "write `execute-api:/STAGE/METHOD/PATH`, or `execute-api:/*` for all calls",
                ),
            ),
        };
    }
    parse_arn(text).map(|arn| Form::Arn(Box::new(arn)))
}

fn parse_arn(text: &str) -> Result<ArnPattern, Advice> {
    let bad = |hint: &str| {
        Err(Advice::new(format!("`{}` is not a resource of an API", clip(text))).hint(hint))
    };
    let mut fields = text.splitn(6, ':');
    if fields.next() != Some("arn") {
        return bad("write `execute-api:/STAGE/METHOD/PATH`, or `execute-api:/*` for all calls");
    }
    // An ARN cut short stands for one with wildcards in the missing fields.
    let mut field = || fields.next().unwrap_or("*").to_owned();
    let (partition, service) = (field(), field());
    if !pattern::matches(&service, "execute-api") {
        return bad("an API's resources begin with `arn:aws:execute-api:`");
    }
    if service.contains(['*', '?']) {
        return bad("the service of an ARN takes no wildcards: write `execute-api`");
    }
    if !PARTITIONS
        .iter()
        .any(|known| pattern::matches(&partition, known))
    {
        return bad("partitions are `aws`, `aws-cn` and `aws-us-gov`");
    }
    let (region, account, rest) = (field(), field(), field());
    if region.is_empty() || account.is_empty() || rest.is_empty() {
        return bad("region, account and API are not empty: write `*` where any is meant");
    }
    Ok(ArnPattern {
        partition,
        region,
        account,
        rest,
    })
}

impl Form {
    fn verdict(&self, api: &Known) -> Verdict {
        match self {
            Self::Everything => Verdict::Yes,
            Self::Short(calls) => covers_calls(calls).into_maybe(),
            Self::Arn(arn) => arn.verdict(api),
        }
    }
}

impl ArnPattern {
    fn verdict(&self, api: &Known) -> Verdict {
        let fields = [
            (&self.partition, &api.partition),
            (&self.region, &api.region),
            (&self.account, &api.account),
        ];
        let same = |(pattern, value): (&String, &Option<String>)| match value {
            // Policy variables are filled in per request.
            _ if pattern.contains('$') => Verdict::Maybe,
            Some(value) => pattern::matches(pattern, value).into(),
            // Not told which API this is: taken to be the one that is named.
            None => Verdict::Yes,
        };
        let fields = fields
            .into_iter()
            .map(same)
            .fold(Verdict::Yes, Verdict::and);
        fields.and(self.calls_verdict(api))
    }

    fn calls_verdict(&self, api: &Known) -> Verdict {
        if self.rest.contains('$') {
            return Verdict::Maybe;
        }
        let tails = match &api.id {
            Some(id) => pattern::tails(&self.rest, id),
            None => assumed_tails(&self.rest, self.api()),
        };
        if tails.is_empty() {
            return Verdict::No;
        }
        tails.into_iter().any(covers_calls).into_maybe()
    }
}

/// What follows the API's name in a pattern whose first part is taken to match that name.
fn assumed_tails<'p>(rest: &'p str, api: &str) -> Vec<&'p str> {
    let mut tails: Vec<&str> = rest.get(api.len()..).into_iter().collect();
    if api.ends_with('*') {
        tails.extend(rest.get(api.len() - 1..));
    }
    tails
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

trait IntoMaybe {
    fn into_maybe(self) -> Verdict;
}

impl IntoMaybe for bool {
    /// Yes, or else maybe: a narrower pattern matches some calls.
    fn into_maybe(self) -> Verdict {
        if self { Verdict::Yes } else { Verdict::Maybe }
    }
}

/// The API a full name such as `--api-arn` takes stands for.
impl From<&ApiArn> for Known {
    fn from(arn: &ApiArn) -> Self {
        Self {
            partition: Some(arn.partition.clone()),
            region: Some(arn.region.clone()),
            account: Some(arn.account.clone()),
            id: Some(arn.id.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(text: &str, api: &Known) -> Verdict {
        parse_form(text).unwrap().verdict(api)
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
            "arn:aws:execute-api",
        ] {
            assert_eq!(verdict(text, &named()), Verdict::Yes, "{text}");
            assert_eq!(verdict(text, &Known::default()), Verdict::Yes, "{text}");
        }
    }

    #[test]
    fn what_is_narrower_is_maybe() {
        for text in [
            "execute-api:/prod/*",
            "execute-api:/*/GET/*",
            "execute-api:/*/*/*/*",
            "execute-api:/*/*/",
            "execute-api://*",
            "execute-api:/${aws:username}/*",
            "arn:aws:execute-api:us-east-1:123456789012:abcdef1234",
            "arn:aws:execute-api:us-east-1:123456789012:abcdef1234/prod/GET/pets",
        ] {
            assert_eq!(verdict(text, &named()), Verdict::Maybe, "{text}");
            assert_eq!(verdict(text, &Known::default()), Verdict::Maybe, "{text}");
        }
    }

    #[test]
    fn another_api_is_no() {
        for text in [
            "arn:aws:execute-api:us-east-1:123456789012:other/*",
            "arn:aws:execute-api:eu-west-1:123456789012:abcdef1234/*",
            "arn:aws-cn:execute-api:us-east-1:123456789012:abcdef1234/*",
        ] {
            assert_eq!(verdict(text, &named()), Verdict::No, "{text}");
        }
    }

    #[test]
    fn what_is_no_resource_of_an_api_is_refused() {
        for text in [
            "",
            "**",
            "execute-api:*",
            "arn:aws:s3:::bucket/*",
            "arn:azure:execute-api:*:*:*",
            "arn:aws:execute*:*:*:*",
            "/prod/GET",
            "arn:aws:execute-api:::abcdef1234/*",
            "arn:aws:execute-api:us-east-1:123456789012:",
            "arn",
        ] {
            assert!(parse_form(text).is_err(), "{text}");
        }
    }
}
