//! Plans far larger than any policy of today, through the loaded programs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipfilter::{
    addresses::{AddressSet, Intervals},
    kernel::{Action, Kind, Trial},
    plan::{Deny, Lookup, Plan, Protocols},
};

use super::verdicts::equivalence::{api, load_one};
use crate::frames;

const PORT: u16 = 443;

/// Four million /32s, 1,021 addresses apart.
const MILLIONS: u32 = 4 << 20;
const APART: u32 = 1021;

/// A hundred thousand /64s, as far apart as 2000::/3 lets them be, to the nearest multiple of a /64.
const NETWORKS: u32 = 100_000;
const NETWORKS_APART: u128 = ((1 << 125) / NETWORKS as u128) >> 64 << 64;

fn host(number: u32) -> u32 {
    number * APART
}

fn network(number: u32) -> u128 {
    (1 << 125) + u128::from(number) * NETWORKS_APART
}

/// Only these sources may call.
fn only(sources: AddressSet) -> Plan {
    let port = PORT.to_string();
    let api = api("api", &port, Protocols::TCP, Deny::Drop, sources);
    Plan::new(vec![api], Vec::new()).unwrap()
}

fn plan() -> Plan {
    let hosts = (0..MILLIONS).map(|number| (host(number), host(number)));
    let networks = (0..NETWORKS).map(network);
    let networks = networks.map(|first| (first, first | u128::from(u64::MAX)));
    only(AddressSet {
        v4: Intervals::from_ranges(hosts.collect()),
        v6: Intervals::from_ranges(networks.collect()),
    })
}

fn assert_answers(trial: &Trial, source: impl Into<IpAddr>, passes: bool) {
    let source = source.into();
    let (action, _) = trial.run(&frames::syn_frame(source, PORT)).unwrap();
    let want = if passes { Action::Pass } else { Action::Drop };
    assert_eq!(action, want, "{source}");
}

#[test]
fn four_million_prefixes_are_loaded_and_answered() {
    let plan = plan();
    let trial = load_one(&plan, Kind::Tc);
    for number in (1..MILLIONS - 1).step_by(40_009) {
        let host = host(number);
        assert_answers(&trial, Ipv4Addr::from_bits(host), true);
        assert_answers(&trial, Ipv4Addr::from_bits(host - 1), false);
        assert_answers(&trial, Ipv4Addr::from_bits(host + 1), false);
    }
    for number in (1..NETWORKS - 1).step_by(1_009) {
        let network = network(number);
        assert_answers(&trial, Ipv6Addr::from_bits(network | 7), true);
        assert_answers(&trial, Ipv6Addr::from_bits(network - 1), false);
        assert_answers(&trial, Ipv6Addr::from_bits(network + (1 << 64)), false);
    }
}

/// More than one batch of entries, and not a whole number of them.
#[test]
fn a_trie_filled_in_batches_has_every_entry() {
    let hosts = (0..40_001).map(|number| (host(number), host(number)));
    let mut plan = only(AddressSet {
        v4: Intervals::from_ranges(hosts.collect()),
        v6: Intervals::empty(),
    });
    plan.lookup = Lookup::Trie;
    let trial = load_one(&plan, Kind::Tc);
    for number in [1, 2, 16_383, 16_384, 16_385, 32_767, 32_768, 39_999, 40_000] {
        assert_answers(&trial, Ipv4Addr::from_bits(host(number)), true);
        assert_answers(&trial, Ipv4Addr::from_bits(host(number) + 1), false);
    }
    assert_answers(&trial, Ipv4Addr::from_bits(host(40_001)), false);
}
