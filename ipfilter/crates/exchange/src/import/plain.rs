//! An address, block or range a line; what follows `#`, `;` or `//` is a comment.

use super::{Imported, Problems, column};
use crate::{
    Problem,
    block::{Range, set, unexpected},
};

pub(super) fn read(text: &str) -> Result<Imported, Vec<Problem>> {
    let (mut ranges, mut problems) = (Vec::new(), Problems::default());
    for (number, line) in (1..).zip(text.lines()) {
        let content = uncommented(line).trim();
        // A range may have spaces around its dash.
        if let Some(range) = Range::parse(content) {
            ranges.push(range);
            continue;
        }
        let words = content
            .split([' ', '\t', ','])
            .filter(|word| !word.is_empty());
        for word in words {
            match Range::parse(word.trim_matches(['"', '\''])) {
                Some(range) => ranges.push(range),
                None => problems.add(number, column(line, word), unexpected(word)),
            }
        }
    }
    problems.or(Imported {
        entries: ranges.len(),
        sources: set(ranges),
    })
}

fn uncommented(line: &str) -> &str {
    let ends = ["#", ";", "//"].iter().filter_map(|mark| line.find(mark));
    ends.min().and_then(|end| line.get(..end)).unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_have_comments_and_several_words() {
        let read = read(
            "# head\n192.0.2.1, 192.0.2.2 ; two\r\n\n2001:db8::/32 // net\n10.0.0.1 - 10.0.0.4\n",
        )
        .unwrap();
        assert_eq!(read.entries, 4);
        assert_eq!(read.sources.v4.count(), 6);
    }

    #[test]
    fn problems_have_their_places() {
        let problems = read("192.0.2.1\n  example.org 300.1.1.1\n").unwrap_err();
        let places: Vec<_> = problems.iter().map(|it| (it.line, it.column)).collect();
        assert_eq!(places, [(2, 3), (2, 15)]);
        assert!(problems[0].message.contains("`example.org`"));
    }
}
