//! Whether the policy, the table and the kernel agree about one source. No IO.

use ipfilter_ebpf::abi::{Outcome, Reason};

use crate::{kernel::Verdict, plan::Digest};

/// What each of them says about a source that asks an API.
#[derive(Debug)]
pub struct Answers {
    /// Whether the policy, with the overrides, lets it pass the interface.
    pub policy: bool,
    /// Whether packets are denied if it does not.
    pub enforced: bool,
    /// Whether the table does.
    pub table: bool,
    /// The plan that the table is of.
    pub plan: Digest,
    /// By interface: the plan of the attached program, and what that does.
    pub kernel: Vec<(Digest, Verdict)>,
}

/// Two of them that do not agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disagreement {
    /// The policy and the table.
    Table,
    /// The table and the program at the interface with this index, which has another plan.
    Plan(usize),
    /// The policy and the program at the interface with this index.
    Verdict(usize),
}

impl Answers {
    /// All that do not agree.
    #[must_use]
    pub fn disagreements(&self) -> Vec<Disagreement> {
        let mut all = Vec::new();
        if self.policy != self.table {
            all.push(Disagreement::Table);
        }
        for (index, (plan, verdict)) in self.kernel.iter().enumerate() {
            if *plan != self.plan {
                all.push(Disagreement::Plan(index));
            }
            if !agrees(self.policy, self.enforced, *verdict) {
                all.push(Disagreement::Verdict(index));
            }
        }
        all
    }
}

/// Whether a program does with a packet what the policy says.
fn agrees(passes: bool, enforced: bool, verdict: Verdict) -> bool {
    let is_passed = verdict.outcome == Outcome::Pass;
    // It may pass for another reason, such as that the port is no API's.
    let expected = if passes {
        Reason::Allowed
    } else {
        Reason::WouldDeny
    };
    if passes || !enforced {
        is_passed && verdict.reason.is_none_or(|reason| reason == expected)
    } else {
        !is_passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED: (Outcome, Option<Reason>) = (Outcome::Pass, Some(Reason::Allowed));
    const DENIED: (Outcome, Option<Reason>) = (Outcome::Drop, Some(Reason::Denied));
    const UNCLEAR: (Outcome, Option<Reason>) = (Outcome::Pass, None);
    const OTHER: (Outcome, Option<Reason>) = (Outcome::Pass, Some(Reason::OtherPort));

    fn compared(
        policy: bool,
        table: bool,
        kernel: &[(u8, (Outcome, Option<Reason>))],
    ) -> Vec<Disagreement> {
        let kernel = kernel.iter().map(|(plan, (outcome, reason))| {
            let (outcome, reason) = (*outcome, *reason);
            (Digest([*plan; 32]), Verdict { outcome, reason })
        });
        let answers = Answers {
            policy,
            enforced: true,
            table,
            plan: Digest([1; 32]),
            kernel: kernel.collect(),
        };
        answers.disagreements()
    }

    #[test]
    fn all_three_agree_or_it_is_said_which_do_not() {
        use Disagreement::*;
        assert_eq!(compared(true, true, &[(1, ALLOWED), (1, UNCLEAR)]), []);
        assert_eq!(compared(false, false, &[(1, DENIED)]), []);
        assert_eq!(compared(true, false, &[]), [Table]);
        assert_eq!(
            compared(true, true, &[(1, ALLOWED), (2, DENIED)]),
            [Plan(1), Verdict(1)]
        );
        assert_eq!(compared(true, true, &[(1, OTHER)]), [Verdict(0)]);
        assert_eq!(compared(false, false, &[(1, UNCLEAR)]), [Verdict(0)]);
        assert_eq!(compared(false, false, &[(1, OTHER)]), [Verdict(0)]);
    }

    #[test]
    fn what_is_not_enforced_passes_and_is_counted_so() {
        let verdict = |outcome, reason| Verdict { outcome, reason };
        let would = verdict(Outcome::Pass, Some(Reason::WouldDeny));
        assert!(agrees(false, false, would) && agrees(false, false, verdict(Outcome::Pass, None)));
        assert!(!agrees(false, true, would) && !agrees(true, false, would));
        let denied = verdict(Outcome::Drop, Some(Reason::Denied));
        assert!(!agrees(false, false, denied));
    }
}
