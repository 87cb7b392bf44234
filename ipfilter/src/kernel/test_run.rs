//! Running a frame through a program without a network.

use std::os::fd::AsFd;

use ipfilter_ebpf::abi::names;

use super::{error::Error, sys};

/// What a program decides to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Hand it to the host.
    Pass,
    /// Discard it.
    Drop,
    /// Send what the program has made of it out of the interface it came in by.
    Transmit,
    /// None of those: the program failed.
    Aborted,
}

/// The kinds of program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// XDP, one buffer.
    Xdp,
    /// XDP, several buffers.
    XdpFrags,
    /// Traffic control.
    Tc,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Xdp, Self::XdpFrags, Self::Tc];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Xdp => names::XDP,
            Self::XdpFrags => names::XDP_FRAGS,
            Self::Tc => names::TC,
        }
    }

    /// XDP: `enum xdp_action`; traffic control: `TC_ACT_*`, of the kernel's headers.
    fn action(self, value: u32) -> Action {
        match (self, value) {
            (Self::Xdp | Self::XdpFrags, 1) | (Self::Tc, 2) => Action::Drop,
            (Self::Xdp | Self::XdpFrags, 2) | (Self::Tc, 0 | u32::MAX) => Action::Pass,
            (Self::Xdp | Self::XdpFrags, 3) | (Self::Tc, 7) => Action::Transmit,
            _ => Action::Aborted,
        }
    }
}

/// The room a program may need before the frame, and after it, for its answer.
const ROOM: usize = 4096;

/// What `program` does with an Ethernet frame, and what becomes of the frame.
pub(super) fn run(
    program: impl AsFd,
    kind: Kind,
    frame: &[u8],
) -> Result<(Action, Vec<u8>), Error> {
    let mut out = vec![0; frame.len() + ROOM];
    let ran = sys::test_run(program, frame, &mut out)
        .map_err(|error| Error::io("the kernel did not run the program on the packet", error))?;
    out.truncate(ran.size);
    Ok((kind.action(ran.value), out))
}
