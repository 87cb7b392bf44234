//! nftables (nft(8)): sets, elements, and a chain that asks for sources.

use std::collections::BTreeMap;

use ipfilter_addresses::AddressSet;

use super::{Choice, Imported, Problems};
use crate::{
    Problem,
    block::{Range, clip, set, unexpected},
    rules::{Rules, everyone},
};

/// A word of the text, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Token<'t> {
    text: &'t str,
    line: usize,
    column: usize,
}

/// Whether a text is the elements of a set, and nothing around them.
pub(super) fn is_elements(text: &str) -> bool {
    let inside = text
        .trim()
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'));
    let first =
        inside.and_then(|inside| inside.split([',', ' ', '\n']).find(|word| !word.is_empty()));
    first.is_some_and(|word| Range::parse(word).is_some())
}

pub(super) fn is_beginning(line: &str) -> bool {
    let mut words = line.split_whitespace();
    match words.next() {
        Some("table" | "set" | "chain") => line.contains('{'),
        Some("define") => line.contains('='),
        Some("elements") => words.next() == Some("="),
        Some("add") => matches!(words.next(), Some("element" | "table" | "set" | "rule")),
        _ => false,
    }
}

/// Words, strings, and each of `{},;=` and the end of a line by itself.
fn tokens(text: &str) -> Vec<Token<'_>> {
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

/// What is written of a chain.
struct Chain<'t> {
    name: &'t str,
    rules: Vec<Vec<Token<'t>>>,
    default: Option<bool>,
    /// The families of its table.
    families: [bool; 2],
}

#[derive(Default)]
struct Ruleset<'t> {
    /// The ranges of sets and defined lists, by name.
    sets: BTreeMap<&'t str, Vec<Range>>,
    chains: Vec<Chain<'t>>,
    problems: Problems,
}

pub(super) fn read(text: &str, choice: &Choice) -> Result<Imported, Vec<Problem>> {
    let tokens = tokens(text);
    let mut ruleset = Ruleset::default();
    if is_elements(text) {
        let mut reader = Reader {
            tokens: &tokens,
            place: 0,
        };
        ruleset.list("", &mut reader);
    } else {
        ruleset.top(&mut Reader {
            tokens: &tokens,
            place: 0,
        });
    }
    ruleset.finish(choice)
}

struct Reader<'r, 't> {
    tokens: &'r [Token<'t>],
    place: usize,
}

impl<'t> Reader<'_, 't> {
    fn next(&mut self) -> Option<Token<'t>> {
        let token = self.tokens.get(self.place).copied();
        self.place += 1;
        token
    }

    fn peek(&self) -> &'t str {
        self.tokens.get(self.place).map_or("", |token| token.text)
    }

    fn skip_lines(&mut self) {
        while self.peek() == "\n" || self.peek() == ";" {
            self.place += 1;
        }
    }

    /// The words up to the end of the statement; braces are kept together.
    fn statement(&mut self) -> Vec<Token<'t>> {
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

impl<'t> Ruleset<'t> {
    fn problem(&mut self, token: Token<'_>, message: impl Into<String>) {
        self.problems.add(token.line, token.column, message);
    }

