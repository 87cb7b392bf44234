//! The version of the binary interface to the programs, as this process has it.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use ipfilter_ebpf::abi;

static VERSION: AtomicU32 = AtomicU32::new(abi::VERSION);

/// The version that this process writes, and the only one that it adopts.
#[must_use]
pub fn abi_version() -> u32 {
    VERSION.load(Relaxed)
}

/// Has this process take itself for a build with another version, for tests of upgrades. To be called
/// before anything else.
#[doc(hidden)]
pub fn pretend_abi_version(version: u32) {
    VERSION.store(version, Relaxed);
}
