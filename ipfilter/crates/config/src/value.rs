//! What settings take, in a file and on the command line.

use std::{
    fmt::{self, Display},
    net::IpAddr,
    path::PathBuf,
    str::FromStr,
};

use clap::builder::{FalseyValueParser, OsStringValueParser, TypedValueParser};
use ipfilter_document::{
    json::{Kind, Node},
    problem::{Advice, Path, clip},
    reader::Reader,
};
use ipfilter_plan::{PortSet, Protocol, Protocols, Share};
use ipfilter_policy::{ApiArn, parse_block};
use ipnet::IpNet;
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::{endpoint::Endpoint, protected};

/// A value of a setting.
pub trait Value: Sized {
    /// What to write.
    fn takes() -> String;

    /// How it is written, where it is worth mentioning as a default.
    fn shown(&self) -> Option<String> {
        None
    }

    /// The value that `node` is; else says what is wrong.
    fn read(reader: &mut Reader, node: Node<'_>, path: &Path<'_>) -> Option<Self>;
}

/// Notes that something else is there than `wanted`.
pub(super) fn unexpected(reader: &mut Reader, node: Node<'_>, path: &Path<'_>, wanted: &str) {
    reader.error("kind", &(path, node.span()), || {
        Advice::new(format!(
            "expected {wanted}, found {}",
            match node.kind() {
                Kind::Number => format!("`{}`", clip(node.text())),
                kind => kind.name().to_owned(),
            }
        ))
    });
}

/// Reads a string as `T` by `parse`.
pub(super) fn text<T: Value, E: Display>(
    reader: &mut Reader,
    node: Node<'_>,
    path: &Path<'_>,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Option<T> {
    if node.kind() != Kind::String {
        unexpected(reader, node, path, &T::takes());
        return None;
    }
    let text = reader.text(node, path, "this value")?;
    let parsed = parse(&text);
    if let Err(error) = &parsed {
        reader.error("value", &(path, node.span()), || {
            Advice::new(error.to_string())
        });
    }
    parsed.ok()
}

/// Values that are written as strings, by what takes a string.
macro_rules! texts {
    ($($type:ty, $parse:expr, $takes:literal;)+) => {$(
        impl Value for $type {
            fn takes() -> String {
                $takes.to_owned()
            }

            fn read(reader: &mut Reader, node: Node<'_>, path: &Path<'_>) -> Option<Self> {
                text(reader, node, path, $parse)
            }
        }
    )+};
}

texts! {
    String, word, "a string";
    PathBuf, |text| word(text).map(PathBuf::from), "a path, from the folder of this file";
    IpAddr, |text| protected::parse(text).map_err(|what| format!("`{}` is {what}", clip(text))),
        "an address such as \"192.0.2.1\"";
    IpNet, |text| cidr(text).map_err(|advice| format!("`{}` is not a block of addresses: {advice}", clip(text))),
        "a block of addresses such as \"10.0.0.0/8\"";
    Endpoint, Endpoint::from_str, "an address and a port such as \"127.0.0.1:9477\", or \"unix:/path\"";
    ApiArn, ApiArn::from_str, "an ARN such as \"arn:aws:execute-api:eu-west-1:123456789012:a1b2c3d4e5\"";
    SignedDuration, duration, "a time such as \"60s\" or \"5m\"";
    Protocol, |text| match text {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        _ => Err(format!("`{}` is not a protocol: write `tcp` or `udp`", clip(text))),
    }, "\"tcp\" or \"udp\"";
}

/// One block of addresses.
pub(super) fn cidr(text: &str) -> Result<IpNet, String> {
    parse_block(text).ok_or_else(|| "write a block such as `10.0.0.0/8` or `fc00::/7`".to_owned())
}

/// A string that says something, and does nothing to a terminal.
fn word(text: &str) -> Result<String, &'static str> {
    if text.trim().is_empty() {
        return Err("it is empty");
    }
    if text.chars().any(char::is_control) {
        return Err("it contains a control character");
    }
    Ok(text.to_owned())
}

/// A time such as `60s` or `5m`: more than nothing.
///
/// # Errors
///
/// When it is none, with what to write instead.
pub fn duration(text: &str) -> Result<SignedDuration, String> {
    let parsed: Option<SignedDuration> = text.parse().ok();
    parsed.filter(SignedDuration::is_positive).ok_or_else(|| {
        format!(
            "`{}` is not a time: write one such as `60s` or `5m`",
            clip(text)
        )
    })
}

