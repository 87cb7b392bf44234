//! The BPF programs: one decision behind two kinds of hook.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]
// For an empty piece of assembly in `bpf/context.rs`; aya-ebpf needs the same.
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![cfg_attr(
    target_arch = "bpf",
    expect(
        unsafe_code,
        reason = "packet pointers, map values and program sections"
    )
)]

#[cfg(not(target_arch = "bpf"))]
fn main() {
    // The programs run in the kernel; on the host there is only the library.
}

#[cfg(target_arch = "bpf")]
mod bpf;

#[cfg(target_arch = "bpf")]
mod programs {
    use aya_ebpf::{
        bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action},
        helpers::bpf_redirect,
        macros::{classifier, xdp},
        programs::{TcContext, XdpContext},
    };
    use aya_log_ebpf::debug;
    use ipfilter_ebpf::{
        abi::{NO_API, Reason, deny, flags, port_entry},
        verdict::{By, Call, Verdict},
        wire::{self, Family, Frame as _, Judge, parse, plain},
    };

    use crate::bpf::{
        act::answer,
        callers,
        context::{Buffer, Frags, Packet, Scratch, Tc, Xdp, verifier_barrier},
        maps::{
            Deployed, Subject, callable_v4, callable_v6, config, decision, entry_of_port, has,
            subject,
        },
        record::{Action, Counters},
        report,
        share::spares,
    };

    /// As many bytes as the headers of a packet take, also with several extension headers.
    const HEADERS: u32 = 512;

    #[xdp]
    #[inline(always)]
    pub fn ipfilter_xdp(ctx: XdpContext) -> u32 {
        run_xdp(Xdp(ctx.ctx))
    }

    #[xdp(frags)]
    #[inline(always)]
    pub fn ipfilter_frags(ctx: XdpContext) -> u32 {
        run_xdp(Frags(Xdp(ctx.ctx)))
    }

    #[classifier]
    #[inline(always)]
    pub fn ipfilter_tc(ctx: TcContext) -> i32 {
        let packet = Tc(ctx.skb.skb);
        match filter(packet) {
            // Continue with other programs and filters at this hook.
            Action::Pass => TC_ACT_UNSPEC,
            Action::Drop => TC_ACT_SHOT,
            Action::Transmit => {
                // SAFETY: the helper takes no pointers.
                unsafe { bpf_redirect(packet.interface(), 0) as i32 }
            }
        }
    }

    #[inline(always)]
    fn run_xdp<P: Packet>(packet: P) -> u32 {
        match filter(packet) {
            Action::Pass => xdp_action::XDP_PASS,
            Action::Drop => xdp_action::XDP_DROP,
            Action::Transmit => xdp_action::XDP_TX,
        }
    }

    /// The common case in a straight line; everything else in functions of its own.
    #[inline(always)]
    fn filter<P: Packet>(packet: P) -> Action {
        if config().lean == 1 {
            if let Some(action) = lean(packet, packet.buffer()) {
                return action;
            }
            let number = tagged(packet);
            if number != UNDECIDED {
                return action(number);
            }
        }
        let found = Found(judge(packet));
        action(finish(packet, found.0))
    }

    /// No number of an [`Action`].
    const UNDECIDED: u32 = u32::MAX;

    /// Does what [`lean`] does with a packet that is plain but for a VLAN tag. Returns the number of an
    /// [`Action`], or [`UNDECIDED`].
    #[inline(never)]
    fn tagged<P: Packet>(packet: P) -> u32 {
        let packet = packet.apart();
        let head = plain::behind_tag(packet.buffer());
        let done = head.and_then(|head| lean(packet, head));
        done.map_or(UNDECIDED, |action| action as u32)
    }

    /// Judges and counts a plain packet, which begins at `head`, if there is nothing to report of it and it is
    /// not to be answered. Nothing was done if it is no such packet.
    #[inline(always)]
    fn lean<P: Packet>(packet: P, head: Buffer) -> Option<Action> {
        match plain::kind(head)? {
            plain::Kind::V4 => lean_judge::<P, false>(packet, head, plain::ipv4(head)?),
            plain::Kind::V6 => lean_judge::<P, true>(packet, head, plain::ipv6(head)?),
        }
    }

    /// The same once the family and the port's entry are known. A function of each family rather than one that is
    /// handed a closure, which the compiler may call: a return costs as much as thirty instructions where the
    /// kernel has to protect it.
    #[inline(always)]
    fn lean_judge<P: Packet, const V6: bool>(
        packet: P,
        head: Buffer,
        place: u64,
    ) -> Option<Action> {
        let bytes = packet.len_of(packet.buffer())?;
        let entry = entry_of_port(place);
        if entry == 0 {
            Counters::of(packet, NO_API)?.count(Reason::OtherPort, bytes);
            return Some(Action::Pass);
        }
        let api = entry as u32 & port_entry::API;
        let callable = if V6 {
            callable_v6(plain::source_v6(head))
        } else {
            callable_v4(plain::source_v4(head))
        };
        if callable >> api & 1 == 1 {
            let counters = Counters::of(packet, api)?;
            if callers::is_due(counters) {
                return None;
            }
            counters.count(Reason::Allowed, bytes);
            return Some(Action::Pass);
        }
        if entry as u32 & port_entry::ACTS != 0 {
            return None;
        }
        let counters = Counters::of(packet, api)?;
        if !report::is_passed_over(counters) {
            return None;
        }
        counters.count(Reason::Denied, bytes);
        Some(Action::Drop)
    }

    /// Judges any packet, and makes it this CPU's [`Subject`]. Returns what was [found](Found).
    #[inline(never)]
    fn judge<P: Packet>(packet: P) -> u32 {
        let packet = packet.apart();
        let length = packet.len();
        let unknown = u64::from(length);
        let mut pulled = false;
        let found = loop {
            let judge = Complete {
                tables: Deployed(unknown),
                bytes: length,
            };
            let found: (Found, Subject) = parse(&Scratch(packet.buffer()), judge);
            if pulled || !pull_headers(packet, length, found.0) {
                break found;
            }
            pulled = true;
        };
        // SAFETY: it is gone at the end of this function.
        if let Some(subject) = unsafe { subject() } {
            *subject = found.1;
        }
        // What follows is the same whatever it is: the verifier need not go through it again for each way to
        // find it.
        verifier_barrier(found.0.0.into(), unknown) as u32
    }

    /// What is to be done with a packet, and why, in one word, which goes from one function to the next in a
    /// register: a packet must not get the verdict on another, even where a program is preempted by another
    /// run of itself on the same CPU, as kernels for real time may do. From the low bits: one of [`decision`]
    /// (8), the reason's number (8), the API's index or [`NO_API`] (16).
    #[derive(Clone, Copy)]
    struct Found(u32);

    impl Found {
        #[inline(always)]
        const fn of(decision: u32, reason: u32, api: u32) -> Self {
            Self(decision | reason << 8 | api << 16)
        }

        #[inline(always)]
        const fn decision(self) -> u32 {
            self.0 & 0xff
        }

        /// Why, unless the API's deny action says so.
        #[inline(always)]
        const fn reason(self) -> u32 {
            self.0 >> 8 & 0xff
        }

        #[inline(always)]
        const fn api(self) -> u32 {
            self.0 >> 16
        }
    }

    /// Judges by the deployment's tables. Each of its answers has a value in every field: of a [`Verdict`] that
    /// is returned from many places the compiler may read what was never written, before it looks which one
    /// it is, and Linux 6.1 refuses to read a place on the stack that nothing was written to.
    struct Complete {
        tables: Deployed,
        /// The length of the frame.
        bytes: u32,
    }

    impl Judge for Complete {
        type Verdict = (Found, Subject);

        #[inline(always)]
        fn judge(self, packet: wire::Packet) -> (Found, Subject) {
            found(&By(&self.tables).judge(packet), self.bytes)
        }
    }

    /// What is known of a packet that was judged so.
    #[inline(always)]
    fn found(verdict: &Verdict, bytes: u32) -> (Found, Subject) {
        let other = Subject {
            api: NO_API,
            bytes,
            family: 0,
            network: 0,
            protocol: 0,
            transport: 0,
            fragment: 0,
        };
        match *verdict {
            Verdict::Pass(reason) => (Found::of(decision::PASS, reason as u32, NO_API), other),
            Verdict::Allow(call) => (
                Found::of(decision::PASS, Reason::Allowed as u32, call.api),
                called(&call, other),
            ),
            Verdict::Drop(reason, origin) => (
                Found::of(decision::DROP, reason as u32, NO_API),
                Subject {
                    family: origin.family.map_or(0, number),
                    network: origin.network as u32,
                    ..other
                },
            ),
            Verdict::Deny(call) => (Found::of(decision::DENY, 0, call.api), called(&call, other)),
        }
    }

    #[inline(always)]
    fn called(call: &Call, other: Subject) -> Subject {
        Subject {
            api: call.api,
            family: number(call.family),
            network: call.network as u32,
            protocol: call.protocol.number().into(),
            transport: call.transport as u32,
            fragment: call.fragment.into(),
            ..other
        }
    }

    #[inline(always)]
    fn number(family: Family) -> u32 {
        match family {
            Family::V4 => 4,
            Family::V6 => 6,
        }
    }

    /// Does what was found to be done with this CPU's [`Subject`], reports it if that is due, and counts it.
    /// Returns the number of an [`Action`].
    #[inline(never)]
    fn finish<P: Packet>(packet: P, found: u32) -> u32 {
        let (packet, found) = (packet.apart(), Found(found));
        // SAFETY: it is copied.
        let Some(subject) = (unsafe { subject() }).map(|subject| *subject) else {
            return Action::Drop as u32;
        };
        let Some(counters) = Counters::of(packet, found.api()) else {
            return Action::Drop as u32;
        };
        if found.reason() == Reason::Allowed as u32 && callers::is_due(counters) {
            callers::note(packet);
        }
        let due = found.decision() != decision::PASS && report::is_due(packet, counters);
        if due {
            report::note(packet);
        }
        // What is done does not depend on it: the verifier need not go through that twice.
        let due = verifier_barrier(due.into(), subject.bytes.into()) != 0;
        let (reason, action) = match found.decision() {
            decision::PASS => (found.reason(), Action::Pass),
            decision::DROP => (found.reason(), Action::Drop),
            _ => act(packet, &subject),
        };
        if due {
            report::report(reason);
        }
        if action != Action::Pass {
            debug!(
                &packet,
                "API {}: {} bytes, reason {}", subject.api, subject.bytes, reason
            );
        }
        counters.count_any(reason, subject.bytes.into());
        action as u32
    }

    /// The deny action of the API.
    #[inline(always)]
    fn act<P: Packet>(packet: P, subject: &Subject) -> (u32, Action) {
        // The flags are known at load, so that a deployment that answers nobody is verified without
        // the code that answers.
        if has(flags::SHARES) && spares(packet) == 1 {
            return (Reason::WouldDeny as u32, Action::Pass);
        }
        let reason = match crate::bpf::maps::deny(subject.api) {
            deny::REJECT if has(flags::REJECT) => answer(packet, subject, false),
            deny::RESPOND if has(flags::RESPOND) => answer(packet, subject, true),
            _ => Reason::Denied,
        };
        let action = if reason.is_answer() {
            Action::Transmit
        } else {
            Action::Drop
        };
        (reason as u32, action)
    }

    /// The action with this number.
    #[inline(always)]
    fn action(number: u32) -> Action {
        match number {
            0 => Action::Pass,
            1 => Action::Drop,
            _ => Action::Transmit,
        }
    }

    /// Pulls the headers into the linear buffer if the verdict needs them. The packet must then be judged
    /// again.
    #[inline(always)]
    fn pull_headers<P: Packet>(packet: P, length: u32, found: Found) -> bool {
        P::HIDES_HEADERS
            && found.decision() != decision::DENY
            && Reason::needs_pull(found.reason())
            && (packet.buffer().len() as u32) < length.min(HEADERS)
            && packet.pull(length, HEADERS).is_some()
    }

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        loop {}
    }

    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
}
