//! Telling of packets that do not get through: as events, and by their sources.
//!
//! Both are limited, and the limit costs next to nothing to whoever exceeds it: the clock is the
//! kernel's tick counter, which the verifier turns into a load. Neither ever changes a verdict.
//! The work that is left is in functions of their own, as answers are, and for the same reasons.

use core::arch::asm;

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::{bpf_jiffies64, bpf_ktime_get_ns},
};
use ipfilter_ebpf::{
    abi::{
        AddressKey, EVENTS_RING, Event, LOG_RING, NO_API, Reason, TALKERS_RATE, TALKERS_WEIGHT,
        Talker, flags,
    },
    verdict::{Denied, Origin},
    wire::{Family, Frame as _, Protocol},
};

use super::{
    context::{Packet, Scratch},
    maps::{EVENTS, LOG, REPORTS, SIGHTING, Sighting, TALKERS, events, has, quiet, second},
};

/// 2^32 by the golden ratio: multiples of it are spread evenly and without a short period, so that
/// no sender keeps in step with the sample.
const SPREAD: u32 = 0x9e37_79b1;

/// What is to be told of a packet.
#[derive(Clone, Copy)]
pub struct Due {
    event: bool,
    /// How many packets it stands for among those of its source; 0 for none.
    weight: u32,
}

/// What may be told of another packet that came by `interface`.
#[inline(always)]
fn due(interface: u32) -> Due {
    let mut due = Due {
        event: false,
        weight: 0,
    };
    if events() == 0 || interface == quiet() {
        return due;
    }
    let Some(reports) = REPORTS.get_ptr_mut(0) else {
        return due;
    };
    // SAFETY: the pointer is to this CPU's own value, and nobody holds a reference to it.
    let reports = unsafe { &mut *reports };
    // SAFETY: the helper takes no pointers.
    let now = unsafe { bpf_jiffies64() };
    if now >= reports.over {
        reports.over = now + u64::from(second());
        reports.events_left = events();
        reports.talkers_left = TALKERS_RATE;
    }
    reports.seen += 1;
    if reports.events_left > 0 {
        reports.events_left -= 1;
        due.event = true;
    }
    if reports.talkers_left > 0 {
        reports.talkers_left -= 1;
        due.weight = 1;
    } else if (reports.seen as u32).wrapping_mul(SPREAD) < u32::MAX / TALKERS_WEIGHT {
        due.weight = TALKERS_WEIGHT;
    }
    due
}

/// Begins to tell of a denied packet of `bytes` bytes, while it is still as it came. Finish with
/// [`finish`].
#[inline(always)]
pub fn denied<P: Packet>(packet: &P, denied: &Denied, bytes: u32) -> Due {
    let interface = packet.interface();
    let due = due(interface);
    if due.event || due.weight > 0 {
        let segment = &denied.segment;
        begin(
            packet,
            &Sighting {
                event: Event {
                    time: 0,
                    interface,
                    api: denied.api,
                    reason: 0,
                    protocol: match segment.protocol {
                        Protocol::Tcp => 6,
                        Protocol::Udp => 17,
                    },
                    source: unknown(denied.family),
                    source_port: segment.source_port,
                    port: segment.port,
                },
                network: denied.network as u32,
                bytes,
                weight: due.weight,
                reserved: 0,
            },
        );
    }
    due
}

/// Tells of a packet that was dropped without regard to its source, which is at `origin` if it was
/// found.
#[inline(always)]
pub fn dropped<P: Packet>(packet: &P, origin: Option<Origin>, reason: Reason) {
    let interface = packet.interface();
    let due = due(interface);
    if !due.event {
        return;
    }
    let none = AddressKey {
        family: 0,
        address: [0; 8],
    };
    begin(
        packet,
        &Sighting {
            event: Event {
                time: 0,
                interface,
                api: NO_API,
                reason: 0,
                protocol: 0,
                source: origin.map_or(none, |origin| unknown(origin.family)),
                source_port: 0,
                port: 0,
            },
            network: origin.map_or(0, |origin| origin.network as u32),
            bytes: 0,
            weight: 0,
            reserved: 0,
        },
    );
    finish(due, reason);
}

