//! What is wrong with a document, and where.

use std::{collections::HashMap, fmt, ops::Range};

use crate::source::{Locator, Source};

/// How much a problem matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The document can't be used.
    Error,
    /// The document is legal but surely not what was meant.
    Warning,
    /// An element the interface cannot judge: it lets through what is decided behind it.
    Maybe,
}

/// One thing to say about a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How much it matters.
    pub severity: Severity,
    /// A short name for this kind of problem, for grouping.
    pub kind: &'static str,
    /// The element, as a JSON path: `$.Statement[0].Effect`.
    pub path: String,
    /// The bytes of the source at fault.
    pub span: Range<usize>,
    /// The line of the first of them, from 1.
    pub line: usize,
    /// Its character within the line, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
    /// The policy's statement it is in.
    pub statement: Option<StatementId>,
}

/// A document and what there is to say about it.
#[derive(Clone, Debug)]
pub struct Findings {
    /// The document.
    pub source: Source,
    /// Its problems.
    pub problems: Vec<Problem>,
}

/// Which statement of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementId {
    /// Its index, from 0.
    pub index: usize,
    /// Its `Sid`, if it has one.
    pub sid: Option<String>,
}

/// Problems of one kind that are reported singly; the rest are counted.
const TOLD_OF_A_KIND: usize = 20;

/// The place of a value: the way to it from the root.
#[derive(Clone, Copy)]
pub enum Path<'p> {
    /// The document itself.
    Root,
    /// A member of an object.
    Name(&'p Path<'p>, &'p str),
    /// An element of a list.
    Index(&'p Path<'p>, usize),
}

impl<'p> Path<'p> {
    /// The member of this name.
    #[must_use]
    pub fn name(&'p self, name: &'p str) -> Self {
        Self::Name(self, name)
    }

    /// The element with this index.
    #[must_use]
    pub fn index(&'p self, index: usize) -> Self {
        Self::Index(self, index)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => formatter.write_str("$"),
            Self::Name(parent, name) if is_plain(name) => write!(formatter, "{parent}.{name}"),
            Self::Name(parent, name) => {
                write!(formatter, "{parent}[")?;
                for character in serde_json::Value::from(*name).to_string().chars() {
                    // JSON itself leaves some control characters as they are.
                    if visible(character) != character {
                        write!(formatter, "\\u{:04x}", u32::from(character))?;
                    } else {
                        write!(formatter, "{character}")?;
                    }
                }
                formatter.write_str("]")
            }
            Self::Index(parent, index) => write!(formatter, "{parent}[{index}]"),
        }
    }
}

fn is_plain(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name
            .chars()
            .all(|character| character.is_ascii_alphanumeric() || character == '_')
}

/// A message and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl Advice {
    /// A message without a hint.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
        }
    }

    /// Adds what to write instead.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// The problems found so far. Counts all, reports the first of each kind.
#[derive(Default)]
pub struct Problems {
    reported: Vec<Problem>,
    kinds: HashMap<(Severity, &'static str), Kind>,
    errors: usize,
    /// The statement being read, which problems are filed under.
    pub statement: Option<StatementId>,
}

#[derive(Default)]
struct Kind {
    count: usize,
    /// The first one that is only counted.
    overflow: Option<Problem>,
}

impl Problems {
    /// Notes an error.
    pub fn error(&mut self, kind: &'static str, at: &At<'_>, advice: impl FnOnce() -> Advice) {
        self.add(Severity::Error, kind, at.0, &at.1, advice);
    }

    /// Notes a warning.
    pub fn warn(&mut self, kind: &'static str, at: &At<'_>, advice: impl FnOnce() -> Advice) {
        self.add(Severity::Warning, kind, at.0, &at.1, advice);
    }

    /// How many errors there are, those only counted included.
    pub fn errors(&self) -> usize {
        self.errors
    }

