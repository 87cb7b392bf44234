//! The deployment's tables and constants.

use core::arch::asm;

use super::context::{range_barrier, verifier_barrier};
use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf, lpm_trie::Key},
    macros::btf_map,
};
use ipfilter_ebpf::{
    abi::{
        AddressKey, ApiSet, CALLERS as CALLERS_LEN, Caller, CallerKey, Config, Event, Interfaces,
        KEYS_LEN, KeyV4, KeyV6, MAX_APIS, PortTable, RING, ROWS, Reports, Response, Row, SLOTS,
        TOP_SOURCES as TOP_SOURCES_LEN, TopSource, flags, key_index, port_entry,
    },
    interval::{
        LayoutV4, LayoutV6, Root, TableV4, TableV6, WideRoot, Words, lookup_v4, lookup_v6,
        search_v4, search_v6,
    },
    reply::Key as CookieKey,
    verdict::Tables,
    wire::{Address, Protocol, plain::place_of_port},
};

/// Alone in its section, so that its map holds a [`Config`] and nothing else.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".rodata.config")]
static CONFIG: Config = Config::NONE;

/// Each table that is near: read-only data of the program, alone in its section, which is made as long as the
/// deployment needs before it is loaded.
macro_rules! near {
    ($(#[$doc:meta])* $name:ident, $section:literal: $value:ty = $zero:expr) => {
        $(#[$doc])*
        #[unsafe(no_mangle)]
        #[unsafe(link_section = $section)]
        static $name: $value = $zero;
    };
}

near!(
    /// [`PortTable`].
    PORTS, ".rodata.ports": PortTable = [0; size_of::<PortTable>()]
);
near!(
    /// What a lookup of an IPv4 source reads first.
    NEAR_V4, ".rodata.near_v4": u64 = 0
);
near!(
    /// What a lookup of an IPv6 source reads first.
    NEAR_V6, ".rodata.near_v6": u64 = 0
);

/// Handed from one deployment to the next, and so not what is near to one alone.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".data.slots")]
static INTERFACES: Interfaces = Interfaces {
    index: [0; SLOTS],
    name: [[0; 16]; SLOTS],
};

// Sizes other than the counters' are set at load, to what the plan needs.
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
static ROOTS_V4: Array<WideRoot, 1, { BPF_F_MMAPABLE as usize }> = Array::new();
#[btf_map]
static INTERVALS_V6: Array<u64, 1, { BPF_F_MMAPABLE as usize }> = Array::new();
#[btf_map]
pub static COUNTERS: PerCpuArray<Row, { ROWS as usize }> = PerCpuArray::new();

#[btf_map]
pub static RESPONSES: Array<Response, 1> = Array::new();
#[btf_map]
static KEYS: Array<CookieKey, { KEYS_LEN as usize }> = Array::new();
/// When the buckets of answers will be full again, in nanoseconds since boot: that of `reject`, then that of
/// `respond`.
#[btf_map]
pub static FULL_AT: PerCpuArray<u64, 2> = PerCpuArray::new();

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
pub static CALLERS: LruHashMap<CallerKey, Caller, { CALLERS_LEN as usize }> = LruHashMap::new();
#[btf_map]
static DRAFT: PerCpuArray<Event, 1> = PerCpuArray::new();

/// Where things are in the packet that this CPU has in hand. Passed through a map rather than as arguments,
/// so that the verifier takes what is done with it apart once, not again for each way to get there, and
/// so that the path of a packet that is plain does not keep it on its stack. Not the verdict, which must not be
/// that on another packet.
#[btf_map]
static SUBJECT: PerCpuArray<Subject, 1> = PerCpuArray::new();

/// A packet that was judged, and what is known of it.
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
    /// 1 if it is the first fragment of a datagram.
    pub fragment: u32,
}

/// What is to be done with a packet.
pub mod decision {
    /// On to the host.
    pub const PASS: u32 = 0;
    /// Dropped, from any source.
    pub const DROP: u32 = 1;
    /// The API's deny action follows.
    pub const DENY: u32 = 2;
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
    /// The packet in hand.
    subject, SUBJECT: Subject
);
own!(
    /// What was reported, and may still be.
    reports, REPORTS: Reports
);
own!(
    /// The event that is being put together.
    draft, DRAFT: Event
);

/// The address of a static in one instruction. The compiler does not know what is there: what is read
/// behind it is one instruction each, and none if nobody needs it.
macro_rules! address {
    ($name:ident) => {{
        let address: usize;
        asm!(
            "{0} = {1} ll",
            out(reg) address,
            sym $name,
            options(pure, nomem, nostack, preserves_flags)
        );
        address
    }};
}

/// What is fixed for the deployment. The compiler does not know it; to the verifier every field is a constant.
#[inline(always)]
pub fn config() -> &'static Config {
    // SAFETY: the static, which nobody writes once the program is loaded.
    unsafe { &*(address!(CONFIG) as *const Config) }
}

/// Whether one of [`Config::flags`] is set.
#[inline(always)]
pub fn has(flag: u32) -> bool {
    config().flags & flag != 0
}

/// The deny action of the API with this index.
#[inline(always)]
pub fn deny(api: u32) -> u8 {
    config().deny[(api as usize) % MAX_APIS]
}

/// What tells the API with this index from others across deployments.
#[inline(always)]
pub fn id(api: u32) -> u32 {
    config().ids[(api as usize) % MAX_APIS]
}

