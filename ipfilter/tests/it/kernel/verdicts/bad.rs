//! Frames that are cut off, that lie, or are not frames at all: the programs do as the host says, and
//! count every one.

use std::collections::BTreeMap;

use ipfilter::kernel::{Action, Kind, Trial};
use ipfilter_ebpf::{abi::Reason, verdict::Verdict};
use proptest::{
    prelude::*,
    sample::{Index, select},
    strategy::ValueTree as _,
    test_runner::TestRunner,
};

use super::{
    DROP, NOBODY, REJECT, RESPOND, clients,
    equivalence::{self, Host},
    plan,
};
use crate::frames::{self as f, AD, IPV4, IPV6, Q, TCP, UDP};

/// How often a counter must have moved: of an API all together where its packets are denied, as the
/// host does not know what is answered.
type Tally = BTreeMap<(Option<u32>, Option<Reason>), u64>;

fn expected(verdict: &Verdict) -> (Option<u32>, Option<Reason>) {
    match verdict {
        Verdict::Pass(reason) | Verdict::Drop(reason, _) => (None, Some(*reason)),
        Verdict::Allow(call) => (Some(call.api), Some(Reason::Allowed)),
        Verdict::Deny(denied) => (Some(denied.api), None),
    }
}

fn tally(trial: &Trial) -> Tally {
    let mut tally = Tally::new();
    for count in equivalence::counters(trial) {
        let denied = count.api.is_some() && count.reason != Reason::Allowed;
        let reason = (!denied).then_some(count.reason);
        if count.total.packets > 0 {
            *tally.entry((count.api, reason)).or_default() += count.total.packets;
        }
    }
    tally
}

fn fits(verdict: &Verdict, action: Action) -> bool {
    match verdict {
        Verdict::Pass(_) | Verdict::Allow(_) => action == Action::Pass,
        Verdict::Drop(..) => action == Action::Drop,
        Verdict::Deny(_) => matches!(action, Action::Drop | Action::Transmit),
    }
}

/// Runs the frames through one kind of program.
fn check(kind: Kind, host: &Host<'_>, trial: &Trial, frames: &[Vec<u8>]) {
    let mut want = Tally::new();
    for frame in frames {
        let Some((action, out)) = equivalence::run_only(kind, trial, frame) else {
            continue;
        };
        let verdict = host.judge(frame);
        assert!(
            fits(&verdict, action),
            "{kind:?}: {frame:x?}: the host says {verdict:?}, the program {action:?}"
        );
        // A cookie can't be guessed, so nothing here may be answered with data.
        assert!(
            out.len() <= frame.len(),
            "{kind:?}: {frame:x?}: it amplifies"
        );
        let untouched = action == Action::Transmit || out == *frame;
        assert!(untouched, "{kind:?}: {frame:x?}: it was written to");
        *want.entry(expected(&verdict)).or_default() += 1;
    }
    assert_eq!(tally(trial), want, "{kind:?}");
}

/// Runs the frames through every kind of program, each with counters of its own. An XDP test run
/// waits for the kernel's clock most of the time, hence the second number: how many of the frames
/// those programs see.
fn check_all(frames: &[Vec<u8>], for_xdp: usize) {
    let plan = plan(&[]);
    let host = Host::new(&plan);
    for (kind, trial) in &equivalence::load(&plan) {
        let step = match kind {
            Kind::Tc => 1,
            Kind::Xdp | Kind::XdpFrags => frames.len().div_ceil(for_xdp),
        };
        let chosen: Vec<_> = frames.iter().step_by(step).cloned().collect();
        check(*kind, &host, trial, &chosen);
    }
}

/// Valid frames of every shape.
fn valid() -> Vec<Vec<u8>> {
    let mut frames = vec![f::ethernet(&[Q], 0x0806, &[0; 186])];
    for clients in clients() {
        let payload = [f::syn(RESPOND), vec![b'x'; 100]].concat();
        for source in [clients.good, clients.half, clients.bad] {
            for port in [DROP, REJECT, RESPOND, NOBODY] {
                frames.push(f::frame(source, UDP, &f::udp(port, 150)));
            }
            frames.push(f::tagged(&[AD, Q], source, TCP, &payload));
            frames.push(f::frame(source, TCP, &f::syn(REJECT)));
            frames.push(f::frame(source, 58, &[0; 100]));
        }
        let bad = clients.bad;
        if bad.is_ipv4() {
            let packet = f::ipv4(bad, (TCP, 0), &[1; 40], &payload);
            frames.push(f::ethernet(&[], IPV4, &packet));
        } else {
            for kind in [0, 43, 44, 51, 60] {
                let (next, payload) = f::chain(kind, 8, (TCP, &payload));
                frames.push(f::ethernet(&[], IPV6, &f::ipv6(bad, next, &payload)));
            }
        }
    }
    frames
}

#[test]
fn frames_of_every_length_are_judged_as_on_the_host() {
    let mut frames = Vec::new();
    for frame in valid() {
        let lengths = 14..=frame.len().min(200);
        frames.extend(lengths.map(|length| frame[..length].to_vec()));
    }
    assert!(frames.len() > 4000, "{}", frames.len());
    check_all(&frames, 1000);
}

#[test]
fn fields_that_lie_are_judged_as_on_the_host() {
    let mut frames = Vec::new();
    for frame in valid() {
        for at in 12..frame.len().min(100) {
            for byte in [0, 1, 0x45, 0x7f, 0xff, frame[at] ^ 0x10] {
                let mut lie = frame.clone();
                lie[at] = byte;
                frames.push(lie);
            }
        }
    }
    assert!(frames.len() > 15_000, "{}", frames.len());
    check_all(&frames, 1000);
}

/// Bytes at random, most of them behind something that makes a parser look at them.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let beginnings = vec![
        vec![],
        vec![0x08, 0x00, 0x45],
        vec![0x08, 0x00, 0x4f],
        vec![0x86, 0xdd, 0x60],
        vec![0x81, 0x00, 0, 7, 0x08, 0x00, 0x45],
        vec![0x88, 0xa8, 0, 7, 0x81, 0x00, 0, 7, 0x86, 0xdd, 0x60],
    ];
    let bytes = prop::collection::vec(any::<u8>(), 14..400);
    (select(beginnings), bytes, any::<Index>()).prop_map(|(beginning, noise, at)| {
        let mut frame = [&[2; 12], beginning.as_slice(), &noise].concat();
        // A protocol that is looked into, for IPv4 and IPv6 without tags.
        let next = [0, 6, 17, 43, 44, 51, 60];
        frame[20] = next[at.index(next.len())];
        frame[23] = frame[20];
        frame
    })
}

#[test]
fn random_bytes_are_judged_as_on_the_host() {
    let mut runner = TestRunner::default();
    let frames: Vec<_> = (0..10_000)
        .map(|_| noise().new_tree(&mut runner).expect("noise").current())
        .collect();
    check_all(&frames, 1000);
}
