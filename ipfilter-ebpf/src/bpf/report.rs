//! Telling of packets that do not get through: as events, and by their sources.
//!
//! Both are limited, and the limit costs next to nothing to whoever exceeds it: the clock is the
//! kernel's tick counter, which the verifier turns into a load, and what is over the limit is counted
//! down. Neither ever changes a verdict. The work that is left is in functions of their own, as answers
//! are, and for the same reasons.

use core::arch::asm;

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::{bpf_jiffies64, bpf_ktime_get_ns},
};
use ipfilter_ebpf::{
    abi::{
        AddressKey, EVENTS_RING, Event, LOG_RING, NO_API, Reason, Reports, TOP_SOURCES_RATE,
        TopSource, flags, gap,
    },
    verdict::{Denied, Origin},
    wire::{
        Family, Frame as _,
        field::{ipv4, ipv6},
    },
};

use super::{
    context::{Packet, Scratch},
    maps::{
        EVENTS, LOG, Subject, TOP_SOURCES, draft, events, has, quiet, reports, second, subject,
    },
};

/// Whether anything is to be told of another packet: then [`note`] it, and [`tell`] what became of it.
#[inline(always)]
pub fn is_due<P: Packet>(packet: &P) -> bool {
    if events() == 0 {
        return false;
    }
    // SAFETY: nothing that is called from here asks for them too.
    let Some(reports) = (unsafe { reports() }) else {
        return false;
    };
    // SAFETY: the helper takes no pointers.
    let now = unsafe { bpf_jiffies64() };
    if now < reports.over && reports.skip > 0 {
        reports.skip -= 1;
        return false;
    }
    if packet.interface() == quiet() {
        return false;
    }
    choose(reports, now);
    true
}

/// Chooses what to tell of a packet, and how many of those after it to pass over.
#[inline(always)]
fn choose(reports: &mut Reports, now: u64) {
    if now >= reports.over {
        reports.over = now + u64::from(second());
        reports.events_left = events();
        reports.top_sources_left = TOP_SOURCES_RATE;
        // What would have been passed over is not.
        reports.seen -= u64::from(reports.skip);
        reports.skip = 0;
        reports.gap = 0;
    }
    reports.seen += 1;
    reports.weight = reports.gap + 1;
    reports.event = 0;
    if reports.events_left > 0 {
        reports.events_left -= 1;
        reports.event = 1;
    }
    if reports.top_sources_left > 0 {
        reports.top_sources_left -= 1;
    } else if reports.events_left == 0 {
        reports.gap = gap(reports.seen);
        reports.skip = reports.gap;
        reports.seen += u64::from(reports.gap);
    }
}

/// Makes a denied packet of `bytes` bytes this CPU's [`Subject`].
#[inline(always)]
pub fn denied(denied: &Denied, bytes: u32) {
    // SAFETY: it is gone at the end of this function.
    if let Some(subject) = unsafe { subject() } {
        *subject = Subject {
            api: denied.api,
            bytes,
            family: number(denied.family),
            network: denied.network as u32,
            protocol: denied.protocol.number().into(),
            transport: denied.transport as u32,
        };
    }
}

/// Tells of a packet that was dropped without regard to its source, which is at `origin` if it was
/// found.
#[inline(always)]
pub fn dropped<P: Packet>(packet: &P, origin: Origin, reason: Reason) {
    if !is_due(packet) {
        return;
    }
    // SAFETY: it is gone before `note` asks for it.
    if let Some(subject) = unsafe { subject() } {
        *subject = Subject {
            api: NO_API,
            bytes: 0,
            family: origin.family.map_or(0, number),
            network: origin.network as u32,
            protocol: 0,
            transport: 0,
        };
    }
    note(packet);
    tell(reason as u32);
}

#[inline(always)]
fn number(family: Family) -> u32 {
    match family {
        Family::V4 => 4,
        Family::V6 => 6,
    }
}

/// Writes down what the subject, which is still as it came, says of itself, and counts it under its
/// source.
#[inline(never)]
pub fn note<P: Packet>(packet: &P) {
    // SAFETY: nothing that is called from here asks for them too.
    let all = unsafe { (subject(), reports(), draft()) };
    let (Some(subject), Some(reports), Some(event)) = all else {
        return;
    };
    let frame = Scratch(packet.buffer());
    let network = subject.network as usize;
    let read = match subject.family {
        4 => frame.read(network + ipv4::SOURCE).map(AddressKey::v4),
        6 => frame.read(network + ipv6::SOURCE).map(AddressKey::v6),
        _ => None,
    };
    event.source = read.unwrap_or(AddressKey {
        family: 0,
        address: [0; 8],
    });
    let ports = (subject.protocol > 0).then(|| frame.read(subject.transport as usize));
    [event.source_port, event.port] = ports.flatten().unwrap_or_default().map(u16::from_be);
    event.interface = packet.interface();
    event.api = subject.api;
    event.protocol = subject.protocol;
    if subject.api != NO_API {
        count(event, reports.weight, subject.bytes);
    }
}

/// Counts as many packets of `bytes` bytes under an event's source as the packet stands for.
#[inline(always)]
fn count(event: &Event, weight: u32, bytes: u32) {
    let packets = u64::from(weight);
    let bytes = packets * u64::from(bytes);
    // SAFETY: the helper takes no pointers.
    let last = unsafe { bpf_ktime_get_ns() };
    if TOP_SOURCES.get_ptr_mut(&event.source).is_none() {
        let top_source = TopSource {
            packets,
            bytes,
            last,
            api: event.api,
            interface: event.interface,
        };
        if TOP_SOURCES
            .insert(&event.source, top_source, BPF_NOEXIST.into())
            .is_ok()
        {
            return;
        }
        // Another CPU was first.
    }
    if let Some(top_source) = TOP_SOURCES.get_ptr_mut(&event.source) {
        // SAFETY: values of this map stay where they are while a program runs, and only CPUs that do
        // as this one write to these fields: the sums by atomic additions, the time in one store.
        unsafe {
            add(&raw mut (*top_source).packets, packets);
            add(&raw mut (*top_source).bytes, bytes);
            (*top_source).last = last;
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

/// Puts what was [noted](note) into the rings, if an event is due, now that what became of the packet is
/// known.
#[inline(never)]
pub fn tell(reason: u32) {
    // SAFETY: nothing that is called from here asks for them too.
    let (Some(event), Some(reports)) = (unsafe { (draft(), reports()) }) else {
        return;
    };
    if reports.event == 0 {
        return;
    }
    event.reason = reason;
    // SAFETY: the helper takes no pointers.
    event.time = unsafe { bpf_ktime_get_ns() };
    if EVENTS.output(&*event, 0).is_ok() {
        reports.told[EVENTS_RING] += 1;
    }
    if has(flags::LOG) && LOG.output(&*event, 0).is_ok() {
        reports.told[LOG_RING] += 1;
    }
}