/// Has the event told, now that what became of the packet is known.
#[inline(always)]
pub fn finish(due: Due, reason: Reason) {
    if due.event {
        tell(reason as u32);
    }
}

/// An address that is yet to be read.
#[inline(always)]
fn unknown(family: Family) -> AddressKey {
    AddressKey {
        family: match family {
            Family::V4 => 4,
            Family::V6 => 6,
        },
        address: [0; 8],
    }
}

#[inline(always)]
fn begin<P: Packet>(packet: &P, sighting: &Sighting) {
    if let Some(place) = SIGHTING.get_ptr_mut(0) {
        // SAFETY: the pointer is to this CPU's own value, and nobody holds a reference to it.
        unsafe { *place = *sighting };
        note(packet);
    }
}

/// Reads the source, and counts the packet under it.
#[inline(never)]
fn note<P: Packet>(packet: &P) {
    let Some(sighting) = SIGHTING.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: the pointer is to this CPU's own value, and nobody holds a reference to it.
    let sighting = unsafe { &mut *sighting };
    let frame = Scratch(packet.buffer());
    let network = sighting.network as usize;
    let source = &mut sighting.event.source;
    let read = match source.family {
        4 => frame.read(network + 12).map(AddressKey::v4),
        6 => frame.read(network + 8).map(AddressKey::v6),
        _ => None,
    };
    let Some(read) = read else {
        source.family = 0;
        return;
    };
    *source = read;
    if sighting.weight > 0 {
        count(&read, sighting);
    }
}

#[inline(always)]
fn count(source: &AddressKey, sighting: &Sighting) {
    let weight = u64::from(sighting.weight);
    let (packets, bytes) = (weight, weight * u64::from(sighting.bytes));
    // SAFETY: the helper takes no pointers.
    let last = unsafe { bpf_ktime_get_ns() };
    if TALKERS.get_ptr_mut(source).is_none() {
        let talker = Talker {
            packets,
            bytes,
            last,
            api: sighting.event.api,
            interface: sighting.event.interface,
        };
        if TALKERS.insert(source, talker, BPF_NOEXIST.into()).is_ok() {
            return;
        }
        // Another CPU was first.
    }
    if let Some(talker) = TALKERS.get_ptr_mut(source) {
        // SAFETY: values of this map stay where they are while a program runs, and only CPUs that do
        // as this one write to these fields: the sums by atomic additions, the time in one store.
        unsafe {
            add(&raw mut (*talker).packets, packets);
            add(&raw mut (*talker).bytes, bytes);
            (*talker).last = last;
        }
    }
}

/// Adds atomically. The compiler's own way needs instructions that came with kernel 5.12.
///
/// # Safety
///
/// `sum` is aligned, and only ever written to so.
#[inline(always)]
unsafe fn add(sum: *mut u64, by: u64) {
    // SAFETY: the caller's word.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) sum, in(reg) by, options(nostack)) };
}

/// Puts the event into the rings.
#[inline(never)]
fn tell(reason: u32) {
    let (Some(sighting), Some(reports)) = (SIGHTING.get_ptr_mut(0), REPORTS.get_ptr_mut(0)) else {
        return;
    };
    // SAFETY: the pointers are to this CPU's own values, and nobody holds a reference to them.
    let (sighting, reports) = unsafe { (&mut *sighting, &mut *reports) };
    sighting.event.reason = reason;
    // SAFETY: the helper takes no pointers.
    sighting.event.time = unsafe { bpf_ktime_get_ns() };
    if EVENTS.output(&sighting.event, 0).is_ok() {
        reports.told[EVENTS_RING] += 1;
    }
    if has(flags::LOG) && LOG.output(&sighting.event, 0).is_ok() {
        reports.told[LOG_RING] += 1;
    }
}
