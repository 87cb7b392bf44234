//! What a statement is about: which calls of which API.
//!
//! Follows the API Gateway Developer Guide's "Access policy language overview for Amazon API Gateway" and
//! "Control access for invoking an API" (resource format), and the IAM User Guide's "IAM JSON policy
//! elements: Resource" and "… NotResource". A call's resource is `API/STAGE/METHOD/PATH`, where the path
//! may be empty.

use std::ops::Range;

use super::{
    reader::{Reader, text},
    template::{Style, Template, placeholder, unrendered},
};
use crate::text::{
    json::Node,
    problem::{Advice, Path, clip},
};

/// The resources a statement names, or all but those.
#[derive(Clone, Debug)]
pub(crate) struct Resource {
    /// Whether the element is `NotResource`.
    pub(crate) except: bool,
    pub(crate) patterns: Vec<Pattern>,
    /// Whether the document's version has policy variables.
    pub(crate) variables: bool,
}

/// One resource, with wildcards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    pub(crate) written: String,
    pub(crate) form: Form,
    pub(crate) path: String,
    pub(crate) span: Range<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `*`.
    Everything,
    /// `execute-api:/stage/METHOD/path`: of the API the policy is attached to.
    Short,
    /// An ARN, which may have fewer than six fields.
    Arn,
}

/// The fields of a full ARN of `execute-api`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fields<'p> {
    pub(crate) partition: &'p str,
    pub(crate) region: &'p str,
    pub(crate) account: &'p str,
    /// `API/STAGE/METHOD/PATH`.
    pub(crate) rest: &'p str,
}

impl<'p> Fields<'p> {
    /// The part of the last field that names the API.
    pub(crate) fn api(&self) -> &'p str {
        self.rest.split('/').next().unwrap_or_default()
    }
}

impl Pattern {
    /// `/stage/METHOD/path` of the short form.
    pub(crate) fn short(&self) -> Option<&str> {
        self.written
            .strip_prefix(SHORT)
            .filter(|_| self.form == Form::Short)
    }

    /// The fields, if it is an ARN that has all six.
    pub(crate) fn fields(&self) -> Option<Fields<'_>> {
        if self.form != Form::Arn {
            return None;
        }
        let mut fields = self.written.splitn(6, ':').skip(1);
        let (partition, _service) = (fields.next()?, fields.next()?);
        Some(Fields {
            partition,
            region: fields.next()?,
            account: fields.next()?,
            rest: fields.next()?,
        })
    }
}

const SHORT: &str = "execute-api:";

impl Resource {
    /// Reads `Resource`, or `NotResource` when `except`.
    pub(crate) fn parse(
        reader: &mut Reader,
        node: Node<'_>,
        path: &Path<'_>,
        except: bool,
    ) -> Self {
        let mut patterns = Vec::new();
        let variables = reader.context.variables;
        reader.each(node, path, "a resource", |reader, node, path| {
            let Some(text) = text(reader, node, path, "a resource") else {
                return;
            };
            match parse_form(&text).and_then(|form| check(&text, variables).map(|()| form)) {
                Ok(form) => patterns.push(Pattern {
                    written: text.into_owned(),
                    form,
                    path: path.to_string(),
                    span: node.span(),
                }),
                Err(advice) => reader.error("resource", &(path, node.span()), || advice),
            }
        });
        Self {
            except,
            patterns,
            variables,
        }
    }
}

/// Refuses what was left for others to fill in.
fn check(text: &str, variables: bool) -> Result<(), Advice> {
    let angled = text
        .split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'));
    if let Some((name, _)) = angled {
        let name = clip(name);
        return Err(
            Advice::new(format!("`<{name}>` is a placeholder that was left in")).hint(
                match placeholder(&name) {
                    Some(what) => format!("put {what} there"),
                    None => "write what belongs there".to_owned(),
                },
            ),
        );
    }
    // Without policy variables `${aws:username}` is text, but no version has `${region}`.
    if let Some(advice) = unrendered(text) {
        return Err(advice);
    }
    let style = Style {
        wildcards: true,
        variables,
    };
    Template::parse(text, style).map(|_| ())
}

