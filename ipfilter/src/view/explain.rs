//! What `ipfilter explain` answers.

use std::{fmt, net::IpAddr};

use serde::Serialize;

use crate::policy::{Decision, Effect, Explanation, Failed, StatementVerdict, Verdict, clip};

/// An answer as a machine reads it: about the requests of one source, or about one request.
#[derive(Debug, Serialize)]
pub struct View {
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<IpAddr>,
    decision: &'static str,
    explicit: bool,
    /// What becomes of the request's packets, whatever is in it: `pass` or `drop`.
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<&'static str>,
    statements: Vec<StatementView>,
}

#[derive(Debug, Serialize)]
struct StatementView {
    index: usize,
    sid: Option<String>,
    effect: &'static str,
    matches: &'static str,
    /// The element that keeps it from matching, for people.
    #[serde(skip)]
    failed: Option<String>,
}

impl From<&StatementVerdict<'_>> for StatementView {
    fn from(verdict: &StatementVerdict<'_>) -> Self {
        Self {
            index: verdict.index,
            sid: verdict.sid.map(str::to_owned),
            effect: match verdict.effect {
                Effect::Allow => "Allow",
                Effect::Deny => "Deny",
            },
            matches: match verdict.matches {
                Verdict::No => "no",
                Verdict::Maybe => "maybe",
                Verdict::Yes => "yes",
            },
            failed: verdict.failed.map(|failed| match failed {
                Failed::Principal => "its principals".to_owned(),
                Failed::Action => "its actions".to_owned(),
                Failed::Resource => "its resources".to_owned(),
                Failed::Condition(key) => format!("`{}`", clip(key)),
            }),
        }
    }
}

impl View {
    /// About the requests of one source.
    #[must_use]
    pub fn of_source(source: IpAddr, explanation: &Explanation<'_>) -> Self {
        Self {
            source: Some(source),
            ..Self::of_request(explanation)
        }
    }

    /// About one request.
    #[must_use]
    pub fn of_request(explanation: &Explanation<'_>) -> Self {
        Self {
            source: None,
            decision: match explanation.decision {
                Decision::Deny => "deny",
                Decision::Allow => "allow",
                Decision::Depends => "depends",
            },
            explicit: explanation.explicit,
            interface: None,
            statements: explanation
                .statements
                .iter()
                .map(StatementView::from)
                .collect(),
        }
    }

    /// About one request, given what the policy says of all requests of its source: that is what an interface
    /// acts on, and the authorization service acts on the other.
    #[must_use]
    pub fn of_both(request: &Explanation<'_>, source: &Explanation<'_>) -> Self {
        let is_dropped = source.decision == Decision::Deny;
        Self {
            interface: Some(if is_dropped { "drop" } else { "pass" }),
            ..Self::of_request(request)
        }
    }

    /// `deny`, `allow` or `depends`.
    #[must_use]
    pub fn decision(&self) -> &'static str {
        self.decision
    }

    /// Whether the source passes the interface.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.decision != "deny"
    }

    /// The decision, and the statements that bear on it, for people.
    #[must_use]
    pub fn answer(&self) -> String {
        let reason = if self.source.is_some() {
            self.reason_for_source()
        } else {
            self.reason_for_request()
        };
        let implicit = self.decision == "deny" && !self.explicit;
        let mut bearing: Vec<String> = self
            .statements
            .iter()
            .filter(|statement| statement.matches != "no")
            .map(ToString::to_string)
            .collect();
        if implicit && bearing.is_empty() {
            let allows = self.statements.iter().filter(|one| one.effect == "Allow");
            bearing = allows
                .take(MOST_FAILED)
                .filter_map(StatementView::failure)
                .collect();
        }
        let lead = if bearing.is_empty() { "" } else { ": " };
        let interface = match self.interface {
            Some("drop") => "; dropped at the interface",
            Some(_) => "; passes the interface",
            None => "",
        };
        format!(
            "{} ({reason}{interface}){lead}{}",
            self.decision,
            bearing.join(", ")
        )
    }

    /// Whether one Deny alone decides.
    fn has_certain_deny(&self) -> bool {
        let mut statements = self.statements.iter();
        statements.any(|one| one.effect == "Deny" && one.matches == "yes")
    }

    fn reason_for_source(&self) -> &'static str {
        match (self.decision, self.explicit) {
            ("deny", true) if self.has_certain_deny() => "dropped: a Deny matches every request",
            ("deny", true) => "dropped: one of several Denys matches every request",
            ("deny", false) => "dropped: no Allow can match",
            ("allow", _) => "passes: every request is allowed",
            _ => "passes: decided behind the interface",
        }
    }

    fn reason_for_request(&self) -> &'static str {
        match (self.decision, self.explicit) {
            ("deny", true) => "a Deny matches",
            ("deny", false) => "no Allow matches",
            ("allow", _) => "an Allow matches, and no Deny",
            _ => "no statement decides",
        }
    }
}

