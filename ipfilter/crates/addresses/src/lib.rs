//! Canonical sets of IP addresses and their algebra.
//!
//! A set is kept per family and never mixes them: `0.0.0.0/0` says nothing about IPv6, and
//! `::ffff:203.0.113.7` is an IPv6 address. Nothing here does IO, and nothing here knows what a
//! policy, a map or a packet is.

mod blocks;
mod difference;
mod intervals;
pub mod words;

pub use blocks::blocks;
pub use difference::Difference;
pub use intervals::{Address, Intervals};

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

/// A set of IPv4 and IPv6 addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AddressSet {
    /// The IPv4 members, as integers in host byte order.
    pub v4: Intervals<u32>,
    /// The IPv6 members, as integers in host byte order.
    pub v6: Intervals<u128>,
}

impl AddressSet {
    /// The set without members.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// The set of all addresses of both families.
    #[must_use]
    pub fn all() -> Self {
        Self {
            v4: Intervals::all(),
            v6: Intervals::all(),
        }
    }

    /// The addresses of `networks`; bits past a prefix's length are ignored.
    pub fn from_networks(networks: impl IntoIterator<Item = IpNet>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            match network {
                IpNet::V4(net) => v4.push((net.network().to_bits(), net.broadcast().to_bits())),
                IpNet::V6(net) => v6.push((net.network().to_bits(), net.broadcast().to_bits())),
            }
        }
        Self {
            v4: Intervals::from_ranges(v4),
            v6: Intervals::from_ranges(v6),
        }
    }

    /// Whether `address` is a member.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.v4.contains(address.to_bits()),
            IpAddr::V6(address) => self.v6.contains(address.to_bits()),
        }
    }

    /// Whether every address of `network` is a member; bits past its length are ignored.
    #[must_use]
    pub fn contains_network(&self, network: &IpNet) -> bool {
        match network {
            IpNet::V4(net) => self
                .v4
                .contains_range(net.network().to_bits(), net.broadcast().to_bits()),
            IpNet::V6(net) => self
                .v6
                .contains_range(net.network().to_bits(), net.broadcast().to_bits()),
        }
    }

    /// Whether some address of `network` is a member; bits past its length are ignored.
    #[must_use]
    pub fn overlaps_network(&self, network: &IpNet) -> bool {
        match network {
            IpNet::V4(net) => self
                .v4
                .overlaps_range(net.network().to_bits(), net.broadcast().to_bits()),
            IpNet::V6(net) => self
                .v6
                .overlaps_range(net.network().to_bits(), net.broadcast().to_bits()),
        }
    }

    /// The union of many sets, in time that grows with their total size.
    #[must_use]
    pub fn union_all(sets: Vec<Self>) -> Self {
        let mut sets = sets;
        while sets.len() > 1 {
            let mut halved = Vec::with_capacity(sets.len().div_ceil(2));
            let mut pairs = sets.into_iter();
            while let Some(first) = pairs.next() {
                halved.push(match pairs.next() {
                    Some(second) => first.union(&second),
                    None => first,
                });
            }
            sets = halved;
        }
        sets.pop().unwrap_or_default()
    }

    /// The fewest blocks that make up the set: IPv4 first, each family ascending.
    pub fn networks(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.networks_v4().chain(self.networks_v6())
    }

    /// The fewest blocks that make up the IPv4 members, ascending.
    pub fn networks_v4(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.v4.ranges().flat_map(|(first, last)| {
            Ipv4Subnets::new(first.into(), last.into(), 0).map(IpNet::from)
        })
    }

    /// The fewest blocks that make up the IPv6 members, ascending.
    pub fn networks_v6(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.v6.ranges().flat_map(|(first, last)| {
            Ipv6Subnets::new(first.into(), last.into(), 0).map(IpNet::from)
        })
    }

    /// Whether the set has no member of either family.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// The members of `self`, of `other`, or of both.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self {
            v4: self.v4.union(&other.v4),
            v6: self.v6.union(&other.v6),
        }
    }

    /// The members of both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self {
            v4: self.v4.intersection(&other.v4),
            v6: self.v6.intersection(&other.v6),
        }
    }

    /// The members of `self` that are not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        Self {
            v4: self.v4.difference(&other.v4),
            v6: self.v6.difference(&other.v6),
        }
    }

    /// Every address, of both families, that is not a member.
    #[must_use]
    pub fn complement(&self) -> Self {
        Self {
            v4: self.v4.complement(),
            v6: self.v6.complement(),
        }
    }
}

impl FromIterator<IpNet> for AddressSet {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        Self::from_networks(networks)
    }
}
