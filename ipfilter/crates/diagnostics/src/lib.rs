//! Problems of a policy as an operator sees them: place, source line, fault, path, what to write.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use ipfilter_document::{
    problem::{Problem, Severity, clip, visible},
    source::Source,
};

/// The most characters of a source line that are shown before and from the fault on.
const BEFORE: usize = 50;
const AFTER: usize = 70;

/// The problem with its source line, in colour; the stream it is written to takes the colour out
/// where it is not wanted. Ends without a line break.
#[must_use]
pub fn render(source: &Source, problem: &Problem) -> String {
    let Problem {
        line,
        column,
        message,
        ..
    } = problem;
    let level = match problem.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Maybe => Level::WARNING.with_name("maybe"),
    };
    let title = level.primary_title(format!("{}:{line}:{column}: {message}", source.name()));
    let excerpt = Excerpt::of(source.text(), &problem.span);
    let label = format!("{}{}", problem.path, statement(problem));
    let group = match &excerpt {
        Some(Excerpt { text, span }) => title.element(
            Snippet::source(text.as_str())
                .line_start(*line)
                .annotation(AnnotationKind::Primary.span(span.clone()).label(label)),
        ),
        None => Group::with_title(title).element(Level::NOTE.message(format!("at {label}"))),
    };
    let group = match &problem.hint {
        Some(hint) => group.element(Level::HELP.message(hint.as_str())),
        None => group,
    };
    Renderer::styled().render(&[group])
}

/// All of `problems`, an empty line between two.
#[must_use]
pub fn render_all<'p>(source: &Source, problems: impl IntoIterator<Item = &'p Problem>) -> String {
    let problems = problems.into_iter();
    let rendered: Vec<_> = problems.map(|problem| render(source, problem)).collect();
    rendered.join("\n\n")
}

fn statement(problem: &Problem) -> String {
    let sid = problem
        .statement
        .as_ref()
        .and_then(|statement| statement.sid.as_deref());
    sid.map_or_else(String::new, |sid| format!(" (`{}`)", clip(sid)))
}

/// The part of a line that is shown, and the fault within it.
struct Excerpt {
    text: String,
    span: Range<usize>,
}

impl Excerpt {
    /// The line `span` begins in, cut to what fits; `None` when there is nothing to show.
    fn of(source: &str, span: &Range<usize>) -> Option<Self> {
        let (head, cut_head) = line_before(source.get(..span.start)?);
        let (tail, cut_tail) = line_after(source.get(span.start..)?);
        if head.is_empty() && tail.is_empty() {
            return None;
        }
        let length = (span.len().max(1)..=tail.len())
            .find(|length| tail.is_char_boundary(*length))
            .unwrap_or(tail.len());
        let (fault, rest) = tail.split_at(length);
        let (head, fault, rest) = (printable(head), printable(fault), printable(rest));
        let begin = cut_head.len() + head.len();
        Some(Self {
            span: begin..begin + fault.len(),
            text: format!("{cut_head}{head}{fault}{rest}{cut_tail}"),
        })
    }
}

/// The text as it may be shown; tabs are left to the renderer.
fn printable(text: &str) -> String {
    text.chars()
        .map(|character| {
            if character == '\t' {
                character
            } else {
                visible(character)
            }
        })
        .collect()
}

const CUT: &str = "…";

/// The end of the last line, and the sign for what is cut off before it. Looks no further than it
/// shows: lines may be megabytes long.
fn line_before(text: &str) -> (&str, &'static str) {
    let mut shown = text.len();
    for (nth, (at, character)) in text.char_indices().rev().enumerate() {
        match character {
            '\n' => return (text.get(shown..).unwrap_or_default(), ""),
            _ if nth == BEFORE => return (text.get(shown..).unwrap_or_default(), CUT),
            _ => shown = at,
        }
    }
    (text, "")
}

/// The beginning of the first line, and the sign for what is cut off after it.
fn line_after(text: &str) -> (&str, &'static str) {
    for (nth, (at, character)) in text.char_indices().enumerate() {
        match character {
            '\n' | '\r' => return (text.get(..at).unwrap_or_default(), ""),
            _ if nth == AFTER => return (text.get(..at).unwrap_or_default(), CUT),
            _ => {}
        }
    }
    (text, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipfilter_policy::{Options, parse};

    fn rendered(text: &str) -> Vec<String> {
        let source = Source::new("p.json", text.as_bytes());
        let problems = parse(&source, &Options::default()).problems;
        let plain = |text: String| anstream::adapter::strip_str(&text).to_string();
        problems
            .iter()
            .map(|problem| plain(render(&source, problem)))
            .collect()
    }

    #[test]
    fn the_fault_is_underlined_and_named() {
        let text = "{\"Version\": \"2012-10-17\",\n \"Statement\": [{\"Sid\": \"Office\", \"Effect\": \"allow\",\n \
             \"Principal\": \"*\", \"Action\": \"execute-api:Invoke\", \"Resource\": \"execute-api:/*\"}]}";
        assert_eq!(
            rendered(text),
            [concat!(
                "error: p.json:2:44: `allow` is not an effect\n",
                "  |\n",
                "2 |  \"Statement\": [{\"Sid\": \"Office\", \"Effect\": \"allow\",\n",
                "  |                                            ^^^^^^^ $.Statement[0].Effect (`Office`)\n",
                "  |\n",
                "  = help: write `Allow`, with its capital",
            )]
        );
    }

    #[test]
    fn long_lines_are_cut_and_empty_files_have_none() {
        let long = format!("{}[", " ".repeat(5000));
        assert!(rendered(&long).iter().all(|text| text.len() < 600));
        assert!(rendered("")[0].starts_with("error: p.json:1:1: the document is empty"));
        for text in [
            "\u{FEFF}",
            "é\n\né",
            "{\"é\": \u{0}}",
            "\"\\ud800\"",
            "{\r\n\t\"a\"\r\n}",
        ] {
            assert!(!rendered(text).is_empty(), "{text:?}");
        }
    }
}
