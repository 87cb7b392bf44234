//! One entry of a list: an address, a block or a range.

use std::net::IpAddr;

use ipfilter_addresses::{AddressSet, Intervals};
use ipnet::IpNet;

/// What is no address, block or range.
pub(crate) const EXPECTED: &str =
    "write an address, a block such as `192.0.2.0/24`, or a range such as `192.0.2.1-192.0.2.9`";

/// Addresses of one family, from one to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Range {
    V4(u32, u32),
    V6(u128, u128),
}

impl Range {
    /// Reads `192.0.2.1`, `192.0.2.0/24`, `192.0.2.0/255.255.255.0`, `192.0.2.1-192.0.2.9`, and the same of IPv6.
    /// Bits past a block's length are ignored.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(Self::of(IpNet::from(address)));
        }
        if let Ok(network) = text.parse::<IpNet>() {
            return Some(Self::of(network));
        }
        if let Some((address, mask)) = text.split_once('/') {
            let network = IpNet::with_netmask(address.parse().ok()?, mask.parse().ok()?);
            return network.ok().map(Self::of);
        }
        let (first, last) = text.split_once('-')?;
        match (first.trim().parse().ok()?, last.trim().parse().ok()?) {
            (IpAddr::V4(a), IpAddr::V4(b)) if a <= b => Some(Self::V4(a.to_bits(), b.to_bits())),
            (IpAddr::V6(a), IpAddr::V6(b)) if a <= b => Some(Self::V6(a.to_bits(), b.to_bits())),
            _ => None,
        }
    }

    pub(crate) fn of(network: IpNet) -> Self {
        match network {
            IpNet::V4(net) => Self::V4(net.network().to_bits(), net.broadcast().to_bits()),
            IpNet::V6(net) => Self::V6(net.network().to_bits(), net.broadcast().to_bits()),
        }
    }

    pub(crate) fn is_v4(self) -> bool {
        matches!(self, Self::V4(..))
    }
}

/// The addresses of all of them.
pub(crate) fn set(ranges: impl IntoIterator<Item = Range>) -> AddressSet {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for range in ranges {
        match range {
            Range::V4(first, last) => v4.push((first, last)),
            Range::V6(first, last) => v6.push((first, last)),
        }
    }
    AddressSet {
        v4: Intervals::from_ranges(v4),
        v6: Intervals::from_ranges(v6),
    }
}

/// The first characters of something, to show it.
pub(crate) fn clip(text: &str) -> String {
    const SHOWN: usize = 60;
    let mut shown: String = text.chars().take(SHOWN).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown.escape_debug().to_string()
}

/// The error for what is no entry.
pub(crate) fn unexpected(text: &str) -> String {
    format!("`{}` is no address: {EXPECTED}", clip(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_in_all_their_forms() {
        let all = 0xc000_0200..=0xc000_02ff_u32;
        for text in [
            "192.0.2.0/24",
            "192.0.2.7/24",
            "192.0.2.0/255.255.255.0",
            "192.0.2.0-192.0.2.255",
            "192.0.2.0 - 192.0.2.255",
        ] {
            assert_eq!(
                Range::parse(text),
                Some(Range::V4(*all.start(), *all.end())),
                "{text}"
            );
        }
        assert_eq!(Range::parse("::1"), Some(Range::V6(1, 1)));
        assert_eq!(Range::parse("::1-::2"), Some(Range::V6(1, 2)));
        for text in [
            "",
            "192.0.2.0/33",
            "192.0.2.9-192.0.2.1",
            "::1-192.0.2.1",
            "host",
            "192.0.2.0/255.0.255.0",
        ] {
            assert_eq!(Range::parse(text), None, "{text}");
        }
    }
}
