//! Sets of ports, as operators write them: `443`, `8000-8010`, `443,8000-8010`.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use serde::{Deserialize, Serialize};

/// A set of TCP or UDP ports with at least one member; never port 0.
///
/// Held as sorted closed ranges that neither overlap nor touch.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortSet {
    ranges: Vec<(u16, u16)>,
}

/// Why a text is not a set of ports.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// Nothing there, or nothing between two commas.
    #[error("a port is missing: write ports and ranges such as `443` or `443,8000-8010`")]
    Missing,
    /// Not a decimal number.
    #[error("`{0}` is not a port: write a number from 1 to 65535, or a range such as `8000-8010`")]
    NotANumber(String),
    /// A number that no port has.
    #[error("port `{0}` is out of range: ports are 1 to 65535")]
    OutOfRange(String),
    /// A range whose end precedes its start.
    #[error("port range `{0}-{1}` is reversed: write `{1}-{0}`")]
    Reversed(u16, u16),
}

impl PortSet {
    /// The ports of `range`; nothing if it is empty or has port 0.
    #[must_use]
    pub fn from_range(range: RangeInclusive<u16>) -> Option<Self> {
        let (first, last) = range.into_inner();
        (0 < first && first <= last).then(|| Self {
            ranges: vec![(first, last)],
        })
    }

    /// The ports of `self`, of `other`, or of both.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self::canonical([self.ranges.as_slice(), &other.ranges].concat())
    }

    /// Whether `port` is in the set.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        self.ranges().any(|range| range.contains(&port))
    }

    /// The closed ranges, ascending; no two touch.
    pub fn ranges(&self) -> impl Iterator<Item = RangeInclusive<u16>> + '_ {
        self.ranges.iter().map(|(first, last)| *first..=*last)
    }

    /// Every port, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.ranges().flatten()
    }

    /// The ports that lie between `lowest` and `highest` inclusive, if any: those that the system
    /// may also give to its own outgoing connections when that is its ephemeral range.
    #[must_use]
    pub fn within(&self, (lowest, highest): (u16, u16)) -> Option<Self> {
        let clip = |(first, last): &(u16, u16)| ((*first).max(lowest), (*last).min(highest));
        let mut ranges: Vec<_> = self.ranges.iter().map(clip).collect();
        ranges.retain(|(first, last)| first <= last);
        (!ranges.is_empty()).then_some(Self { ranges })
    }

    /// The ports of `self` that are not in `other`, if any.
    #[must_use]
    pub fn without(&self, other: &Self) -> Option<Self> {
        let rest = self.iter().filter(|port| !other.contains(*port));
        let ranges = Self::canonical(rest.map(|port| (port, port)).collect());
        (!ranges.ranges.is_empty()).then_some(ranges)
    }

    /// The lowest port that both sets have.
    #[must_use]
    pub fn lowest_common(&self, other: &Self) -> Option<u16> {
        let common = self.ranges.iter().filter_map(|range| other.within(*range));
        let lowest = common.filter_map(|ports| ports.iter().next());
        lowest.min()
    }

    fn canonical(mut ranges: Vec<(u16, u16)>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        Self { ranges: merged }
    }
}

impl FromStr for PortSet {
    type Err = PortError;

    fn from_str(text: &str) -> Result<Self, PortError> {
        let ranges: Result<_, _> = text.split(',').map(|part| range(part.trim())).collect();
        Ok(Self::canonical(ranges?))
    }
}

fn range(text: &str) -> Result<(u16, u16), PortError> {
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (port(first.trim(), text)?, port(last.trim(), text)?),
        None => (port(text, text)?, port(text, text)?),
    };
    if last < first {
        return Err(PortError::Reversed(first, last));
    }
    Ok((first, last))
}

/// The port that `text`, a part of `whole`, names.
fn port(text: &str, whole: &str) -> Result<u16, PortError> {
    if whole.is_empty() {
        return Err(PortError::Missing);
    }
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(PortError::NotANumber(whole.to_owned()));
    }
    match text.parse() {
        Ok(0) | Err(_) => Err(PortError::OutOfRange(text.to_owned())),
        Ok(port) => Ok(port),
    }
}

impl TryFrom<String> for PortSet {
    type Error = PortError;

    fn try_from(text: String) -> Result<Self, PortError> {
        text.parse()
    }
}

impl From<PortSet> for String {
    fn from(ports: PortSet) -> Self {
        ports.to_string()
    }
}

impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (first, last)) in self.ranges.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_one_canonical_form() {
        for (text, canonical) in [
            ("443", "443"),
            ("1-65535", "1-65535"),
            ("8000-8010,443", "443,8000-8010"),
            (" 443 , 8000 - 8010 ", "443,8000-8010"),
            ("80,81,82", "80-82"),
            ("80-90,85-100,443,443", "80-100,443"),
            ("65535,65534", "65534-65535"),
            ("0443", "443"),
        ] {
            let ports: PortSet = text.parse().unwrap();
            assert_eq!(ports.to_string(), canonical, "{text}");
            assert_eq!(canonical.parse(), Ok(ports), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let missing = "a port is missing: write ports and ranges such as `443` or `443,8000-8010`";
        let number = |text| {
            format!(
                "`{text}` is not a port: write a number from 1 to 65535, \
                 or a range such as `8000-8010`"
            )
        };
        let range = |text| format!("port `{text}` is out of range: ports are 1 to 65535");
        for (text, message) in [
            ("", missing.to_owned()),
            ("443,", missing.to_owned()),
            ("http", number("http")),
            ("+443", number("+443")),
            ("80-", number("80-")),
            ("-80", number("-80")),
            ("80-90-100", number("80-90-100")),
            ("0", range("0")),
            ("70000", range("70000")),
            ("99999999999999999999", range("99999999999999999999")),
            ("1-65536", range("65536")),
            (
                "8010-8000",
                "port range `8010-8000` is reversed: write `8000-8010`".to_owned(),
            ),
        ] {
            let error = text.parse::<PortSet>().unwrap_err();
            assert_eq!(error.to_string(), message, "{text}");
        }
    }

    #[test]
    fn ports_in_the_ephemeral_range_are_found() {
        let ports: PortSet = "443,32000-33000,50000,61000".parse().unwrap();
        let ephemeral = ports.within((32768, 60999)).unwrap();
        assert_eq!(ephemeral.to_string(), "32768-33000,50000");
        assert_eq!(ports.within((1, 442)), None);
        let kept = ports.without(&"32001-32999,50000".parse().unwrap());
        assert_eq!(kept.unwrap().to_string(), "443,32000,33000,61000");
        assert_eq!(ports.without(&"1-65535".parse().unwrap()), None);
    }

    #[test]
    fn membership_follows_the_ranges() {
        let ports: PortSet = "1,443,8000-8010".parse().unwrap();
        for port in 0..=u16::MAX {
            let want = matches!(port, 1 | 443 | 8000..=8010);
            assert_eq!(ports.contains(port), want, "{port}");
        }
        assert_eq!(ports.iter().count(), 13);
        assert_eq!(PortSet::from_range(0..=80), None);
        let both = ports.union(&PortSet::from_range(2..=442).unwrap());
        assert_eq!(both.to_string(), "1-443,8000-8010");
    }
}
