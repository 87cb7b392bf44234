//! The answer to a denied client, as API Gateway gives it.

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use ipfilter_policy::ApiArn;

use crate::service::Outcome;

/// The body of an HTTP answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// The answer to a denied client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Denial {
    /// A JSON object.
    pub(crate) body: String,
    /// The statement that denied, where it is to be revealed.
    pub(crate) statement: Option<String>,
}

/// The headers of a denial, besides its length.
pub(crate) const HEADERS: [(&str, &str); 2] = [
    ("content-type", "application/json"),
    ("x-amzn-errortype", "ForbiddenException"),
];

/// Tells trusted callers which statement denied, if that was asked for.
pub(crate) const STATEMENT_HEADER: &str = "x-ipfilter-statement";

impl Denial {
    /// That of a request which the policy denies.
    pub(crate) fn of(outcome: &Outcome, arn: Option<&ApiArn>, statement: Option<String>) -> Self {
        let resource = match arn {
            Some(arn) => format!("{}/{}", masked(&arn.to_string()), outcome.call),
            None => format!("execute-api:/{}", outcome.call),
        };
        let why = if outcome.explicit {
            " with an explicit deny"
        } else {
            ""
        };
        Self {
            body: body(&format!(
                "User: anonymous is not authorized to perform: execute-api:Invoke on resource: \
                 {resource}{why}"
            )),
            statement,
        }
    }

    /// That of a request which was not judged.
    pub(crate) fn unjudged() -> Self {
        Self {
            body: body("Forbidden"),
            statement: None,
        }
    }
}

fn body(message: &str) -> String {
    let mut quoted = String::with_capacity(message.len() + 16);
    quoted.push_str("{\"Message\":\"");
    for character in message.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(control)));
            }
            other => quoted.push(other),
        }
    }
    quoted.push_str("\"}");
    quoted
}

/// An API's ARN with all but the last four digits of the account hidden.
fn masked(arn: &str) -> String {
    let mut fields: Vec<String> = arn.split(':').map(str::to_owned).collect();
    if let Some(account) = fields.get_mut(4) {
        let hidden = account.len().saturating_sub(4);
        *account = account
            .chars()
            .enumerate()
            .map(|(index, digit)| if index < hidden { '*' } else { digit })
            .collect();
    }
    fields.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::By;

    #[test]
    fn a_denial_reads_like_api_gateways() {
        let mut outcome = Outcome {
            api: 0,
            allowed: false,
            explicit: true,
            by: By::Statement(0),
            call: "prod/GET/pets\"\n".into(),
        };
        let arn: ApiArn = "arn:aws:execute-api:us-east-1:123456789012:abcdef1234"
            .parse()
            .unwrap();
        let denial = Denial::of(&outcome, Some(&arn), Some("ButOnlyFromHere".into()));
        assert_eq!(
            denial.body,
            "{\"Message\":\"User: anonymous is not authorized to perform: execute-api:Invoke on resource: \
             arn:aws:execute-api:us-east-1:********9012:abcdef1234/prod/GET/pets\\\"\\u000a with an explicit \
             deny\"}"
        );
        assert_eq!(denial.statement.as_deref(), Some("ButOnlyFromHere"));
        outcome.explicit = false;
        let denial = Denial::of(&outcome, None, None);
        assert!(
            denial
                .body
                .ends_with("resource: execute-api:/prod/GET/pets\\\"\\u000a\"}")
        );
        assert_eq!(denial.statement, None);
    }
}
