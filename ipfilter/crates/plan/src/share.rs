//! The share of sources that an API denies.

use std::{fmt, net::IpAddr, str::FromStr};

use ipfilter_ebpf::{share, wire::Address};
use serde::{Deserialize, Serialize};

/// The share of sources that an API denies, of those that may not call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Share(u64);

impl Share {
    /// None: the API is only monitored.
    pub const NONE: Self = Self(0);
    /// All of them.
    pub const ALL: Self = Self(share::ALL);

    /// As [`share`] has it.
    #[must_use]
    pub const fn parts(self) -> u64 {
        self.0
    }

    /// A number from 0 to 1.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "it has 33 bits")]
    pub fn number(self) -> f64 {
        self.0 as f64 / share::ALL as f64
    }

    /// Whether it has this source at the API with this identity.
    #[must_use]
    pub fn has(self, api: u32, source: IpAddr) -> bool {
        let address = match source {
            IpAddr::V4(source) => Address::V4(words(source.octets())),
            IpAddr::V6(source) => Address::V6(words(source.octets())),
        };
        share::place(api, share::client(&address)) < self.0
    }

    /// Who passes though they may not call, in words; nothing if nobody does.
    #[must_use]
    pub fn leniency(self) -> Option<String> {
        match self {
            Self::ALL => None,
            Self::NONE => Some("monitored only, nothing is dropped".to_owned()),
            Self(_) => Some(format!("enforced for {} of sources only", self.percent())),
        }
    }

    /// In percent.
    #[must_use]
    pub fn percent(self) -> String {
        format!("{} %", decimal(100.0 * self.number(), 4))
    }
}

/// Words in network byte order, as the machine reads them.
fn words<const BYTES: usize, const WORDS: usize>(octets: [u8; BYTES]) -> [u16; WORDS] {
    let mut words = [0; WORDS];
    for (word, bytes) in words.iter_mut().zip(octets.as_chunks().0) {
        *word = u16::from_ne_bytes(*bytes);
    }
    words
}

/// A number with so many digits behind the point, if they are not 0.
fn decimal(number: f64, digits: usize) -> String {
    let text = format!("{number:.digits$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl Default for Share {
    fn default() -> Self {
        Self::ALL
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&decimal(self.number(), 6))
    }
}

impl FromStr for Share {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number: Option<f64> = text.parse().ok();
        let number = number.filter(|number| (0.0..=1.0).contains(number));
        let number = number.ok_or("write a number from 0 to 1, such as `0.05`")?;
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is from 0 to 2^32"
        )]
        let parts = (number * share::ALL as f64).round() as u64;
        Ok(Self(parts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_written_as_numbers() {
        for (text, shown, percent) in [
            ("0.05", "0.05", "5 %"),
            ("1", "1", "100 %"),
            ("0", "0", "0 %"),
            ("1e-3", "0.001", "0.1 %"),
        ] {
            let share: Share = text.parse().unwrap();
            assert_eq!(
                (share.to_string(), share.percent()),
                (shown.into(), percent.into())
            );
        }
        for text in ["", "5%", "-0.1", "1.01", "NaN"] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
        assert_eq!("1.0".parse(), Ok(Share::ALL));
        assert_eq!("0.0".parse(), Ok(Share::NONE));
    }
}
