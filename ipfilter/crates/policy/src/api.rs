//! Which API a policy is attached to.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    syntax::resource::{Fields, Pattern},
    text::{
        pattern::{self, Places},
        problem::{Advice, Problems, Severity},
    },
};

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
        let is_partition = *partition == "aws" || partition.starts_with("aws-");
        if !plain || !is_partition || pattern::is_open(partition) {
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

impl fmt::Display for ApiArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            partition,
            region,
            account,
            id,
        } = self;
        write!(f, "arn:{partition}:execute-api:{region}:{account}:{id}")
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
        problems: &mut Problems,
        patterns: impl Iterator<Item = &'p Pattern> + Clone,
    ) -> Self {
        let arns = patterns.filter_map(|pattern| Some((pattern, pattern.fields()?)));
        let mut known = Self::default();
        for (_, arn) in arns.clone() {
            known.learn(&arn);
        }
        for (pattern, arn) in arns {
            if !known.admits(&arn) {
                problems.add(Severity::Error, "api", &pattern.path, &pattern.span, || {
                    Advice::new("resources of this policy name different APIs")
                        .hint("say with `--api-arn` which one this is")
                });
            }
        }
        known
    }

    fn fields<'k, 'p>(&'k mut self, arn: &Fields<'p>) -> [(&'k mut Option<String>, &'p str); 4] {
        [
            (&mut self.partition, arn.partition),
            (&mut self.region, arn.region),
            (&mut self.account, arn.account),
            (&mut self.id, arn.api()),
        ]
    }

    fn learn(&mut self, arn: &Fields<'_>) {
        for (known, pattern) in self.fields(arn) {
            if known.is_none() && !pattern::is_open(pattern) {
                *known = Some(pattern.to_owned());
            }
        }
    }

    fn admits(&mut self, arn: &Fields<'_>) -> bool {
        let whole = !arn.rest.contains('/') && arn.rest.contains('*');
        self.fields(arn)
            .into_iter()
            .enumerate()
            .all(|(field, (known, pattern))| match known {
                Some(_) if pattern.contains('$') => true,
                Some(value) => {
                    let places = Places::start(pattern).then(value);
                    // Without a slash the pattern runs on past the API's name.
                    places.at_end() || (field == 3 && whole && !places.is_empty())
                }
                None => true,
            })
    }

    /// The places in an ARN's pattern that are reached by the API's own ARN. What is not known of the API
    /// is taken to be what the pattern names.
    pub(crate) fn places<'p>(&self, pattern: &'p str) -> Places<'p> {
        let mut places = Places::start(pattern).then("arn:");
        let service = Some("execute-api".to_owned());
        let fields = [
            &self.partition,
            &service,
            &self.region,
            &self.account,
            &self.id,
        ];
        for (nth, field) in fields.into_iter().enumerate() {
            if nth > 0 {
                places = places.then(":");
            }
            places = match field {
                Some(field) => places.then(field),
                None => places.then_some(),
            };
        }
        places
    }
}

/// The API of a full name, such as `--api-arn` takes.
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
