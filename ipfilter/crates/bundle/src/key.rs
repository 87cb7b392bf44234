//! The keys that publishers sign releases with (ed25519), and how they are written.

use std::{fmt, str::FromStr};

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};

use crate::hex;

/// What a public key begins with.
const PUBLIC: &str = "ed25519:";

/// What a secret key begins with.
const SECRET: &str = "ed25519-secret:";

/// Why a text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// It is a secret key where a public one belongs.
    #[error(
        "this is a secret key, and whoever can read it can sign: write the public one, which begins with `ed25519:`, and make a new pair"
    )]
    Secret,
    /// It is a public key where a secret one belongs.
    #[error(
        "this is a public key: name the file with the secret one, which begins with `ed25519-secret:`"
    )]
    Public,
    /// It is something else.
    #[error(
        "a key is `ed25519:` and 64 hexadecimal digits in lower case, as `ipfilter keygen` prints it"
    )]
    Text,
    /// No signature can be checked with it.
    #[error("these digits are no ed25519 key: copy the key again, as `ipfilter keygen` printed it")]
    Point,
}

/// The key that signatures are checked with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PublicKey {
    /// Whether `signature` is one of `message` by the owner of this key. A signature has one form only.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &Signature) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        self.0.verify_strict(message, &signature).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PUBLIC)?;
        hex::write(f, self.0.as_bytes())
    }
}

impl FromStr for PublicKey {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        if text.starts_with(SECRET) {
            return Err(BadKey::Secret);
        }
        let digits = text.strip_prefix(PUBLIC).and_then(hex::parse);
        let key = VerifyingKey::from_bytes(&digits.ok_or(BadKey::Text)?);
        let key = key.ok().filter(|key| !key.is_weak());
        key.map(Self).ok_or(BadKey::Point)
    }
}

hex::as_text!(PublicKey);

/// A secret key, and the public one that belongs to it. Its memory is cleared when it is dropped.
pub struct KeyPair(SigningKey);

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({})", self.public())
    }
}

impl KeyPair {
    /// A new one.
    ///
    /// # Errors
    ///
    /// When the kernel gives no random bytes.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)?;
        Ok(Self(SigningKey::from_bytes(&secret)))
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// The secret key as text, for a file that only its owner can read.
    #[must_use]
    pub fn secret_text(&self) -> String {
        format!("{SECRET}{}", hex::text(self.0.as_bytes()))
    }

    /// The pair whose secret key is written in `text`.
    ///
    /// # Errors
    ///
    /// When that is no secret key.
    pub fn from_secret_text(text: &str) -> Result<Self, BadKey> {
        if text.starts_with(PUBLIC) {
            return Err(BadKey::Public);
        }
        let digits = text.trim_end().strip_prefix(SECRET).and_then(hex::parse);
        Ok(Self(SigningKey::from_bytes(&digits.ok_or(BadKey::Text)?)))
    }

    /// Signs a message.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).to_bytes())
    }
}

/// A signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature([u8; 64]);

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex::write(f, &self.0)
    }
}

impl FromStr for Signature {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = hex::parse(text);
        bytes
            .map(Self)
            .ok_or("a signature is 128 hexadecimal digits, in lower case")
    }
}

hex::as_text!(Signature);
