//! Addresses and address blocks as conditions write them.
//!
//! Follows the IAM User Guide's "IAM JSON policy elements: Condition operators" (IP address condition
//! operators): CIDR in either family, a bare address standing for itself alone.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use crate::text::problem::{Advice, clip};

/// Reads a single address, or an address and a prefix length. `None` when the
/// text is anything else; bits past the length are kept.
#[must_use]
pub fn parse_block(text: &str) -> Option<IpNet> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(parse_length(length)?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    IpNet::new(address, length.unwrap_or(longest)).ok()
}

/// Decimal digits without sign or leading zero.
fn parse_length(text: &str) -> Option<u8> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let leading_zero = text.len() > 1 && text.starts_with('0');
    if digits && !leading_zero {
        text.parse().ok()
    } else {
        None
    }
}

/// Whether bits are set past the prefix length; they are ignored.
pub(crate) fn has_host_bits(block: &IpNet) -> bool {
    block.addr() != block.network()
}

/// The IPv4 address in an IPv4-mapped IPv6 block, if it is one.
pub(crate) fn mapped(block: &IpNet) -> Option<IpNet> {
    let IpNet::V6(block) = block else { return None };
    let length = block.prefix_len().checked_sub(96)?;
    let address = Ipv6Addr::to_ipv4_mapped(&block.addr())?;
    IpNet::new(address.into(), length).ok()
}

/// What is wrong with `text`, which is no block, and what to write instead.
pub(crate) fn explain_bad_block(text: &str) -> Advice {
    if text.is_empty() {
        return Advice::new("an empty string is not an address")
            .hint("write an address block such as `203.0.113.0/24`, or remove the value");
    }
    if text.eq_ignore_ascii_case("sourceIpOrCIDRBlock") {
        return Advice::new(format!(
            "`{text}` is the example's placeholder, not an address"
        ))
        .hint("put your own address or block there, such as `203.0.113.7` or `203.0.113.0/24`");
    }
    let advice = Advice::new(format!(
        "`{}` is not an address or address block",
        clip(text)
    ));
    match bad_block_hint(text) {
        Some(hint) => advice.hint(hint),
        None => {
            advice.hint("write `203.0.113.7`, `203.0.113.0/24`, `2001:db8::1` or `2001:db8::/32`")
        }
    }
}

fn bad_block_hint(text: &str) -> Option<String> {
    let trimmed = text.trim();
    if trimmed != text && parse_block(trimmed).is_some() {
        return Some(format!("remove the spaces: `{trimmed}`"));
    }
    if text.contains("${") {
        return Some("address operators take no policy variables: write the address itself".into());
    }
    if text.contains(['*', '?']) {
        return Some(
            "address operators take no wildcards: write a block such as `203.0.113.0/24`".into(),
        );
    }
    if let Some((first, last)) = text.split_once('-')
        && first.trim().parse::<IpAddr>().is_ok()
        && last.trim().parse::<IpAddr>().is_ok()
    {
        return Some("ranges are not understood: write the blocks that make it up".into());
    }
    if is_list(text) {
        return Some("make it a list: one string for each address".into());
    }
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    match address.parse::<IpAddr>() {
        Ok(address) => length.map(|length| bad_length_hint(address, length)),
        Err(_) => bad_address_hint(address),
    }
}

/// Whether one text contains several addresses.
fn is_list(text: &str) -> bool {
    let mut parts = text
        .split([',', ';', ' ', '\t', '\n'])
        .filter(|part| !part.is_empty());
    text.contains(',')
        || (text.trim().contains([' ', ';']) && parts.all(|part| parse_block(part).is_some()))
}

fn bad_length_hint(address: IpAddr, length: &str) -> String {
    let (family, longest) = if address.is_ipv4() {
        ("IPv4", 32)
    } else {
        ("IPv6", 128)
    };
    match length.parse::<std::net::Ipv4Addr>() {
        Ok(mask) => match ipnet::ipv4_mask_to_prefix(mask) {
            Ok(bits) => format!("masks are written as a length: `{address}/{bits}`"),
            Err(_) => "masks are written as a length, such as `/24`".into(),
        },
        Err(_) if length.is_empty() => format!("give the length after the slash, 0 to {longest}"),
        Err(_) => format!("an {family} prefix length is a whole number from 0 to {longest}"),
    }
}

fn bad_address_hint(address: &str) -> Option<String> {
    if address.parse::<std::net::SocketAddr>().is_ok() {
        return Some("leave out the port: policies name addresses only".into());
    }
    let octets: Vec<&str> = address.split('.').collect();
    let numeric = |octet: &&str| !octet.is_empty() && octet.bytes().all(|b| b.is_ascii_digit());
    if octets.len() > 1 && octets.iter().all(numeric) {
        return Some(match octets.len() {
            4 => "each of the four numbers is 0 to 255, without leading zeros".into(),
            count => format!("an IPv4 address has four numbers, not {count}"),
        });
    }
    let name = address.contains('.')
        && address
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-.".contains(c));
    (name && address.starts_with(|first: char| first.is_ascii_alphabetic()))
        .then(|| "names are not looked up: write the addresses themselves".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_strictly() {
        for text in [
            "203.0.113.0/24",
            "203.0.113.7",
            "0.0.0.0/0",
            "::/0",
            "2001:db8::/32",
            "::ffff:1.2.3.4",
            "2400:cb00:0000::/32",
        ] {
            assert!(parse_block(text).is_some(), "{text}");
        }
        for text in [
            "",
            " 203.0.113.7",
            "203.0.113.0/33",
            "203.0.113.0/",
            "203.0.113.0/+8",
            "203.0.113.0/08",
            "203.0.113",
            "01.2.3.4",
            "2001:db8::/129",
            "fe80::1%eth0",
            "1.2.3.4/24/8",
            "/24",
            "[2001:db8::1]",
            "203.0.113.0/18446744073709551640",
            "0xcb.0.113.0",
            "3405803776",
        ] {
            assert!(parse_block(text).is_none(), "{text}");
        }
    }

    #[test]
    fn hints_fit_the_mistake() {
        for (text, hint) in [
            ("203.0.113.0/33", "0 to 32"),
            ("2001:db8::/129", "0 to 128"),
            ("203.0.113.0/255.255.255.0", "`203.0.113.0/24`"),
            ("203.0.113.7:443", "port"),
            ("203.0.113", "not 3"),
            ("203.0.113.256", "0 to 255"),
            (" 203.0.113.0/24 ", "spaces"),
            ("203.0.113.*", "wildcards"),
            ("${aws:SourceIp}", "variables"),
            ("203.0.113.1-203.0.113.9", "ranges"),
            ("203.0.113.1, 203.0.113.9", "list"),
            ("203.0.113.0/24 198.51.100.0/24", "list"),
            ("example.com", "names"),
        ] {
            let advice = explain_bad_block(text);
            assert!(
                advice.hint.as_ref().unwrap().contains(hint),
                "{text}: {advice:?}"
            );
        }
        assert!(
            explain_bad_block("sourceIpOrCIDRBlock")
                .message
                .contains("placeholder")
        );
        assert!(explain_bad_block("").message.contains("empty"));
    }

    #[test]
    fn mapped_blocks_are_recognised() {
        let block = parse_block("::ffff:203.0.113.0/120").unwrap();
        assert_eq!(mapped(&block).unwrap().to_string(), "203.0.113.0/24");
        assert_eq!(mapped(&parse_block("2001:db8::/32").unwrap()), None);
    }
}
