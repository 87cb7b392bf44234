//! The BPF programs of the benchmark: not part of the product, whose object does not have them.
//!
//! A test run hands a program the same packet again and again. So a program here gives the packet
//! another source each time, and then calls the program that is judged, which is the deployed one as
//! it is, by a tail call. What that costs by itself is measured with [`programs::bench_drop`] in the
//! judged program's place.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]
// As in `main.rs`: for `bpf/context.rs`.
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![cfg_attr(
    target_arch = "bpf",
    expect(
        unsafe_code,
        reason = "packet pointers, a state of its own and program sections"
    )
)]

#[cfg(not(target_arch = "bpf"))]
fn main() {
    // The programs run in the kernel.
}

#[cfg(target_arch = "bpf")]
#[path = "bpf/context.rs"]
#[allow(dead_code, reason = "the benchmark only reads packets")]
mod context;

#[cfg(target_arch = "bpf")]
mod programs {
    use core::arch::asm;

    use aya_ebpf::{
        bindings::{BPF_F_MMAPABLE, xdp_action},
        btf_maps::{Array, PerCpuArray, ProgramArray},
        helpers::bpf_redirect,
        macros::{btf_map, xdp},
        programs::XdpContext,
    };
    use ipfilter_ebpf::{
        reply::FrameMut as _,
        wire::{
            Content, Frame as _, Judge, Packet, parse,
            plain::{self, Head},
        },
    };

    use crate::context::{Buffer, Packet as _, Scratch, Xdp};

    /// One store at a constant place of a packet that is known to be so long.
    macro_rules! store {
        ($size:literal, $base:expr, $at:literal, $value:expr) => {
            // SAFETY: the callers have found so many bytes there, which the kernel's verifier checks again.
            unsafe {
                asm!(
                    concat!("*(", $size, " *)({0} + ", $at, ") = {1}"),
                    in(reg) $base,
                    in(reg) u64::from($value),
                    options(nostack, preserves_flags)
                )
            }
        };
    }

    /// The program under test.
    #[btf_map]
    static JUDGED: ProgramArray<1> = ProgramArray::new();

    /// Sources to go through, each two words in host byte order; an IPv4 address is the first one's low
    /// half. Filled through a memory map.
    #[btf_map]
    static LIST: Array<[u64; 2], 1, { BPF_F_MMAPABLE as usize }> = Array::new();

    /// What `bench_read` reads: zeros.
    #[btf_map]
    static WORDS: Array<u64, 1, { BPF_F_MMAPABLE as usize }> = Array::new();

    /// 32 less the base-2 logarithm of the length of [`WORDS`].
    #[unsafe(no_mangle)]
    static SHIFT: u32 = 0;

    /// 4 or 6.
    #[unsafe(no_mangle)]
    static FAMILY: u32 = 4;

    /// How many sources of [`LIST`] to go through, less one; that is a power of two. If zero, sources are
    /// random: of all IPv4, of 2000::/3.
    #[unsafe(no_mangle)]
    static LAST: u32 = 0;

    /// Where `bench_send` sends to.
    #[unsafe(no_mangle)]
    static INTERFACE: u32 = 0;

    /// The port that `bench_parse` looks for.
    #[unsafe(no_mangle)]
    static PORT: u32 = 0;

    /// What `bench_lean` reads: zeros.
    #[unsafe(no_mangle)]
    #[unsafe(link_section = ".data.lean_ports")]
    static LEAN_PORTS: [u8; 2 << 16] = [0; 2 << 16];
    #[unsafe(no_mangle)]
    #[unsafe(link_section = ".data.lean_roots")]
    static LEAN_ROOTS: [u64; 64] = [0; 64];

    /// What `bench_lean` counts: packets and bytes.
    #[btf_map]
    static LEAN_COUNTER: PerCpuArray<[u64; 2], 1> = PerCpuArray::new();

    /// Xorshift (Marsaglia, "Xorshift RNGs", 2003), or the place in [`LIST`].
    #[unsafe(no_mangle)]
    static mut STATE: u64 = 0x9e37_79b9_7f4a_7c15;

    macro_rules! constant {
        ($name:ident) => {
            // SAFETY: a static that nobody writes once the program is loaded.
            unsafe { core::ptr::read_volatile(&raw const $name) }
        };
    }

    /// The unit: what any XDP program costs.
    #[xdp]
    pub fn bench_drop(_: XdpContext) -> u32 {
        xdp_action::XDP_DROP
    }

    /// The parser, and a port.
    #[xdp]
    pub fn bench_parse(ctx: XdpContext) -> u32 {
        parse(&Xdp(ctx.ctx).buffer(), ToPort)
    }

