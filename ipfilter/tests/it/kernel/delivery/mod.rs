//! What reaches a socket behind the filter, against the host's own network stack.
//!
//! Two hosts get the very same frames, one with the filter and one without. What the parser makes of
//! a frame does not matter here, only what the kernel delivers: of a denied source nothing may arrive
//! at the protected port; of an allowed source, whatever arrives without the filter.
//!
//! `IPFILTER_FUZZ_SEQUENCES` sets how many sequences are tried in each mode, `IPFILTER_FUZZ_SEED` which.
//! A million in all:
//!
//! ```text
//! IPFILTER_FUZZ_SEQUENCES=340000 cargo test -p ipfilter --test it -- kernel::delivery::sequences
//! ```

mod bed;
mod frames;
mod generate;

use std::{collections::BTreeMap, env};

use ipfilter::kernel::Mode;

use bed::{Bed, Seen};
pub(crate) use bed::{Shape, try_packet_socket};
use frames::{Sender, marker};
use generate::{Kind, sequence};

const MODES: [Mode; 3] = [Mode::Native, Mode::Tc, Mode::Generic];

/// Sequences that are on their way at once. Few enough for the queues in between.
const BATCH: u32 = 24;

/// How often each kind of sequence was tried, and arrived at each host.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    tried: u32,
    open: u32,
    filtered: u32,
}

/// Which sequences arrived at each host.
struct Arrived {
    open: Vec<bool>,
    filtered: Vec<bool>,
    /// Something at the filtered host that is no sequence's.
    strays: Vec<Vec<u8>>,
}

/// Sends `count` sequences to both hosts.
fn deliver(bed: &Bed, count: u32, frames: impl Fn(u32) -> Vec<Vec<u8>>) -> Arrived {
    let none = vec![false; count as usize];
    let (mut open, mut filtered, mut strays) = (none.clone(), none, Vec::new());
    for first in (0..count).step_by(BATCH as usize) {
        let batch: Vec<_> = (first..count.min(first + BATCH))
            .flat_map(&frames)
            .collect();
        let marker = marker(first);
        bed.open.send(&batch);
        bed.filtered.send(&batch);
        bed.open.settle(&marker, &mut |seen: Seen| {
            if let Some(it) = seen
                .whole
                .then(|| open.get_mut(seen.token as usize))
                .flatten()
            {
                *it = true;
            }
        });
        bed.filtered.settle(
            &marker,
            &mut |seen: Seen| match filtered.get_mut(seen.token as usize) {
                Some(it) => *it = true,
                None => strays.push(seen.bytes),
            },
        );
    }
    Arrived {
        open,
        filtered,
        strays,
    }
}

/// The number in an environment variable, which must be one.
fn number(name: &str, default: u64) -> u64 {
    let Ok(text) = env::var(name) else {
        return default;
    };
    text.parse()
        .unwrap_or_else(|error| panic!("`{name}` is `{text}`: {error}"))
}

fn tally(kinds: &[Kind], arrived: &Arrived) -> BTreeMap<Kind, Tally> {
    let mut tally = BTreeMap::<Kind, Tally>::new();
    for (place, (open, filtered)) in arrived.open.iter().zip(&arrived.filtered).enumerate() {
        let it = tally.entry(kinds[place % kinds.len()]).or_default();
        it.tried += 1;
        it.open += u32::from(*open);
        it.filtered += u32::from(*filtered);
    }
    tally
}

fn hex(frames: &[Vec<u8>]) -> String {
    let line = |frame: &Vec<u8>| frame.iter().map(|byte| format!("{byte:02x}")).collect();
    frames.iter().map(line).collect::<Vec<String>>().join("\n")
}

/// One mode's sequences: of a denied source, then a tenth as many of an allowed one.
fn sequences_in(mode: Mode, count: u32, seed: u64) {
    let mut bed = Bed::new("delivery", Shape::Tunnel);
    bed.filter(mode);
    let kinds: Vec<Kind> = Kind::ALL
        .into_iter()
        .filter(|kind| *kind != Kind::Tunnel || bed.has_tunnel())
        .collect();
    let made = |sender: Sender| {
        let kinds = &kinds;
        move |token: u32| sequence(seed, kinds[token as usize % kinds.len()], sender, token)
    };
    let denied = deliver(&bed, count, made(Sender::Denied));
    for (kind, tally) in tally(&kinds, &denied) {
        println!("{mode:?}, denied, {kind:?}: {tally:?}");
        assert!(
            tally.open * 10 > tally.tried,
            "{kind:?}: too few would arrive to mean anything: {tally:?}"
        );
    }
    if let Some(token) = denied.filtered.iter().position(|it| *it) {
        let token = u32::try_from(token).expect("one of them");
        let frames = hex(&made(Sender::Denied)(token));
        panic!("{mode:?}: sequence {token} of seed {seed} got through:\n{frames}");
    }
    assert!(denied.strays.is_empty(), "{mode:?}: {:x?}", denied.strays);
    let allowed = deliver(&bed, count / 10, made(Sender::Allowed));
    for (kind, tally) in tally(&kinds, &allowed) {
        println!("{mode:?}, allowed, {kind:?}: {tally:?}");
    }
    for (token, open) in (0..).zip(&allowed.open) {
        let lost = *open && !allowed.filtered[token as usize];
        let frames = || made(Sender::Allowed)(token);
        // A queue that was full loses frames too, but not again and again.
        let still = |_| {
            !deliver(&bed, token + 1, |it| {
                if it == token { frames() } else { Vec::new() }
            })
            .filtered[token as usize]
        };
        assert!(
            !lost || !(0..3).all(still),
            "{mode:?}: sequence {token} of seed {seed} was lost:\n{}",
            hex(&frames())
        );
    }
}

#[test]
fn sequences_from_denied_sources_reach_no_socket() {
    let count = number("IPFILTER_FUZZ_SEQUENCES", 4_000);
    let count = u32::try_from(count).expect("at most four billion");
    let seed = number("IPFILTER_FUZZ_SEED", u64::from(std::process::id()));
    for mode in MODES {
        sequences_in(mode, count, seed);
    }
}

/// Sequences that once got through, or nearly.
pub(crate) fn named_cases_reach_no_socket(shape: Shape) {
    for mode in MODES {
        // Shapes are tried at the same time: each has instances and namespaces of its own.
        let mut bed = Bed::new(&format!("cases-{shape:?}").to_lowercase(), shape);
        bed.filter(mode);
        let cases = frames::named(Sender::Denied);
        let count = u32::try_from(cases.len()).expect("a few");
        let arrived = deliver(&bed, count, |token| cases[token as usize].1(token));
        for (place, (name, _)) in cases.iter().enumerate() {
            assert!(arrived.open[place], "{mode:?}: {name} would not arrive");
            assert!(!arrived.filtered[place], "{mode:?}: {name} got through");
        }
        assert!(arrived.strays.is_empty(), "{mode:?}: {:x?}", arrived.strays);
    }
}

#[test]
fn named_cases_reach_no_socket_of_a_host() {
    named_cases_reach_no_socket(Shape::Plain);
}

#[test]
fn named_cases_reach_no_socket_behind_a_bridge() {
    named_cases_reach_no_socket(Shape::Bridge);
}
