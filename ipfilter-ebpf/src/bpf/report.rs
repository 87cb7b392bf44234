//! Reports of packets that do not get through: events, and top sources.
//!
//! Both are rate-limited, and packets over the limit cost next to nothing: the clock is the kernel's tick
//! counter, which the verifier turns into a load, and excess packets are only counted down. Neither ever
//! changes a verdict. The remaining work is in functions of its own, as answers are, for the same reasons.

use core::arch::asm;

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::{bpf_jiffies64, bpf_ktime_get_ns},
};
use ipfilter_ebpf::{
    abi::{
        AddressKey, EVENTS_RING, Event, Gate, LOG_RING, NO_API, Reports, TOP_SOURCES_RATE,
        TopSource, flags, gap,
    },
    wire::{
        Frame as _,
        field::{ipv4, ipv6},
    },
};

use super::{
    context::{Packet, Scratch},
    maps::{EVENTS, LOG, TOP_SOURCES, config, draft, has, reports, subject},
    record::Counters,
};

/// Whether to skip this packet; if not, ask whether a report [is due](is_due).
#[inline(always)]
pub fn is_passed_over(counters: Counters) -> bool {
    if config().events == 0 {
        return true;
    }
    // SAFETY: it is this CPU's own, and there is no other reference to it.
    let gate = unsafe { &mut *counters.gate() };
    // SAFETY: the helper takes no pointers.
    if gate.skip == 0 || gate.until <= unsafe { bpf_jiffies64() } {
        return false;
    }
    gate.skip -= 1;
    true
}

/// Whether a report of another packet is due: then [`note`] it, and [`report`] what became of it.
#[inline(always)]
pub fn is_due<P: Packet>(packet: P, counters: Counters) -> bool {
    if is_passed_over(counters) || packet.interface() == config().probe_ifindex {
        return false;
    }
    // SAFETY: nothing that is called from here asks for them too.
    let Some(reports) = (unsafe { reports() }) else {
        return false;
    };
    // SAFETY: as above; the helper takes no pointers.
    unsafe { choose(reports, &mut *counters.gate(), bpf_jiffies64()) };
    true
}

/// Begins another second if the present one is over.
#[inline(always)]
pub fn begin_second(reports: &mut Reports, now: u64) {
    if now >= reports.over {
        reports.over = now + u64::from(config().jiffies_per_second);
        reports.events_left = config().events;
        reports.top_sources_left = TOP_SOURCES_RATE;
        reports.callers_left = config().callers;
    }
}

/// Chooses what to report of a packet, and how many of those after it to pass over.
#[inline(always)]
fn choose(reports: &mut Reports, gate: &mut Gate, now: u64) {
    begin_second(reports, now);
    if gate.until != reports.over {
        // What would have been passed over is not.
        reports.seen -= u64::from(gate.skip);
        *gate = Gate {
            until: reports.over,
            skip: 0,
            gap: 0,
        };
    }
    reports.seen += 1;
    reports.weight = gate.gap + 1;
    reports.event = 0;
    if reports.events_left > 0 {
        reports.events_left -= 1;
        reports.event = 1;
    }
    if reports.top_sources_left > 0 {
        reports.top_sources_left -= 1;
    } else if reports.events_left == 0 {
        gate.gap = gap(reports.seen);
        gate.skip = gate.gap;
        reports.seen += u64::from(gate.gap);
    }
}

/// Records the subject's addresses and ports while they are unchanged, and counts it under its source.
#[inline(never)]
pub fn note<P: Packet>(packet: P) {
    let packet = packet.apart();
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

/// Adds the packets of `bytes` bytes that this one represents to its source.
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
pub unsafe fn add(sum: *mut u64, by: u64) {
    // SAFETY: the caller's word.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) sum, in(reg) by, options(nostack)) };
}

/// Writes what was [noted](note) to the rings, if an event is due, now that the verdict is final.
#[inline(never)]
pub fn report(reason: u32) {
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
        reports.reported[EVENTS_RING] += 1;
    }
    if has(flags::LOG) && LOG.output(&*event, 0).is_ok() {
        reports.reported[LOG_RING] += 1;
    }
}
