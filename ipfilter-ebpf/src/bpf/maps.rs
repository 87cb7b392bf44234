//! The deployment's tables and constants.

use super::context::{forget, opaque, verifier_barrier};
use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf, lpm_trie::Key},
    macros::btf_map,
};
use ipfilter_ebpf::{
    abi::{
        AddressKey, ApiSet, Config, Event, Interfaces, KEYS_LEN, KeyV4, KeyV6, MAX_APIS, PortTable,
        RING, ROWS, Reports, Response, Row, TOP_SOURCES as TOP_SOURCES_LEN, TopSource, VERSION,
        flags, key_index,
    },
    interval::{Broad, Layout, Roots, Words, lookup_v4, lookup_v6},
    reply::Key as CookieKey,
    verdict::Tables,
    wire::{Address, Protocol},
};

const NO_INTERVALS: Layout = Layout {
    pair: [0; 2],
    palette: 0,
    sieve: 0,
    lanes: 0,
    slot_bits: 0,
    broad: 0,
    part_bits: 0,
    usual: 0,
    reserved: [0; 3],
};

/// Alone in its section, so that its map holds a [`Config`] and nothing else.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".rodata.config")]
static CONFIG: Config = Config {
    version: VERSION,
    flags: 0,
    apis: ApiSet::NONE,
    created: 0,
    digest: [0; 32],
    intervals_v4: NO_INTERVALS,
    intervals_v6: NO_INTERVALS,
    reject_interval: 0,
    events: 0,
    second: 0,
    quiet: 0,
    reserved: 0,
    deny: [0; MAX_APIS],
};

// Sizes other than the counters' are set at load, to what the plan needs.
#[btf_map]
static PORTS: Array<PortTable, 1> = Array::new();
#[btf_map]
static ADDRESSES: HashMap<AddressKey, u8, 1> = HashMap::new();
#[btf_map]
static SOURCES_V4: LpmTrie<KeyV4, ApiSet, 1> = LpmTrie::new();
#[btf_map]
static SOURCES_V6: LpmTrie<KeyV6, ApiSet, 1> = LpmTrie::new();
/// Filled through a memory map.
#[btf_map]
static INTERVALS_V4: Array<u64, 1, { BPF_F_MMAPABLE as usize }> = Array::new();
/// Apart from what else is in the table, as they are of another size.
#[btf_map]
static ROOTS_V4: Array<Broad, 1, { BPF_F_MMAPABLE as usize }> = Array::new();
#[btf_map]
static INTERVALS_V6: Array<u64, 1, { BPF_F_MMAPABLE as usize }> = Array::new();
#[btf_map]
pub static COUNTERS: PerCpuArray<Row, { ROWS as usize }> = PerCpuArray::new();
#[btf_map]
pub static INTERFACES: Array<Interfaces, 1> = Array::new();

#[btf_map]
pub static RESPONSES: Array<Response, 1> = Array::new();
#[btf_map]
static KEYS: Array<CookieKey, { KEYS_LEN as usize }> = Array::new();
/// When the bucket of `reject` will be full again, in nanoseconds since boot.
#[btf_map]
pub static NEXT_REJECT: PerCpuArray<u64, 1> = PerCpuArray::new();

#[btf_map]
static REPORTS: PerCpuArray<Reports, 1> = PerCpuArray::new();
#[btf_map]
pub static EVENTS: RingBuf<Event, { RING as usize }> = RingBuf::new();
#[btf_map]
pub static LOG: RingBuf<Event, { RING as usize }> = RingBuf::new();
#[btf_map]
pub static TOP_SOURCES: LruHashMap<AddressKey, TopSource, { TOP_SOURCES_LEN as usize }> =
    LruHashMap::new();
#[btf_map]
static DRAFT: PerCpuArray<Event, 1> = PerCpuArray::new();

/// The packet that this CPU is to answer or to tell of. Passed through a map rather than as arguments,
/// so that the verifier takes what is done with it apart once, not again for each way to get there, and
/// so that the path of a packet that is dropped in silence does not keep it on its stack.
#[btf_map]
static SUBJECT: PerCpuArray<Subject, 1> = PerCpuArray::new();

/// A packet that does not get through, and what is known of it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Subject {
    /// The API's index, or [`NO_API`](ipfilter_ebpf::abi::NO_API).
    pub api: u32,
    /// The length of the whole frame, in bytes.
    pub bytes: u32,
    /// 4 or 6; 0 if no IP header was found.
    pub family: u32,
    /// Where the IP header begins, in bytes from the start of the frame.
    pub network: u32,
    /// 6 for TCP, 17 for UDP; 0 if no header of theirs was found.
    pub protocol: u32,
    /// Where the TCP or UDP header begins.
    pub transport: u32,
}

