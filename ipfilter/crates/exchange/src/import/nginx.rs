//! `allow` and `deny` of nginx's `ngx_http_access_module`: the first that matches decides, and what none matches
//! is allowed.

use super::{Imported, Problems, column};
use crate::{
    Problem,
    block::{Range, clip, unexpected},
    rules::{Rules, everyone},
};

pub(super) fn is_rule(line: &str) -> bool {
    let word = line.split_whitespace().next();
    matches!(word, Some("allow" | "deny")) && line.contains(';')
}

pub(super) fn read(text: &str) -> Result<Imported, Vec<Problem>> {
    let (mut rules, mut problems) = (Rules::default(), Problems::default());
    let mut entries = 0;
    for (number, line) in (1..).zip(text.lines()) {
        let code = line.split('#').next().unwrap_or(line);
        let (directives, rest) = code.rsplit_once(';').unwrap_or(("", code));
        if !rest.trim().is_empty() {
            let message = format!(
                "`{}` is no `allow` or `deny` with a `;` behind it",
                clip(rest.trim())
            );
            problems.add(number, column(line, rest.trim()), message);
            continue;
        }
        for directive in directives.split(';').filter(|it| !it.trim().is_empty()) {
            let mut words = directive.split_whitespace();
            let (verb, whom) = (words.next().unwrap_or(""), words.next());
            let allow = match (verb, words.next()) {
                ("allow", None) => true,
                ("deny", None) => false,
                _ => {
                    let message =
                        format!("`{}` is neither `allow` nor `deny`", clip(directive.trim()));
                    problems.add(number, column(line, verb), message);
                    continue;
                }
            };
            entries += 1;
            match whom {
                Some("all") => rules.push(allow, everyone(true, true)),
                // A Unix socket's client has no address.
                Some("unix:") => {}
                Some(text) => match Range::parse(text) {
                    Some(range) => rules.push(allow, [range]),
                    None => problems.add(number, column(line, text), unexpected(text)),
                },
                None => problems.add(number, column(line, verb), format!("`{verb}` whom?")),
            }
        }
    }
    problems.or(Imported {
        sources: rules.allowed(true),
        entries,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_counts() {
        let text = "# who\ndeny 192.0.2.1;\nallow 192.0.2.0/24; allow 2001:db8::/32;\ndeny all;\n";
        let imported = read(text).unwrap();
        assert_eq!(imported.sources.v4.count(), 255);
        assert_eq!(imported.entries, 4);
        assert!(read("deny 192.0.2.1;").unwrap().sources.v6.is_all());
        let problems = read("allow 192.0.2.1\nsatisfy any;\nallow host;\n").unwrap_err();
        assert_eq!(problems.len(), 3, "{problems:#?}");
    }
}
