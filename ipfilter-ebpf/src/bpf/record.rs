//! The way out: every packet is counted here, once, and leaves with the action that was counted.

use ipfilter_ebpf::abi::{Counter, NO_API, REASONS, Reason, SLOTS, row_index};

use super::{
    context::{Packet, opaque},
    maps::{COUNTERS, INTERFACES},
};

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

/// Counts a packet of `bytes` bytes under its interface, `api` (or [`NO_API`]) and `reason`.
#[inline(always)]
pub fn record<P: Packet>(
    packet: &P,
    api: Option<u32>,
    reason: Reason,
    bytes: u64,
    action: Action,
) -> Action {
    let row = row_index(slot(packet.interface()), api.unwrap_or(NO_API));
    if let Some(row) = COUNTERS.get_ptr_mut(row) {
        // Masked where the compiler must not know that it is in bounds: the verifier does not know.
        let place = opaque(reason as usize) & (REASONS - 1);
        // SAFETY: `place` is one of the row's. The pointer is to this CPU's own value, and a program
        // is not preempted by another run of itself on the same CPU, so nobody else writes it.
        unsafe {
            let counter = row.cast::<Counter>().add(place);
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

/// The slot of the interface with this number. Most hosts have one or two.
#[inline(always)]
fn slot(interface: u32) -> u32 {
    let Some(interfaces) = INTERFACES.get(0) else {
        return 0;
    };
    for slot in 1..SLOTS {
        let index = interfaces.index[opaque(slot) & (SLOTS - 1)];
        if index == interface {
            return slot as u32;
        }
        if index == 0 {
            break;
        }
    }
    0
}
