//! The way out: every packet is counted here, once, and leaves with the action that was counted.

use ipfilter_ebpf::abi::{Counter, NO_API, Reason, counter_index};

use super::maps::COUNTERS;

/// What the hook is told.
#[derive(Clone, Copy)]
pub enum Action {
    /// Hand the packet to the host.
    Pass,
    /// Discard it.
    Drop,
    /// Send what has been made of it back out of the interface it came in by.
    Transmit,
}

/// Counts a packet of `bytes` bytes under `api` (or [`NO_API`]) and `reason`.
#[inline(always)]
pub fn record(api: Option<u32>, reason: Reason, bytes: u64, action: Action) -> Action {
    let index = counter_index(api.unwrap_or(NO_API), reason);
    if let Some(counter) = COUNTERS.get_ptr_mut(index) {
        // SAFETY: the pointer is to this CPU's own value, and a program is not preempted by another
        // run of itself on the same CPU, so nobody else writes it.
        unsafe {
            let Counter {
                packets,
                bytes: sum,
            } = *counter;
            *counter = Counter {
                packets: packets + 1,
                bytes: sum + bytes,
            };
        }
    }
    action
}
