//! `ipset save`: `create NAME TYPE …` and `add NAME ENTRY …`.

use std::collections::HashMap;

use ipfilter_addresses::AddressSet;

use super::{Choice, Imported, Problems, column};
use crate::{
    Problem,
    block::{Range, set, unexpected},
};

pub(super) fn is_line(line: &str) -> bool {
    line.starts_with("create ") || line.starts_with("add ")
}

pub(super) fn read(text: &str, choice: &Choice) -> Result<Imported, Vec<Problem>> {
    let mut sets: HashMap<&str, Entries> = HashMap::new();
    let mut problems = Problems::default();
    for (number, line) in (1..).zip(text.lines()) {
        let mut words = line.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (None, ..) => {}
            (Some(comment), ..) if comment.starts_with('#') => {}
            (Some("create"), Some(name), Some(kind)) => {
                sets.entry(name).or_default();
                let plain = ["hash:ip", "hash:net", "bitmap:ip"].contains(&kind);
                if !plain && chosen(choice, name) {
                    let message = format!("a set of type `{kind}` is about more than sources");
                    problems.add(number, column(line, kind), message);
                }
            }
            (Some("add"), Some(name), Some(entry)) => match Range::parse(entry) {
                Some(range) => {
                    let excepted = words.any(|word| word == "nomatch");
                    sets.entry(name).or_default().push(range, excepted);
                }
                None if chosen(choice, name) => {
                    problems.add(number, column(line, entry), unexpected(entry));
                }
                None => {}
            },
            (Some("flush" | "destroy" | "COMMIT"), ..) => {}
            (Some(word), ..) => {
                problems.add(
                    number,
                    column(line, word),
                    "write `create NAME TYPE` or `add NAME ENTRY`, as `ipset save` does",
                );
            }
        }
    }
    let missing = choice
        .sets
        .iter()
        .find(|name| !sets.contains_key(name.as_str()));
    if let Some(name) = missing {
        problems.add(1, 1, format!("there is no set `{name}`"));
    }
    let mut entries = 0;
    let mut members = Vec::new();
    for (_, set) in sets.into_iter().filter(|(name, _)| chosen(choice, name)) {
        entries += set.len();
        members.push(set.members());
    }
    problems.or(Imported {
        sources: AddressSet::union_all(members),
        entries,
    })
}

fn chosen(choice: &Choice, name: &str) -> bool {
    choice.sets.is_empty() || choice.sets.iter().any(|it| it == name)
}

/// A set's entries, and those with `nomatch`, which are exceptions from wider ones.
#[derive(Default)]
struct Entries {
    all: Vec<(Range, bool)>,
}

impl Entries {
    fn push(&mut self, range: Range, excepted: bool) {
        self.all.push((range, excepted));
    }

    fn len(&self) -> usize {
        self.all.len()
    }

    /// The narrowest entry that has an address decides about it.
    fn members(mut self) -> AddressSet {
        if !self.all.iter().any(|(_, excepted)| *excepted) {
            return set(self.all.into_iter().map(|(range, _)| range));
        }
        let width = |range: &Range| match *range {
            Range::V4(first, last) => u128::from(last - first),
            Range::V6(first, last) => last - first,
        };
        self.all.sort_by_key(|(range, _)| width(range));
        let mut rules = crate::rules::Rules::default();
        for (range, excepted) in self.all {
            rules.push(!excepted, [range]);
        }
        rules.allowed(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVED: &str = "create a hash:net family inet hashsize 1024 maxelem 65536\nadd a 192.0.2.0/24\n\
        add a 192.0.2.128/25 nomatch\nadd a 192.0.2.200 timeout 60\ncreate b hash:net family inet6\nadd b 2001:db8::/32\n";

    #[test]
    fn exceptions_are_kept() {
        let all = read(SAVED, &Choice::default()).unwrap().sources;
        assert_eq!(all.v4.count(), 129);
        assert!(!all.v6.is_empty());
        let choice = Choice {
            sets: vec!["a".into()],
            ..Choice::default()
        };
        assert!(read(SAVED, &choice).unwrap().sources.v6.is_empty());
        let choice = Choice {
            sets: vec!["c".into()],
            ..Choice::default()
        };
        assert!(read(SAVED, &choice).is_err());
        assert!(
            read(
                "create p hash:net,port\nadd p 192.0.2.1,tcp:80\n",
                &Choice::default()
            )
            .is_err()
        );
    }
}
