//! Frames in several buffers.

use ipfilter::kernel::Kind;

use super::*;
use crate::frames::{self as f, IPV6, TCP};
use ipfilter_ebpf::abi::Reason::*;

/// Bytes of data that no single buffer of a test run holds.
const JUMBO: usize = 6000;

#[test]
fn frames_in_several_buffers_are_judged_and_counted_whole() {
    let plan = plan(&[]);
    let trial = equivalence::load_one(&plan, Kind::XdpFrags);
    for Clients { good, half, bad } in clients() {
        let frame = |from, port| {
            let payload = [f::syn(port), vec![b'x'; JUMBO]].concat();
            f::frame(from, TCP, &payload)
        };
        for (frame, api, reason) in [
            (frame(good, DROP), Some(DROPPED), Allowed),
            (frame(half, DROP), Some(DROPPED), Allowed),
            (frame(bad, DROP), Some(DROPPED), Denied),
            (frame(bad, NOBODY), None, OtherPort),
            (frame(bad, REJECT), Some(REJECTED), Reset),
            (frame(bad, RESPOND), Some(ANSWERED), SynAck),
        ] {
            let got = equivalence::run(Kind::XdpFrags, &trial, &frame).expect("a packet");
            let want = (action(reason), api, reason);
            assert_eq!((got.action, got.api, got.reason), want);
            if reason.is_answer() {
                answers::check(&frame, &got);
            }
        }
    }
}

/// Extension headers can be longer than the first buffer: what is behind them is out of sight.
#[test]
fn what_lies_behind_the_first_buffer_is_unresolved() {
    let plan = plan(&[]);
    let trial = equivalence::load_one(&plan, Kind::XdpFrags);
    let [_, Clients { good, half, bad }] = clients();
    let frame = |from, count| {
        let mut payload = Vec::new();
        for left in (0..count).rev() {
            payload.extend([if left == 0 { TCP } else { 60 }, 255]);
            payload.resize(payload.len() + 2046, 0);
        }
        payload.extend(f::syn(NOBODY));
        f::ethernet(&[], IPV6, &f::ipv6(from, 60, &payload))
    };
    for (frame, reason) in [
        (frame(bad, 1), OtherPort),
        (frame(good, 3), UnresolvedAllowed),
        (frame(half, 3), Unresolved),
        (frame(bad, 3), Unresolved),
    ] {
        let got = equivalence::run(Kind::XdpFrags, &trial, &frame).expect("a packet");
        let want = (action(reason), None, reason);
        assert_eq!((got.action, got.api, got.reason), want);
    }
}
