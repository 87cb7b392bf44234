//! Reports of single packets that do not get through.

use super::{AddressKey, Counter};

/// A packet that did not get through.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When it came, in nanoseconds since boot without suspension (`CLOCK_MONOTONIC`).
    pub time: u64,
    /// The number of the interface that it came in by.
    pub interface: u32,
    /// The API's index, or [`super::NO_API`].
    pub api: u32,
    /// Why, as a number of [`super::Reason`].
    pub reason: u32,
    /// 6 for TCP, 17 for UDP (IANA's protocol numbers), 0 where its ports are not known.
    pub protocol: u32,
    /// Where it says it comes from; of family 0 where that was not found.
    pub source: AddressKey,
    /// The source port, in host byte order.
    pub source_port: u16,
    /// The destination port, in host byte order.
    pub port: u16,
}

/// Bytes in a ring of [`Event`]s, each of which takes 8 more than its own: 4,681 of them.
pub const RING: u32 = 256 << 10;

/// The rings that events are put into: each has one reader.
pub const RINGS: usize = 2;

/// The ring for commands such as `events`.
pub const EVENTS_RING: usize = 0;

/// The ring of the daemon's log.
pub const LOG_RING: usize = 1;

/// What a CPU has reported, and may still report or count one by one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reports {
    /// When the present second will be over, in jiffies.
    pub over: u64,
    /// Packets that did not get through, since the counters were made, those that [gates](Gate) have yet to
    /// pass over included.
    pub seen: u64,
    /// Events that were put into each ring, since then.
    pub reported: [u64; RINGS],
    /// Events that may still be reported in this second.
    pub events_left: u32,
    /// Packets that are still counted one by one for [`TopSource`]s in this second.
    pub top_sources_left: u32,
    /// How many packets of its source this one represents.
    pub weight: u32,
    /// Whether an event is to be reported of the present one: 1 or 0.
    pub event: u32,
    /// Allowed packets that are still counted one by one for [callers](super::Caller) in this second.
    pub callers_left: u32,
    /// Not used; zero.
    pub reserved: u32,
}

/// Which packets of an API at an interface are passed over, on a CPU. It is beside the counters, so that a
/// packet that is passed over need look nothing else up.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    /// Until when that holds, in jiffies.
    pub until: u64,
    /// Packets yet to be passed over before one is looked at again.
    pub skip: u32,
    /// How many were to be passed over since the last one that was looked at.
    pub gap: u32,
}

impl From<Counter> for Gate {
    /// The gate in a counter's place.
    fn from(counter: Counter) -> Self {
        let bytes = counter.bytes.to_ne_bytes();
        let (words, _) = bytes.as_chunks();
        let word = |index: usize| words.get(index).copied().map_or(0, u32::from_ne_bytes);
        Self {
            until: counter.packets,
            skip: word(0),
            gap: word(1),
        }
    }
}

/// Denied packets per second per CPU that are counted one by one for [`TopSource`]s.
pub const TOP_SOURCES_RATE: u32 = 1000;

/// Beyond that rate one packet in so many is counted on average, and represents all since the last one.
pub const TOP_SOURCES_WEIGHT: u32 = 1024;

/// How many packets to pass over once `seen` did not get through: any number below twice
/// [`TOP_SOURCES_WEIGHT`], and as good as random, so that no sender keeps in step.
#[must_use]
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the low bits are wanted")]
pub const fn gap(seen: u64) -> u32 {
    // 2^32 by the golden ratio: multiples of it are spread evenly, and have no short period.
    (seen as u32).wrapping_mul(0x9e37_79b1) >> (31 - TOP_SOURCES_WEIGHT.ilog2())
}

/// The most sources that are remembered.
pub const TOP_SOURCES: u32 = 16384;

/// What came from one denied source. Sources that were not heard of for longest are forgotten first.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopSource {
    /// Packets, or an estimate: see [`TOP_SOURCES_WEIGHT`].
    pub packets: u64,
    /// Bytes, likewise.
    pub bytes: u64,
    /// When it was last heard of, in nanoseconds since boot without suspension.
    pub last: u64,
    /// The index of the API it asked for when it was first heard of.
    pub api: u32,
    /// The number of the interface, likewise.
    pub interface: u32,
}

const _: () = {
    assert!(size_of::<Event>() == 48 && align_of::<Event>() == 8);
    assert!(size_of::<Reports>() == 56);
    assert!(size_of::<TopSource>() == 32);
    assert!(RING.is_power_of_two() && RING.is_multiple_of(4096));
};
