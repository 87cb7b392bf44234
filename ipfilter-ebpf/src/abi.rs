//! The binary interface between the BPF programs and userspace.
//!
//! Every type here is `repr(C)`, without padding bytes and made of integers only, so that any bytes
//! the other side wrote are a valid value. Integers are in host byte order unless a field says
//! otherwise. [`VERSION`] is stored with each deployment and checked before anything pinned is
//! adopted; change it whenever a layout, a map's shape or a counter's index changes.

mod caller;
mod reason;
mod report;

pub use caller::{CALLER_RATE, CALLERS, Caller, CallerGate, CallerKey};
pub use reason::{Outcome, REASONS, Reason, Scope};
pub use report::{
    EVENTS_RING, Event, Gate, LOG_RING, RING, RINGS, Reports, TOP_SOURCES, TOP_SOURCES_RATE,
    TOP_SOURCES_WEIGHT, TopSource, gap,
};

use crate::interval::{Answers, LayoutV4, LayoutV6};

/// Version of everything in this module.
pub const VERSION: u32 = 5;

/// The most APIs one deployment protects: a source's answer is one bit per API.
pub const MAX_APIS: usize = 64;

/// Which APIs a source may call: bit `i` is the API with index `i`.
///
/// Two words, low first, because a trie's value must not need more alignment than its key.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ApiSet {
    /// APIs 0 to 31.
    pub low: u32,
    /// APIs 32 to 63.
    pub high: u32,
}

impl ApiSet {
    /// No API.
    pub const NONE: Self = Self { low: 0, high: 0 };

    /// The set with bit `i` of `bits` for API `i`.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "each half is wanted")]
    pub const fn from_bits(bits: u64) -> Self {
        Self {
            low: bits as u32,
            high: (bits >> 32) as u32,
        }
    }

    /// Bit `i` for API `i`.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.low as u64 | (self.high as u64) << 32
    }

    /// Whether API `index` (below [`MAX_APIS`]) is in the set.
    #[must_use]
    pub const fn has(self, index: u32) -> bool {
        self.bits() >> (index & 63) & 1 == 1
    }
}

/// The names of the programs and maps in the BPF object, as the kernel shows them.
pub mod names {
    /// XDP program for drivers that hand over a frame in one buffer.
    pub const XDP: &str = "ipfilter_xdp";
    /// XDP program that also takes frames spread over several buffers.
    pub const XDP_FRAGS: &str = "ipfilter_frags";
    /// Traffic-control program (ingress).
    pub const TC: &str = "ipfilter_tc";
    /// [`super::Config`]: read-only data of the program.
    pub const CONFIG: &str = "CONFIG";
    /// The section that holds nothing but [`super::Config`]; its map has the same name.
    pub const CONFIG_SECTION: &str = ".rodata.config";
    /// [`super::PortTable`]: read-only data of the program.
    pub const PORTS: &str = "PORTS";
    /// The section that holds nothing but it; its map has the same name.
    pub const PORTS_SECTION: &str = ".rodata.ports";
    /// The protected addresses, [`super::AddressKey`] to a byte that is not read.
    pub const ADDRESSES: &str = "ADDRESSES";
    /// IPv4 prefix to [`super::ApiSet`].
    pub const SOURCES_V4: &str = "SOURCES_V4";
    /// IPv6 prefix to [`super::ApiSet`].
    pub const SOURCES_V6: &str = "SOURCES_V6";
    /// The words of the IPv4 [interval table](crate::interval).
    pub const INTERVALS_V4: &str = "INTERVALS_V4";
    /// Its wide roots.
    pub const ROOTS_V4: &str = "ROOTS_V4";
    /// The section of its roots if these are near.
    pub const NEAR_V4: &str = ".rodata.near_v4";
    /// The words of the IPv6 interval table.
    pub const INTERVALS_V6: &str = "INTERVALS_V6";
    /// The section of its roots if these are near.
    pub const NEAR_V6: &str = ".rodata.near_v6";
    /// [`super::Row`] by [`super::row_index`], one per CPU.
    pub const COUNTERS: &str = "COUNTERS";
    /// One [`super::Interfaces`]: data of the program.
    pub const INTERFACES: &str = "INTERFACES";
    /// The section that holds nothing but it; its map has the same name.
    pub const INTERFACES_SECTION: &str = ".data.slots";
    /// [`super::Response`] by API index.
    pub const RESPONSES: &str = "RESPONSES";
    /// The ring of [`super::Event`]s for commands such as `events`.
    pub const EVENTS: &str = "EVENTS";
    /// The ring of [`super::Event`]s for the daemon's log.
    pub const LOG: &str = "LOG";
    /// One [`super::Reports`] per CPU.
    pub const REPORTS: &str = "REPORTS";
    /// [`super::TopSource`] by [`super::AddressKey`].
    pub const TOP_SOURCES: &str = "TOP_SOURCES";
    /// [`super::Caller`] by [`super::CallerKey`].
    pub const CALLERS: &str = "CALLERS";
    /// The keys of cookies, by [`super::key_index`].
    pub const KEYS: &str = "KEYS";
}

