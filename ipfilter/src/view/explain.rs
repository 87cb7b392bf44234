//! What `ipfilter explain` answers.

use std::{fmt, net::IpAddr};

use serde::Serialize;

use crate::policy::{Decision, Effect, Explanation, Verdict, clip};

/// One source's answer as a machine reads it.
#[derive(Debug, Serialize)]
pub struct View {
    source: IpAddr,
    decision: &'static str,
    explicit: bool,
    statements: Vec<StatementView>,
}

#[derive(Debug, Serialize)]
struct StatementView {
    index: usize,
    sid: Option<String>,
    effect: &'static str,
    matches: &'static str,
}

impl From<&Explanation> for View {
    fn from(explanation: &Explanation) -> Self {
        let statement = |verdict: &crate::policy::StatementVerdict| StatementView {
            index: verdict.index,
            sid: verdict.sid.clone(),
            effect: match verdict.effect {
                Effect::Allow => "Allow",
                Effect::Deny => "Deny",
            },
            matches: match verdict.matches {
                Verdict::No => "no",
                Verdict::Maybe => "maybe",
                Verdict::Yes => "yes",
            },
        };
        Self {
            source: explanation.source,
            decision: match explanation.decision {
                Decision::Deny => "deny",
                Decision::Allow => "allow",
                Decision::Depends => "depends",
            },
            explicit: explanation.explicit,
            statements: explanation.statements.iter().map(statement).collect(),
        }
    }
}

impl View {
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
        let reason = match (self.decision, self.explicit) {
            ("deny", true) => "dropped: a Deny matches every request",
            ("deny", false) => "dropped: no Allow can match",
            ("allow", _) => "passes: every request is allowed",
            _ => "passes: decided behind the interface",
        };
        let bearing = self
            .statements
            .iter()
            .filter(|statement| statement.matches != "no");
        let bearing: Vec<_> = bearing.map(ToString::to_string).collect();
        let lead = if bearing.is_empty() { "" } else { ": " };
        format!("{} ({reason}){lead}{}", self.decision, bearing.join(", "))
    }
}

/// One line for people.
impl fmt::Display for View {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.source, self.answer())
    }
}

impl fmt::Display for StatementView {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.matches == "yes" {
            "matches"
        } else {
            "may match"
        };
        match &self.sid {
            Some(sid) => write!(formatter, "{} `{}` {verb}", self.effect, clip(sid)),
            None => write!(
                formatter,
                "{} of statement {} {verb}",
                self.effect, self.index
            ),
        }
    }
}
