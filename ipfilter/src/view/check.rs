//! What `ipfilter check` answers.

use serde::Serialize;

use super::sources::Meaning;
use crate::{
    addresses::words::count,
    config::Reading,
    policy::{Enforceable, Parsed, Policy, Problem, Severity},
};

/// The answer about all files.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// In the order they were named.
    pub files: Vec<FileReport>,
}

/// The answer about one file.
#[derive(Debug, Serialize)]
pub struct FileReport {
    /// As it was named.
    pub file: String,
    /// The API of a configuration whose policy it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api: Option<String>,
    /// Whether the policy is legal and can be enforced at the interface.
    pub verdict: FileVerdict,
    /// How many statements a legal policy has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statements: Option<usize>,
    /// What a legal policy means.
    #[serde(flatten)]
    pub meaning: Option<Meaning>,
    /// In the order of the file.
    pub problems: Vec<ProblemView>,
}

/// The outcome for a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FileVerdict {
    /// Legal, and enforced exactly.
    Exact,
    /// Legal, and enforced as far as the source decides.
    Partial,
    /// Legal, and enforced by the interface and the authorization service together.
    Whole,
    /// A configuration without errors; its policies have verdicts of their own.
    Valid,
    /// Not a policy, or a configuration with errors.
    Invalid,
}

impl From<Enforceable> for FileVerdict {
    fn from(enforceable: Enforceable) -> Self {
        match enforceable {
            Enforceable::Exactly => Self::Exact,
            Enforceable::Partly => Self::Partial,
            Enforceable::Not => Self::Invalid,
        }
    }
}

/// A problem as a machine reads it.
#[derive(Debug, Serialize)]
pub struct ProblemView {
    severity: &'static str,
    path: String,
    line: usize,
    column: usize,
    message: String,
    hint: Option<String>,
}

impl From<&Problem> for ProblemView {
    fn from(problem: &Problem) -> Self {
        Self {
            severity: severity(problem.severity),
            path: problem.path.clone(),
            line: problem.line,
            column: problem.column,
            message: problem.message.clone(),
            hint: problem.hint.clone(),
        }
    }
}

impl ProblemView {
    /// A file that cannot be read has no place to point at but its beginning.
    #[must_use]
    pub fn unreadable(message: String) -> Self {
        Self {
            severity: severity(Severity::Error),
            path: "$".to_owned(),
            line: 1,
            column: 1,
            message,
            hint: None,
        }
    }
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Maybe => "maybe",
    }
}

/// One line on a configuration.
#[must_use]
pub fn configuration(reading: &Reading) -> String {
    let file = reading.source.name();
    if !reading.problems.is_empty() {
        let errors = count(reading.problems.len(), "error", "errors");
        return format!("{file}: invalid, {errors}");
    }
    let config = reading.config();
    format!(
        "{file}: valid, {}, {}",
        count(config.apis.len(), "API", "APIs"),
        count(config.interfaces.len(), "interface", "interfaces")
    )
}

/// One line on a legal policy: how far it is enforced, how many statements, who may call now and later.
#[must_use]
pub fn summary(file: &str, policy: &Policy, meaning: &Meaning) -> String {
    let verdict = if policy.is_partial() {
        "partial"
    } else {
        "exact"
    };
    format!(
        "{file}: {verdict}, {}; {}",
        count(policy.statements_len(), "statement", "statements"),
        meaning.line(),
    )
}

/// One line on a document that is no policy.
#[must_use]
pub fn refusal(file: &str, parsed: &Parsed) -> String {
    let is_warning = |problem: &&Problem| problem.severity == Severity::Warning;
    let warnings = parsed.problems.iter().filter(is_warning).count();
    format!(
        "{file}: invalid, {}, {}",
        count(parsed.errors, "error", "errors"),
        count(warnings, "warning", "warnings"),
    )
}
