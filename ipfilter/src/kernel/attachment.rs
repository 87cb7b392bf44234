//! A program that is attached to an interface, and the link that holds it there.

use std::{
    fmt, io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use aya::programs::{ProgramInfo, SchedClassifier, TcAttachType};

use super::{
    clsact,
    error::Error,
    hook::Hook,
    interface::Interface,
    netlink::Link,
    pin::{Pinned, strange, unpin},
    pins::Pins,
    sys,
};

/// The prefix of our programs' names.
const PROGRAM_NAME: &str = "ipfilter";

/// A program at an interface.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// The interface. In another network namespace its name can't be asked for, and is its number
    /// after a `#`.
    pub interface: Interface,
    /// Where at the interface.
    pub hook: Hook,
    /// The hooks tried before, and why they failed.
    pub passed_over: Vec<String>,
    /// What will not work as it should.
    pub warnings: Vec<String>,
    holder: Holder,
}

/// Where an attachment is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'a> {
    /// At this interface.
    Here(&'a Link),
    /// At an interface that is not among those listed: it is in another network namespace, or has come from
    /// one since.
    Away,
    /// It was detached, or its interface is gone.
    Nowhere,
}

/// What holds a program at an interface.
#[derive(Clone, Debug)]
enum Holder {
    Link(Arc<Pinned>),
    Clsact(clsact::Filter),
}

impl Attachment {
    /// Those of the instance whose pins these are, in order. Pins of interfaces that are gone are
    /// removed.
    pub(super) fn all(pins: &Pins) -> Result<Vec<Self>, Error> {
        let mut attachments = Vec::new();
        for (link, hook) in pins.links()? {
            let looked = sys::link_info(&link.object).map_err(|error| look_failed(&link, error))?;
            if looked.ifindex == 0 {
                unpin(&link.path)?;
                continue;
            }
            if !is_ours(looked.program).map_err(|error| look_failed(&link, error))? {
                return Err(strange(&link.path));
            }
            attachments.push(Self::found(looked.ifindex, hook, Holder::Link(link)));
        }
        let failed = |error| Error::io("can't look at the filters of traffic control", error);
        for filter in clsact::all(pins.instance().name()).map_err(failed)? {
            if is_ours(filter.program).map_err(failed)? {
                let index = filter.index;
                attachments.push(Self::found(index, Hook::Clsact, Holder::Clsact(filter)));
            }
        }
        Ok(attachments)
    }

    fn found(index: u32, hook: Hook, holder: Holder) -> Self {
        let interface = Interface {
            name: format!("#{index}"),
            index,
        };
        Self {
            interface,
            hook,
            passed_over: Vec::new(),
            warnings: Vec::new(),
            holder,
        }
    }

    /// Attaches `program` to an interface and pins the link. Programs of others stay attached.
    pub(super) fn attach(
        pins: &Pins,
        hook: Hook,
        program: &OwnedFd,
        interface: &Interface,
    ) -> Result<Self, AttachError> {
        let index = interface.index;
        let holder = if hook == Hook::Clsact {
            let filter = clsact::add(program, index, pins.instance().name());
            Holder::Clsact(filter.map_err(AttachError::Hook)?)
        } else {
            let link = hook.link(program, index).map_err(AttachError::Hook)?;
            let link = pins.hold(pins.link(index, hook), link);
            link.pin().map_err(AttachError::Pin)?;
            Holder::Link(link)
        };
        Ok(Self {
            interface: interface.clone(),
            ..Self::found(index, hook, holder)
        })
    }

    /// The id of the attached program, in whichever network namespace its interface is; none if it was
    /// detached.
    pub(super) fn program(&self) -> Result<Option<u32>, Error> {
        Ok(self.look()?.map(|(_, program)| program))
    }

