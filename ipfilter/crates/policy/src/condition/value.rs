//! The values of conditions, by what their operator compares.

use std::{borrow::Cow, collections::BTreeSet};

use ipnet::IpNet;

use ipfilter_addresses::AddressSet;

use super::{
    super::{
        address::{explain_bad_block, has_host_bits, mapped, parse_block},
        class::Class,
        json::{Kind, Node},
        problem::{Advice, Path, clip},
        reader::Reader,
        time::{Comparison, Instant},
    },
    Key, Meaning, Operator,
    operator::Family,
};

/// What a condition compares its key with.
#[derive(Clone, Debug)]
pub(crate) enum Test {
    /// Addresses that are seen here.
    Addresses(AddressSet),
    /// The clock.
    Instants(Comparison, Vec<Instant>),
    /// Whether the key is there: which answers are accepted.
    Presence { absent: bool, present: bool },
    /// Something that is not seen here.
    Unseen(BTreeSet<String>),
}

/// Reads the values of `key` under `operator`.
pub(crate) fn parse(
    reader: &mut Reader<'_>,
    operator: Operator,
    key: &Key,
    node: Node<'_>,
    path: &Path<'_>,
) -> Test {
    match (operator.family, key.meaning) {
        (Family::Address, meaning) => addresses(reader, meaning, node, path),
        (Family::Date(comparison), Meaning::CurrentTime | Meaning::EpochTime)
        | (Family::Numeric(comparison), Meaning::EpochTime) => {
            instants(reader, operator.family, comparison, node, path)
        }
        (Family::Date(_) | Family::Numeric(_), _) => {
            let check = |text: &str| instant(operator.family, text).map(|_| ());
            Test::Unseen(texts(reader, node, path, check))
        }
        (Family::Boolean, _) => Test::Unseen(texts(reader, node, path, check_boolean)),
        (Family::Null, _) => {
            let accepted = texts(reader, node, path, check_boolean);
            Test::Presence {
                absent: accepted.contains("true"),
                present: accepted.contains("false"),
            }
        }
        (Family::Arn | Family::Binary | Family::Text, _) => {
            Test::Unseen(texts(reader, node, path, |_| Ok(())))
        }
    }
}

const WHAT: &str = "a condition's value";

/// A string, number or Boolean as text.
fn scalar<'t>(reader: &mut Reader<'_>, node: Node<'t>, path: &Path<'_>) -> Option<Cow<'t, str>> {
    match node.kind() {
        Kind::Number | Kind::Boolean => Some(Cow::Borrowed(node.text())),
        Kind::String => reader.text(node, path, WHAT),
        Kind::Null | Kind::List | Kind::Object => {
            reader.error("kind", &(path, node.span()), || not_a_scalar(node));
            None
        }
    }
}

fn not_a_scalar(node: Node<'_>) -> Advice {
    let advice = Advice::new(format!(
        "{WHAT} is a string, a number or a Boolean, not {}",
        node.kind().name()
    ));
    let first = node.members().into_iter().next();
    match first.and_then(|(key, _)| key.string().ok().flatten()) {
        Some(name) if name == "Ref" || name.starts_with("Fn::") => {
            advice.hint("this is a template: deploy it, and take the policy it makes")
        }
        _ => advice,
    }
}

/// The values as text, each passed by `check`.
fn texts(
    reader: &mut Reader<'_>,
    node: Node<'_>,
    path: &Path<'_>,
    mut check: impl FnMut(&str) -> Result<(), Advice>,
) -> BTreeSet<String> {
    let mut values = BTreeSet::new();
    reader.each(node, path, WHAT, |reader, node, path| {
        let Some(text) = scalar(reader, node, path) else {
            return;
        };
        match check(&text) {
            Ok(()) => drop(values.insert(text.into_owned())),
            Err(advice) => reader.error("value", &(path, node.span()), || advice),
        }
    });
    values
}

fn check_boolean(text: &str) -> Result<(), Advice> {
    match text {
        "true" | "false" => Ok(()),
        _ => Err(
            Advice::new(format!("`{}` is neither `true` nor `false`", clip(text)))
                .hint("write \"true\" or \"false\", in lower case"),
        ),
    }
}

fn instant(family: Family, text: &str) -> Result<Instant, Advice> {
    match family {
        Family::Numeric(_) => Instant::from_number(text).map_err(|()| {
            Advice::new(format!("`{}` is not a number", clip(text)))
                .hint("numeric operators take whole or decimal numbers, such as `1767225600`")
        }),
        _ => Instant::from_date(text),
    }
}

