//! What `probe` prints.

use std::fmt;

use ipfilter_ebpf::abi::Reason;
use serde::Serialize;

use crate::kernel::Verdict;

/// What an interface would do with a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// `pass`, `drop`, `reject` or `respond`.
    pub(super) verdict: &'static str,
    /// As the counters name it; `unclear` where other traffic was counted at the same time.
    pub(super) reason: &'static str,
    /// The API that the packet is for; none where it reached none.
    api: Option<String>,
    pub(super) interface: String,
    mode: &'static str,
}

impl Report {
    /// A packet's verdict at an interface where the filter is attached in this mode; `api` is the API that
    /// the packet is for.
    #[must_use]
    pub fn new(verdict: Verdict, api: Option<String>, interface: &str, mode: &'static str) -> Self {
        Self {
            verdict: verdict.outcome.name(),
            reason: verdict.reason.map_or("unclear", Reason::name),
            api,
            interface: interface.into(),
            mode,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.verdict, self.reason)?;
        if let Some(api) = &self.api {
            write!(f, ", API `{api}`")?;
        }
        writeln!(f, ", on `{}` ({})", self.interface, self.mode)
    }
}

#[cfg(test)]
mod tests {
    use ipfilter_ebpf::abi::Outcome;

    use super::*;

    fn shown(outcome: Outcome, reason: Option<Reason>, api: Option<&str>) -> String {
        let verdict = Verdict { outcome, reason };
        Report::new(verdict, api.map(str::to_owned), "eth0", "native").to_string()
    }

    #[test]
    fn a_verdict_is_shown_with_and_without_a_reason() {
        assert_eq!(
            shown(Outcome::Drop, Some(Reason::Denied), Some("api0")),
            "drop (denied), API `api0`, on `eth0` (native)\n"
        );
        assert_eq!(
            shown(Outcome::Pass, None, None),
            "pass (unclear), on `eth0` (native)\n"
        );
    }
}
