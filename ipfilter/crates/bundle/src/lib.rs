//! What the hosts of a fleet enforce, as one value, and how it reaches them. No IO but for the frames of
//! [`frame`], on a stream that the caller opens.
//!
//! A [`Bundle`] is a configuration with all files that it names. A [`Release`] says which bundle a group of hosts is to
//! enforce, and publishers sign that. An agent on each host hands both to the filter's process, in [`message`]s.

mod bundle;
mod digest;
pub mod frame;
mod hex;
mod key;
pub mod message;
mod release;
#[cfg(test)]
mod tests;

pub use bundle::{Bundle, LARGEST, LONGEST_NAME, MOST_FILES, Malformed};
pub use digest::Digest;
pub use key::{BadKey, KeyPair, PublicKey, Signature};
pub use release::{Group, Kind, Refused, Release, SignedRelease};
