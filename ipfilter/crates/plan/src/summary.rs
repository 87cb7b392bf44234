//! A plan in a line, for the log and for status.

use std::fmt;

use super::Plan;

/// What a plan amounts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Protected services.
    pub apis: usize,
    /// Addresses at which the answer changes, IPv4.
    pub boundaries_v4: usize,
    /// Addresses at which the answer changes, IPv6.
    pub boundaries_v6: usize,
    /// The first twelve digits of the digest.
    pub digest: String,
}

impl Summary {
    pub(super) fn of(plan: &Plan) -> Self {
        Self {
            apis: plan.apis.len(),
            boundaries_v4: plan.v4.boundaries_len(),
            boundaries_v6: plan.v6.boundaries_len(),
            digest: plan.digest().short(),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let apis = if self.apis == 1 { "API" } else { "APIs" };
        write!(
            f,
            "plan {}: {} {apis}, {} IPv4 and {} IPv6 boundaries",
            self.digest, self.apis, self.boundaries_v4, self.boundaries_v6
        )
    }
}
