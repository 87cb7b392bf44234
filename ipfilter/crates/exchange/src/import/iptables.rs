//! `iptables-save` and `ip6tables-save`, or both in one file with `-4` and `-6` before the rules of one family
//! (iptables-restore(8)). One chain is read: the one that asks for sources.

use std::collections::BTreeMap;

use super::{Imported, Problems, column};
use crate::{
    Problem,
    block::{Range, clip, unexpected},
    rules::{Rules, everyone},
};

/// One rule of a chain.
struct Rule {
    line: usize,
    v4: bool,
    v6: bool,
    source: Option<Range>,
    negated: bool,
    allow: bool,
    /// What it asks for beside the source, as it is written.
    scope: String,
}

#[derive(Default)]
struct Chain {
    rules: Vec<Rule>,
    /// What the chain's policy decides.
    default: Option<bool>,
}

pub(super) fn read(text: &str) -> Result<Imported, Vec<Problem>> {
    let mut chains: BTreeMap<String, Chain> = BTreeMap::new();
    let mut problems = Problems::default();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if let Some(declared) = line.strip_prefix(':') {
            let mut words = declared.split_whitespace();
            let chain = chains
                .entry(words.next().unwrap_or_default().to_owned())
                .or_default();
            chain.default = match words.next() {
                Some("ACCEPT") => Some(true),
                Some("DROP") => Some(false),
                _ => None,
            };
        } else if line.starts_with(['*', '#']) || line.is_empty() || line == "COMMIT" {
        } else {
            match rule(line) {
                Ok((chain, mut rule)) => {
                    rule.line = number;
                    chains.entry(chain).or_default().rules.push(rule);
                }
                Err((part, message)) => problems.add(number, column(line, part), message),
            }
        }
    }
    let with = |of: fn(&Rule) -> bool| -> Vec<String> {
        let chains = chains.iter();
        let chains = chains.filter(|(_, chain)| chain.rules.iter().any(of));
        chains.map(|(name, _)| name.clone()).collect()
    };
    let mut names = with(|rule| rule.source.is_some());
    if names.is_empty() {
        names = with(|_| true);
    }
    let chain = match names.as_slice() {
        [] => Chain::default(),
        [name] => chains.remove(name).unwrap_or_default(),
        several => {
            let names: Vec<_> = several.iter().map(|name| format!("`{name}`")).collect();
            let names = names.join(", ");
            let message = format!("several chains decide ({names}): give the lines of one");
            problems.add(1, 1, message);
            Chain::default()
        }
    };
    let entries = chain.rules.len();
    let sources = evaluate(&chain, &mut problems);
    problems.or(Imported { sources, entries })
}

fn evaluate(chain: &Chain, problems: &mut Problems) -> ipfilter_addresses::AddressSet {
    let scopes = chain.rules.iter().map(|rule| (rule.line, &rule.scope));
    let first = chain.rules.first().map(|rule| &rule.scope);
    if let Some((line, scope)) = scopes.into_iter().find(|(_, scope)| Some(*scope) != first) {
        let message = format!(
            "this rule asks for `{scope}`, others for something else: give the rules of one service"
        );
        problems.add(line, 1, message);
    }
    let names = |v4: bool| {
        chain.rules.iter().any(|rule| match rule.source {
            Some(range) => range.is_v4() == v4,
            None => rule.v4 != rule.v6 && rule.v4 == v4,
        })
    };
    // A file of one family says nothing about the other, whose sources are then not let in.
    let (v4, v6) = (names(true), names(false));
    let mut rules = Rules::default();
    let mut decided = [false; 2];
    for rule in &chain.rules {
        match (rule.source, rule.negated) {
            (Some(range), false) => rules.push(rule.allow, [range]),
            (Some(range), true) => {
                let of_family = crate::block::set(everyone(range.is_v4(), !range.is_v4()));
                let others = of_family.difference(&crate::block::set([range]));
                rules.push(
                    rule.allow,
                    others.networks().map(Range::of).collect::<Vec<_>>(),
                );
            }
            (None, _) => {
                rules.push(rule.allow, everyone(rule.v4 && v4, rule.v6 && v6));
                decided = [decided[0] || rule.v4, decided[1] || rule.v6];
            }
        }
    }
    let open = (v4 && !decided[0]) || (v6 && !decided[1]);
    match chain.default {
        Some(allow) => rules.push(allow, everyone(v4, v6)),
        None if open => problems.add(
            1,
            1,
            "the chain does not decide about all sources: end it with a rule without `-s`",
        ),
        None => {}
    }
    rules.allowed(false)
}

