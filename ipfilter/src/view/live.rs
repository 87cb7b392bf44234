//! What `explain --live` prints: three answers to one question, side by side.

use std::{fmt, net::IpAddr};

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::{explain::View, probe};
use crate::{agreement::Disagreement, overrides::Override, plan::Protocol};

/// What the policy, the table and the kernel say to one source.
#[derive(Debug, Serialize)]
pub struct Report {
    source: IpAddr,
    api: String,
    protocol: String,
    port: u16,
    policy: PolicyAnswer,
    table: TableAnswer,
    /// By interface.
    kernel: Vec<KernelAnswer>,
    /// Where they differ; nothing where they agree.
    disagreements: Vec<String>,
}

/// What the policy says.
#[derive(Debug, Serialize)]
pub struct PolicyAnswer {
    /// The decision, and the statements behind it.
    #[serde(flatten)]
    pub view: View,
    /// The file that it was read from.
    pub file: String,
    /// When what it said was deployed: that is what was asked.
    pub since: Timestamp,
    /// Whether the file says something else by now.
    pub changed: bool,
    /// The override that decides in its place.
    #[serde(rename = "override")]
    pub overruled: Option<Override>,
    /// Whether a packet is denied if the source may not call: not if the API is monitored, or enforced for other
    /// sources only.
    pub enforced: bool,
}

impl PolicyAnswer {
    fn decision(&self) -> &'static str {
        let effect = self.overruled.as_ref().map(|one| one.rule.effect.name());
        effect.unwrap_or_else(|| self.view.decision())
    }
}

/// What the table says that was loaded.
#[derive(Debug, Serialize)]
pub struct TableAnswer {
    /// `trie` or `intervals`.
    pub table: String,
    /// Whether the source passes the interface.
    #[serde(rename = "verdict", serialize_with = "as_verdict")]
    pub passes: bool,
    /// SHA-256 of the plan that it is of, in hexadecimal.
    pub digest: String,
}

/// What the program at an interface does.
#[derive(Debug, Serialize)]
pub struct KernelAnswer {
    /// What it does with the packet.
    #[serde(flatten)]
    pub report: probe::Report,
    /// SHA-256 of the plan that it has, in hexadecimal.
    pub digest: String,
}

impl Report {
    /// The answers to `source`, which asks an API at a port, and which of them differ.
    #[must_use]
    pub fn new(
        source: IpAddr,
        api: &str,
        (protocol, port): (Protocol, u16),
        policy: PolicyAnswer,
        table: TableAnswer,
        kernel: Vec<KernelAnswer>,
        disagreements: &[Disagreement],
    ) -> Self {
        let mut report = Self {
            source,
            api: api.into(),
            protocol: protocol.to_string().to_lowercase(),
            port,
            policy,
            table,
            kernel,
            disagreements: Vec::new(),
        };
        let described = disagreements.iter();
        report.disagreements = described.filter_map(|one| report.describe(*one)).collect();
        report
    }

    /// Whether all say the same.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.disagreements.is_empty()
    }

    fn describe(&self, disagreement: Disagreement) -> Option<String> {
        let decision = self.policy.decision();
        Some(match disagreement {
            Disagreement::Table => format!(
                "the policy says {decision}, the table {}",
                verdict(self.table.passes)
            ),
            Disagreement::Plan(index) => {
                let KernelAnswer { report, digest } = self.kernel.get(index)?;
                format!(
                    "`{}` has plan {}, the policies come to plan {} now",
                    report.interface,
                    short(digest),
                    short(&self.table.digest)
                )
            }
            Disagreement::Verdict(index) => {
                let report = &self.kernel.get(index)?.report;
                format!(
                    "the policy says {decision}, `{}` {} ({})",
                    report.interface, report.verdict, report.reason
                )
            }
        })
    }
}

/// What the table's answer is called.
fn verdict(passes: bool) -> &'static str {
    if passes { "pass" } else { "deny" }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn as_verdict<S: Serializer>(passes: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(verdict(*passes))
}

fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            source,
            api,
            protocol,
            port,
            policy,
            table,
            ..
        } = self;
        writeln!(f, "{source} to API `{api}`, {protocol} port {port}")?;
        writeln!(f, "  policy  {}", policy.view.answer())?;
        let changed = if policy.changed {
            "; the file says something else by now"
        } else {
            ""
        };
        writeln!(
            f,
            "          {} as it was deployed {:.0}{changed}",
            policy.file, policy.since
        )?;
        if let Some(one) = &policy.overruled {
            writeln!(f, "  override {one}")?;
        }
        writeln!(
            f,
            "  table   {} ({}, plan {})",
            verdict(table.passes),
            table.table,
            short(&table.digest)
        )?;
        if !policy.enforced && !table.passes {
            writeln!(
                f,
                "  monitor the API does not deny this source: it passes, and is counted"
            )?;
        }
        for answer in &self.kernel {
            write!(f, "  kernel  {}", answer.report)?;
        }
        if self.agrees() {
            return writeln!(f, "  they agree");
        }
        self.disagreements
            .iter()
            .try_for_each(|what| writeln!(f, "  THEY DIFFER: {what}"))
    }
}
