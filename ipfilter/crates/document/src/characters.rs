//! Characters that look right and are not JSON.

use crate::problem::Advice;

/// What is wrong with the character at which reading ended, if people often write it.
pub(crate) fn explain(text: &str, offset: usize) -> Option<Advice> {
    let rest = text
        .get(offset..)?
        .trim_start_matches([' ', '\t', '\r', '\n', ',']);
    let character = rest.chars().next()?;
    let code = format!("U+{:04X}", u32::from(character));
    if rest.starts_with("//") || rest.starts_with("/*") || character == '#' {
        let mark = if character == '#' {
            "#"
        } else {
            rest.get(..2)?
        };
        return Some(
            Advice::new(format!(
                "the document is not JSON: `{mark}` begins a comment, and JSON has none"
            ))
            .hint("remove the comment"),
        );
    }
    let invisible = invisible(character);
    if let Some(name) = invisible {
        return Some(
            Advice::new(format!(
                "the document is not JSON: here is an invisible {name} ({code})"
            ))
            .hint("remove it, or type a plain space in its place"),
        );
    }
    if "“”„‟«»‘’‚‛′″＂".contains(character) {
        return Some(
            Advice::new(format!(
                "the document is not JSON: `{character}` ({code}) is a typographic quote"
            ))
            .hint("write plain double quotes (\"): an editor or a web page has changed them"),
        );
    }
    (character == '\'').then(|| {
        Advice::new("the document is not JSON: text in single quotes")
            .hint("write double quotes (\")")
    })
}

/// The name of a character that shows nothing.
fn invisible(character: char) -> Option<&'static str> {
    Some(match character {
        '\u{00A0}' | '\u{202F}' => "no-break space",
        '\u{200B}' => "zero-width space",
        '\u{200C}' | '\u{200D}' | '\u{2060}' => "zero-width joiner",
        '\u{FEFF}' => "byte order mark",
        '\u{00AD}' => "soft hyphen",
        '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => {
            "direction mark"
        }
        '\u{2000}'..='\u{200A}' | '\u{205F}' | '\u{3000}' => "space that is not ASCII",
        '\u{2028}' | '\u{2029}' => "line separator",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_character_is_named() {
        for (text, said) in [
            ("{\u{00A0}}", "no-break space (U+00A0)"),
            ("{\u{200B}}", "zero-width space (U+200B)"),
            ("{ “a”: 1}", "typographic quote"),
            ("{ 'a': 1}", "single quotes"),
            ("{ // x\n}", "`//` begins a comment"),
            ("{ /* x */ }", "`/*` begins a comment"),
            ("{ # x\n}", "`#` begins a comment"),
        ] {
            let error = crate::json::parse(text).unwrap_err();
            let advice = explain(text, error.offset).unwrap();
            assert!(advice.message.contains(said), "{text}: {advice:?}");
        }
        assert_eq!(explain("{\"a\" 1}", 5), None);
    }
}
