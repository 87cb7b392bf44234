//! Sources that call APIs, and are allowed to.

use super::AddressKey;

/// Allowed packets per second per CPU that are counted one by one for [`Caller`]s, unless the operator says
/// otherwise. Beyond that, one packet per tick of an API at an interface represents all since the last one.
pub const CALLER_RATE: u32 = 1000;

/// The most callers that are remembered. Those that were not heard of for longest are forgotten first.
pub const CALLERS: u32 = 16384;

/// A source, and the API that it called.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallerKey {
    /// The source.
    pub source: AddressKey,
    /// The API, as in [`super::Config::ids`].
    pub api: u32,
}

/// What came from a source to an API.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// Packets, or an estimate: see [`CALLER_RATE`].
    pub packets: u64,
    /// Bytes, likewise.
    pub bytes: u64,
    /// When it was first heard of, in nanoseconds since boot without suspension.
    pub first: u64,
    /// When it was last heard of, likewise.
    pub last: u64,
}

/// Which allowed packet of an API at an interface is looked at next, on a CPU. It is beside the counters, so
/// that a packet that is not looked at need look nothing else up.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallerGate {
    /// The first one from this time on, in jiffies.
    pub from: u64,
    /// The number of allowed packets when one was last looked at.
    pub seen: u64,
}

const _: () = {
    assert!(size_of::<CallerKey>() == 24 && align_of::<CallerKey>() == 4);
    assert!(size_of::<Caller>() == 32);
};
