//! Sets and chains, as they are written.

use std::collections::BTreeMap;

use super::super::Problems;
use super::tokens::{Reader, Token};
use crate::block::{Range, clip, unexpected};

/// What is written of a chain.
pub(super) struct Chain<'t> {
    pub(super) name: &'t str,
    pub(super) rules: Vec<Vec<Token<'t>>>,
    pub(super) default: Option<bool>,
    /// The families of its table.
    pub(super) families: [bool; 2],
}

#[derive(Default)]
pub(super) struct Ruleset<'t> {
    /// The ranges of sets and defined lists, by name.
    pub(super) sets: BTreeMap<&'t str, Vec<Range>>,
    pub(super) chains: Vec<Chain<'t>>,
    pub(super) problems: Problems,
}

impl<'t> Ruleset<'t> {
    pub(super) fn problem(&mut self, token: Token<'_>, message: impl Into<String>) {
        self.problems.add(token.line, token.column, message);
    }

    pub(super) fn top(&mut self, reader: &mut Reader<'_, 't>) {
        loop {
            reader.skip_lines();
            let Some(token) = reader.next() else { return };
            match token.text {
                "table" => {
                    let family = reader.next().map_or("", |token| token.text);
                    let families = match family {
                        "ip6" => [false, true],
                        "inet" | "netdev" | "bridge" => [true, true],
                        _ => [true, false],
                    };
                    while !matches!(reader.peek(), "{" | "\n" | "") {
                        reader.next();
                    }
                    if reader.peek() == "{" {
                        reader.next();
                        self.table(reader, families);
                    }
                }
                "set" => self.set(reader),
                "define" => {
                    let name = reader.next().map_or("", |token| token.text);
                    reader.next();
                    self.list(name, reader);
                }
                "elements" => {
                    reader.next();
                    self.list("", reader);
                }
                "add" if reader.peek() == "element" => {
                    reader.next();
                    let words = std::iter::from_fn(|| {
                        (!matches!(reader.peek(), "{" | "\n" | ""))
                            .then(|| reader.next())
                            .flatten()
                    });
                    let name = words.last().map_or("", |token| token.text);
                    self.list(name, reader);
                }
                "flush" | "destroy" => drop(reader.statement()),
                _ => {
                    self.problem(token, format!("`{}` is not understood: give the output of `nft list ruleset`, a set or its elements", clip(token.text)));
                    drop(reader.statement());
                }
            }
        }
    }

    pub(super) fn table(&mut self, reader: &mut Reader<'_, 't>, families: [bool; 2]) {
        loop {
            reader.skip_lines();
            match reader.next().map(|token| token.text) {
                Some("set") => self.set(reader),
                Some("chain") => self.chain(reader, families),
                Some("}") | None => return,
                Some(_) => {
                    let words = reader.statement();
                    drop(words);
                }
            }
        }
    }

    pub(super) fn set(&mut self, reader: &mut Reader<'_, 't>) {
        let name = reader.next().map_or("", |token| token.text);
        reader.next();
        self.sets.entry(name).or_default();
        loop {
            reader.skip_lines();
            match reader.peek() {
                "elements" => {
                    reader.next();
                    reader.next();
                    self.list(name, reader);
                }
                "}" => {
                    reader.next();
                    return;
                }
                "" => return,
                _ => drop(reader.statement()),
            }
        }
    }

    /// Elements in braces, or a single one.
    pub(super) fn list(&mut self, name: &'t str, reader: &mut Reader<'_, 't>) {
        let words = reader.statement();
        let inside = words
            .iter()
            .copied()
            .filter(|token| !matches!(token.text, "{" | "}"));
        let mut elements: Vec<Vec<Token<'t>>> = vec![Vec::new()];
        for token in inside {
            match (token.text, elements.last_mut()) {
                (",", _) => elements.push(Vec::new()),
                (_, Some(last)) => last.push(token),
                (_, None) => {}
            }
        }
        for element in elements.into_iter().filter(|element| !element.is_empty()) {
            let ranges = self.element(&element);
            self.sets.entry(name).or_default().extend(ranges);
        }
    }

    /// An address, a block or a range, or the name of a list; what may follow says how long it stays and the like.
    pub(super) fn element(&mut self, words: &[Token<'t>]) -> Vec<Range> {
        let Some((first, rest)) = words.split_first() else {
            return Vec::new();
        };
        if let Some(dot) = rest.iter().find(|token| token.text == ".") {
            self.problem(*dot, "the set is about more than sources");
            return Vec::new();
        }
        if let Some(name) = first.text.strip_prefix(['$', '@']) {
            if let Some(ranges) = self.sets.get(name) {
                return ranges.clone();
            }
            self.problem(*first, format!("there is no `{name}`"));
            return Vec::new();
        }
        match Range::parse(first.text) {
            Some(range) => vec![range],
            None => {
                self.problem(*first, unexpected(first.text));
                Vec::new()
            }
        }
    }

    pub(super) fn chain(&mut self, reader: &mut Reader<'_, 't>, families: [bool; 2]) {
        let name = reader.next().map_or("", |token| token.text);
        reader.next();
        let mut chain = Chain {
            name,
            rules: Vec::new(),
            default: None,
            families,
        };
        loop {
            reader.skip_lines();
            let words = reader.statement();
            let mut texts = words.iter().map(|token| token.text);
            match (texts.next(), texts.next()) {
                (Some("type"), _) => {}
                (Some("policy"), policy) => chain.default = Some(policy == Some("accept")),
                (Some("comment"), _) => {}
                (Some(_), _) => chain.rules.push(words),
                (None, _) => {
                    reader.next();
                    break;
                }
            }
        }
        self.chains.push(chain);
    }
}