/// Reads `-A CHAIN …`.
fn rule(line: &str) -> Result<(String, Rule), (&str, String)> {
    let mut words = line.split_whitespace().peekable();
    let mut rule = Rule {
        line: 0,
        v4: true,
        v6: true,
        source: None,
        negated: false,
        allow: false,
        scope: String::new(),
    };
    // Counters, as `-c` writes them.
    words.next_if(|word| word.starts_with('['));
    match words.peek() {
        Some(&"-4" | &"--ipv4") => rule.v6 = false,
        Some(&"-6" | &"--ipv6") => rule.v4 = false,
        _ => {}
    }
    words.next_if(|word| {
        word.starts_with("-4") || word.starts_with("-6") || word.starts_with("--ipv")
    });
    if !matches!(words.next(), Some("-A" | "--append")) {
        return Err((
            line,
            format!(
                "`{}` is no rule such as `-A CHAIN -s 192.0.2.0/24 -j ACCEPT`",
                clip(line)
            ),
        ));
    }
    let chain = words.next().unwrap_or_default().to_owned();
    let (mut negated, mut verdict) = (false, None);
    while let Some(word) = words.next() {
        let mut value = || {
            words
                .next()
                .ok_or((word, format!("`{word}` lacks a value")))
        };
        match word {
            "!" => {
                negated = true;
                continue;
            }
            "-s" | "--source" | "--src" => {
                let text = value()?;
                rule.source = Some(Range::parse(text).ok_or_else(|| (text, unexpected(text)))?);
                rule.negated = negated;
            }
            "-j" | "--jump" => {
                let target = value()?;
                verdict = Some(match target {
                    "ACCEPT" | "RETURN" => true,
                    "DROP" | "REJECT" => false,
                    _ => {
                        return Err((
                            target,
                            format!(
                                "the target `{target}` is neither ACCEPT, RETURN, DROP nor REJECT"
                            ),
                        ));
                    }
                });
            }
            "--reject-with" => drop(value()?),
            "-m" | "--match" => match value()? {
                "tcp" | "udp" | "multiport" | "comment" => {}
                other => {
                    return Err((
                        other,
                        format!(
                            "what `-m {other}` asks for is not the source: leave the rule out, or the condition"
                        ),
                    ));
                }
            },
            "--comment" => {
                let mut text = value()?;
                let quoted = text.starts_with('"');
                while quoted && !(text.len() > 1 && text.ends_with('"')) {
                    let Some(next) = words.next() else { break };
                    text = next;
                }
            }
            "-p" | "--protocol" | "--dport" | "--dports" | "--destination-port" if !negated => {
                rule.scope += &format!("{word} {} ", value()?);
            }
            _ => {
                return Err((
                    word,
                    format!(
                        "what `{word}` asks for is not the source: leave the rule out, or the condition"
                    ),
                ));
            }
        }
        negated = false;
    }
    rule.allow = verdict.ok_or((line, "the rule decides nothing: it has no `-j`".to_owned()))?;
    Ok((chain, rule))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_read_in_its_order() {
        let text = "# Generated\n*filter\n:INPUT ACCEPT [0:0]\n:api - [0:0]\n-A api -s 192.0.2.1/32 -j DROP\n\
            -A api -s 192.0.2.0/24 -m comment --comment \"the office\" -j ACCEPT\n-A api -j DROP\nCOMMIT\n";
        let imported = read(text).unwrap();
        assert_eq!(imported.sources.v4.count(), 255);
        assert!(imported.sources.v6.is_empty(), "the file is of IPv4 alone");
        let text = text.replace("-A api -j DROP\n", "");
        assert!(
            read(&text).unwrap_err()[0]
                .message
                .contains("does not decide")
        );
    }

    #[test]
    fn ports_must_be_the_same_in_all_rules() {
        let rule = |port: &str, network: &str| {
            format!("-A INPUT -s {network} -p tcp -m tcp --dport {port} -j ACCEPT\n")
        };
        let same = format!(
            ":INPUT DROP [0:0]\n{}{}",
            rule("443", "192.0.2.0/24"),
            rule("443", "198.51.100.0/24")
        );
        assert_eq!(read(&same).unwrap().sources.v4.count(), 512);
        let other = format!(
            ":INPUT DROP [0:0]\n{}{}",
            rule("443", "192.0.2.0/24"),
            rule("22", "198.51.100.0/24")
        );
        assert!(read(&other).is_err());
    }

    #[test]
    fn conditions_that_are_not_about_the_source_are_refused() {
        for line in [
            "-A INPUT -i lo -j ACCEPT",
            "-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT",
            "-A INPUT -s 192.0.2.1 -j LOG",
            "-A INPUT -s host -j DROP",
            "-A INPUT -s 192.0.2.1",
            "-I INPUT -s 192.0.2.1 -j DROP",
        ] {
            assert!(read(line).is_err(), "{line}");
        }
        let not = ":INPUT ACCEPT [0:0]\n-A INPUT ! -s 192.0.2.0/24 -j DROP\n";
        assert_eq!(read(not).unwrap().sources.v4.count(), 256);
    }
}
