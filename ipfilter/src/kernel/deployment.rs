//! A plan in the kernel and at interfaces: how one takes over from the one before, and how it
//! follows interfaces that come and go.

use std::{os::fd::OwnedFd, sync::Arc};

use log::warn;

use super::{
    attachment::Attachment,
    error::Error,
    filter::{Attached, Filter},
    interface::Interface,
    netlink,
    object::Object,
    pins::{Pinned, Pins},
    programs::Programs,
    shared::{self, Shared},
    slots::Slots,
    sys,
    tables::TableSizes,
};
use crate::{config::Mode, plan::Plan};

/// A plan in the kernel, and the links that put it on interfaces, held by the process that deployed
/// it: the filter stays while either the process or the pins last, and without both only where it
/// is held by the interface itself.
///
/// Dropped, it leaves the filter as it is pinned.
#[derive(Debug)]
pub struct Deployment {
    pub(super) pins: Pins,
    pub(super) programs: Programs,
    /// Where it stands; by the same position, what callers are told of it.
    pub(super) attachments: Vec<Attachment>,
    pub(super) attached: Vec<Attached>,
    /// Interfaces that were moved to another network namespace, with the filter on them.
    away: Vec<(Attached, Attachment)>,
    tables: TableSizes,
    slots: Slots,
    /// What it hands on to the next one.
    _maps: Vec<Arc<Pinned>>,
}

/// What following the interfaces came to.
#[derive(Debug, Default)]
pub struct Followed {
    /// Where the filter stands now, and did not before.
    pub attached: Vec<Attached>,
    /// Where it stood, and does not any more: the interface is gone, or no longer wanted.
    pub left: Vec<Interface>,
    /// What went wrong, an error for each interface.
    pub failed: Vec<Error>,
}

/// A plan in the kernel that is not in force yet: its tables are filled and frozen, its program
/// verified.
#[derive(Debug)]
pub struct Prepared {
    filter: Filter,
    programs: Programs,
    tables: TableSizes,
    slots: Slots,
    maps: Vec<Arc<Pinned>>,
}

impl Filter {
    /// Enforces `plan` at exactly these interfaces; there may be none yet.
    ///
    /// # Errors
    ///
    /// As for [`Self::prepare`] and [`Prepared::deploy`].
    pub fn deploy(
        &self,
        plan: &Plan,
        interfaces: &[Interface],
        mode: Mode,
    ) -> Result<Deployment, Error> {
        self.prepare(plan, mode)?.deploy(interfaces)
    }

    /// Loads `plan`: fills and freezes its tables, and has the program that `mode` prefers verified.
    /// Nothing is in force by that.
    ///
    /// # Errors
    ///
    /// When the kernel does not take it.
    pub fn prepare(&self, plan: &Plan, mode: Mode) -> Result<Prepared, Error> {
        // What this process holds would otherwise not be found.
        self.pins.restore().failed.into_iter().try_for_each(Err)?;
        self.pins.create()?;
        let result = self.try_prepare(plan, mode);
        if result.is_err() {
            self.remove_if_unused()?;
        }
        result
    }

    fn try_prepare(&self, plan: &Plan, mode: Mode) -> Result<Prepared, Error> {
        let object = Object::load(plan, Some(&self.pins))?;
        let hold = |map: &Shared| {
            Ok(self
                .pins
                .hold(self.pins.shared(map), object.map_fd(map.map)?))
        };
        let maps = shared::ALL
            .into_iter()
            .map(hold)
            .collect::<Result<_, _>>()?;
        let slots = Slots::new(
            object.share(&shared::INTERFACES)?,
            object.share(&shared::COUNTERS)?,
        );
        let tables = object.sizes();
        Ok(Prepared {
            filter: self.clone(),
            programs: Programs::load(object, mode)?,
            tables,
            slots,
            maps,
        })
    }

    /// Leaves no pins behind where nothing is in force.
    fn remove_if_unused(&self) -> Result<(), Error> {
        let unused = !self.pins.are_held() && self.standing().is_ok_and(|found| found.is_empty());
        if unused { self.pins.remove() } else { Ok(()) }
    }