fn instants(
    reader: &mut Reader<'_>,
    family: Family,
    comparison: Comparison,
    node: Node<'_>,
    path: &Path<'_>,
) -> Test {
    let mut instants = Vec::new();
    reader.each(node, path, WHAT, |reader, node, path| {
        let Some(text) = scalar(reader, node, path) else {
            return;
        };
        match instant(family, &text) {
            Ok(instant) => {
                if instant.looks_like_milliseconds() {
                    reader.warn("milliseconds", &(path, node.span()), || {
                        Advice::new(format!("`{}` is past the year 5000", clip(&text)))
                            .hint("times are in seconds since 1970; this looks like milliseconds")
                    });
                }
                instants.push(instant);
            }
            Err(advice) => reader.error("value", &(path, node.span()), || advice),
        }
    });
    Test::Instants(comparison, instants)
}

fn addresses(reader: &mut Reader<'_>, meaning: Meaning, node: Node<'_>, path: &Path<'_>) -> Test {
    let mut blocks = Vec::new();
    reader.each(node, path, WHAT, |reader, node, path| {
        let text = match node.kind() {
            Kind::Null | Kind::List | Kind::Object => scalar(reader, node, path),
            _ => reader.text(node, path, "an address"),
        };
        let Some(text) = text else { return };
        match parse_block(&text) {
            Some(block) => {
                remark_block(reader, meaning, &text, &block, node, path);
                blocks.push(block);
            }
            None => reader.error("address", &(path, node.span()), || explain_bad_block(&text)),
        }
    });
    remark_list(reader, &blocks, node, path);
    match meaning {
        Meaning::SourceIp | Meaning::VpcSourceIp => Test::Addresses(blocks.into_iter().collect()),
        _ => Test::Unseen(
            blocks
                .iter()
                .map(|block| block.trunc().to_string())
                .collect(),
        ),
    }
}

/// What is legal in one block but surely not meant.
fn remark_block(
    reader: &mut Reader<'_>,
    meaning: Meaning,
    text: &str,
    block: &IpNet,
    node: Node<'_>,
    path: &Path<'_>,
) {
    let at = (path, node.span());
    if has_host_bits(block) {
        reader.warn("host-bits", &at, || {
            Advice::new(format!(
                "`{text}` has bits set past its prefix length; they are ignored"
            ))
            .hint(format!("write `{}`", block.trunc()))
        });
    }
    if let Some(v4) = mapped(block) {
        reader.warn("mapped", &at, || {
            Advice::new(format!(
                "`{text}` is an IPv6 block: it matches no IPv4 source"
            ))
            .hint(format!("write `{}` for the IPv4 sources", v4.trunc()))
        });
    }
    let (other, other_key, key) = match meaning {
        Meaning::SourceIp => (Class::Vpc, "aws:VpcSourceIp", "aws:SourceIp"),
        Meaning::VpcSourceIp => (Class::Public, "aws:SourceIp", "aws:VpcSourceIp"),
        _ => return,
    };
    if reader.context.members(other).contains_network(block) {
        reader.warn("unreachable", &at, || {
            Advice::new(format!(
                "`{text}` never matches: these sources have no `{key}`"
            ))
            .hint(format!(
                "they arrive as `{other_key}`: name them under that key"
            ))
        });
    }
}

/// What is legal in a list but surely not meant.
fn remark_list(reader: &mut Reader<'_>, blocks: &[IpNet], node: Node<'_>, path: &Path<'_>) {
    let all = |v4: bool| {
        blocks
            .iter()
            .any(|block| block.prefix_len() == 0 && block.addr().is_ipv4() == v4)
    };
    let (all_v4, all_v6) = (all(true), all(false));
    if all_v4 != all_v6 && blocks.iter().all(|block| block.addr().is_ipv4() == all_v4) {
        let (whole, rest, add) = if all_v4 {
            ("0.0.0.0/0", "IPv6", "::/0")
        } else {
            ("::/0", "IPv4", "0.0.0.0/0")
        };
        reader.warn("one-family", &(path, node.span()), || {
            Advice::new(format!("`{whole}` matches no {rest} source"))
                .hint(format!("add `{add}` if all sources are meant"))
        });
    }
}
