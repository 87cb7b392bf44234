//! `ipset restore` (ipset(8)): sets of the sources that may call. A `hash:net` takes no block of length 0.

use ipfilter_addresses::AddressSet;
use ipnet::IpNet;

use super::{halved, lines};

/// What a set holds by default.
const USUAL: usize = 65536;

pub(super) fn write(set: &AddressSet) -> String {
    let v4: Vec<IpNet> = halved(set.networks_v4()).collect();
    let v6: Vec<IpNet> = halved(set.networks_v6()).collect();
    one("ipfilter4", "inet", &v4) + &one("ipfilter6", "inet6", &v6)
}

fn one(name: &str, family: &str, blocks: &[IpNet]) -> String {
    let most = blocks.len().max(USUAL);
    let create = format!("create {name} hash:net family {family} maxelem {most}\n");
    create + &lines(blocks.iter().copied(), &format!("add {name} "), "\n")
}
