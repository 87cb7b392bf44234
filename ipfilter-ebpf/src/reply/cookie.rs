//! The cookie that a SYN-ACK carries as its sequence number, so that nothing need be remembered.
//!
//! It is what RFC 4987, section 3.6, calls a SYN cookie, without the options: a keyed hash of the
//! connection and the time slot. Whoever sends it back has received our SYN-ACK, and so did not lie
//! about its address.

use super::Parties;
use crate::{
    siphash::{Key, SipHash, pack},
    wire::Address,
};

/// The cookie of a connection in a time slot.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "a sequence number is half the hash"
)]
pub fn cookie(key: &Key, parties: &Parties, slot: u32) -> u32 {
    let [from, to] = parties.ports;
    let ends = u64::from(from) << 48 | u64::from(to) << 32 | u64::from(slot);
    let mut state = SipHash::new(key);
    match (parties.source, parties.destination) {
        (Address::V4([s0, s1]), Address::V4([d0, d1])) => {
            state.word(pack([s0, s1, d0, d1]));
            state.word(ends);
            state.finish(16) as u32
        }
        (Address::V6(source), Address::V6(destination)) => {
            let [[a, b], [c, d]] = [halves(source), halves(destination)];
            state.word(a);
            state.word(b);
            state.word(c);
            state.word(d);
            state.word(ends);
            state.finish(40) as u32
        }
        _ => 0,
    }
}

#[inline(always)]
fn halves([a, b, c, d, e, f, g, h]: [u16; 8]) -> [u64; 2] {
    [pack([a, b, c, d]), pack([e, f, g, h])]
}
