//! Which API a policy is attached to.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{
    pattern,
    problem::{Advice, Severity},
    reader::Reader,
    resource::{ArnPattern, Form, Pattern},
};

/// The partitions APIs are in.
pub(crate) const PARTITIONS: [&str; 3] = ["aws", "aws-cn", "aws-us-gov"];

/// The full name of one API: `arn:PARTITION:execute-api:REGION:ACCOUNT:API`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiArn {
    pub(crate) partition: String,
    pub(crate) region: String,
    pub(crate) account: String,
    pub(crate) id: String,
}

/// A text that is no API's full name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an API's ARN; write `arn:aws:execute-api:us-east-1:123456789012:abcdef1234`")]
pub struct NotAnApiArn(String);

impl FromStr for ApiArn {
    type Err = NotAnApiArn;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || NotAnApiArn(text.to_owned());
        let fields: Vec<&str> = text.split(':').collect();
        let ["arn", partition, "execute-api", region, account, rest] = fields.as_slice() else {
            return Err(bad());
        };
        let id = rest.split('/').next().unwrap_or_default();
        let parts = [region, account, &id];
        let plain = parts
            .iter()
            .all(|part| !part.is_empty() && !pattern::is_open(part));
        if !plain || !PARTITIONS.contains(partition) {
            return Err(bad());
        }
        Ok(Self {
            partition: (*partition).to_owned(),
            region: (*region).to_owned(),
            account: (*account).to_owned(),
            id: id.to_owned(),
        })
    }
}

/// What is known of the API a policy is attached to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) partition: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) account: Option<String>,
    pub(crate) id: Option<String>,
}

impl Known {
    /// The one API that all of `patterns` can name; those that cannot are errors.
    pub(crate) fn infer<'p>(
        reader: &mut Reader<'_>,
        patterns: impl Iterator<Item = &'p Pattern> + Clone,
    ) -> Self {
        let arns = patterns.filter_map(|pattern| match &pattern.form {
            Form::Arn(arn) => Some((pattern, arn.as_ref())),
            _ => None,
        });
        let mut known = Self::default();
        for (_, arn) in arns.clone() {
            known.learn(arn);
        }
        for (pattern, arn) in arns {
            if !known.admits(arn) {
                let problems = &mut reader.problems;
                problems.add(Severity::Error, "api", &pattern.path, &pattern.span, || {
                    Advice::new("resources of this policy name different APIs")
                        .hint("say with `--api-arn` which one this is")
                });
            }
        }
        known
    }

    fn fields<'k>(&'k mut self, arn: &'k ArnPattern) -> [(&'k mut Option<String>, &'k str); 4] {
        [
            (&mut self.partition, &arn.partition),
            (&mut self.region, &arn.region),
            (&mut self.account, &arn.account),
            (&mut self.id, arn.api()),
        ]
    }

    fn learn(&mut self, arn: &ArnPattern) {
        for (known, pattern) in self.fields(arn) {
            if known.is_none() && !pattern::is_open(pattern) {
                *known = Some(pattern.to_owned());
            }
        }
    }

    fn admits(&mut self, arn: &ArnPattern) -> bool {
        let whole = !arn.rest.contains('/') && arn.rest.contains('*');
        self.fields(arn)
            .into_iter()
            .enumerate()
            .all(|(field, (known, pattern))| match known {
                Some(_) if pattern.contains('$') => true,
                // Without a slash the pattern runs on past the API's name.
                Some(id) if field == 3 && whole => !pattern::tails(pattern, id).is_empty(),
                Some(value) => pattern::matches(pattern, value),
                None => true,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_name_exactly_one_api() {
        assert!(
            "arn:aws:execute-api:us-east-1:123456789012:abcdef1234"
                .parse::<ApiArn>()
                .is_ok()
        );
        for text in [
            "",
            "abcdef1234",
            "arn:aws:execute-api:us-east-1:123456789012",
            "arn:aws:execute-api:*:123456789012:abcdef1234",
            "arn:aws:s3:us-east-1:1:b",
            "arn:aws:execute-api:us-east-1:123456789012:",
            "arn:x:execute-api:us-east-1:1:b",
        ] {
            assert!(text.parse::<ApiArn>().is_err(), "{text}");
        }
    }
}