    /// Notes a problem at a place that may no longer be at hand as a [`Path`].
    pub fn add(
        &mut self,
        severity: Severity,
        kind: &'static str,
        path: &dyn fmt::Display,
        span: &Range<usize>,
        advice: impl FnOnce() -> Advice,
    ) {
        self.errors += usize::from(severity == Severity::Error);
        let seen = self.kinds.entry((severity, kind)).or_default();
        seen.count += 1;
        if seen.count > TOLD_OF_A_KIND + 1 {
            return;
        }
        let advice = advice();
        let problem = Problem {
            severity,
            kind,
            path: path.to_string(),
            span: span.clone(),
            line: 0,
            column: 0,
            message: advice.message,
            hint: advice.hint,
            statement: self.statement.clone(),
        };
        if seen.count > TOLD_OF_A_KIND {
            seen.overflow = Some(problem);
        } else {
            self.reported.push(problem);
        }
    }

    /// All of them in the order of `source`, with lines and columns.
    #[must_use]
    pub fn place(self, source: &Source) -> Vec<Problem> {
        let mut problems = self.finish();
        let mut locator = Locator::new(source.text());
        for problem in &mut problems {
            let place = locator.locate(problem.span.start);
            (problem.line, problem.column) = (place.line, place.column);
        }
        problems
    }

    /// All of them in the order of the document; lines and columns are still to be filled in.
    #[must_use]
    pub fn finish(mut self) -> Vec<Problem> {
        for kind in self.kinds.into_values() {
            let Some(mut first) = kind.overflow else {
                continue;
            };
            let more = kind.count - TOLD_OF_A_KIND - 1;
            if more > 0 {
                first.message = format!("{} (and {more} more of this kind)", first.message);
            }
            self.reported.push(first);
        }
        self.reported
            .sort_by_key(|problem| (problem.span.start, problem.severity, problem.kind));
        self.reported
    }
}

/// A place to point at: the path and the bytes.
pub type At<'p> = (&'p Path<'p>, Range<usize>);

/// The known name nearest to `name`, when it is near enough to be meant.
pub fn nearest<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    const LONGEST: usize = 64;
    let lower = name.to_ascii_lowercase();
    known
        .into_iter()
        .filter(|_| name.len() <= LONGEST)
        .map(|known| {
            (
                strsim::damerau_levenshtein(&lower, &known.to_ascii_lowercase()),
                known,
            )
        })
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, known)| {
            *distance <= 2.max(known.len() / 3) || lower.contains(&known.to_ascii_lowercase())
        })
        .map(|(_, known)| known)
}

/// `text` cut to a length that fits a message, without control characters.
#[must_use]
pub fn clip(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut clipped: String = text.chars().take(LONGEST).map(visible).collect();
    if text.chars().nth(LONGEST).is_some() {
        clipped.push('…');
    }
    clipped
}

/// The character, or a sign for it where it would let a policy write on the operator's terminal.
#[must_use]
pub fn visible(character: char) -> char {
    // Marks that reorder what is shown (Unicode Standard Annex #9), too.
    let reorders = matches!(
        character,
        '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}'
    );
    if character.is_control() || reorders {
        '\u{FFFD}'
    } else {
        character
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_quote_what_is_no_plain_name() {
        let statements = Path::Root.name("Statement");
        let statement = statements.index(1);
        let key = statement.name("aws:SourceIp");
        let value = key.index(0);
        assert_eq!(value.to_string(), "$.Statement[1][\"aws:SourceIp\"][0]");
        let control = Path::Root.name("a\u{1b}\u{7f}").to_string();
        assert_eq!(control, r#"$["a\u001b\u007f"]"#);
    }

    #[test]
    fn the_rest_of_a_kind_is_counted() {
        let mut problems = Problems::default();
        for at in 0..100 {
            problems.error("x", &(&Path::Root, at..at), || Advice::new("bad"));
        }
        assert_eq!(problems.errors(), 100);
        let reported = problems.finish();
        assert_eq!(reported.len(), 21);
        assert_eq!(reported[20].message, "bad (and 79 more of this kind)");
    }

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let known = ["IpAddress", "NotIpAddress", "Null"];
        assert_eq!(nearest("NotIpAddres", known), Some("NotIpAddress"));
        assert_eq!(nearest("ipaddress", known), Some("IpAddress"));
        assert_eq!(nearest("Whatever", known), None);
    }
}