    /// The least that any table of a size costs: one word of it, at a place that the source gives.
    #[xdp]
    pub fn bench_read(ctx: XdpContext) -> u32 {
        let source: Option<[u16; 2]> = Scratch(Xdp(ctx.ctx).buffer()).read(26);
        let Some([a, b]) = source else {
            return xdp_action::XDP_PASS;
        };
        let mixed = (u32::from(a) << 16 | u32::from(b)).wrapping_mul(0x9e37_79b1);
        match WORDS.get(mixed >> constant!(SHIFT)) {
            Some(0) => xdp_action::XDP_DROP,
            _ => xdp_action::XDP_PASS,
        }
    }

    /// What a lean filter costs that knows no policy: the headers, an entry by port, a root by source, and a
    /// counter.
    #[xdp]
    pub fn bench_lean(ctx: XdpContext) -> u32 {
        lean(Xdp(ctx.ctx).buffer()).unwrap_or(xdp_action::XDP_PASS)
    }

    #[inline(always)]
    fn lean(head: Buffer) -> Option<u32> {
        let (place, source) = match plain::kind(head)? {
            plain::Kind::V4 => (plain::ipv4(head)?, u64::from_be(plain::source_v4(head))),
            plain::Kind::V6 => {
                let [high, _] = plain::source_v6(head);
                (plain::ipv6(head)?, u64::from_be(high))
            }
        };
        // SAFETY: places are below 2^17, and six bits are left of the source.
        let (entry, root) = unsafe {
            let ports = (&raw const LEAN_PORTS).cast::<u8>().add(place as usize);
            let roots = (&raw const LEAN_ROOTS).cast::<u64>();
            (
                ports.read_volatile(),
                roots.add((source >> 58) as usize).read_volatile(),
            )
        };
        if entry != 0 || root != 0 {
            return None;
        }
        let counter = LEAN_COUNTER.get_ptr_mut(0)?;
        // SAFETY: the pointer is to this CPU's own value.
        unsafe {
            (*counter)[0] += 1;
            (*counter)[1] += head.size();
        }
        Some(xdp_action::XDP_DROP)
    }

    struct ToPort;

    impl Judge for ToPort {
        type Verdict = u32;

        #[inline(always)]
        fn judge(self, packet: Packet) -> u32 {
            match packet {
                Packet::Ip(datagram) => match datagram.content {
                    Content::Segment(segment) if u32::from(segment.port) == constant!(PORT) => {
                        xdp_action::XDP_DROP
                    }
                    _ => xdp_action::XDP_PASS,
                },
                _ => xdp_action::XDP_PASS,
            }
        }
    }

    /// Another source, then the judged program.
    #[xdp]
    pub fn bench_judge(ctx: XdpContext) -> u32 {
        if change(&ctx).is_some() {
            // SAFETY: nothing here needs to be dropped.
            unsafe { JUDGED.tail_call(&ctx, 0) };
        }
        xdp_action::XDP_ABORTED
    }

    /// Another source, then off to an interface.
    #[xdp]
    pub fn bench_send(ctx: XdpContext) -> u32 {
        if change(&ctx).and_then(|()| checksum(&ctx)).is_none() {
            return xdp_action::XDP_ABORTED;
        }
        let interface = constant!(INTERFACE);
        // SAFETY: the helper takes no pointers.
        unsafe { bpf_redirect(interface, 0) as u32 }
    }

    /// Gives the packet its next source.
    #[inline(always)]
    fn change(ctx: &XdpContext) -> Option<()> {
        let (last, v4) = (constant!(LAST), constant!(FAMILY) == 4);
        // SAFETY: the benchmark runs a program on one CPU at a time.
        let state = unsafe { &mut *(&raw mut STATE) };
        let [high, low] = if last == 0 {
            let first = next(*state);
            *state = if v4 { first } else { next(first) };
            [first & !(7 << 61) | 1 << 61, *state]
        } else {
            *state += 1;
            *LIST.get(*state as u32 & last)?
        };
        let data = ctx.data();
        if data + 38 > ctx.data_end() {
            return None;
        }
        // In stores as wide as the judged program's loads: a load of what several stores wrote waits for all of
        // them, which no packet from elsewhere makes it do.
        if v4 {
            store!("u32", data, 26, (high as u32).to_be());
        } else {
            store!("u64", data, 22, high.to_be());
            store!("u64", data, 30, low.to_be());
        }
        Some(())
    }

    #[inline(always)]
    fn next(mut state: u64) -> u64 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^ state << 17
    }

    /// The IPv4 header's (RFC 791), without which the host would drop the packet before any firewall.
    #[inline(always)]
    fn checksum(ctx: &XdpContext) -> Option<()> {
        if constant!(FAMILY) != 4 {
            return Some(());
        }
        let mut frame = Scratch(Xdp(ctx.ctx).buffer());
        let [a, b, c, d, e, _, g, h, i, j]: [u16; 10] = frame.read(14)?;
        let sum: u32 = [a, b, c, d, e, g, h, i, j].into_iter().map(u32::from).sum();
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        frame.write(24, [!(sum as u16)])
    }

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        loop {}
    }

    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
}
