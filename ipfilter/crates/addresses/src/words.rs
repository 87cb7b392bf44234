//! Sets in words, as a person would say them.

use super::{Address, AddressSet, Difference, Intervals};

/// Who is in a set: "everyone", "everyone but 3 IPv4 networks (0.02 %)", "257 IPv4 addresses in 2
/// networks, no IPv6".
#[must_use]
pub fn sources(set: &AddressSet) -> String {
    let networks = [set.networks_v4().count(), set.networks_v6().count()];
    let (v4, v6) = (
        Family::of("IPv4", &set.v4, networks[0]),
        Family::of("IPv6", &set.v6, networks[1]),
    );
    if v4.size == Size::None && v6.size == Size::None {
        return "nobody".to_owned();
    }
    if v4.is_most() && v6.is_most() {
        let without = set.complement();
        let excluded = [
            excluded("IPv4", &without.v4, without.networks_v4().count()),
            excluded("IPv6", &without.v6, without.networks_v6().count()),
        ];
        let excluded: Vec<_> = excluded.into_iter().flatten().collect();
        if excluded.is_empty() {
            return "everyone".to_owned();
        }
        return format!("everyone but {}", excluded.join(" and "));
    }
    let without = set.complement();
    format!(
        "{}, {}",
        v4.phrase(|| excluded("IPv4", &without.v4, without.networks_v4().count())),
        v6.phrase(|| excluded("IPv6", &without.v6, without.networks_v6().count()))
    )
}

/// Who gains access and who loses it: "2 networks lose access, 1 gains; 512 addresses".
#[must_use]
pub fn change(difference: &Difference) -> String {
    let (lost, gained) = (&difference.lost, &difference.gained);
    let (fewer, more) = (lost.networks().count(), gained.networks().count());
    let verb = |number: usize, verb: &str| match number {
        1 => format!("{verb}s"),
        _ => verb.to_owned(),
    };
    let networks = |number| count(number, "network", "networks");
    let who = match (fewer, more) {
        (0, 0) => return "nobody gains or loses access".to_owned(),
        (0, more) => format!("{} {} access", networks(more), verb(more, "gain")),
        (fewer, 0) => format!("{} {} access", networks(fewer), verb(fewer, "lose")),
        (fewer, more) => format!(
            "{} {} access, {} {}",
            networks(fewer),
            verb(fewer, "lose"),
            grouped(more as u128),
            verb(more, "gain")
        ),
    };
    let v4 = lost.v4.count() + gained.v4.count();
    let one = v4 == 1;
    let has_v6 = !(lost.v6.is_empty() && gained.v6.is_empty());
    let family = if has_v6 { "IPv4 " } else { "" };
    match v4 {
        0 => who,
        _ => format!(
            "{who}; {} {family}address{}",
            grouped(v4),
            if one { "" } else { "es" }
        ),
    }
}

/// A number and what it counts.
#[must_use]
pub fn count(number: usize, one: &str, many: &str) -> String {
    let word = if number == 1 { one } else { many };
    format!("{} {word}", grouped(number as u128))
}

/// A number with a comma before each three digits.
#[must_use]
pub fn grouped(number: u128) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How much of a family is in a set.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Size {
    None,
    Few,
    Most,
    All,
}

struct Family {
    name: &'static str,
    size: Size,
    addresses: u128,
    networks: usize,
}

impl Family {
    fn of<A: Address>(name: &'static str, set: &Intervals<A>, networks: usize) -> Self {
        let addresses = set.count();
        let half = 1_u128 << (A::BITS - 1);
        let size = match addresses {
            0 => Size::None,
            _ if set.is_all() => Size::All,
            _ if addresses > half => Size::Most,
            _ => Size::Few,
        };
        Self {
            name,
            size,
            addresses,
            networks,
        }
    }

    fn is_most(&self) -> bool {
        matches!(self.size, Size::Most | Size::All)
    }

    fn phrase(&self, excluded: impl FnOnce() -> Option<String>) -> String {
        let name = self.name;
        match self.size {
            Size::None => format!("no {name}"),
            Size::All => format!("all {name}"),
            Size::Most => match excluded() {
                Some(excluded) => format!("all {name} but {excluded}"),
                None => format!("all {name}"),
            },
            Size::Few if self.addresses == 1 => format!("1 {name} address"),
            // The number of addresses in an IPv6 network means little to a reader.
            Size::Few if name == "IPv6" => count(self.networks, "IPv6 network", "IPv6 networks"),
            Size::Few => format!(
                "{} {name} addresses in {}",
                grouped(self.addresses),
                count(self.networks, "network", "networks")
            ),
        }
    }
}