/// More Allows that fail are not listed.
const MOST_FAILED: usize = 3;

/// One line for people.
impl fmt::Display for View {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(source) = self.source {
            write!(formatter, "{source} ")?;
        }
        formatter.write_str(&self.answer())
    }
}

impl StatementView {
    /// Its effect and its name.
    fn name(&self) -> String {
        match &self.sid {
            Some(sid) => format!("{} `{}`", self.effect, clip(sid)),
            None => format!("{} of statement {}", self.effect, self.index),
        }
    }

    /// What it fails on.
    fn failure(&self) -> Option<String> {
        let failed = self.failed.as_ref()?;
        Some(format!("{} fails on {failed}", self.name()))
    }
}

impl fmt::Display for StatementView {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.matches {
            "yes" => "matches",
            _ => "may match",
        };
        write!(formatter, "{} {verb}", self.name())
    }
}

/// A line that holds no request.
#[derive(Debug, Serialize)]
pub struct Unanswered {
    line: u64,
    error: String,
}

impl Unanswered {
    /// The line with this number, and what is wrong with it.
    #[must_use]
    pub fn new(line: u64, error: &serde_json::Error) -> Self {
        let message = error.to_string();
        let end = message.rfind(" at line ").unwrap_or(message.len());
        let message = message.get(..end).unwrap_or(&message);
        let error = match error.column() {
            0 => format!("line {line}: {message}"),
            column => format!("line {line}, column {column}: {message}"),
        };
        Self { line, error }
    }
}

impl fmt::Display for Unanswered {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "error: {}", self.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Options, Request, Source, parse};

    #[test]
    fn a_denial_for_want_of_an_allow_says_what_each_fails_on() {
        let text = r#"{"Version": "2012-10-17", "Statement": [
            {"Sid": "Office", "Effect": "Allow", "Principal": "*", "Action": "execute-api:Invoke",
             "Resource": "execute-api:/*", "Condition": {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}},
            {"Effect": "Allow", "Principal": "*", "Action": "execute-api:Invoke",
             "Resource": "execute-api:/prod/GET/health",
             "Condition": {"IpAddress": {"aws:SourceIp": "198.51.100.7"}}}]}"#;
        let source = Source::new("policy", text);
        let policy = parse(&source, &Options::default()).policy.unwrap();
        let source = "203.0.113.7".parse().unwrap();
        let view = View::of_source(source, &policy.explain(source, jiff::Timestamp::UNIX_EPOCH));
        assert_eq!(
            view.to_string(),
            "203.0.113.7 deny (dropped: no Allow can match): Allow `Office` fails on `aws:SourceIp`, \
             Allow of statement 1 fails on `aws:SourceIp`"
        );
        let request = policy.decide(&Request::new(source, "PUT"));
        assert_eq!(
            View::of_request(&request).to_string(),
            "deny (no Allow matches): Allow `Office` fails on `aws:SourceIp`, \
             Allow of statement 1 fails on its resources"
        );
    }
}