    /// The number of the interface that it is at, which changes where that moves to another network namespace,
    /// and the id of the program.
    fn look(&self) -> Result<Option<(u32, u32)>, Error> {
        match &self.holder {
            Holder::Link(link) => {
                let info =
                    sys::link_info(&link.object).map_err(|error| look_failed(link, error))?;
                Ok((info.ifindex != 0).then_some((info.ifindex, info.program)))
            }
            Holder::Clsact(filter) => match filter.now() {
                Ok(now) => Ok(now.map(|now| (now.index, now.program))),
                Err(error) => Err(Error::io(
                    "can't look at the filters of traffic control",
                    error,
                )),
            },
        }
    }

    /// Where it is, given the interfaces of this network namespace; takes note of the interface's number. What
    /// follows from it must follow from this one look: by the next, the interface may have gone to another
    /// namespace and come back under another number.
    pub(super) fn locate<'a>(&mut self, links: &'a [Link]) -> Result<Place<'a>, Error> {
        let Some((index, program)) = self.look()? else {
            return Ok(Place::Nowhere);
        };
        self.interface.index = index;
        let Some(link) = links.iter().find(|link| link.index == index) else {
            return Ok(Place::Away);
        };
        let is_here = match self.hook {
            Hook::Native | Hook::Generic => link.xdp.contains(&program),
            Hook::Tcx => tcx_programs(&link.name)?.contains(&program),
            // Only this namespace was asked for its filters.
            Hook::Clsact => true,
        };
        // Others number their interfaces alike.
        Ok(if is_here {
            Place::Here(link)
        } else {
            Place::Away
        })
    }

    /// Pins it under the interface's number, if it is pinned under an earlier one, which another
    /// interface may get.
    pub(super) fn repin(&mut self, pins: &Pins) -> Result<(), Error> {
        let Holder::Link(link) = &self.holder else {
            return Ok(());
        };
        let path = pins.link(self.interface.index, self.hook);
        if link.path == path {
            return Ok(());
        }
        let object = link.object.try_clone();
        let object = object.map_err(|error| Error::io("can't hold a link", error))?;
        let renamed = pins.hold(path, object);
        renamed.pin()?;
        let before = link.path.clone();
        self.holder = Holder::Link(renamed);
        unpin(&before)
    }

    /// Replaces the program atomically: each packet sees the old or the new one.
    pub(super) fn replace(&self, program: impl AsFd) -> Result<(), Error> {
        let replaced = match &self.holder {
            Holder::Link(link) => sys::link_update(&link.object, program),
            Holder::Clsact(filter) => filter.replace(program),
        };
        replaced.map_err(|error| {
            let what = format!("can't replace the program of {self}");
            Error::io(what, error)
        })
    }

    /// Forgets an attachment that is [nowhere](Place::Nowhere).
    pub(super) fn forget(&self) -> Result<(), Error> {
        match &self.holder {
            Holder::Link(link) => unpin(&link.path),
            Holder::Clsact(_) => Ok(()),
        }
    }

    /// Detaches the program.
    pub(super) fn detach(&self) -> Result<(), Error> {
        let done = match &self.holder {
            Holder::Link(link) => {
                let detached = sys::link_detach(&link.object);
                unpin(&link.path)?;
                detached
            }
            Holder::Clsact(filter) => filter.remove(),
        };
        done.map_err(|error| Error::io(format!("can't detach {self}"), error))
    }
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.holder {
            Holder::Link(link) => write!(f, "the link `{}`", link.shown().display()),
            Holder::Clsact(filter) => write!(f, "the clsact filter of interface {}", filter.index),
        }
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

/// Whether the program with this id is an ipfilter's, of whichever version.
pub(super) fn is_ours(program: u32) -> io::Result<bool> {
    let name = sys::program_by_id(program).and_then(sys::program_name)?;
    Ok(name.starts_with(PROGRAM_NAME))
}

pub(super) fn tcx_programs(interface: &str) -> Result<Vec<u32>, Error> {
    let (_, programs) = SchedClassifier::query_tcx(interface, TcAttachType::Ingress)
        .map_err(|error| Error::failed(format!("can't look at `{interface}`"), error))?;
    Ok(programs.iter().map(ProgramInfo::id).collect())
}

fn look_failed(link: &Pinned, error: io::Error) -> Error {
    Error::io(format!("can't look at `{}`", link.shown().display()), error)
}
