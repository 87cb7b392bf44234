//! What the filter's process hands the authorization service, and what the service answers. No IO.
//!
//! Both sides speak in lines over a Unix socket. The filter's process sends [`Message`]s, one JSON object a
//! line: a set of policies to get ready, and then, in the same step as its tables, the order to serve one.
//! The service answers each with a [`Reply`], a word and a digest, and reports once a second what it has decided.
//! Replies are the only thing that the filter's process reads, and they decide nothing.

mod report;
#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr};

use ipfilter_config::{Authorize, PolicyOptions};
use ipfilter_overrides::Overrides;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use report::{Decided, Denied, LONGEST_REPORT, Refused, Report};

/// The most bytes of a digest or name in a reply; SHA-256 has 64.
const LONGEST_DIGEST: usize = 128;

/// What begins a reply with a report.
const COUNTED: &str = "counted ";

/// How many bytes the reply that begins with `bytes` may have.
#[must_use]
pub fn longest(bytes: &[u8]) -> usize {
    match bytes.starts_with(COUNTED.as_bytes()) {
        true => COUNTED.len() + LONGEST_REPORT,
        false => 2 * LONGEST_DIGEST,
    }
}

/// Everything that decides requests, apart from overrides and the clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policies {
    /// How the service is reached, and what it believes; without it, the service denies everything.
    pub authorize: Option<Authorize>,
    /// The APIs.
    pub apis: Vec<Api>,
}

/// One API and its policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Api {
    /// What it is called.
    pub name: String,
    /// The names that clients know it by.
    pub hosts: Vec<String>,
    /// How its policy is understood.
    pub options: PolicyOptions,
    /// The file that the policy was read from.
    pub file: String,
    /// The policy.
    pub policy: String,
}

/// What the filter's process sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Message {
    /// Get these policies ready.
    Prepare {
        /// Their name: SHA-256, in hexadecimal.
        digest: String,
        /// The policies.
        policies: Policies,
    },
    /// Decide by the policies with this name from now on, and these overrides.
    Serve(Serve),
}

/// What is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serve {
    /// The name of the policies.
    pub digest: String,
    /// The digest of the plan that interfaces enforce.
    pub plan: String,
    /// What this order is called in the reply. Plans with the same tables may come with other policies.
    pub order: String,
    /// What is decided above the policies.
    pub overrides: Overrides,
}

/// Policies as they are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// Their name.
    pub digest: String,
    /// The message, with the end of its line.
    pub line: Vec<u8>,
}

impl Prepared {
    /// Those of `policies`.
    ///
    /// # Errors
    ///
    /// When they can't be written as JSON.
    pub fn new(policies: &Policies) -> serde_json::Result<Self> {
        let text = serde_json::to_string(policies)?;
        let digest = Sha256::digest(&text);
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        // Written out rather than serialized again: policies may be large.
        let line = format!("{{\"prepare\":{{\"digest\":\"{digest}\",\"policies\":{text}}}}}\n");
        Ok(Self {
            digest,
            line: line.into_bytes(),
        })
    }
}

impl Message {
    /// Reads a line.
    ///
    /// # Errors
    ///
    /// When it is no message, such as one of another version of this program.
    pub fn read(line: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(line)
    }

    /// The message as a line.
    ///
    /// # Errors
    ///
    /// When it can't be written as JSON.
    pub fn line(&self) -> serde_json::Result<Vec<u8>> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        Ok(line)
    }
}

/// What the service answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The policies with this name are ready.
    Ready(String),
    /// They can't be used; the service's log says why.
    Unusable(String),
    /// Requests are decided as the order of this name says.
    Serving(String),
    /// What has been decided so far.
    Counted(Report),
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, digest) = match self {
            Self::Ready(digest) => ("ready", digest),
            Self::Unusable(digest) => ("unusable", digest),
            Self::Serving(digest) => ("serving", digest),
            Self::Counted(report) => {
                let text = report.text().map_err(|_| fmt::Error)?;
                return write!(f, "{COUNTED}{text}");
            }
        };
        write!(f, "{word} {digest}")
    }
}

impl FromStr for Reply {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        if let Some(report) = line.strip_prefix(COUNTED) {
            let report: Report = serde_json::from_str(report).map_err(|_| ())?;
            return Ok(Self::Counted(report.bounded()));
        }
        let (word, digest) = line.trim_end().split_once(' ').ok_or(())?;
        let is_digest = digest.len() <= LONGEST_DIGEST;
        let digest = Some(digest.to_owned()).filter(|_| is_digest).ok_or(())?;
        match word {
            "ready" => Ok(Self::Ready(digest)),
            "unusable" => Ok(Self::Unusable(digest)),
            "serving" => Ok(Self::Serving(digest)),
            _ => Err(()),
        }
    }
}
