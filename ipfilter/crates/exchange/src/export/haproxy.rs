//! HAProxy (Configuration Manual, section 7.1.6), for a `frontend` or `listen`.
//!
//! HAProxy compares the families with each other: an IPv4 source matches an IPv6 block that has its mapped
//! form, and an IPv6 source matches an IPv4 block if it is a 6to4 address or one that has an IPv4 address in its
//! last 32 bits. So the blocks of each family are lists of their own, mapped addresses are in neither, and IPv6
//! sources of the other two kinds are kept from the list of IPv4.

use ipfilter_addresses::AddressSet;

use super::{lines, mapped};

pub(super) fn write(set: &AddressSet) -> String {
    let v6 = AddressSet {
        v4: ipfilter_addresses::Intervals::empty(),
        v6: set.v6.difference(&mapped()),
    };
    let mut text = lines(set.networks_v4(), "acl ipfilter_v4 src ", "\n");
    text += &lines(v6.networks(), "acl ipfilter_v6 src ", "\n");
    let conditions = [
        (!v6.is_empty()).then_some("ipfilter_v6"),
        (!set.v4.is_empty()).then_some("ipfilter_v4 !ipfilter_embedded"),
    ];
    if !set.v4.is_empty() {
        text += "acl ipfilter_embedded src ::/96 2002::/16\n";
    }
    let conditions: Vec<_> = conditions.into_iter().flatten().collect();
    text += "http-request deny deny_status 403";
    if !conditions.is_empty() {
        text += &format!(" unless {}", conditions.join(" or "));
    }
    text + "\n"
}
