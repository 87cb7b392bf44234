//! Lists of prefixes to measure with: large, of known shape, and the same each time.

use std::{collections::BTreeSet, fmt, net::Ipv4Addr, net::Ipv6Addr};

/// How the prefixes of a list lie in the address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Anywhere among public addresses: IPv4 /24 to /32, IPv6 /32 to /64.
    Sparse,
    /// IPv4: every other address of sixteen /16s.
    Dense,
    /// IPv6: anywhere, /48 to /128.
    Long,
    /// IPv6: /48 to /128 in sixty-four /32s.
    Clusters,
}

impl Shape {
    /// All of them, with the family that has them.
    pub const ALL: [(Self, Family); 5] = [
        (Self::Sparse, Family::V4),
        (Self::Dense, Family::V4),
        (Self::Sparse, Family::V6),
        (Self::Long, Family::V6),
        (Self::Clusters, Family::V6),
    ];
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sparse => "sparse",
            Self::Dense => "dense",
            Self::Long => "long",
            Self::Clusters => "clusters",
        })
    }
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Bits in an address.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// One prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    /// Its lowest address, in the low bits.
    pub first: u128,
    /// Its length in bits.
    pub length: u8,
}

impl Prefix {
    fn last(self, family: Family) -> u128 {
        self.first | host(family, self.length)
    }
}

/// Disjoint prefixes of one family, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// Their family.
    pub family: Family,
    /// The prefixes.
    pub prefixes: Vec<Prefix>,
}

impl List {
    /// `count` prefixes of a shape.
    ///
    /// # Panics
    /// When the shape is not one of the family's.
    #[must_use]
    #[expect(clippy::panic, reason = "the caller's mistake, in a development tool")]
    pub fn new(shape: Shape, family: Family, count: usize) -> Self {
        let mut random = Random::new(count as u64);
        let prefixes = match (shape, family) {
            (Shape::Sparse, Family::V4) => disjoint(family, count, || random.public_v4(24, 32)),
            (Shape::Dense, Family::V4) => alternating(count, &mut random),
            (Shape::Sparse, Family::V6) => disjoint(family, count, || random.global_v6(32, 64)),
            (Shape::Long, Family::V6) => disjoint(family, count, || random.global_v6(48, 128)),
            (Shape::Clusters, Family::V6) => {
                let sites: Vec<u128> = (0..64).map(|_| random.global_v6(32, 32).first).collect();
                disjoint(family, count, || random.in_site(&sites))
            }
            _ => panic!("no {family} list is {shape}"),
        };
        Self { family, prefixes }
    }

    /// `count` random addresses, each inside a random one of the prefixes.
    #[must_use]
    pub fn inside(&self, count: usize) -> Vec<u128> {
        let mut random = Random::new(!0);
        (0..count)
            .filter_map(|_| {
                let prefix = self.prefixes.get(random.below(self.prefixes.len()))?;
                Some(prefix.first | random.bits() & host(self.family, prefix.length))
            })
            .collect()
    }

    /// The prefixes as text.
    pub fn texts(&self) -> impl Iterator<Item = String> + '_ {
        self.prefixes.iter().map(|prefix| {
            let length = prefix.length;
            match self.family {
                Family::V4 => format!("{}/{length}", v4(prefix.first)),
                Family::V6 => format!("{}/{length}", Ipv6Addr::from_bits(prefix.first)),
            }
        })
    }

    /// Resource policy: if `allowed` these prefixes may call and nobody else, else everyone but
    /// these.
    #[must_use]
    pub fn policy(&self, allowed: bool) -> String {
        let operator = if allowed { "NotIpAddress" } else { "IpAddress" };
        let blocks: Vec<String> = self.texts().map(|text| format!("\"{text}\"")).collect();
        format!(
            "{{\"Version\":\"2012-10-17\",\"Statement\":[\
             {{\"Effect\":\"Allow\",\"Principal\":\"*\",\"Action\":\"execute-api:Invoke\",\"Resource\":\"execute-api:/*\"}},\
             {{\"Effect\":\"Deny\",\"Principal\":\"*\",\"Action\":\"execute-api:Invoke\",\"Resource\":\"execute-api:/*\",\
             \"Condition\":{{\"{operator}\":{{\"aws:SourceIp\":[{}]}}}}}}]}}\n",
            blocks.join(",")
        )
    }
}

