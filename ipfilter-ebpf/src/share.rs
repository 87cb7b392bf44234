//! Which sources an API denies that denies only a share of those that may not call it.
//!
//! A source is placed by a hash of its address under the API's identity, and denied if its place is below the
//! share. So it stays on its side through reloads and restarts, on every host; a share that grows keeps the sources
//! that it has; and each API chooses others.

use crate::{
    siphash::{Key, SipHash, pack},
    wire::Address,
};

/// The share that is all sources: places are below it.
pub const ALL: u64 = 1 << 32;

/// What of an address its place depends on: of an IPv6 address the network, in which hosts change theirs.
#[must_use]
#[inline(always)]
pub const fn client(source: &Address) -> u64 {
    match *source {
        Address::V4(words) => client_v4(words),
        Address::V6([a, b, c, d, ..]) => client_v6([a, b, c, d]),
    }
}

/// The same of an IPv4 address, words in network byte order.
#[must_use]
#[inline(always)]
pub const fn client_v4([a, b]: [u16; 2]) -> u64 {
    pack([a, b, 0, 0])
}

/// The same of the first half of an IPv6 address.
#[must_use]
#[inline(always)]
pub const fn client_v6(half: [u16; 4]) -> u64 {
    pack(half)
}

/// The place of a [`client`] at the API with this identity: any number below [`ALL`], each as likely as the
/// others.
#[must_use]
#[inline(always)]
pub fn place(api: u32, client: u64) -> u64 {
    let mut hash = SipHash::new(&Key {
        first: api.into(),
        last: 0,
    });
    hash.word(client);
    hash.finish(8) & (ALL - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_about_so_many_sources_and_another_for_each_api() {
        let below =
            |api: u32, share: u64| (0..10_000).filter(move |client| place(api, *client) < share);
        let tenth = ALL / 10;
        let [first, second] = [1, 2].map(|api| below(api, tenth).count());
        assert!((900..1100).contains(&first) && (900..1100).contains(&second));
        let both = below(1, tenth).filter(|client| place(2, *client) < tenth);
        assert!((50..150).contains(&both.count()));
        assert!(below(1, tenth).all(|client| place(1, client) < 2 * tenth));
        assert_eq!((below(1, 0).count(), below(1, ALL).count()), (0, 10_000));
    }

    #[test]
    fn hosts_of_an_ipv6_network_are_one_client() {
        let address = |last| Address::V6([1, 2, 3, 4, 5, 6, 7, last]);
        assert_eq!(client(&address(8)), client(&address(9)));
        assert_ne!(
            client(&address(8)),
            client(&Address::V6([1, 2, 3, 5, 5, 6, 7, 8]))
        );
    }
}
