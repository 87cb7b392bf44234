//! The words of an nftables file.

/// A word of the text, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'t> {
    pub(super) text: &'t str,
    pub(super) line: usize,
    pub(super) column: usize,
}

/// Words, strings, and each of `{},;=` and the end of a line by itself.
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let mut place = 0;
        while let Some(rest) = line.get(place..).filter(|rest| !rest.is_empty()) {
            let first = rest.chars().next().unwrap_or(' ');
            let length = match first {
                '#' => break,
                '{' | '}' | ',' | ';' | '=' => 1,
                '"' => rest
                    .get(1..)
                    .and_then(|it| it.find('"'))
                    .map_or(rest.len(), |end| end + 2),
                it if it.is_whitespace() => {
                    place += it.len_utf8();
                    continue;
                }
                _ => rest
                    .find(|it: char| it.is_whitespace() || "{},;=\"".contains(it))
                    .unwrap_or(rest.len()),
            };
            // `!=` is one word.
            let length = if rest.starts_with("!=") { 2 } else { length };
            let column = line
                .get(..place)
                .map_or(1, |before| before.chars().count() + 1);
            tokens.push(Token {
                text: rest.get(..length).unwrap_or(rest),
                line: number,
                column,
            });
            place += length;
        }
        tokens.push(Token {
            text: "\n",
            line: number,
            column: 1,
        });
    }
    tokens
}

pub(super) struct Reader<'r, 't> {
    pub(super) tokens: &'r [Token<'t>],
    pub(super) place: usize,
}

impl<'t> Reader<'_, 't> {
    pub(super) fn next(&mut self) -> Option<Token<'t>> {
        let token = self.tokens.get(self.place).copied();
        self.place += 1;
        token
    }

    pub(super) fn peek(&self) -> &'t str {
        self.tokens.get(self.place).map_or("", |token| token.text)
    }

    pub(super) fn skip_lines(&mut self) {
        while self.peek() == "\n" || self.peek() == ";" {
            self.place += 1;
        }
    }

    /// The words up to the end of the statement; braces are kept together.
    pub(super) fn statement(&mut self) -> Vec<Token<'t>> {
        let (mut words, mut depth) = (Vec::new(), 0_usize);
        while let Some(token) = self.tokens.get(self.place).copied() {
            match token.text {
                "\n" | ";" if depth == 0 => break,
                "}" if depth == 0 => break,
                "\n" => {}
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            self.place += 1;
            if token.text != "\n" {
                words.push(token);
            }
        }
        words
    }
}

/// One word, or all that is in braces.
pub(super) fn value(reader: &mut Reader<'_, '_>) -> String {
    let mut text = reader.next().map_or("", |token| token.text).to_owned();
    if text == "{" {
        while let Some(token) = reader.next() {
            text += token.text;
            if token.text == "}" {
                break;
            }
        }
    }
    text
}