    fn top(&mut self, reader: &mut Reader<'_, 't>) {
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

    fn table(&mut self, reader: &mut Reader<'_, 't>, families: [bool; 2]) {
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

    fn set(&mut self, reader: &mut Reader<'_, 't>) {
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
    fn list(&mut self, name: &'t str, reader: &mut Reader<'_, 't>) {
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
    fn element(&mut self, words: &[Token<'t>]) -> Vec<Range> {
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

    fn chain(&mut self, reader: &mut Reader<'_, 't>, families: [bool; 2]) {
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

    fn finish(mut self, choice: &Choice) -> Result<Imported, Vec<Problem>> {
        let asks = |chain: &Chain<'_>| {
            chain
                .rules
                .iter()
                .flatten()
                .any(|token| token.text == "saddr")
        };
        let chains = std::mem::take(&mut self.chains);
        let mut asking: Vec<_> = chains.into_iter().filter(asks).collect();
        let missing = choice
            .sets
            .iter()
            .find(|name| !self.sets.contains_key(name.as_str()));
        if let Some(name) = missing {
            self.problems.add(1, 1, format!("there is no set `{name}`"));
        }
        if !choice.sets.is_empty() || asking.is_empty() {
            let chosen =
                |name: &str| choice.sets.is_empty() || choice.sets.iter().any(|it| it == name);
            let sets = self.sets.into_iter().filter(|(name, _)| chosen(name));
            let ranges: Vec<Range> = sets.flat_map(|(_, ranges)| ranges).collect();
            return self.problems.or(Imported {
                entries: ranges.len(),
                sources: set(ranges),
            });
        }
        if asking.len() > 1 {
            let names: Vec<_> = asking
                .iter()
                .map(|chain| format!("`{}`", chain.name))
                .collect();
            let message = format!(
                "several chains ask for sources ({}): give one of them, or choose a set with `--set`",
                names.join(", ")
            );
            return Err(vec![Problem::new(1, 1, message)]);
        }
        let chain = asking.swap_remove(0);
        let entries = chain.rules.len() + self.sets.values().map(Vec::len).sum::<usize>();
        let sources = self.evaluate(&chain);
        self.problems.or(Imported { sources, entries })
    }

    fn evaluate(&mut self, chain: &Chain<'t>) -> AddressSet {
        let (mut rules, mut scope, mut decided) = (Rules::default(), None, [false; 2]);
        for words in &chain.rules {
            let Some(rule) = self.rule(words) else {
                continue;
            };
            if *scope.get_or_insert_with(|| rule.scope.clone()) != rule.scope {
                let place = words.first().copied().unwrap_or(Token {
                    text: "",
                    line: 1,
                    column: 1,
                });
                self.problem(place, "this rule asks for other ports than the ones before: give the rules of one service");
            }
            match rule.ranges {
                Some(ranges) => rules.push(rule.allow, ranges),
                None => {
                    let [v4, v6] = chain.families;
                    rules.push(
                        rule.allow,
                        everyone(v4 && rule.families[0], v6 && rule.families[1]),
                    );
                    decided = [
                        decided[0] || rule.families[0],
                        decided[1] || rule.families[1],
                    ];
                }
            }
        }
        let open = (chain.families[0] && !decided[0]) || (chain.families[1] && !decided[1]);
        match chain.default {
            Some(allow) => rules.push(allow, everyone(chain.families[0], chain.families[1])),
            None if open => self.problems.add(1, 1, format!("the chain `{}` does not decide about all sources: end it with `drop` or `accept`", chain.name)),
            None => {}
        }
        rules.allowed(false)
    }

    fn rule(&mut self, words: &[Token<'t>]) -> Option<Rule> {
        let mut rule = Rule {
            ranges: None,
            families: [true; 2],
            allow: false,
            scope: String::new(),
        };
        let mut reader = Reader {
            tokens: words,
            place: 0,
        };
        let mut verdict = None;
        while let Some(token) = reader.next() {
            match (token.text, reader.peek()) {
                (family @ ("ip" | "ip6"), "saddr") => {
                    reader.next();
                    rule.ranges = Some(self.sources(&mut reader, family == "ip"));
                }
                ("meta", "nfproto") => {
                    reader.next();
                    let v4 = reader.next().is_some_and(|it| it.text == "ipv4");
                    rule.families = [v4, !v4];
                }
                ("tcp" | "udp", "dport") => {
                    reader.next();
                    let ports = value(&mut reader);
                    rule.scope = format!("{} {ports}", token.text);
                }
                ("accept" | "return", _) => verdict = Some(true),
                ("drop", _) => verdict = Some(false),
                ("reject", _) => {
                    verdict = Some(false);
                    break;
                }
                ("counter" | "packets" | "bytes" | "comment" | "log" | "prefix", _) => {}
                (text, _) if text.starts_with('"') || text.parse::<u64>().is_ok() => {}
                (text, _) => {
                    let message = format!(
                        "what `{}` asks for is not the source: leave the rule out, or the condition",
                        clip(text)
                    );
                    self.problem(token, message);
                    return None;
                }
            }
        }
        let Some(allow) = verdict else {
            let place = words.first().copied()?;
            self.problem(
                place,
                "the rule decides nothing: it has no verdict such as `accept` or `drop`",
            );
            return None;
        };
        Some(Rule { allow, ..rule })
    }

    /// What comes after `saddr`.
    fn sources(&mut self, reader: &mut Reader<'_, 't>, v4: bool) -> Vec<Range> {
        let negated = reader.peek() == "!=";
        if negated || reader.peek() == "==" {
            reader.next();
        }
        let mut words = Vec::new();
        if reader.peek() == "{" {
            reader.next();
            while !matches!(reader.peek(), "}" | "") {
                words.extend(reader.next());
            }
            reader.next();
        } else {
            words.extend(reader.next());
        }
        let elements: Vec<Vec<Token<'t>>> = words
            .split(|token| token.text == ",")
            .map(<[_]>::to_vec)
            .collect();
        let ranges = elements
            .iter()
            .flat_map(|element| self.element(element))
            .filter(|range| range.is_v4() == v4);
        let ranges: Vec<Range> = ranges.collect();
        if !negated {
            return ranges;
        }
        let others = set(everyone(v4, !v4)).difference(&set(ranges));
        others.networks().map(Range::of).collect()
    }
}

struct Rule {
    /// None for every source of its families.
    ranges: Option<Vec<Range>>,
    families: [bool; 2],
    allow: bool,
    scope: String,
}

/// One word, or all that is in braces.
fn value(reader: &mut Reader<'_, '_>) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    const RULESET: &str = r#"
table inet filter { # handle 1
    set office {
        type ipv4_addr
        flags interval
        elements = { 192.0.2.0/24 counter packets 1 bytes 2,
                     198.51.100.1-198.51.100.4 timeout 1h expires 3m }
    }
    set bad { type ipv4_addr; elements = { 192.0.2.66 } }
    chain api {
        type filter hook input priority filter; policy drop;
        ip saddr @bad counter packets 0 bytes 0 drop
        tcp dport { 80, 443 } ip saddr @office accept comment "let in"
    }
    chain other {
        ct state established accept
    }
}
"#;

    #[test]
    fn sets_are_taken_together_or_chosen() {
        let sets = RULESET.replace("saddr", "daddr");
        assert_eq!(
            read(&sets, &Choice::default()).unwrap().sources.v4.count(),
            260
        );
        let choice = Choice {
            sets: vec!["bad".into()],
            ..Choice::default()
        };
        assert_eq!(read(RULESET, &choice).unwrap().sources.v4.count(), 1);
        let choice = Choice {
            sets: vec!["none".into()],
            ..Choice::default()
        };
        assert!(read(RULESET, &choice).is_err());
    }

    #[test]
    fn a_chain_is_read_in_its_order() {
        let problems = read(RULESET, &Choice::default()).unwrap_err();
        assert!(problems[0].message.contains("other ports"), "{problems:#?}");
        let text = RULESET.replace("tcp dport { 80, 443 } ", "");
        let imported = read(&text, &Choice::default()).unwrap();
        assert_eq!(imported.sources.v4.count(), 259);
        assert!(imported.sources.v6.is_empty());
        let open = text.replace(" policy drop;", "");
        assert!(
            read(&open, &Choice::default()).unwrap_err()[0]
                .message
                .contains("does not decide")
        );
    }

    #[test]
    fn elements_may_come_alone() {
        for text in [
            "{ 192.0.2.1, 192.0.2.2 }",
            "elements = { 192.0.2.1,\n 192.0.2.2 }",
            "define x = { 192.0.2.1, 192.0.2.2 }",
            "add element inet t s { 192.0.2.1, 192.0.2.2 }",
        ] {
            let imported = read(text, &Choice::default()).unwrap();
            assert_eq!(imported.sources.v4.count(), 2, "{text}");
            assert_eq!(
                super::super::detect(text),
                super::super::Format::Nft,
                "{text}"
            );
        }
        assert!(read("define x = { host }", &Choice::default()).is_err());
        assert!(
            read(
                "set x { elements = { 192.0.2.1 . 80 } }",
                &Choice::default()
            )
            .is_err()
        );
    }
}