/// The share of sources that the API with this index denies.
#[inline(always)]
pub fn share(api: u32) -> u64 {
    config().shares[(api as usize) % MAX_APIS]
}

/// The interfaces' slots.
#[inline(always)]
pub fn interfaces() -> *const Interfaces {
    // SAFETY: it is only named.
    unsafe { address!(INTERFACES) as *const Interfaces }
}

/// What the [`PortTable`] says of a port.
#[inline(always)]
pub fn entry_of_port(place: u64) -> u64 {
    // SAFETY: places are below 2^17, as many as the table has entries.
    u64::from(unsafe { *((address!(PORTS) + place as usize) as *const u8) })
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
        // Masked where the verifier must see it: older ones lose the bounds of what was turned round.
        let port = super::context::optimizer_barrier(usize::from(port.to_be())) & 0xffff;
        let entry = entry_of_port(place_of_port(protocol.number().into(), port as u64));
        (entry != 0).then_some(entry as u32 & port_entry::API)
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
        if !has(flags::INTERVALS) {
            return in_tries(source).unwrap_or(ApiSet::NONE);
        }
        ApiSet::from_bits(match *source {
            Address::V4([a, b]) => callable_v4(u64::from(u32::from(a) | u32::from(b) << 16)),
            Address::V6([a, b, c, d, e, f, g, h]) => {
                callable_v6([half([a, b, c, d]), half([e, f, g, h])])
            }
        })
    }

    #[inline(always)]
    fn apis(&self) -> ApiSet {
        config().apis
    }

    #[inline(always)]
    fn verifier_barrier(&self, value: u32) -> u32 {
        verifier_barrier(value.into(), self.0) as u32
    }

    #[inline(always)]
    fn range_barrier(&self, place: usize) -> usize {
        range_barrier(place as u64) as usize
    }
}

#[inline(always)]
fn in_tries(source: &Address) -> Option<ApiSet> {
    match *source {
        Address::V4(address) => SOURCES_V4.get(&Key::new(32, address)).copied(),
        Address::V6(address) => SOURCES_V6.get(&Key::new(128, address)).copied(),
    }
}

/// Half an IPv6 address as the machine reads it.
#[inline(always)]
fn half(words: [u16; 4]) -> u64 {
    let [a, b, c, d] = words.map(u64::from);
    a | b << 16 | c << 32 | d << 48
}

/// The APIs that an IPv4 source may call, by the interval table; it is in network byte order as the machine
/// reads it.
#[inline(always)]
pub fn callable_v4(source: u64) -> u64 {
    // Turned round as a whole, its high half is the address.
    let layout = &config().intervals_v4;
    lookup_v4(&IntervalsV4, layout, u64::from_be(source)).unwrap_or(0)
}

/// The same of an IPv6 source's halves.
#[inline(always)]
pub fn callable_v6(source: [u64; 2]) -> u64 {
    let [high, low] = source.map(u64::from_be);
    lookup_v6(&IntervalsV6, &config().intervals_v6, high, low).unwrap_or(0)
}

struct IntervalsV4;

impl Words for IntervalsV4 {
    #[inline(always)]
    fn word(&self, index: u32) -> Option<u64> {
        INTERVALS_V4.get(index).copied()
    }

    #[inline(always)]
    fn near(&self, index: u64) -> Option<u64> {
        // SAFETY: the section is as long as the deployment's layout says, which bounds the index: the
        // verifier would not take the program otherwise.
        Some(unsafe { *(address!(NEAR_V4) as *const u64).add(index as usize) })
    }

    #[inline(always)]
    fn barrier(&self, value: u64) -> u64 {
        range_barrier(value)
    }
}

impl TableV4 for IntervalsV4 {
    #[inline(always)]
    fn root(&self, slot: u32) -> Option<&WideRoot> {
        ROOTS_V4.get(slot)
    }

    #[inline(always)]
    fn search(&self, _: &LayoutV4, root: Root, at: u32) -> Option<u64> {
        Some(node_v4(root.0, at))
    }
}

/// What a node answers: kept apart, as most packets find all they need in a root.
#[inline(never)]
fn node_v4(root: u64, at: u32) -> u64 {
    search_v4(&IntervalsV4, &config().intervals_v4, Root(root), at).unwrap_or(0)
}

struct IntervalsV6;

impl Words for IntervalsV6 {
    #[inline(always)]
    fn word(&self, index: u32) -> Option<u64> {
        INTERVALS_V6.get(index).copied()
    }

    #[inline(always)]
    fn near(&self, index: u64) -> Option<u64> {
        // SAFETY: as for IPv4.
        Some(unsafe { *(address!(NEAR_V6) as *const u64).add(index as usize) })
    }

    #[inline(always)]
    fn barrier(&self, value: u64) -> u64 {
        range_barrier(value)
    }
}

impl TableV6 for IntervalsV6 {
    #[inline(always)]
    fn search(&self, _: &LayoutV6, root: Root, high: u64, low: u64) -> Option<u64> {
        Some(node_v6(root.0, high, low))
    }
}

/// As [`node_v4`].
#[inline(never)]
fn node_v6(root: u64, high: u64, low: u64) -> u64 {
    search_v6(&IntervalsV6, &config().intervals_v6, Root(root), high, low).unwrap_or(0)
}