fn parse_form(text: &str) -> Result<Form, Advice> {
    let bad = |hint: &str| {
        Err(Advice::new(format!("`{}` is not a resource of an API", clip(text))).hint(hint))
    };
    const HOW: &str = "write `execute-api:/STAGE/METHOD/PATH`, or `execute-api:/*` for all calls";
    if text == "*" {
        return Ok(Form::Everything);
    }
    if let Some(calls) = text.strip_prefix(SHORT) {
        return match calls {
            _ if calls.len() > 1 && calls.bytes().all(|byte| byte == b'/') => Err(Advice::new(
                format!("`{text}` lost its asterisks, as it does in Markdown"),
            )
            .hint("write `execute-api:/*/*/*` for every call")),
            _ if calls.starts_with('/') => Ok(Form::Short),
            _ => bad(HOW),
        };
    }
    let fields: Vec<&str> = text.splitn(6, ':').collect();
    if fields.first() != Some(&"arn") || fields.len() < 2 {
        return bad(HOW);
    }
    if fields.last().is_some_and(|last| last.ends_with('*')) && fields.len() < 4 {
        // The asterisk reaches over all that is missing.
        return check_service(&fields).map_or_else(bad, |()| Ok(Form::Arn));
    }
    if let Err(hint) = check_service(&fields) {
        return bad(hint);
    }
    if fields.iter().any(|field| field.is_empty()) {
        return bad("region, account and API are not empty: write `*` where any is meant");
    }
    Ok(Form::Arn)
}

/// What is wrong with an ARN's partition or service.
fn check_service(fields: &[&str]) -> Result<(), &'static str> {
    let plain = |partition: &str| {
        let mut parts = partition.split('-');
        parts.next() == Some("aws")
            && parts.all(|part| part.bytes().all(|b| b.is_ascii_lowercase()))
    };
    match fields.get(1) {
        Some(partition) if !partition.contains(['*', '?']) && !plain(partition) => {
            return Err("partitions are `aws` and those that begin with `aws-`, such as `aws-cn`");
        }
        _ => {}
    }
    match fields.get(2) {
        None | Some(&"execute-api") => Ok(()),
        Some(&"*") if fields.len() == 3 => Ok(()),
        Some(service) if service.contains(['*', '?']) => {
            Err("the service of an ARN takes no wildcards: write `execute-api`")
        }
        Some(_) => Err("an API's resources begin with `arn:aws:execute-api:`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_resource_of_an_api_is_refused() {
        for text in [
            "",
            "**",
            "execute-api:*",
            "execute-api:///",
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

    #[test]
    fn what_was_left_to_fill_in_is_refused() {
        for (text, variables, hint) in [
            ("arn:aws:execute-api:<region>:*:*/*", true, "us-east-1"),
            (
                "arn:aws:execute-api:*:<account_number>:*/*",
                false,
                "twelve digits",
            ),
            ("execute-api:/<x>/*", true, "belongs there"),
            ("arn:aws:execute-api:${region}:*:*/*", true, "us-east-1"),
            (
                "arn:aws:execute-api:${AWS::Region}:*:*/*",
                false,
                "us-east-1",
            ),
            ("execute-api:/${stage}/*", true, "the stage's name"),
        ] {
            let advice = check(text, variables).unwrap_err();
            assert!(
                advice.hint.as_ref().unwrap().contains(hint),
                "{text}: {advice:?}"
            );
        }
        assert_eq!(check("execute-api:/${aws:username}/*", true), Ok(()));
        assert_eq!(check("execute-api:/${aws:nonsense}/*", false), Ok(()));
        assert!(check("execute-api:/${aws:nonsense}/*", true).is_err());
    }
}
