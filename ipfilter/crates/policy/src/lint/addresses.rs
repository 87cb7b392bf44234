//! Addresses that cannot be meant.

use ipnet::IpNet;

use crate::{
    class::{Class, Classes},
    syntax::{
        address::{has_host_bits, mapped},
        condition::{Condition, Origin, Test},
    },
    text::problem::{Advice, Problems, Severity},
};

/// Blocks that no client sends from: RFC 6890 ("this host", loopback), RFC 1112 and 4291 (multicast,
/// reserved, loopback).
const UNROUTABLE: [&str; 6] = [
    "0.0.0.0/8",
    "127.0.0.0/8",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/127",
    "ff00::/8",
];

pub(super) fn remark(condition: &Condition, classes: &Classes, problems: &mut Problems) {
    let Test::Addresses(listed) = &condition.test else {
        return;
    };
    let unroutable: Vec<IpNet> = UNROUTABLE
        .iter()
        .filter_map(|block| block.parse().ok())
        .collect();
    let single = listed.blocks.len() == 1;
    for (index, block) in listed.blocks.iter().enumerate() {
        let (network, bare) = (&block.network, block.bare);
        let written = || match bare {
            true => network.addr().to_string(),
            false => network.to_string(),
        };
        let mut note = |kind, advice: &dyn Fn() -> Advice| {
            let path = match single && condition.values == block.span() {
                true => condition.path.clone(),
                false => format!("{}[{index}]", condition.path),
            };
            problems.add(Severity::Warning, kind, &path, &block.span(), advice);
        };
        if has_host_bits(network) {
            note("host-bits", &|| {
                Advice::new(format!(
                    "`{}` has bits set past its prefix length; they are ignored",
                    written()
                ))
                .hint(format!("write `{}`", network.trunc()))
            });
        }
        if let Some(v4) = mapped(network) {
            note("mapped", &|| {
                Advice::new(format!(
                    "`{}` is an IPv6 block: it matches no IPv4 source",
                    written()
                ))
                .hint(format!("write `{}` for the IPv4 sources", v4.trunc()))
            });
        }
        if bare && network.addr().is_unspecified() {
            note("bare-zero", &|| {
                Advice::new(format!(
                    "`{}` is one address, which no client has",
                    written()
                ))
                .hint(format!(
                    "did you mean `{}/0`, which is everyone?",
                    written()
                ))
            });
        } else if unroutable.iter().any(|block| block.contains(network)) {
            note("unroutable", &|| {
                Advice::new(format!(
                    "`{}` matches nobody: no client has such addresses",
                    written()
                ))
                .hint("write the addresses that clients have, or remove it")
            });
        }
        if let Some((key, other)) = unreachable(condition.key.origin, network, classes) {
            note("unreachable", &|| {
                Advice::new(format!(
                    "`{}` never matches: these sources have no `{key}`",
                    written()
                ))
                .hint(format!(
                    "they arrive as `{other}`: name them under that key"
                ))
            });
        }
    }
    remark_family(condition, problems);
}

/// The key, and the one that the block's sources have in place of it.
fn unreachable(
    origin: Origin,
    network: &IpNet,
    classes: &Classes,
) -> Option<(&'static str, &'static str)> {
    let (other, key, other_key) = match origin {
        Origin::Source(Class::Public) => (Class::Vpc, "aws:SourceIp", "aws:VpcSourceIp"),
        Origin::Source(Class::Vpc) => (Class::Public, "aws:VpcSourceIp", "aws:SourceIp"),
        _ => return None,
    };
    classes
        .members(other)
        .contains_network(network)
        .then_some((key, other_key))
}

/// A whole family without the other.
fn remark_family(condition: &Condition, problems: &mut Problems) {
    let Test::Addresses(listed) = &condition.test else {
        return;
    };
    let mut networks = listed.blocks.iter().map(|block| &block.network);
    let all = |v4: bool| {
        let mut networks = networks.clone();
        networks.any(|block| block.prefix_len() == 0 && block.addr().is_ipv4() == v4)
    };
    let (all_v4, all_v6) = (all(true), all(false));
    if all_v4 != all_v6 && networks.all(|block| block.addr().is_ipv4() == all_v4) {
        let (whole, rest, add) = if all_v4 {
            ("0.0.0.0/0", "IPv6", "::/0")
        } else {
            ("::/0", "IPv4", "0.0.0.0/0")
        };
        let (path, span) = (&condition.path, &condition.values);
        problems.add(Severity::Warning, "one-family", path, span, || {
            Advice::new(format!("`{whole}` matches no {rest} source"))
                .hint(format!("add `{add}` if all sources are meant"))
        });
    }
}
