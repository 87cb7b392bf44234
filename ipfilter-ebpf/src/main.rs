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
        abi::{Reason, deny, flags},
        verdict::{By, Denied, Verdict},
        wire::{Frame as _, parse},
    };

    use crate::bpf::{
        act::answer,
        context::{Frags, Packet},
        maps::{self, Deployed},
        record::{Action, record},
        report,
    };

    /// As many bytes as the headers of a packet take, also with several extension headers.
    const HEADERS: u32 = 512;

    #[xdp]
    #[inline(always)]
    pub fn ipfilter_xdp(ctx: XdpContext) -> u32 {
        run_xdp(&ctx)
    }

    #[xdp(frags)]
    #[inline(always)]
    pub fn ipfilter_frags(ctx: XdpContext) -> u32 {
        run_xdp(&Frags(ctx))
    }

    #[classifier]
    #[inline(always)]
    pub fn ipfilter_tc(ctx: TcContext) -> i32 {
        match filter(&ctx) {
            // On to the programs and filters that others have put there.
            Action::Pass => TC_ACT_UNSPEC,
            Action::Drop => TC_ACT_SHOT,
            Action::Transmit => {
                // SAFETY: the helper takes no pointers.
                unsafe { bpf_redirect(ctx.interface(), 0) as i32 }
            }
        }
    }

    #[inline(always)]
    fn run_xdp<P: Packet>(packet: &P) -> u32 {
        match filter(packet) {
            Action::Pass => xdp_action::XDP_PASS,
            Action::Drop => xdp_action::XDP_DROP,
            Action::Transmit => xdp_action::XDP_TX,
        }
    }

    #[inline(always)]
    fn filter<P: Packet>(packet: &P) -> Action {
        let length = packet.len();
        let bytes = u64::from(length);
        let mut shown = false;
        loop {
            match parse(&packet.buffer(), By(&Deployed(bytes))) {
                Verdict::Pass(reason) | Verdict::Drop(reason, _)
                    if !shown && pull_headers(packet, length, reason) =>
                {
                    shown = true;
                }
                Verdict::Pass(reason) => return record(packet, None, reason, bytes, Action::Pass),
                Verdict::Drop(reason, origin) => {
                    report::dropped(packet, origin, reason);
                    debug!(packet, "dropped {} bytes: reason {}", bytes, reason as u32);
                    return record(packet, None, reason, bytes, Action::Drop);
                }
                Verdict::Allow(api) => {
                    return record(packet, Some(api), Reason::Allowed, bytes, Action::Pass);
                }
                Verdict::Deny(denied) => return deny(packet, &denied, length),
            }
        }
    }

    #[inline(always)]
    fn deny<P: Packet>(packet: &P, denied: &Denied, length: u32) -> Action {
        let bytes = u64::from(length);
        let due = report::is_due(packet);
        let action = maps::deny(denied.api);
        if due || action != deny::DROP {
            report::denied(denied, length);
        }
        if due {
            report::note(packet);
        }
        // The flags are known at load, so that a deployment that answers nobody is verified without
        // the code that answers.
        let reason = match action {
            deny::REJECT if maps::has(flags::REJECT) => answer(packet, denied, false),
            deny::RESPOND if maps::has(flags::RESPOND) => answer(packet, denied, true),
            _ => Reason::Denied,
        };
        if due {
            report::tell(reason as u32);
        }
        debug!(
            packet,
            "denied API {}: {} bytes, reason {}", denied.api, bytes, reason as u32
        );
        let action = if reason.is_answer() {
            Action::Transmit
        } else {
            Action::Drop
        };
        record(packet, Some(denied.api), reason, bytes, action)
    }

    /// Brings the headers into sight, if that is what a packet that was judged so is in want of.
    /// Then it must be judged again.
    #[inline(always)]
    fn pull_headers<P: Packet>(packet: &P, length: u32, reason: Reason) -> bool {
        P::HIDES_HEADERS
            && reason.needs_pull()
            && (packet.buffer().len() as u32) < length.min(HEADERS)
            && packet.show(length, HEADERS).is_some()
    }

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        loop {}
    }

    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
}