/// Values that JSON has itself, by what takes one, and by whether it is worth mentioning as a default.
macro_rules! plain {
    ($($type:ty, $takes:expr, $shown:literal;)+) => {$(
        impl Value for $type {
            fn takes() -> String {
                $takes
            }

            fn shown(&self) -> Option<String> {
                $shown.then(|| self.to_string())
            }

            fn read(reader: &mut Reader, node: Node<'_>, path: &Path<'_>) -> Option<Self> {
                let value = node.text().parse().ok();
                if value.is_none() {
                    unexpected(reader, node, path, &Self::takes());
                }
                value
            }
        }
    )+};
}

plain! {
    bool, "true or false".to_owned(), false;
    u32, up_to(Self::MAX), true;
    AnswerRate, up_to(Self::MAX), true;
    Share, "a share from 0 to 1, such as 0.05".to_owned(), true;
}

fn up_to(most: u32) -> String {
    format!("a whole number from 0 to {most}")
}

/// How many answers `reject` or `respond` may send per second per CPU. The filter keeps the time between two of them
/// in nanoseconds, so one a nanosecond is the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AnswerRate(pub(super) u32);

impl AnswerRate {
    const MAX: u32 = 1_000_000_000;

    /// The number.
    #[must_use]
    pub const fn per_second(self) -> u32 {
        self.0
    }
}

impl Display for AnswerRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for AnswerRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rate = text.parse().ok().filter(|rate| *rate <= Self::MAX);
        let rate = rate.ok_or_else(|| format!("write {}", up_to(Self::MAX)))?;
        Ok(Self(rate))
    }
}

impl Value for PortSet {
    fn takes() -> String {
        "a port from 1 to 65535, or a range such as \"8000-8010\"".to_owned()
    }

    fn read(reader: &mut Reader, node: Node<'_>, path: &Path<'_>) -> Option<Self> {
        if node.kind() == Kind::Number && node.text().bytes().all(|byte| byte.is_ascii_digit()) {
            let parsed = node.text().parse::<Self>();
            if let Err(error) = &parsed {
                reader.error("value", &(path, node.span()), || {
                    Advice::new(error.to_string())
                });
            }
            return parsed.ok();
        }
        text(reader, node, path, Self::from_str)
    }
}

impl Value for Protocols {
    fn takes() -> String {
        "[\"tcp\"], [\"udp\"] or both".to_owned()
    }

    fn shown(&self) -> Option<String> {
        (*self == Self::TCP).then(|| "[\"tcp\"]".to_owned())
    }

    fn read(reader: &mut Reader, node: Node<'_>, path: &Path<'_>) -> Option<Self> {
        let list = Vec::<Protocol>::read(reader, node, path)?;
        if list.is_empty() {
            reader.error("empty", &(path, node.span()), || {
                Advice::new("it is empty").hint("write `tcp`, `udp` or both")
            });
            return None;
        }
        Some(Self {
            tcp: list.contains(&Protocol::Tcp),
            udp: list.contains(&Protocol::Udp),
        })
    }
}

impl<T: Value> Value for Option<T> {
    fn takes() -> String {
        T::takes()
    }

    fn read(reader: &mut Reader, node: Node<'_>, path: &Path<'_>) -> Option<Self> {
        T::read(reader, node, path).map(Some)
    }
}

impl<T: Value> Value for Vec<T> {
    fn takes() -> String {
        format!("a list; each value is {}", T::takes())
    }

    fn read(reader: &mut Reader, node: Node<'_>, path: &Path<'_>) -> Option<Self> {
        if node.kind() != Kind::List {
            unexpected(reader, node, path, "a list");
            return None;
        }
        let elements = node.elements().into_iter().enumerate();
        let values: Vec<_> = elements
            .map(|(index, element)| T::read(reader, element, &path.index(index)))
            .collect();
        values.into_iter().collect()
    }
}

/// What takes an option without a value, for a setting that is not a Boolean.
pub(super) fn flag<T: Clone + Send + Sync + 'static>(
    without: T,
    with: T,
) -> impl TypedValueParser<Value = T> {
    FalseyValueParser::new().map(move |is_given| {
        if is_given {
            with.clone()
        } else {
            without.clone()
        }
    })
}

/// What takes a path that is empty where the option is not given.
pub(super) fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}
