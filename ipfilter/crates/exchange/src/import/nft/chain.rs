//! What the rules of a chain come to: the sources that it lets pass.

use ipfilter_addresses::AddressSet;

use super::super::{Choice, Imported};
use super::{
    ruleset::{Chain, Ruleset},
    tokens::{Reader, Token, value},
};
use crate::{
    Problem,
    block::{Range, clip, set},
    rules::{Rules, everyone},
};

struct Rule {
    /// None for every source of its families.
    ranges: Option<Vec<Range>>,
    families: [bool; 2],
    allow: bool,
    scope: String,
}

impl<'t> Ruleset<'t> {
    pub(super) fn finish(mut self, choice: &Choice) -> Result<Imported, Vec<Problem>> {
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
