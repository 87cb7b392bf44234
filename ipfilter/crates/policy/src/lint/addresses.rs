//! Addresses that cannot be meant.

use ipnet::IpNet;

use crate::{
    class::{Class, Classes},
    syntax::{
        address::{has_host_bits, mapped},
        condition::{Block, Condition, Test},
        key::Origin,
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
    let unroutable = UNROUTABLE.iter().filter_map(|block| block.parse().ok());
    let unroutable: Vec<IpNet> = unroutable.collect();
    for (index, block) in listed.blocks.iter().enumerate() {
        let mut remarks = Remarks {
            condition,
            index,
            block,
            problems,
        };
        remarks.on_notation();
        remarks.on_clients(&unroutable);
        remarks.on_key(classes);
    }
    remark_family(condition, problems);
}

/// What there is to say of one block.
struct Remarks<'r> {
    condition: &'r Condition,
    index: usize,
    block: &'r Block,
    problems: &'r mut Problems,
}

impl Remarks<'_> {
    /// How it is written in the policy.
    fn written(block: &Block) -> String {
        match block.bare {
            true => block.network.addr().to_string(),
            false => block.network.to_string(),
        }
    }

    fn note(&mut self, kind: &'static str, advice: impl FnOnce(String) -> Advice) {
        let (path, span) = (&self.condition.path, self.block.span());
        let path = match self.condition.values == span {
            true => path.clone(),
            false => format!("{path}[{}]", self.index),
        };
        let advice = || advice(Self::written(self.block));
        self.problems
            .add(Severity::Warning, kind, &path, &span, advice);
    }

    /// Bits that don't count, and addresses of the other family.
    fn on_notation(&mut self) {
        let network = &self.block.network;
        if has_host_bits(network) {
            self.note("host-bits", |written| {
                Advice::new(format!(
                    "`{written}` has bits set past its prefix length; they are ignored"
                ))
                .hint(format!("write `{}`", network.trunc()))
            });
        }
        if let Some(v4) = mapped(network) {
            self.note("mapped", |written| {
                Advice::new(format!(
                    "`{written}` is an IPv6 block: it matches no IPv4 source"
                ))
                .hint(format!("write `{}` for the IPv4 sources", v4.trunc()))
            });
        }
    }

    /// Addresses that no client has.
    fn on_clients(&mut self, unroutable: &[IpNet]) {
        let network = &self.block.network;
        if self.block.bare && network.addr().is_unspecified() {
            self.note("bare-zero", |written| {
                Advice::new(format!("`{written}` is one address, which no client has"))
                    .hint(format!("did you mean `{written}/0`, which is everyone?"))
            });
        } else if unroutable.iter().any(|block| block.contains(network)) {
            self.note("unroutable", |written| {
                Advice::new(format!(
                    "`{written}` matches nobody: no client has such addresses"
                ))
                .hint("write the addresses that clients have, or remove it")
            });
        }
    }

    /// Sources that arrive under another key.
    fn on_key(&mut self, classes: &Classes) {
        let origin = self.condition.key.origin;
        if let Some((key, other)) = unreachable(origin, &self.block.network, classes) {
            self.note("unreachable", |written| {
                Advice::new(format!(
                    "`{written}` never matches: these sources have no `{key}`"
                ))
                .hint(format!(
                    "they arrive as `{other}`: name them under that key"
                ))
            });
        }
    }
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
