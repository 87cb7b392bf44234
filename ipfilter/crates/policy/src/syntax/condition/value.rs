//! The values of conditions, by what their operator compares.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use ipfilter_addresses::AddressSet;
use ipnet::IpNet;

use super::{
    Operator,
    operator::{Family, TextMatch},
};
use crate::{
    syntax::{
        address::{explain_bad_block, parse_block},
        key::Key,
        reader::{Reader, intrinsic, not_deployed},
        template::{Style, Template},
        time::{Comparison, Instant},
    },
    text::{
        json::{Kind, Node},
        problem::{Advice, Path, clip},
    },
};

/// What a condition compares its key with.
#[derive(Clone, Debug)]
pub(crate) enum Test {
    Addresses(Listed),
    Instants(Comparison, Vec<Instant>),
    Numbers(Comparison, Vec<f64>),
    /// Which truth values are accepted.
    Booleans {
        yes: bool,
        no: bool,
    },
    /// Whether the key is there: which answers are accepted.
    Presence {
        absent: bool,
        present: bool,
    },
    Texts(Texts),
    /// ARNs, each taken apart into its fields.
    Arns(Vec<Vec<Template>>),
}

/// Address blocks, as written and as a set.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) set: AddressSet,
    pub(crate) blocks: Vec<Block>,
}

/// One address block and where it is written.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) network: IpNet,
    /// Whether it is written without a prefix length.
    pub(crate) bare: bool,
    pub(crate) span: Range<u32>,
}

impl Block {
    /// The bytes of the document it takes.
    pub(crate) fn span(&self) -> Range<usize> {
        self.span.start as usize..self.span.end as usize
    }
}

/// Texts, any of which may match.
#[derive(Clone, Debug)]
pub(crate) struct Texts {
    pub(crate) how: TextMatch,
    /// Those without wildcards and variables; in lower case if case does not matter.
    pub(crate) exact: BTreeSet<String>,
    pub(crate) templates: Vec<Template>,
}

/// Values as written, each with its bytes in the document. Address blocks are kept in [`Listed`].
pub(crate) type Written = BTreeMap<String, Range<usize>>;

/// Reads the values of `key` under `operator`.
pub(crate) fn parse(
    reader: &mut Reader,
    operator: Operator,
    key: &Key,
    node: Node<'_>,
    path: &Path<'_>,
) -> (Test, Written) {
    let variables = reader.context.variables;
    match operator.family {
        Family::Address => (addresses(reader, node, path), Written::new()),
        Family::Date(comparison) => {
            let (instants, written) = values(reader, node, path, Instant::from_date);
            (Test::Instants(comparison, instants), written)
        }
        Family::Numeric(comparison) if key.is_clock() => {
            let (instants, written) = values(reader, node, path, |text| {
                Instant::from_number(text).map_err(|()| not_a_number(text))
            });
            (Test::Instants(comparison, instants), written)
        }
        Family::Numeric(comparison) => {
            let (numbers, written) = values(reader, node, path, number);
            (Test::Numbers(comparison, numbers), written)
        }
        Family::Boolean => {
            let (accepted, written) = values(reader, node, path, boolean);
            let (yes, no) = (accepted.contains(&true), accepted.contains(&false));
            (Test::Booleans { yes, no }, written)
        }
        Family::Null => {
            let (accepted, written) = values(reader, node, path, boolean);
            let (absent, present) = (accepted.contains(&true), accepted.contains(&false));
            (Test::Presence { absent, present }, written)
        }
        Family::Text(how) => texts(reader, node, path, how),
        Family::Binary => texts(reader, node, path, TextMatch::Exact),
        Family::Arn => {
            let style = Style {
                wildcards: true,
                variables,
            };
            let (arns, written) = values(reader, node, path, |text| {
                Ok(Template::parse(text, style)?.fields())
            });
            (Test::Arns(arns), written)
        }
    }
}

const WHAT: &str = "a condition's value";

/// A string, number or Boolean as text.
fn scalar<'t>(reader: &mut Reader, node: Node<'t>, path: &Path<'_>) -> Option<Cow<'t, str>> {
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
    match intrinsic(node) {
        Some(function) => not_deployed(WHAT, &function),
        None => Advice::new(format!(
            "{WHAT} is a string, a number or a Boolean, not {}",
            node.kind().name()
        )),
    }
}

/// Each value once, read by `read`.
fn values<T>(
    reader: &mut Reader,
    node: Node<'_>,
    path: &Path<'_>,
    mut read: impl FnMut(&str) -> Result<T, Advice>,
) -> (Vec<T>, Written) {
    let mut values = Vec::new();
    let mut written = Written::new();
    reader.each(node, path, WHAT, |reader, node, path| {
        let Some(text) = scalar(reader, node, path) else {
            return;
        };
        if written.contains_key(text.as_ref()) {
            return;
        }
        match read(&text) {
            Ok(value) => {
                values.push(value);
                written.insert(text.into_owned(), node.span());
            }
            Err(advice) => reader.error("value", &(path, node.span()), || advice),
        }
    });
    (values, written)
}

fn boolean(text: &str) -> Result<bool, Advice> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(
            Advice::new(format!("`{}` is neither `true` nor `false`", clip(text)))
                .hint("write \"true\" or \"false\", in lower case"),
        ),
    }
}

fn number(text: &str) -> Result<f64, Advice> {
    parse_number(text).ok_or_else(|| not_a_number(text))
}

/// A decimal number.
pub(crate) fn parse_number(text: &str) -> Option<f64> {
    let plain = text.starts_with(|first: char| first.is_ascii_digit() || first == '-')
        && text.ends_with(|last: char| last.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}

fn not_a_number(text: &str) -> Advice {
    Advice::new(format!("`{}` is not a number", clip(text)))
        .hint("numeric operators take whole or decimal numbers, such as `1767225600`")
}

fn texts(reader: &mut Reader, node: Node<'_>, path: &Path<'_>, how: TextMatch) -> (Test, Written) {
    let style = Style {
        wildcards: how == TextMatch::Wildcards,
        variables: reader.context.variables,
    };
    let (parsed, written) = values(reader, node, path, |text| {
        if how == TextMatch::IgnoreCase {
            // The names of variables are in any case too.
            return Template::parse(&text.to_lowercase(), style);
        }
        Template::parse(text, style)
    });
    let mut exact = BTreeSet::new();
    let mut templates = Vec::new();
    for template in parsed {
        match template.literal() {
            Some(text) => drop(exact.insert(text.to_owned())),
            None => templates.push(template),
        }
    }
    let texts = Texts {
        how,
        exact,
        templates,
    };
    (Test::Texts(texts), written)
}

fn addresses(reader: &mut Reader, node: Node<'_>, path: &Path<'_>) -> Test {
    let mut blocks = Vec::new();
    reader.each(node, path, WHAT, |reader, node, path| {
        let text = match node.kind() {
            Kind::Null | Kind::List | Kind::Object => scalar(reader, node, path),
            _ => reader.text(node, path, "an address"),
        };
        let Some(text) = text else { return };
        match parse_block(&text) {
            Some(network) => blocks.push(Block {
                network,
                bare: !text.contains('/'),
                span: small(node.span().start)..small(node.span().end),
            }),
            None => reader.error("address", &(path, node.span()), || explain_bad_block(&text)),
        }
    });
    Test::Addresses(Listed {
        set: blocks.iter().map(|block| block.network).collect(),
        blocks,
    })
}

/// A place in a document, which is never as large as 4 GiB.
fn small(offset: usize) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}
