//! The values of the configuration file, each of which says what it takes in the reader's words.

use std::{fmt, marker::PhantomData, net::IpAddr, str::FromStr};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};

use crate::{
    endpoint::Endpoint,
    kernel::Mode,
    plan::{Deny, PortSet, Protocols},
};

/// What was wrong, without the place, which is told apart, and in words of JSON.
pub(super) fn message(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let text = text.strip_suffix(&place).unwrap_or(&text);
    for (from, to) in [
        ("invalid type: ", "found "),
        ("invalid value: ", "found "),
        ("unknown field ", "no such field: "),
        ("missing field ", "a field is missing: add "),
        ("duplicate field ", "a field is there twice: keep one "),
    ] {
        if let Some(rest) = text.strip_prefix(from) {
            return format!("{to}{rest}")
                .replace("sequence", "list")
                .replace("map, expected", "object, expected")
                .replace("boolean `", "`")
                .replace("integer `", "`")
                .replace("floating point `", "`")
                .replace("string \"", "\"");
        }
    }
    text.to_owned()
}

/// A value that is written as a string.
trait Word: Sized {
    /// What to write.
    const EXPECTING: &'static str;
    /// The value, or what is wrong.
    fn parse(text: &str) -> Result<Self, String>;
}

/// Takes a string, and says what is wanted where something else is.
struct WordVisitor<T>(PhantomData<T>);

impl<T: Word> Visitor<'_> for WordVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTING)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::parse(text).map_err(E::custom)
    }
}

macro_rules! words {
    ($($word:ty),+) => {
        $(impl<'de> Deserialize<'de> for $word {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(WordVisitor(PhantomData))
            }
        })+
    };
}

words!(
    Name,
    ApiName,
    Address,
    ModeWord,
    DenyWord,
    Protocol,
    EndpointWord
);

/// One of `choices`, by its name.
fn choose<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let found = choices.iter().find(|(name, _)| *name == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<_> = choices
            .iter()
            .map(|(name, _)| format!("`{name}`"))
            .collect();
        format!("`{text}` is not one of {}", names.join(", "))
    })
}

/// A type that is an object's fields.
pub(super) trait Fields {
    /// What to write.
    const EXPECTING: &'static str;
}

/// An object and nothing else: derived code would take a list of the values as well.
#[derive(Debug)]
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Fields + Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_map(ObjectVisitor(PhantomData))
            .map(Self)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Fields + Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTING)
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<T, M::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

/// A name that is not empty.
#[derive(Debug)]
pub(super) struct Name(pub(super) String);

impl Word for Name {
    const EXPECTING: &'static str = "a string";

    fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Err("it is empty: write a name".to_owned());
        }
        if text.chars().any(char::is_control) {
            return Err("it contains a control character: remove it".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

/// The name of an API, which is printed, logged and exported.
#[derive(Debug)]
pub(super) struct ApiName(pub(super) String);

/// The longest name of an API.
const LONGEST_NAME: usize = 64;

impl Word for ApiName {
    const EXPECTING: &'static str = "a string";

    fn parse(text: &str) -> Result<Self, String> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if text.is_empty() || text.len() > LONGEST_NAME || !text.chars().all(legal) {
            return Err(format!(
                "an API's name is 1 to {LONGEST_NAME} letters, digits, hyphens, underscores and dots"
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

/// An address of this host.
#[derive(Debug)]
pub(super) struct Address(pub(super) IpAddr);

impl Word for Address {
    const EXPECTING: &'static str = "an address such as \"192.0.2.1\"";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| {
            format!("`{text}` is not an address: write IPv4 or IPv6, without a prefix length")
        })
    }
}

/// Where at the interface.
#[derive(Debug, Default)]
pub(super) struct ModeWord(pub(super) Mode);

impl Word for ModeWord {
    const EXPECTING: &'static str = "\"auto\", \"native\", \"generic\" or \"tc\"";

    fn parse(text: &str) -> Result<Self, String> {
        let choices = [
            ("auto", Mode::Auto),
            ("native", Mode::Native),
            ("generic", Mode::Generic),
            ("tc", Mode::Tc),
        ];
        choose(text, &choices).map(Self)
    }
}

/// A deny action.
#[derive(Debug, Default)]
pub(super) struct DenyWord(pub(super) Deny);

impl Word for DenyWord {
    const EXPECTING: &'static str = "\"drop\", \"reject\" or \"respond\"";

    fn parse(text: &str) -> Result<Self, String> {
        let choices = [
            ("drop", Deny::Drop),
            ("reject", Deny::Reject),
            ("respond", Deny::Respond),
        ];
        choose(text, &choices).map(Self)
    }
}

/// Where metrics are served.
#[derive(Debug)]
pub(super) struct EndpointWord(pub(super) Endpoint);

impl Word for EndpointWord {
    const EXPECTING: &'static str = "an address such as \"127.0.0.1:9477\", or \"unix:/path\"";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map(Self)
    }
}

/// One protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Tcp,
    Udp,
}

impl Word for Protocol {
    const EXPECTING: &'static str = "\"tcp\" or \"udp\"";

    fn parse(text: &str) -> Result<Self, String> {
        choose(text, &[("tcp", Self::Tcp), ("udp", Self::Udp)])
    }
}

/// A list of protocols, TCP where there is none.
#[derive(Debug)]
pub(super) struct ProtocolList(pub(super) Protocols);

impl Default for ProtocolList {
    fn default() -> Self {
        Self(Protocols::TCP)
    }
}

impl<'de> Deserialize<'de> for ProtocolList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let list = Vec::<Protocol>::deserialize(deserializer)?;
        if list.is_empty() {
            return Err(D::Error::custom("it is empty: write `tcp`, `udp` or both"));
        }
        Ok(Self(Protocols {
            tcp: list.contains(&Protocol::Tcp),
            udp: list.contains(&Protocol::Udp),
        }))
    }
}

/// A list of ports and ranges of ports.
#[derive(Debug)]
pub(super) struct Ports(pub(super) PortSet);

impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(PortsVisitor).map(Self)
    }
}

struct PortsVisitor;

impl<'de> Visitor<'de> for PortsVisitor {
    type Value = PortSet;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of ports and ranges such as [443, \"8000-8010\"]")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<PortSet, S::Error> {
        let mut all: Option<PortSet> = None;
        while let Some(SomePorts(more)) = list.next_element()? {
            all = Some(all.map_or_else(|| more.clone(), |all| all.union(&more)));
        }
        all.ok_or_else(|| S::Error::custom("it is empty: write at least one port"))
    }
}

/// A port, or a range in a string.
struct SomePorts(PortSet);

impl<'de> Deserialize<'de> for SomePorts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SomePortsVisitor).map(Self)
    }
}

struct SomePortsVisitor;

impl Visitor<'_> for SomePortsVisitor {
    type Value = PortSet;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a port from 1 to 65535, or a range such as \"8000-8010\"")
    }

    fn visit_u64<E: Error>(self, port: u64) -> Result<PortSet, E> {
        self.visit_str(&port.to_string())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<PortSet, E> {
        PortSet::from_str(text).map_err(E::custom)
    }
}

/// Answers a second and CPU.
#[derive(Debug)]
pub(super) struct Rate(pub(super) u32);

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_u64(NumberVisitor).map(Self)
    }
}

struct NumberVisitor;

impl Visitor<'_> for NumberVisitor {
    type Value = u32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from 0 to {}", u32::MAX)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<u32, E> {
        u32::try_from(number)
            .map_err(|_| E::invalid_value(serde::de::Unexpected::Unsigned(number), &self))
    }
}
