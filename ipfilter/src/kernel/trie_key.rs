//! Addresses as the keys of the kernel's maps have them: in network byte order, in half words.

use std::net::IpAddr;

use aya::Pod;
use ipfilter_ebpf::abi::{AddressKey, KeyV4, KeyV6};

use crate::plan::Family;

/// A family whose addresses are keys of longest-prefix-match maps.
pub(super) trait TrieKey: Family {
    /// What the kernel compares.
    type Key: Pod;

    /// The key of an address.
    fn to_key(self) -> Self::Key;

    /// The address of a key.
    fn from_key(key: Self::Key) -> Self;
}

impl TrieKey for u32 {
    type Key = KeyV4;

    fn to_key(self) -> KeyV4 {
        halves(self.to_be_bytes())
    }

    fn from_key(key: KeyV4) -> Self {
        Self::from_be_bytes(bytes(key))
    }
}

impl TrieKey for u128 {
    type Key = KeyV6;

    fn to_key(self) -> KeyV6 {
        halves(self.to_be_bytes())
    }

    fn from_key(key: KeyV6) -> Self {
        Self::from_be_bytes(bytes(key))
    }
}

/// The key of an address of either family.
pub(super) fn address_key(address: IpAddr) -> AddressKey {
    match address {
        IpAddr::V4(address) => AddressKey::v4(address.to_bits().to_key()),
        IpAddr::V6(address) => AddressKey::v6(address.to_bits().to_key()),
    }
}

fn halves<const BYTES: usize, const HALVES: usize>(bytes: [u8; BYTES]) -> [u16; HALVES] {
    let mut halves = [0; HALVES];
    for (half, bytes) in halves.iter_mut().zip(bytes.as_chunks().0) {
        *half = u16::from_ne_bytes(*bytes);
    }
    halves
}

fn bytes<const HALVES: usize, const BYTES: usize>(halves: [u16; HALVES]) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    for (bytes, half) in bytes.as_chunks_mut().0.iter_mut().zip(halves) {
        *bytes = half.to_ne_bytes();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_addresses_convert_both_ways() {
        assert_eq!(
            0xc000_0201_u32.to_key(),
            [u16::from_ne_bytes([192, 0]), u16::from_ne_bytes([2, 1])]
        );
        assert_eq!(u32::from_key(0xc000_0201_u32.to_key()), 0xc000_0201);
        let address = 0x2001_0db8_0001_0002_0003_0004_0005_0006_u128;
        assert_eq!(address.to_key()[1], u16::from_ne_bytes([0x0d, 0xb8]));
        assert_eq!(u128::from_key(address.to_key()), address);
    }
}