/// The low 32 bits as an address.
#[expect(clippy::cast_possible_truncation, reason = "the low bits are wanted")]
fn v4(bits: u128) -> Ipv4Addr {
    Ipv4Addr::from_bits(bits as u32)
}

fn host(family: Family, length: u8) -> u128 {
    let bits = u32::from(family.bits() - length);
    u128::MAX.checked_shr(128 - bits).unwrap_or(0)
}

/// As many as wanted of those that `next` draws; whatever overlaps one that is there is left out.
fn disjoint(family: Family, count: usize, mut next: impl FnMut() -> Prefix) -> Vec<Prefix> {
    let mut taken = BTreeSet::new();
    while taken.len() < count {
        let prefix = next();
        let before = taken.range(..=prefix).next_back();
        let after = taken.range(prefix..).next();
        let free = before.is_none_or(|other: &Prefix| other.last(family) < prefix.first)
            && after.is_none_or(|other: &Prefix| prefix.last(family) < other.first);
        if free {
            taken.insert(prefix);
        }
    }
    taken.into_iter().collect()
}

/// Every other address of sixteen /16s.
fn alternating(count: usize, random: &mut Random) -> Vec<Prefix> {
    let blocks = disjoint(Family::V4, 16, || random.public_v4(16, 16));
    let each = count.div_ceil(16) as u128;
    let hosts = blocks.iter().flat_map(|block| {
        (0..each).map(|host| Prefix {
            first: block.first + 2 * host,
            length: 32,
        })
    });
    hosts.take(count).collect()
}

/// SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    fn bits(&mut self) -> u128 {
        u128::from(self.word()) << 64 | u128::from(self.word())
    }

    #[expect(clippy::cast_possible_truncation, reason = "the remainder fits")]
    fn below(&mut self, limit: usize) -> usize {
        (self.word() % limit as u64) as usize
    }

    #[expect(clippy::cast_possible_truncation, reason = "lengths are below 129")]
    fn length(&mut self, shortest: u8, longest: u8) -> u8 {
        shortest + self.below(usize::from(longest - shortest) + 1) as u8
    }

    /// Neither private, as those do not come with `aws:SourceIp`, nor multicast, nor this network.
    fn public_v4(&mut self, shortest: u8, longest: u8) -> Prefix {
        loop {
            let length = self.length(shortest, longest);
            let first = (self.bits() & 0xffff_ffff) & !host(Family::V4, length);
            let address = v4(first);
            let [top, ..] = address.octets();
            if (1..224).contains(&top) && !address.is_private() && !address.is_loopback() {
                return Prefix { first, length };
            }
        }
    }

    fn global_v6(&mut self, shortest: u8, longest: u8) -> Prefix {
        let length = self.length(shortest, longest);
        let first = (self.bits() >> 3 | 1 << 125) & !host(Family::V6, length);
        Prefix { first, length }
    }

    fn in_site(&mut self, sites: &[u128]) -> Prefix {
        let site = sites.get(self.below(sites.len())).copied();
        let length = self.length(48, 128);
        let inside = self.bits() >> 32 & !host(Family::V6, length);
        Prefix {
            first: site.unwrap_or_default() | inside,
            length,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_as_long_as_wanted_disjoint_and_the_same_each_time() {
        for (shape, family) in Shape::ALL {
            let list = List::new(shape, family, 1000);
            assert_eq!(list.prefixes.len(), 1000, "{family} {shape}");
            let pairs = list.prefixes.windows(2);
            assert!(
                pairs
                    .into_iter()
                    .all(|pair| pair[0].last(family) < pair[1].first)
            );
            assert_eq!(list, List::new(shape, family, 1000));
        }
    }

    #[test]
    fn addresses_inside_are_inside() {
        let list = List::new(Shape::Long, Family::V6, 10);
        let inside = list.inside(100);
        assert_eq!(inside.len(), 100);
        for address in inside {
            let mut prefixes = list.prefixes.iter();
            assert!(prefixes.any(|p| p.first <= address && address <= p.last(Family::V6)));
        }
    }
}