/// "3 IPv4 networks (0.02 %)", of what is not in a set.
fn excluded<A: Address>(name: &str, without: &Intervals<A>, networks: usize) -> Option<String> {
    let addresses = without.count();
    if addresses == 0 {
        return None;
    }
    if addresses == 1 {
        return Some(format!("1 {name} address"));
    }
    let what = count(
        networks,
        &format!("{name} network"),
        &format!("{name} networks"),
    );
    Some(format!("{what} ({})", share(without)))
}

/// The share of its family that a set is: "0.02 %".
#[must_use]
pub fn share<A: Address>(set: &Intervals<A>) -> String {
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let share = set.count() as f64 / 2_f64.powi(A::BITS.into()) * 100.0;
    match share {
        _ if set.is_empty() => "none".to_owned(),
        _ if set.is_all() => "all".to_owned(),
        share if share < 0.01 => "less than 0.01 %".to_owned(),
        share if share > 99.99 => "more than 99.99 %".to_owned(),
        share => format!("{share:.2} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(networks: &[&str]) -> AddressSet {
        networks
            .iter()
            .map(|network| network.parse().unwrap())
            .collect()
    }

    #[test]
    fn a_set_is_said_in_few_words() {
        for (networks, words) in [
            (&[][..], "nobody"),
            (&["0.0.0.0/0", "::/0"], "everyone"),
            (&["0.0.0.0/0"], "all IPv4, no IPv6"),
            (&["::/0"], "no IPv4, all IPv6"),
            (
                &["203.0.113.0/24", "198.51.100.7/32"],
                "257 IPv4 addresses in 2 networks, no IPv6",
            ),
            (&["198.51.100.7/32"], "1 IPv4 address, no IPv6"),
            (
                &["10.0.0.0/8", "::1/128"],
                "16,777,216 IPv4 addresses in 1 network, 1 IPv6 address",
            ),
            (&["2001:db8::/32"], "no IPv4, 1 IPv6 network"),
            (&["2001:db8::/32", "fd00::/8"], "no IPv4, 2 IPv6 networks"),
        ] {
            assert_eq!(sources(&set(networks)), words, "{networks:?}");
        }
    }

    #[test]
    fn a_set_that_lacks_little_is_said_by_what_it_lacks() {
        for (networks, words) in [
            (&["203.0.113.7/32"][..], "everyone but 1 IPv4 address"),
            (
                &["10.0.0.0/16", "10.2.0.0/16", "10.4.0.0/16"],
                "everyone but 3 IPv4 networks (less than 0.01 %)",
            ),
            (&["10.0.0.0/8"], "everyone but 1 IPv4 network (0.39 %)"),
            (
                &["10.0.0.0/8", "2001:db8::/32"],
                "everyone but 1 IPv4 network (0.39 %) and 1 IPv6 network (less than 0.01 %)",
            ),
            (
                &["10.0.0.0/8", "::/0"],
                "all IPv4 but 1 IPv4 network (0.39 %), no IPv6",
            ),
        ] {
            assert_eq!(sources(&set(networks).complement()), words, "{networks:?}");
        }
    }

    #[test]
    fn a_change_is_one_line() {
        let of = |before: &[&str], after: &[&str]| {
            change(&Difference::between(&set(before), &set(after)))
        };
        assert_eq!(of(&[], &[]), "nobody gains or loses access");
        assert_eq!(
            of(&["192.0.2.1/32"], &[]),
            "1 network loses access; 1 address"
        );
        assert_eq!(
            of(&["192.0.2.0/25", "198.51.100.0/25"], &["203.0.113.0/24"]),
            "2 networks lose access, 1 gains; 512 addresses"
        );
        assert_eq!(of(&[], &["2001:db8::/32"]), "1 network gains access");
        assert_eq!(
            of(&["192.0.2.0/24"], &["2001:db8::/32", "fd00::/8"]),
            "1 network loses access, 2 gain; 256 IPv4 addresses"
        );
    }

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (4_294_967_296, "4,294,967,296"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }
}