/// What is fixed for the life of a deployment. The verifier sees its fields as constants, and
/// removes the code they make unreachable.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The [`VERSION`] of the program that wrote this.
    pub version: u32,
    /// [`flags`], or-ed.
    pub flags: u32,
    /// The APIs that exist.
    pub apis: ApiSet,
    /// When the deployment was made, in seconds since 1970-01-01T00:00:00Z.
    pub created: u64,
    /// SHA-256 of the plan.
    pub digest: [u8; 32],
    /// Of the IPv4 interval table, if it is used.
    pub intervals_v4: LayoutV4,
    /// Of the IPv6 interval table, if it is used.
    pub intervals_v6: LayoutV6,
    /// The time between two answers of `reject` on one CPU, in nanoseconds; 0 for no answers.
    pub reject_interval: u64,
    /// The same for answers of `respond`.
    pub respond_interval: u64,
    /// The events per second per CPU; 0 for none, and no [`TopSource`]s either.
    pub events: u32,
    /// A second, in jiffies.
    pub jiffies_per_second: u32,
    /// The number of an interface whose packets are not reported, 0 for none: test runs of a program that is
    /// in force come in by the loopback.
    pub probe_ifindex: u32,
    /// 1 if plain packets are judged by themselves, in few steps; 0 if they are judged like all others.
    pub lean: u32,
    /// Allowed packets per second per CPU that are counted one by one for [`Caller`]s; 0 to remember none.
    pub callers: u32,
    /// Not used; zero.
    pub reserved: u32,
    /// [`deny`] action by API index.
    pub deny: [u8; MAX_APIS],
    /// By API index, what tells the API from others across deployments, in which its index may be another.
    pub ids: [u32; MAX_APIS],
    /// By API index, the [share](crate::share) of sources that the API denies, of those that may not call it.
    pub shares: [u64; MAX_APIS],
}

impl Config {
    /// That of no deployment, in this version.
    pub const NONE: Self = {
        let answers = Answers {
            pair: [0; 2],
            palette: 0,
            lanes: 0,
            direct: 0,
            reserved: [0; 2],
        };
        Self {
            version: VERSION,
            flags: 0,
            apis: ApiSet::NONE,
            created: 0,
            digest: [0; 32],
            intervals_v4: LayoutV4 {
                answers,
                lowest: 0,
                above: 0,
                summary: 0,
                mask: 0,
                slot_shift: 0,
                part_shift: 0,
                wide: 0,
                near: 0,
                summarized: 0,
                default_answer: 0,
                steps: 0,
                slot_bits: 0,
            },
            intervals_v6: LayoutV6 {
                answers,
                base: 0,
                slots: 0,
                summary: 0,
                summary_words: 0,
                reserved: 0,
                slot_shift: 0,
                part_shift: 0,
                near: 0,
                summarized: 0,
                default_answer: 0,
                steps: 0,
                unused: [0; 2],
            },
            reject_interval: 0,
            respond_interval: 0,
            events: 0,
            jiffies_per_second: 0,
            probe_ifindex: 0,
            lean: 0,
            callers: 0,
            reserved: 0,
            deny: [0; MAX_APIS],
            ids: [0; MAX_APIS],
            shares: [0; MAX_APIS],
        }
    };
}

/// Bits of [`Config::flags`].
pub mod flags {
    /// Only packets to an address in the `ADDRESSES` map are filtered.
    pub const ADDRESSES: u32 = 1;
    /// Sources are looked up in the interval tables, rather than in the tries.
    pub const INTERVALS: u32 = 2;
    /// Some API's action is to reject.
    pub const REJECT: u32 = 4;
    /// Some API's action is to respond.
    pub const RESPOND: u32 = 8;
    /// Events go to the daemon's log as well.
    pub const LOG: u32 = 16;
    /// Some API denies only a share of the sources that may not call it, or none.
    pub const SHARES: u32 = 32;
}

/// Values in [`Config::deny`].
pub mod deny {
    /// Discard without an answer.
    pub const DROP: u8 = 0;
    /// TCP: reset. UDP: ICMP, administratively prohibited.
    pub const REJECT: u8 = 1;
    /// TCP: HTTP 403 or a TLS alert. UDP: as [`REJECT`].
    pub const RESPOND: u8 = 2;
}

/// How many answers may be sent at once after a pause, in time between answers: one second's worth, in
/// nanoseconds.
pub const ANSWER_BURST: u64 = 1_000_000_000;

/// The most bytes an HTTP answer has, headers included: what fits an IPv6 packet of the smallest
/// MTU that every path has (RFC 8200, section 5), in whole [`Chunk`]s.
pub const RESPONSE_MAX: usize = 1216;

/// The most bytes an HTTP answer without a body has.
pub const RESPONSE_HEAD_MAX: usize = 512;

/// The unit in which answers are copied: four words in network byte order. Answers are made such that
/// their length is a multiple of its own.
pub type Chunk = [u16; 4];

/// One message of `respond`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PayloadSlice {
    /// Its first chunk in [`Response::chunks`].
    pub start: u16,
    /// Its length in bytes.
    pub len: u16,
    /// The sum of its bytes as [`crate::reply::sum_bytes`] has it.
    pub sum: u16,
    /// Not used; zero.
    pub reserved: u16,
}

