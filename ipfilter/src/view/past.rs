//! What `explain --live --at` prints: what the policy of then said to a source.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use super::explain::View;
use crate::overrides::Override;

/// What an API's policy said to one source.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The time that was asked about.
    pub at: Timestamp,
    /// The API's name.
    pub api: String,
    /// The decision, and the statements behind it.
    #[serde(flatten)]
    pub view: View,
    /// The override that decided in its place.
    #[serde(rename = "override")]
    pub overruled: Option<Override>,
    /// SHA-256 of the plan that was in force, in hexadecimal.
    pub digest: String,
    /// When it was deployed.
    pub since: Timestamp,
    /// Who asked for it.
    pub cause: &'static str,
    /// Whether the policies that are kept, under the overrides that are, come to that plan. If not, overrides
    /// that have ended since may have decided otherwise.
    pub exact: bool,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.api, self.view)?;
        if let Some(one) = &self.overruled {
            writeln!(f, "override    {one}")?;
        }
        writeln!(f, "asked about {}", self.at)?;
        writeln!(
            f,
            "deployed    {} at {} ({})",
            self.digest, self.since, self.cause
        )?;
        if !self.exact {
            writeln!(
                f,
                "uncertain   overrides that have ended since are not kept: one may have decided otherwise"
            )?;
        }
        Ok(())
    }
}
