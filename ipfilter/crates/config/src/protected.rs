//! The addresses of this host that are protected, as operators write them.

use std::net::IpAddr;

/// Reads an address of the host. `0.0.0.0` and `::` mean any of either family, as where a service
/// listens.
///
/// # Errors
///
/// When it is none, or no packet from the network is sent to it: it would protect nothing.
pub fn parse(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = text.parse().map_err(|_| {
        "not an address: write an IPv4 or IPv6 address, without a prefix length".to_owned()
    })?;
    let mapped = match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped(),
        IpAddr::V4(_) => None,
    };
    if let Some(v4) = mapped {
        return Err(format!(
            "how programs write an IPv4 address among IPv6 ones, and no packet is sent to it: \
             write `{v4}`"
        ));
    }
    let is_broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    let what = match address {
        _ if address.is_unspecified() => return Ok(address),
        _ if address.is_loopback() => "the loopback's, which no interface sees",
        _ if address.is_multicast() || is_broadcast => "a group's, where no API is served",
        _ => return Ok(address),
    };
    Err(format!(
        "{what}: write an address of this host, or none for all of them"
    ))
}

/// The addresses to protect, of those that were read; none for all.
#[must_use]
pub fn addresses(read: &[IpAddr]) -> Vec<IpAddr> {
    if read.iter().any(IpAddr::is_unspecified) {
        return Vec::new();
    }
    read.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_address_is_all_of_them_and_those_without_packets_are_refused() {
        for text in ["0.0.0.0", "::", "0::0"] {
            let read = [parse("192.0.2.2").unwrap(), parse(text).unwrap()];
            assert_eq!(addresses(&read), [] as [IpAddr; 0], "{text}");
        }
        for (text, why) in [
            ("::ffff:192.0.2.2", "write `192.0.2.2`"),
            ("::ffff:0.0.0.0", "write `0.0.0.0`"),
            ("127.0.0.1", "the loopback's"),
            ("::1", "the loopback's"),
            ("224.0.0.1", "a group's"),
            ("255.255.255.255", "a group's"),
            ("ff02::1", "a group's"),
            ("192.0.2.0/24", "without a prefix length"),
            ("", "not an address"),
        ] {
            let said = parse(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
        let read = ["192.0.2.2", "2001:db8::2"].map(|text| parse(text).unwrap());
        assert_eq!(addresses(&read), read);
    }
}