/// Chunks in a [`Response`]: HTTP with a body, HTTP without, a TLS alert.
pub const RESPONSE_CHUNKS: usize = (RESPONSE_MAX + RESPONSE_HEAD_MAX) / size_of::<Chunk>() + 1;

/// The messages of `respond`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// HTTP 403 with its body: whole chunks.
    pub forbidden: PayloadSlice,
    /// HTTP 403 without its body: whole chunks.
    pub head: PayloadSlice,
    /// The TLS alert: seven bytes, the only message that does not fill its last chunk.
    pub alert: PayloadSlice,
    /// The bytes of all of them.
    pub chunks: [Chunk; RESPONSE_CHUNKS],
}

/// A time slot of cookies is 2 to the power of this many nanoseconds: 69 seconds. A cookie is good
/// for its own slot and the next.
pub const SLOT_SHIFT: u32 = 36;

/// Keys of cookies: the current slot's, the previous slot's, which are accepted, and the next one's, which is
/// being written.
pub const KEYS_LEN: u32 = 4;

/// The index of a time slot's key.
#[must_use]
pub const fn key_index(slot: u32) -> u32 {
    slot % KEYS_LEN
}

/// Key of the protected addresses.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressKey {
    /// 4 or 6.
    pub family: u32,
    /// The address, words in network byte order; an IPv4 address in the first two, the rest zero.
    pub address: [u16; 8],
}

impl AddressKey {
    /// The key of an IPv4 address, words in network byte order.
    #[must_use]
    pub const fn v4([a, b]: KeyV4) -> Self {
        Self {
            family: 4,
            address: [a, b, 0, 0, 0, 0, 0, 0],
        }
    }

    /// The key of an IPv6 address, words in network byte order.
    #[must_use]
    pub const fn v6(address: KeyV6) -> Self {
        Self { family: 6, address }
    }
}

/// Entries by TCP port, then by UDP port: 0 for a port of no API, else as in [`port_entry`]. Ports are
/// network-order words read natively, so that a program need not swap them.
pub type PortTable = [u8; 2 << 16];

/// What is in an entry of a [`PortTable`].
pub mod port_entry {
    /// The API's index.
    pub const API: u32 = 0x3f;
    /// There is an API.
    pub const TAKEN: u32 = 0x40;
    /// Its deny action is another than to discard without an answer, or it denies only a share of sources.
    pub const ACTS: u32 = 0x80;
}

/// An IPv4 address as the trie's key: words in network byte order.
pub type KeyV4 = [u16; 2];
/// An IPv6 address as the trie's key: words in network byte order.
pub type KeyV6 = [u16; 8];

/// Packets and bytes since the counters were made.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// Packets.
    pub packets: u64,
    /// Bytes from the start of the Ethernet header to the end of the frame.
    pub bytes: u64,
}

/// The counters of one API at one interface by [`Reason`]; the last places hold its [`CallerGate`] and its
/// [`Gate`].
pub type Row = [Counter; REASONS];

/// The place of a [`Gate`] in a [`Row`].
pub const GATE: usize = REASONS - 1;

/// The place of a [`CallerGate`] in a [`Row`].
pub const CALLER_GATE: usize = REASONS - 2;

/// The API of packets that reached no API's port.
#[expect(clippy::cast_possible_truncation, reason = "it is 64")]
pub const NO_API: u32 = MAX_APIS as u32;

/// Slots of interfaces: the first is for all interfaces without a slot of their own.
pub const SLOTS: usize = 16;

/// Rows in the counters' map.
#[expect(clippy::cast_possible_truncation, reason = "it is 16")]
pub const ROWS: u32 = SLOTS as u32 * (NO_API + 1);

/// The index of the row of the API with index `api` (or [`NO_API`]) at the interface in `slot`.
#[must_use]
#[inline(always)]
pub const fn row_index(slot: u32, api: u32) -> u32 {
    slot * (NO_API + 1) + api
}

/// Which interface has which slot. Interface numbers grow without bound, so they can't be slots.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interfaces {
    /// The interface's number by slot; 0 ends the list. The first is no interface, and is not read.
    pub index: [u32; SLOTS],
    /// The interface's name by slot, filled up with zeros. For userspace only.
    pub name: [[u8; 16]; SLOTS],
}

const _: () = {
    assert!(size_of::<ApiSet>() == 8 && align_of::<ApiSet>() == 4);
    assert!(size_of::<Config>() == 1040 && align_of::<Config>() == 8);
    assert!(size_of::<AddressKey>() == 20);
    assert!(MAX_APIS == port_entry::API as usize + 1);
    assert!(size_of::<Gate>() == size_of::<Counter>() && Reason::ALL.len() <= CALLER_GATE);
    assert!(size_of::<CallerGate>() == size_of::<Counter>());
    assert!(size_of::<Counter>() == 16);
    assert!(size_of::<Response>() == 24 + 8 * RESPONSE_CHUNKS);
    assert!(size_of::<Row>() == 512);
    assert!(size_of::<Interfaces>() == 20 * SLOTS);
};
