//! The name that bytes have by their content.

use std::{fmt, str::FromStr};

use sha2::{Digest as _, Sha256};

use crate::hex;

/// SHA-256, shown in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// That of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match f.precision() {
            Some(digits) => f.write_str(hex::text(&self.0).get(..digits).unwrap_or_default()),
            None => hex::write(f, &self.0),
        }
    }
}

impl FromStr for Digest {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = hex::parse(text);
        bytes
            .map(Self)
            .ok_or("a digest is 64 hexadecimal digits, in lower case")
    }
}

hex::as_text!(Digest);
