//! The way out: every packet is counted here, once, and leaves with the action that was counted.

use ipfilter_ebpf::abi::{
    CALLER_GATE, CallerGate, Counter, GATE, Gate, REASONS, Reason, Row, SLOTS, row_index,
};

use super::{
    context::{Packet, optimizer_barrier},
    maps::{COUNTERS, interfaces},
};

/// What the hook returns.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Hand the packet to the host.
    Pass,
    /// Discard it.
    Drop,
    /// Send the rewritten packet back out of the interface it came in by.
    Transmit,
}

/// What is counted on this CPU of an API's packets at an interface.
#[derive(Clone, Copy)]
pub struct Counters(*mut Row);

impl Counters {
    /// Those of `api` (or [`NO_API`](ipfilter_ebpf::abi::NO_API)) at the interface of `packet`.
    #[inline(always)]
    pub fn of<P: Packet>(packet: P, api: u32) -> Option<Self> {
        let row = row_index(slot(packet.interface()), api);
        COUNTERS.get_ptr_mut(row).map(Self)
    }

    /// Which packets are passed over.
    #[inline(always)]
    pub fn gate(self) -> *mut Gate {
        // SAFETY: it is in the row's last place, and as large as what is in the others.
        unsafe { self.0.cast::<Counter>().add(GATE).cast() }
    }

    /// Which allowed packet is looked at next.
    #[inline(always)]
    pub fn caller_gate(self) -> *mut CallerGate {
        // SAFETY: as above.
        unsafe { self.0.cast::<Counter>().add(CALLER_GATE).cast() }
    }

    /// How many packets were counted under `reason`.
    #[inline(always)]
    pub fn packets(self, reason: Reason) -> u64 {
        // SAFETY: reasons are below `GATE`; the pointer is to this CPU's own value.
        unsafe { (*self.0.cast::<Counter>().add(reason as usize)).packets }
    }

    /// Counts a packet of `bytes` bytes under `reason`, which the compiler knows.
    #[inline(always)]
    pub fn count(self, reason: Reason, bytes: u64) {
        // SAFETY: reasons are below `GATE`.
        unsafe { self.add(reason as usize, bytes) }
    }

    /// The same for a reason that was found before.
    #[inline(always)]
    pub fn count_any(self, reason: u32, bytes: u64) {
        // Masked where the compiler must not know that it is in bounds: the verifier does not know.
        let place = optimizer_barrier(reason as usize) & (REASONS - 1);
        // SAFETY: it is.
        unsafe { self.add(place, bytes) }
    }

    /// # Safety
    ///
    /// `place` is one of the row's.
    #[inline(always)]
    unsafe fn add(self, place: usize, bytes: u64) {
        // SAFETY: the caller's word. The pointer is to this CPU's own value, and a program is not preempted
        // by another run of itself on the same CPU, so nobody else writes it.
        unsafe {
            let counter = self.0.cast::<Counter>().add(place);
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
}

/// The slot of the interface with this number. Most hosts have one.
#[inline(always)]
fn slot(interface: u32) -> u32 {
    if index(1) == interface {
        return 1;
    }
    slot_of_several(interface)
}

#[inline(never)]
fn slot_of_several(interface: u32) -> u32 {
    for slot in 2..SLOTS {
        let index = index(optimizer_barrier(slot) & (SLOTS - 1));
        if index == interface {
            return slot as u32;
        }
        if index == 0 {
            break;
        }
    }
    0
}

/// The number of the interface that has a slot.
#[inline(always)]
fn index(slot: usize) -> u32 {
    // SAFETY: callers pass slots there are. Userspace may write meanwhile, each number in one store.
    unsafe { core::ptr::read_volatile((&raw const (*interfaces()).index).cast::<u32>().add(slot)) }
}
