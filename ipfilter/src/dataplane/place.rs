//! A place at an interface where a program of an instance stands, and what holds it there.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use aya::programs::{ProgramInfo, SchedClassifier, TcAttachType};

use super::{
    error::Error,
    hook::Hook,
    netlink::Link,
    pins::{Pinned, Pins, strange, unpin},
    sys,
};

/// What the names of our programs begin with.
const PROGRAM_NAME: &str = "ipfilter";

/// A program at an interface.
#[derive(Debug)]
pub(super) struct Place {
    /// The number of the interface, in the network namespace that it is in.
    pub(super) index: u32,
    pub(super) hook: Hook,
    link: Arc<Pinned>,
}

impl Place {
    /// The places of the instance whose pins these are, in order. Pins of interfaces that are gone are removed.
    pub(super) fn all(pins: &Pins) -> Result<Vec<Self>, Error> {
        let mut places = Vec::new();
        for (link, hook) in pins.links()? {
            let looked = sys::link_info(&link.object).map_err(|error| look_failed(&link, error))?;
            if looked.ifindex == 0 {
                unpin(&link.path)?;
                continue;
            }
            let name = sys::program_by_id(looked.program)
                .and_then(sys::program_name)
                .map_err(|error| look_failed(&link, error))?;
            if !name.starts_with(PROGRAM_NAME) {
                return Err(strange(&link.path));
            }
            places.push(Self {
                index: looked.ifindex,
                hook,
                link,
            });
        }
        Ok(places)
    }

    /// Attaches `program` to the interface with number `index`, and pins what holds it there.
    /// Whatever else is attached there stays.
    pub(super) fn attach(
        pins: &Pins,
        hook: Hook,
        program: &OwnedFd,
        index: u32,
    ) -> Result<Self, AttachError> {
        let link = hook.link(program, index).map_err(AttachError::Hook)?;
        let link = pins.hold(pins.link(index, hook), link);
        link.pin().map_err(AttachError::Pin)?;
        Ok(Self { index, hook, link })
    }

    /// The id of the program that stands there; nothing if none does any more.
    pub(super) fn program(&self) -> Result<Option<u32>, Error> {
        let info =
            sys::link_info(&self.link.object).map_err(|error| look_failed(&self.link, error))?;
        Ok((info.ifindex == self.index).then_some(info.program))
    }

    /// The interface that it is at, if it is among those of this network namespace: others number
    /// theirs alike. Nothing too if no program stands there any more.
    pub(super) fn link_among<'a>(&self, links: &'a [Link]) -> Result<Option<&'a Link>, Error> {
        let link = links.iter().find(|link| link.index == self.index);
        let (Some(link), Some(program)) = (link, self.program()?) else {
            return Ok(None);
        };
        let there = match self.hook {
            Hook::Native | Hook::Generic => link.xdp.contains(&program),
            Hook::Tcx => tcx_programs(&link.name)?.contains(&program),
        };
        Ok(there.then_some(link))
    }

    /// Puts another program there, atomically: a packet meets the old one or the new one.
    pub(super) fn replace(&self, program: impl AsFd) -> Result<(), Error> {
        sys::link_update(&self.link.object, program).map_err(|error| {
            let what = format!(
                "can't replace the program behind `{}`",
                self.link.path.display()
            );
            Error::io(what, error)
        })
    }

    /// Takes the program off.
    pub(super) fn clear(&self) -> Result<(), Error> {
        let detached = sys::link_detach(&self.link.object);
        unpin(&self.link.path)?;
        detached.map_err(|error| {
            let what = format!(
                "can't take off what is behind `{}`",
                self.link.path.display()
            );
            Error::io(what, error)
        })
    }
}

/// Why a program could not be attached.
#[derive(Debug)]
pub(super) enum AttachError {
    /// The hook does not take it.
    Hook(io::Error),
    /// It could not be pinned.
    Pin(Error),
}

fn tcx_programs(interface: &str) -> Result<Vec<u32>, Error> {
    let (_, programs) = SchedClassifier::query_tcx(interface, TcAttachType::Ingress)
        .map_err(|error| Error::failed(format!("can't look at `{interface}`"), error))?;
    Ok(programs.iter().map(ProgramInfo::id).collect())
}

fn look_failed(link: &Pinned, error: io::Error) -> Error {
    Error::io(format!("can't look at `{}`", link.path.display()), error)
}
