//! The BPF programs: one decision behind two kinds of hook.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]
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
        bindings::{TC_ACT_OK, TC_ACT_SHOT, xdp_action},
        macros::{classifier, xdp},
        programs::{TcContext, XdpContext},
    };
    use ipfilter_ebpf::{
        abi::Reason,
        verdict::{By, Verdict},
        wire::{Frame as _, parse},
    };

    use crate::bpf::{
        context::Buffer,
        maps::Deployed,
        record::{Action, record},
    };

    #[xdp]
    pub fn ipfilter_xdp(ctx: XdpContext) -> u32 {
        run_xdp(&ctx)
    }

    #[xdp(frags)]
    pub fn ipfilter_frags(ctx: XdpContext) -> u32 {
        run_xdp(&ctx)
    }

    #[classifier]
    pub fn ipfilter_tc(ctx: TcContext) -> i32 {
        match filter(&Buffer::of_tc(&ctx), u64::from(ctx.len())) {
            Action::Pass => TC_ACT_OK,
            Action::Drop => TC_ACT_SHOT,
        }
    }

    #[inline(always)]
    fn run_xdp(ctx: &XdpContext) -> u32 {
        let buffer = Buffer::of_xdp(ctx);
        match filter(&buffer, buffer.len() as u64) {
            Action::Pass => xdp_action::XDP_PASS,
            Action::Drop => xdp_action::XDP_DROP,
        }
    }

    #[inline(always)]
    fn filter(buffer: &Buffer, bytes: u64) -> Action {
        match parse(buffer, By(&Deployed)) {
            Verdict::Pass(reason) => record(None, reason, bytes, Action::Pass),
            Verdict::Drop(reason) => record(None, reason, bytes, Action::Drop),
            Verdict::Allow(api) => record(Some(api), Reason::Allowed, bytes, Action::Pass),
            Verdict::Deny(api, _) => record(Some(api), Reason::Denied, bytes, Action::Drop),
        }
    }

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        loop {}
    }

    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
}
