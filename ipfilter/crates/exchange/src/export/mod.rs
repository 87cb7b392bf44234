//! Writing a set as configuration for another program.

mod aws;
mod caddy;
mod haproxy;
mod ipset;
mod iptables;
mod nft;
mod nginx;

use ipfilter_addresses::{AddressSet, Intervals};
use ipnet::IpNet;

/// What a set is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// nftables: a table with two sets and a chain.
    Nft,
    /// `ipset restore`: two sets.
    Ipset,
    /// `iptables-restore` and `ip6tables-restore`, which read the same file.
    Iptables,
    /// nginx's `allow` and `deny`.
    Nginx,
    /// HAProxy: lines of a frontend.
    Haproxy,
    /// Caddy: a matcher and a response.
    Caddy,
    /// AWS WAF: what `create-ip-set` takes, for each family.
    Waf,
    /// The fewest CIDRs, one a line.
    Plain,
}

/// What a target can't say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// More than a set may have.
    #[error(
        "an IP set of AWS WAF has at most {most} addresses, and these are {blocks} {family} blocks"
    )]
    TooMany {
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// How many there are.
        blocks: usize,
        /// How many fit.
        most: usize,
    },
    /// Nobody, where that can't be said.
    #[error("{0} can't say \"nobody\": {1}")]
    Nobody(&'static str, &'static str),
}

/// Writes `set`, the sources that may call, for `target`.
///
/// # Errors
///
/// When the target can't say it.
pub fn export(set: &AddressSet, target: Target) -> Result<String, ExportError> {
    match target {
        Target::Nft => Ok(nft::write(set)),
        Target::Ipset => Ok(ipset::write(set)),
        Target::Iptables => Ok(iptables::write(set)),
        Target::Nginx => Ok(nginx::write(set)),
        Target::Haproxy => Ok(haproxy::write(set)),
        Target::Caddy => Ok(caddy::write(set)),
        Target::Waf => aws::write(set),
        Target::Plain => {
            if set.is_empty() {
                return Err(ExportError::Nobody(
                    "a list of CIDRs",
                    "an empty file would be taken for a mistake",
                ));
            }
            Ok(lines(set.networks(), "", "\n"))
        }
    }
}

/// One family's sources as rules: blocks to treat one way, and how to treat all others.
struct Rules {
    /// The blocks: those that may call, or those that may not, whichever are fewer.
    blocks: Vec<IpNet>,
    /// Whether the blocks may call; all others are treated the other way.
    allow: bool,
}

impl Rules {
    fn of(few: Vec<IpNet>, rest: Vec<IpNet>) -> Self {
        if rest.len() < few.len() {
            Self {
                blocks: rest,
                allow: false,
            }
        } else {
            Self {
                blocks: few,
                allow: true,
            }
        }
    }

    /// Those of IPv4, then those of IPv6.
    fn both(set: &AddressSet) -> [Self; 2] {
        let rest = set.complement();
        [
            Self::of(set.networks_v4().collect(), rest.networks_v4().collect()),
            Self::of(set.networks_v6().collect(), rest.networks_v6().collect()),
        ]
    }
}

fn lines(networks: impl Iterator<Item = IpNet>, before: &str, after: &str) -> String {
    networks
        .map(|network| format!("{before}{network}{after}"))
        .collect()
}

/// A block of the whole family as its two halves, for what does not take a length of 0.
fn halved(networks: impl Iterator<Item = IpNet>) -> impl Iterator<Item = IpNet> {
    networks.flat_map(|network| match (network.prefix_len(), network.subnets(1)) {
        (0, Ok(halves)) => halves.collect::<Vec<_>>(),
        _ => vec![network],
    })
}

/// `::ffff:0:0/96`, where IPv4 addresses are written as IPv6.
fn mapped() -> Intervals<u128> {
    let first = 0xffff_u128 << 32;
    Intervals::from_ranges(vec![(first, first | 0xffff_ffff)])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Choice, Format, detect, import};

    const BLOCKS: [&str; 12] = [
        "0.0.0.0/0",
        "128.0.0.0/1",
        "10.0.0.0/8",
        "10.1.0.0/16",
        "192.0.2.0/24",
        "192.0.2.7/32",
        "::/0",
        "8000::/1",
        "2001:db8::/32",
        "2001:db8:1::/48",
        "::1/128",
        "fc00::/7",
    ];

    fn set() -> impl Strategy<Value = AddressSet> {
        let some = || prop::sample::subsequence(&BLOCKS[..], 0..5);
        (some(), some()).prop_map(|(with, without)| {
            let of = |blocks: Vec<&str>| -> AddressSet {
                blocks.iter().map(|it| it.parse().unwrap()).collect()
            };
            of(with).difference(&of(without))
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_the_same(set in set()) {
            for (target, format) in [
                (Target::Nft, Format::Nft),
                (Target::Ipset, Format::Ipset),
                (Target::Iptables, Format::Iptables),
                (Target::Nginx, Format::Nginx),
                (Target::Waf, Format::Waf),
                (Target::Plain, Format::Plain),
            ] {
                let Ok(text) = export(&set, target) else {
                    prop_assert!(set.is_empty(), "{target:?}");
                    continue;
                };
                // Sets alone can't say nobody.
                if set.is_empty() && matches!(target, Target::Ipset | Target::Waf) {
                    continue;
                }
                prop_assert_eq!(detect(&text), format, "{}", &text);
                let imported = import(&text, format, &Choice::default());
                let imported = imported.unwrap_or_else(|problems| panic!("{target:?}: {problems:#?}\n{text}"));
                prop_assert_eq!(&imported.sources, &set, "{:?}\n{}", target, &text);
            }
        }
    }

    #[test]
    fn a_whole_family_is_halved_where_it_must_be() {
        let text = export(&AddressSet::all(), Target::Ipset).unwrap();
        assert!(
            text.contains("add ipfilter4 128.0.0.0/1") && text.contains("add ipfilter6 8000::/1"),
            "{text}"
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let many = (0..10_001_u32)
            .map(|host| IpNet::from(std::net::IpAddr::from((host * 2).to_be_bytes())));
        let error = export(&many.collect(), Target::Waf).unwrap_err();
        assert!(error.to_string().contains("10001 IPv4 blocks"), "{error}");
    }
}