    fn change(
        &self,
        programs: &mut Programs,
        interfaces: &[Interface],
        change: &mut Change,
    ) -> Result<(), Error> {
        let (staying, leaving) = self.taken_over(programs, interfaces)?;
        for place in staying {
            let index = place.index;
            match change.replace(place, programs) {
                Err(error) if is_there(index) => return Err(error),
                _ => {}
            }
        }
        for interface in interfaces {
            if change.stands_at(interface) {
                continue;
            }
            match programs.attach(&self.pins, interface) {
                Ok(attached) => change.attached.push(attached),
                Err(error) if is_there(interface.index) => return Err(error),
                // It has gone since it was listed, and needs no filter any more.
                Err(_) => {}
            }
        }
        change.leaving = leaving;
        Ok(())
    }

    /// Where the instance stands and is to stay, one place at each interface, and where it is not.
    fn taken_over(
        &self,
        programs: &mut Programs,
        interfaces: &[Interface],
    ) -> Result<(Vec<Attachment>, Vec<Attachment>), Error> {
        let links = netlink::links()?;
        let (mut staying, mut leaving) = (Vec::<Attachment>::new(), Vec::new());
        let mut attachments = Attachment::all(&self.pins)?;
        attachments.sort_by_key(|place| programs.rank(place.hook));
        for place in attachments {
            let wanted = interfaces.iter().any(|other| other.index == place.index)
                && programs.of(place.hook).is_ok()
                && !staying.iter().any(|other| other.index == place.index)
                && place.link_among(&links)?.is_some();
            if wanted { &mut staying } else { &mut leaving }.push(place);
        }
        Ok((staying, leaving))
    }
}

/// Whether the interface is in another network namespace by now.
fn is_away(place: &Attachment, links: &[netlink::Link]) -> bool {
    let is_here = links.iter().any(|link| link.index == place.index);
    !is_here && matches!(place.program(), Ok(Some(_)))
}

/// Whether an interface with this number is there; it is, if that can't be told.
fn is_there(index: u32) -> bool {
    netlink::links().map_or(true, |links| links.iter().any(|link| link.index == index))
}

impl Prepared {
    /// Enforces the plan at exactly these interfaces; there may be none yet.
    ///
    /// Where the instance is attached already, whoever deployed it, its program is replaced in place,
    /// so that no packet goes unfiltered; then it is attached to the other interfaces, and last
    /// detached from those no longer wanted. A deployment that this process held before is of no more
    /// use then: drop it.
    ///
    /// # Errors
    ///
    /// When one interface fails, all are put back to what they had. One that is removed meanwhile is
    /// no failure.
    pub fn deploy(mut self, interfaces: &[Interface]) -> Result<Deployment, Error> {
        let filter = self.filter.clone();
        // What is refused must not have taken a slot.
        let assigned = netlink::links().and_then(|links| self.slots.assign(interfaces, &links));
        let mut change = Change::default();
        let changed =
            assigned.and_then(|()| filter.change(&mut self.programs, interfaces, &mut change));
        if let Err(error) = changed {
            let error = change.undo(error);
            drop(self);
            filter.remove_if_unused()?;
            return Err(error);
        }
        // The plan is in force. What is left over must not undo it: a place that is cleared can't be put
        // back, and it would be open.
        let leftovers = change
            .leaving
            .drain(..)
            .filter_map(|place| place.clear().err());
        for error in leftovers.chain(filter.pins.remove_other_versions().err()) {
            warn!("what is no longer needed is left behind: {error}");
        }
        let (attached, attachments) = change.done(interfaces).into_iter().unzip();
        Ok(Deployment {
            pins: filter.pins,
            programs: self.programs,
            attached,
            attachments,
            away: Vec::new(),
            tables: self.tables,
            slots: self.slots,
            _maps: self.maps,
        })
    }
}

impl Deployment {
    /// Where it stands.
    #[must_use]
    pub fn attached(&self) -> &[Attached] {
        &self.attached
    }

    /// How large its tables of sources are.
    #[must_use]
    pub fn tables(&self) -> TableSizes {
        self.tables
    }

