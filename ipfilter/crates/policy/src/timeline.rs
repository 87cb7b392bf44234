//! When a policy's decisions change.

use std::iter;

use jiff::Timestamp;

use crate::{network::reach::Decisions, policy::Policy};

impl Policy {
    /// The times after `after` at which the decisions change, with what they are from then on. A
    /// boundary of a condition at which they stay the same is left out.
    pub fn changes(&self, after: Timestamp) -> impl Iterator<Item = (Timestamp, Decisions)> + '_ {
        let next = |last: &Timestamp| self.next_boundary(*last);
        let mut before = self.at(after);
        iter::successors(next(&after), next).filter_map(move |boundary| {
            let decisions = self.at(boundary);
            (decisions != before).then(|| {
                before = decisions.clone();
                (boundary, decisions)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::{Options, Source, parse};

    #[test]
    fn a_boundary_that_changes_nothing_is_left_out() {
        let text = r#"{"Statement": [
            {"Effect": "Allow", "Principal": "*", "Action": "execute-api:Invoke",
             "Resource": "execute-api:/*", "Condition": {
             "DateLessThan": {"aws:CurrentTime": "2030-01-01T00:00:00Z"}}},
            {"Effect": "Allow", "Principal": "*", "Action": "execute-api:Invoke",
             "Resource": "execute-api:/*", "Condition": {
             "DateLessThan": {"aws:CurrentTime": "2031-01-01T00:00:00Z"}}}]}"#;
        let parsed = parse(&Source::new("two.json", text), &Options::default());
        let policy = parsed.policy.unwrap();
        let after = "2026-01-01T00:00:00Z".parse().unwrap();
        let changes: Vec<_> = policy.changes(after).collect();
        assert!(policy.boundaries().len() > changes.len());
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].0, "2031-01-01T00:00:00Z".parse().unwrap());
        assert!(changes[0].1.may_pass.is_empty());
    }
}
