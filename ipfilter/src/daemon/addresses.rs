//! What a list of addresses leaves open.

use std::net::IpAddr;

use log::warn;

use crate::kernel::{self, host_addresses};

/// Warns of what this host has beside the addresses to protect.
pub(super) fn warn_of_open(protected: &[IpAddr]) -> Result<(), kernel::Error> {
    if !protected.is_empty() {
        for warning in left_out(protected, &host_addresses()?) {
            warn!("{warning}");
        }
    }
    Ok(())
}

/// What a list of addresses leaves open on a host that has these.
fn left_out(protected: &[IpAddr], host: &[IpAddr]) -> Vec<String> {
    let out = host.iter().filter(|address| !protected.contains(address));
    let out: Vec<_> = out.map(|address| format!("`{address}`")).collect();
    let lists = |is_it: fn(&IpAddr) -> bool| protected.iter().any(is_it);
    let families = [
        ("IPv4", lists(IpAddr::is_ipv4)),
        ("IPv6", lists(IpAddr::is_ipv6)),
    ];
    let unlisted = families.into_iter().filter(|(_, listed)| !listed);
    let unlisted = unlisted.map(|(family, _)| {
        format!(
            "no {family} address is protected: over {family} the APIs' ports stay open to everyone"
        )
    });
    let others = (!out.is_empty()).then(|| {
        let out = out.join(", ");
        format!("the APIs' ports stay open to everyone at addresses that are not protected: {out}")
    });
    unlisted.chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_list_of_addresses_leaves_open_is_reported() {
        let host = ["192.0.2.2", "192.0.2.3", "2001:db8::2"].map(|text| text.parse().unwrap());
        let [one, other, v6] = host;
        for (protected, said) in [
            (&[one, other, v6][..], &[][..]),
            (&[one], &["no IPv6 address", ": `192.0.2.3`, `2001:db8::2`"]),
            (&[v6], &["no IPv4 address", ": `192.0.2.2`, `192.0.2.3`"]),
            (&[one, v6], &[": `192.0.2.3`"]),
        ] {
            let warnings = left_out(protected, &host);
            assert_eq!(warnings.len(), said.len(), "{warnings:?}");
            for (warning, part) in warnings.iter().zip(said) {
                assert!(warning.contains(part), "{warning}");
            }
        }
    }
}