    /// Puts it on exactly these interfaces: attaches where it does not stand yet, with programs that
    /// are loaded already, and lets go of those that are gone or no longer wanted. One interface that
    /// refuses does not keep the others from it.
    pub fn follow(&mut self, interfaces: &[Interface]) -> Followed {
        let mut followed = Followed::default();
        let links = match netlink::links() {
            Ok(links) => links,
            Err(error) => {
                followed.failed.push(error);
                return followed;
            }
        };
        followed
            .failed
            .extend(self.slots.assign(interfaces, &links).err());
        let before: Vec<_> = self
            .attached
            .drain(..)
            .zip(self.attachments.drain(..))
            .chain(self.away.drain(..))
            .collect();
        for (mut attached, place) in before {
            let wanted = interfaces.iter().find(|other| other.index == place.index);
            let stands = place.link_among(&links).map(|link| link.is_some());
            match (wanted, stands) {
                (Some(interface), Ok(true)) => attached.interface.clone_from(interface),
                // What can't be looked at is left as it is.
                (Some(_), Err(error)) => followed.failed.push(error),
                (Some(_), Ok(false)) => {
                    followed.failed.extend(place.clear().err());
                    continue;
                }
                // It takes its filter with it, and may come back.
                (None, _) if is_away(&place, &links) => {
                    self.away.push((attached, place));
                    continue;
                }
                (None, _) => {
                    followed.failed.extend(place.clear().err());
                    followed.left.push(attached.interface);
                    continue;
                }
            }
            self.attached.push(attached);
            self.attachments.push(place);
        }
        for interface in interfaces {
            if self
                .attachments
                .iter()
                .any(|place| place.index == interface.index)
            {
                continue;
            }
            match self.programs.attach(&self.pins, interface) {
                Ok((attached, place)) => {
                    self.attached.push(attached.clone());
                    self.attachments.push(place);
                    followed.attached.push(attached);
                }
                Err(error) => followed.failed.push(error),
            }
        }
        followed
    }
}

/// What a deployment has changed so far.
#[derive(Default)]
struct Change {
    /// Places that stay, each with the program that was there before.
    replaced: Vec<(Attachment, OwnedFd)>,
    attached: Vec<(Attached, Attachment)>,
    /// Places that are no longer wanted.
    leaving: Vec<Attachment>,
}

impl Change {
    fn replace(&mut self, place: Attachment, programs: &mut Programs) -> Result<(), Error> {
        let before = place.program()?.ok_or_else(|| {
            let what = "the filter was taken off while it was being replaced";
            Error::failed(what, "try again")
        })?;
        let before = sys::program_by_id(before)
            .map_err(|error| Error::io("can't open the program in force", error))?;
        place.replace(programs.of(place.hook)?)?;
        self.replaced.push((place, before));
        Ok(())
    }

    fn stands_at(&self, interface: &Interface) -> bool {
        let mut replaced = self.replaced.iter();
        replaced.any(|(place, _)| place.index == interface.index)
    }

    /// Puts everything back, and says so if that fails too.
    fn undo(self, error: Error) -> Error {
        let replaced = self.replaced.iter();
        let attached = self.attached.iter();
        let failures: Vec<String> = replaced
            .filter_map(|(place, before)| place.replace(before).err())
            .chain(attached.filter_map(|(_, place)| place.clear().err()))
            .map(|failure| failure.to_string())
            .collect();
        if failures.is_empty() {
            return error;
        }
        Error::failed(
            format!("{error}; putting the old plan back failed too"),
            failures.join("; "),
        )
    }

    /// Every place, in the order of the interfaces.
    fn done(self, interfaces: &[Interface]) -> Vec<(Attached, Attachment)> {
        let taken_over = self.replaced.into_iter().filter_map(|(place, _)| {
            let interface = interfaces.iter().find(|other| other.index == place.index)?;
            let attached = Attached {
                interface: interface.clone(),
                hook: place.hook,
                passed_over: Vec::new(),
            };
            Some((attached, place))
        });
        let mut all: Vec<_> = taken_over.chain(self.attached).collect();
        let position = |index| interfaces.iter().position(|other| other.index == index);
        all.sort_by_key(|(_, place)| position(place.index));
        all
    }
}