/// The value that this CPU has for itself in a map of one.
macro_rules! own {
    ($(#[$doc:meta])* $name:ident, $map:ident: $value:ty) => {
        $(#[$doc])*
        ///
        /// # Safety
        ///
        /// No other reference to it is held at the same time.
        #[inline(always)]
        pub unsafe fn $name() -> Option<&'static mut $value> {
            // SAFETY: the pointer is to this CPU's own value. A program is not preempted by another run
            // of itself on the same CPU, and within a run there is no other reference: the caller's word.
            $map.get_ptr_mut(0).map(|value| unsafe { &mut *value })
        }
    };
}

own!(
    /// The packet to answer or to tell of.
    subject, SUBJECT: Subject
);
own!(
    /// What was told, and may still be told.
    reports, REPORTS: Reports
);
own!(
    /// The event that is being put together.
    draft, DRAFT: Event
);

/// A field of [`CONFIG`], read such that the compiler can't assume the value it was compiled with.
macro_rules! config {
    ($($field:tt)+) => {
        // SAFETY: the field lies in a static that nobody writes once the program is loaded; the
        // read is volatile only because userspace sets the value before that.
        unsafe { core::ptr::read_volatile(&raw const CONFIG.$($field)+) }
    };
}

/// The layout of an interval table, field by field: each is then a constant to the verifier.
macro_rules! layout {
    ($table:ident) => {
        Layout {
            pair: [config!($table.pair[0]), config!($table.pair[1])],
            palette: config!($table.palette),
            sieve: config!($table.sieve),
            lanes: config!($table.lanes),
            slot_bits: config!($table.slot_bits),
            broad: config!($table.broad),
            part_bits: config!($table.part_bits),
            usual: config!($table.usual),
            reserved: [0; 3],
        }
    };
}

/// Whether one of [`Config::flags`] is set. To the verifier that is a constant.
#[inline(always)]
pub fn has(flag: u32) -> bool {
    config!(flags) & flag != 0
}

/// The deny action of the API with this index.
#[inline(always)]
pub fn deny(api: u32) -> u8 {
    config!(deny[(api as usize) % MAX_APIS])
}

/// The time between two answers of `reject`, in nanoseconds.
#[inline(always)]
pub fn reject_interval() -> u64 {
    config!(reject_interval)
}

/// The events that are told of in a second on one CPU.
#[inline(always)]
pub fn events() -> u32 {
    config!(events)
}

/// A second, in jiffies.
#[inline(always)]
pub fn second() -> u32 {
    config!(second)
}

/// The number of the interface whose packets nothing is told of.
#[inline(always)]
pub fn quiet() -> u32 {
    config!(quiet)
}

/// The key of a time slot's cookies.
#[inline(always)]
pub fn key(slot: u32) -> &'static CookieKey {
    const NONE: &CookieKey = &CookieKey { first: 0, last: 0 };
    KEYS.get(key_index(slot)).unwrap_or(NONE)
}

/// The tables of the deployment that this program belongs to, and a number that the verifier does not
/// know.
pub struct Deployed(pub u64);

impl Tables for Deployed {
    #[inline(always)]
    fn api(&self, protocol: Protocol, port: u16) -> Option<u32> {
        let ports = PORTS.get(0)?;
        // Masked where the compiler must not know that it is in bounds: it would fold the mask into
        // the byte swap before, over which older verifiers (6.12 among them) lose the bounds.
        let port = opaque(usize::from(port)) & 0xffff;
        let slot = match protocol {
            Protocol::Tcp => *ports.tcp.get(port)?,
            Protocol::Udp => *ports.udp.get(port)?,
        };
        u32::from(slot).checked_sub(1)
    }

    #[inline(always)]
    fn protects(&self, destination: &Address) -> bool {
        if !has(flags::ADDRESSES) {
            return true;
        }
        let key = match *destination {
            Address::V4(address) => AddressKey::v4(address),
            Address::V6(address) => AddressKey::v6(address),
        };
        // SAFETY: the map is frozen before the program is attached; no entry is ever written.
        unsafe { ADDRESSES.get(&key) }.is_some()
    }

    #[inline(always)]
    fn callable(&self, source: &Address) -> ApiSet {
        let found = if has(flags::INTERVALS) {
            in_intervals(source)
        } else {
            in_tries(source)
        };
        found.unwrap_or(ApiSet::NONE)
    }

    #[inline(always)]
    fn apis(&self) -> ApiSet {
        config!(apis)
    }

    #[inline(always)]
    fn forget(&self, value: u32) -> u32 {
        verifier_barrier(value.into(), self.0) as u32
    }

    #[inline(always)]
    fn forget_place(&self, place: usize) -> usize {
        forget(place as u64) as usize
    }
}

#[inline(always)]
fn in_tries(source: &Address) -> Option<ApiSet> {
    match *source {
        Address::V4(address) => SOURCES_V4.get(&Key::new(32, address)).copied(),
        Address::V6(address) => SOURCES_V6.get(&Key::new(128, address)).copied(),
    }
}

#[inline(always)]
fn in_intervals(source: &Address) -> Option<ApiSet> {
    match *source {
        Address::V4([a, b]) => {
            let address = u32::from(u16::from_be(a)) << 16 | u32::from(u16::from_be(b));
            lookup_v4(&IntervalsV4, &layout!(intervals_v4), address)
        }
        Address::V6([a, b, c, d, e, f, g, h]) => {
            let (high, low) = (half([a, b, c, d]), half([e, f, g, h]));
            lookup_v6(&IntervalsV6, &layout!(intervals_v6), high, low)
        }
    }
}

/// Half an IPv6 address, in host byte order.
#[inline(always)]
fn half(words: [u16; 4]) -> u64 {
    let [a, b, c, d] = words.map(|word| u64::from(u16::from_be(word)));
    a << 48 | b << 32 | c << 16 | d
}

struct IntervalsV4;

impl Words for IntervalsV4 {
    #[inline(always)]
    fn word(&self, index: u32) -> Option<u64> {
        INTERVALS_V4.get(index).copied()
    }

    #[inline(always)]
    fn forget(&self, value: u64) -> u64 {
        forget(value)
    }
}

impl Roots for IntervalsV4 {
    #[inline(always)]
    fn root(&self, slot: u32) -> Option<&Broad> {
        ROOTS_V4.get(slot)
    }
}

struct IntervalsV6;

impl Words for IntervalsV6 {
    #[inline(always)]
    fn word(&self, index: u32) -> Option<u64> {
        INTERVALS_V6.get(index).copied()
    }

    #[inline(always)]
    fn forget(&self, value: u64) -> u64 {
        forget(value)
    }
}
