//! Where at an interface a program can be attached.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    str::FromStr,
};

use aya_obj::generated::{
    XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE,
    bpf_attach_type::{BPF_TCX_INGRESS, BPF_XDP},
};
use ipfilter_ebpf::abi::names;

use super::{
    error::{Error, reason},
    interface::xdp_programs,
    netlink::{self, Link, LinkKind},
    sys,
    test_run::Kind,
};
use crate::config::Mode;

/// What to try for a mode, in order.
pub(super) fn hooks(mode: Mode) -> &'static [Hook] {
    match mode {
        Mode::Auto => &[Hook::Native, Hook::Tcx, Hook::Clsact, Hook::Generic],
        Mode::Native => &[Hook::Native],
        Mode::Generic => &[Hook::Generic],
        Mode::Tc => &[Hook::Tcx, Hook::Clsact],
        Mode::Clsact => &[Hook::Clsact],
    }
}

/// Where at an interface a filter is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// Native XDP.
    Native,
    /// Generic XDP.
    Generic,
    /// Traffic control by a tcx link.
    Tcx,
    /// Traffic control by a filter of the clsact queueing discipline.
    Clsact,
}

impl Hook {
    /// The name it has in pins and in what users read.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }

    /// The programs that can be attached there, the best first.
    pub(super) fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Native | Self::Generic => &[names::XDP_FRAGS, names::XDP],
            Self::Tcx | Self::Clsact => &[names::TC],
        }
    }

    /// The kind of program that is attached there.
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Native | Self::Generic => Kind::Xdp,
            Self::Tcx | Self::Clsact => Kind::Tc,
        }
    }

    /// Why answers that are sent from here are lost, if they are: what native XDP sends over a pair
    /// arrives only if the other end takes packets in by NAPI (`veth_xdp_xmit` of the kernel's
    /// `drivers/net/veth.c`). An XDP program there has it do so. GRO does too, but that can't be seen
    /// from here.
    ///
    /// # Errors
    ///
    /// When there was no memory or descriptor left to ask with, which says nothing about the peer.
    pub(super) fn loses_answers(
        self,
        link: &Link,
        links: &[Link],
    ) -> Result<Option<String>, Error> {
        let Some((index, namespace)) = link.below else {
            return Ok(None);
        };
        if self != Self::Native || link.kind != LinkKind::Veth {
            return Ok(None);
        }
        let peer = match namespace {
            None => links.iter().find(|link| link.index == index).cloned(),
            Some(namespace) => match netlink::link_in(namespace, index) {
                Err(error @ Error::Exhausted(_)) => return Err(error),
                // It is gone, or in a namespace that may not be asked.
                found => found.ok().flatten(),
            },
        };
        let takes_in = peer.is_some_and(|peer| !peer.xdp.is_empty());
        Ok((!takes_in).then(|| {
            format!(
                "answers would be lost: `{}` is one end of a veth pair whose other end has no XDP \
                 program, and so may not take them in",
                link.name
            )
        }))
    }

    /// Whether `other`, which comes later, is of no use either where the kernel gave this error.
    pub(super) fn rules_out(self, other: Self, error: &io::Error) -> bool {
        (self, other) == (Self::Tcx, Self::Clsact) && !has_no_tcx(error)
    }

    /// Links `program` to the interface with number `ifindex`. Whatever else is attached there
    /// stays: the kernel refuses a second XDP program, and queues tcx programs.
    pub(super) fn link(self, program: impl AsFd, ifindex: u32) -> io::Result<OwnedFd> {
        let (attach_type, flags) = match self {
            Self::Native => (BPF_XDP, XDP_FLAGS_DRV_MODE),
            Self::Generic => (BPF_XDP, XDP_FLAGS_SKB_MODE),
            Self::Tcx => (BPF_TCX_INGRESS, 0),
            Self::Clsact => return Err(io::ErrorKind::Unsupported.into()),
        };
        sys::link_create(program, ifindex, attach_type, flags)
    }

    /// Why the kernel refused to attach to the interface with number `ifindex`.
    pub(super) fn explain(self, error: &io::Error, ifindex: u32) -> String {
        match (self, error.raw_os_error()) {
            (Self::Native | Self::Generic, Some(libc::EBUSY | libc::EEXIST)) => {
                let other = xdp_programs(ifindex);
                let other = other.as_deref().unwrap_or("another XDP program");
                format!("{other} is attached there already, and is left alone")
            }
            (Self::Native, Some(libc::EOPNOTSUPP)) => "its driver has no native XDP".into(),
            (Self::Tcx, _) if has_no_tcx(error) => {
                "the kernel has no tcx links (they came with 6.6)".into()
            }
            (Self::Clsact, Some(libc::ENOENT)) => {
                "the kernel has no clsact, or no BPF classifier (modules `sch_ingress` and \
                 `cls_bpf`)"
                    .into()
            }
            _ => reason(error),
        }
    }
}

/// What a kernel says to an attach type that it does not know.
fn has_no_tcx(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EINVAL)
}

impl FromStr for Hook {
    type Err = ();

    /// The hooks of links, by their names in pins.
    fn from_str(name: &str) -> Result<Self, ()> {
        [Self::Native, Self::Generic, Self::Tcx]
            .into_iter()
            .find(|hook| hook.name() == name)
            .ok_or(())
    }
}
