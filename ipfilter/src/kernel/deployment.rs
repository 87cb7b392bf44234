//! A plan in the kernel and at its interfaces: replacing the deployment before it, and following interfaces
//! as they appear, disappear and are renamed.

use std::{
    mem::take,
    os::fd::OwnedFd,
    sync::Arc,
    time::{Instant, SystemTime},
};

use log::{debug, warn};

use super::{
    attachment::{Attachment, Place},
    error::Error,
    filter::Filter,
    interface::{Interface, Matched},
    netlink::{self, Link},
    object::Object,
    pin::Pinned,
    pins::Pins,
    programs::Programs,
    proof::{Proof, Questions},
    shared::{self, Shared},
    slots::Slots,
    sys,
};
use crate::{
    config::Mode,
    plan::{Deny, Plan, TableSizes},
};

/// A plan in the kernel and the links that attach it, held by the process that deployed it. The filter stays
/// attached as long as the process or the pins exist; without either, only where the interface itself holds
/// it (clsact).
///
/// Dropping it leaves the pinned filter in place.
#[derive(Debug)]
pub struct Deployment {
    pub(super) pins: Pins,
    pub(super) programs: Programs,
    pub(super) attachments: Vec<Attachment>,
    /// Interfaces that were moved to another network namespace, with the filter on them.
    away: Vec<Attachment>,
    proof: Proof,
    tables: TableSizes,
    slots: Slots,
    /// The shared maps, which the next deployment reuses.
    _maps: Vec<Arc<Pinned>>,
}

/// What changed when the interfaces were followed.
#[derive(Debug, Default)]
pub struct Followed {
    /// Where the filter was newly attached.
    pub attached: Vec<Attachment>,
    /// Where it is no longer attached, because the interface is gone or no longer wanted.
    pub left: Vec<Interface>,
    /// One error per interface that failed.
    pub failed: Vec<Error>,
    /// The numbers of interfaces that did not take it.
    refused: Vec<u32>,
}

/// A plan that is loaded and not in force yet: its tables are filled and frozen, its program is verified.
#[derive(Debug)]
pub struct Prepared {
    filter: Filter,
    programs: Programs,
    questions: Questions,
    tables: TableSizes,
    slots: Slots,
    maps: Vec<Arc<Pinned>>,
}

impl Filter {
    /// Enforces `plan` from `now` on at exactly the matched interfaces; there may be none yet.
    ///
    /// # Errors
    ///
    /// As for [`Self::prepare`] and [`Prepared::deploy`].
    pub fn deploy(
        &self,
        plan: &Plan,
        matched: &Matched,
        mode: Mode,
        now: SystemTime,
    ) -> Result<Deployment, Error> {
        self.prepare(plan, mode, now)?.deploy(matched)
    }

    /// Loads `plan`: fills and freezes its tables, and verifies the program that `mode` prefers. The plan is
    /// not in force yet.
    ///
    /// # Errors
    ///
    /// When the kernel refuses it.
    pub fn prepare(&self, plan: &Plan, mode: Mode, now: SystemTime) -> Result<Prepared, Error> {
        // Otherwise what this process holds would not be found.
        self.pins.restore().failed.into_iter().try_for_each(Err)?;
        self.pins.create()?;
        let result = self.try_prepare(plan, mode, now);
        if result.is_err() {
            self.remove_if_unused()?;
        }
        result
    }

    fn try_prepare(&self, plan: &Plan, mode: Mode, now: SystemTime) -> Result<Prepared, Error> {
        let created = now.duration_since(SystemTime::UNIX_EPOCH);
        let created = created.map_or(0, |since| since.as_secs());
        let object = Object::load(plan, Some(&self.pins), created)?;
        let maps = self.hold_maps(&object)?;
        let slots = Slots::new(
            object.share(&shared::INTERFACES)?,
            object.share(&shared::COUNTERS)?,
        );
        let tables = object.sizes();
        let answer = plan.apis.iter().any(|api| api.deny != Deny::Drop);
        Ok(Prepared {
            filter: self.clone(),
            programs: Programs::load(object, mode, answer)?,
            questions: Questions::of(plan),
            tables,
            slots,
            maps,
        })
    }

    /// Removes the pins if nothing is in force.
    fn remove_if_unused(&self) -> Result<(), Error> {
        let unused = !self.pins.are_held() && self.standing().is_ok_and(|found| found.is_empty());
        if unused { self.pins.remove() } else { Ok(()) }
    }

    /// The shared maps, which this process keeps open besides their pins.
    fn hold_maps(&self, object: &Object) -> Result<Vec<Arc<Pinned>>, Error> {
        let hold = |map: &Shared| {
            let held = object.map_fd(map.map)?;
            Ok(self.pins.hold(self.pins.shared(map), held))
        };
        shared::ALL.into_iter().map(hold).collect()
    }

    fn change(
        &self,
        programs: &mut Programs,
        matched: &Matched,
        change: &mut Change,
    ) -> Result<(), Error> {
        let found = self.taken_over(programs, matched)?;
        change.leaving = found.leaving;
        for attachment in found.staying {
            change.replaced.extend(replace(attachment, programs)?);
        }
        for attachment in found.away {
            change.away.extend(replace(attachment, programs)?);
        }
        for interface in &matched.interfaces {
            if change.is_attached_to(interface) {
                continue;
            }
            match programs.attach(&self.pins, interface, &matched.links) {
                Ok(attachment) => change.attached.push(attachment),
                Err(error) if is_there(interface.index) => return Err(error),
                // It disappeared after it was listed.
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Where the instance is attached, and what becomes of that.
    fn taken_over(&self, programs: &mut Programs, matched: &Matched) -> Result<TakenOver, Error> {
        let Matched {
            interfaces, links, ..
        } = matched;
        let mut found = TakenOver::default();
        let mut attachments = Attachment::all(&self.pins)?;
        attachments.sort_by_key(|attachment| programs.rank(attachment.hook));
        for mut attachment in attachments {
            let place = attachment.locate(links)?;
            let has_program = programs.has(attachment.hook)?;
            let index = attachment.interface.index;
            let wanted = interfaces.iter().find(|other| other.index == index);
            match (place, wanted) {
                (Place::Nowhere, _) => attachment.forget()?,
                (Place::Away, _) if has_program => found.away.push(attachment),
                (Place::Here(_), Some(interface)) if has_program => {
                    let lost = programs.loses_answers(attachment.hook, interface, links)?;
                    let mut staying = found.staying.iter();
                    let is_filtered = staying.any(|other| other.interface.index == index);
                    if is_filtered || lost.is_some() && programs.may_choose() {
                        found.leaving.push(attachment);
                        continue;
                    }
                    attachment.interface.clone_from(interface);
                    attachment.warnings.extend(lost);
                    found.staying.push(attachment);
                }
                _ => found.leaving.push(attachment),
            }
        }
        Ok(found)
    }
}

/// Attachments that a deployment finds.
#[derive(Default)]
struct TakenOver {
    /// One to each wanted interface.
    staying: Vec<Attachment>,
    /// Those at interfaces that may come back.
    away: Vec<Attachment>,
    leaving: Vec<Attachment>,
}

/// Whether an interface with this number exists; true if that can't be found out.
fn is_there(index: u32) -> bool {
    netlink::links().map_or(true, |links| links.iter().any(|link| link.index == index))
}

impl Prepared {
    /// Enforces the plan at exactly the matched interfaces; there may be none yet. An interface that has left this
    /// network namespace with the filter on it gets the plan too, until it is back or gone.
    ///
    /// Where the instance is attached already, its program is replaced in place, so that no packet goes
    /// unfiltered. Then the other interfaces are attached, each program is tested where it is attached
    /// against the plan, and interfaces that are no longer wanted are detached. A deployment that this
    /// process held before is then obsolete: drop it.
    ///
    /// # Errors
    ///
    /// When one interface fails, or a program does not do what the plan says; all interfaces are then
    /// restored. An interface that is removed meanwhile is not a failure.
    pub fn deploy(mut self, matched: &Matched) -> Result<Deployment, Error> {
        let filter = self.filter.clone();
        let mut change = Change::default();
        let proof = match self.put_in_force(matched, &mut change) {
            Ok(proof) => proof,
            Err(error) => {
                let error = change.undo(error);
                drop(self);
                filter.remove_if_unused()?;
                return Err(error);
            }
        };
        // The plan is in force. A failed clean-up must not undo it: an interface that was detached could not
        // be restored and would be open.
        let leftovers = take(&mut change.leaving);
        let leftovers = leftovers
            .iter()
            .filter_map(|leaving| leaving.detach().err());
        for error in leftovers.chain(filter.pins.remove_other_versions().err()) {
            warn!("can't remove what is no longer needed: {error}");
        }
        let (attachments, away) = change.done(&matched.interfaces);
        Ok(Deployment {
            pins: filter.pins,
            programs: self.programs,
            away,
            attachments,
            proof,
            tables: self.tables,
            slots: self.slots,
            _maps: self.maps,
        })
    }

    /// Attaches everywhere, and tests that it works.
    fn put_in_force(&mut self, matched: &Matched, change: &mut Change) -> Result<Proof, Error> {
        // One list: an interface that comes back between two would be none that is wanted.
        let Matched {
            interfaces, links, ..
        } = matched;
        // A refused interface must not occupy a slot.
        self.slots.assign(interfaces, links)?;
        let pins = &self.filter.pins;
        self.filter.change(&mut self.programs, matched, change)?;
        let begun = Instant::now();
        let proof = Proof::of(&self.questions, interfaces)?;
        proof.ask(pins, &mut self.programs, change.attachments())?;
        debug!(
            "proved at {} interfaces in {:?}",
            change.attachments().count(),
            begun.elapsed()
        );
        Ok(proof)
    }
}

impl Deployment {
    /// Where it is attached.
    #[must_use]
    pub fn attached(&self) -> &[Attachment] {
        &self.attachments
    }

    /// How large its tables of sources are.
    #[must_use]
    pub fn tables(&self) -> TableSizes {
        self.tables
    }

    /// Follows the interfaces: attaches the loaded programs where they are not attached yet, and detaches
    /// from those that are gone or no longer wanted. One interface that fails does not affect the others.
    pub fn follow(&mut self, matched: &Matched) -> Followed {
        let mut followed = Followed::default();
        // One list: an interface that comes back between two would be none that is wanted.
        let Matched {
            interfaces, links, ..
        } = matched;
        let assigned = self.slots.assign(interfaces, links);
        followed.failed.extend(assigned.err());
        let mut before = take(&mut self.attachments);
        before.append(&mut self.away);
        // Until they have the filter, those that are new are open.
        let located: Vec<_> = before
            .into_iter()
            .map(|mut attachment| {
                let place = attachment.locate(links);
                (attachment, place)
            })
            .collect();
        let is_new = |interface: &&Interface| {
            let mut located = located.iter();
            !located.any(|(attachment, _)| attachment.interface.index == interface.index)
        };
        let newcomers = interfaces.iter().filter(is_new);
        let newcomers = self.attach(newcomers, links, &mut followed);
        for (attachment, place) in located {
            self.keep(attachment, place, interfaces, &mut followed);
        }
        self.attachments.extend(newcomers);
        let is_open = |interface: &&Interface| {
            let mut attachments = self.attachments.iter();
            let failed = followed.refused.contains(&interface.index);
            !failed && !attachments.any(|other| other.interface.index == interface.index)
        };
        let open: Vec<_> = interfaces.iter().filter(is_open).collect();
        let lost = self.attach(open, links, &mut followed);
        self.attachments.extend(lost);
        for attachment in &followed.attached {
            // A filter that fails its test is still better than none.
            let proven = self.proof.ask(&self.pins, &mut self.programs, [attachment]);
            followed.failed.extend(proven.err());
        }
        followed
    }

    /// Keeps an attachment where it is wanted, where it may be again, and where that can't be found out.
    fn keep(
        &mut self,
        mut attachment: Attachment,
        place: Result<Place, Error>,
        interfaces: &[Interface],
        followed: &mut Followed,
    ) {
        let index = attachment.interface.index;
        let wanted = interfaces.iter().find(|other| other.index == index);
        match (place, wanted) {
            (Ok(Place::Here(_)), Some(interface)) => {
                attachment.interface.clone_from(interface);
                followed.failed.extend(attachment.repin(&self.pins).err());
                self.attachments.push(attachment);
            }
            (Ok(Place::Here(_)), None) => {
                followed.failed.extend(attachment.detach().err());
                followed.left.push(attachment.interface);
            }
            // It takes the filter with it, and may come back.
            (Ok(Place::Away), _) => self.away.push(attachment),
            (Ok(Place::Nowhere), wanted) => {
                followed.failed.extend(attachment.forget().err());
                if wanted.is_none() {
                    followed.left.push(attachment.interface);
                }
            }
            (Err(error), _) => {
                followed.failed.push(error);
                self.attachments.push(attachment);
            }
        }
    }

    /// Attaches it to these interfaces, as far as they take it.
    fn attach<'a>(
        &mut self,
        interfaces: impl IntoIterator<Item = &'a Interface>,
        links: &[Link],
        followed: &mut Followed,
    ) -> Vec<Attachment> {
        let mut attached = Vec::new();
        for interface in interfaces {
            match self.programs.attach(&self.pins, interface, links) {
                Ok(attachment) => attached.push(attachment),
                Err(error) => {
                    followed.failed.push(error);
                    followed.refused.push(interface.index);
                }
            }
        }
        followed.attached.extend(attached.iter().cloned());
        attached
    }
}

/// What a deployment has changed so far.
#[derive(Default)]
struct Change {
    /// Attachments that stay, each with its previous program.
    replaced: Vec<(Attachment, OwnedFd)>,
    /// The same at interfaces that may come back.
    away: Vec<(Attachment, OwnedFd)>,
    attached: Vec<Attachment>,
    /// Attachments that are no longer wanted.
    leaving: Vec<Attachment>,
}

/// Puts the deployment's program in the place of the one before, which is returned. Nothing if it is attached
/// nowhere any more: an interface that moved meanwhile gets the program where it is.
fn replace(
    attachment: Attachment,
    programs: &mut Programs,
) -> Result<Option<(Attachment, OwnedFd)>, Error> {
    let Some(before) = attachment.program()? else {
        return Ok(None);
    };
    let before = sys::program_by_id(before)
        .map_err(|error| Error::io("can't open the program in force", error))?;
    match attachment.replace(programs.of(attachment.hook)?) {
        Ok(()) => Ok(Some((attachment, before))),
        Err(_) if matches!(attachment.program(), Ok(None)) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Change {
    /// All attachments of the new deployment.
    fn attachments(&self) -> impl Iterator<Item = &Attachment> {
        let replaced = self.replaced.iter().map(|(attachment, _)| attachment);
        replaced.chain(&self.attached)
    }

    fn is_attached_to(&self, interface: &Interface) -> bool {
        self.attachments()
            .any(|attachment| attachment.interface.index == interface.index)
    }

    /// Restores everything; the error says so if that fails too.
    fn undo(self, error: Error) -> Error {
        let replaced = self.replaced.iter().chain(&self.away);
        let attached = self.attached.iter();
        let failures: Vec<String> = replaced
            .filter_map(|(attachment, before)| attachment.replace(before).err())
            .chain(attached.filter_map(|attachment| attachment.detach().err()))
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

    /// Every attachment here, in the order of the interfaces, and those that are away.
    fn done(self, interfaces: &[Interface]) -> (Vec<Attachment>, Vec<Attachment>) {
        let replaced = self.replaced.into_iter().map(|(attachment, _)| attachment);
        let away = self.away.into_iter().map(|(attachment, _)| attachment);
        let mut all: Vec<_> = replaced.chain(self.attached).collect();
        let position = |index| interfaces.iter().position(|other| other.index == index);
        all.sort_by_key(|attachment| position(attachment.interface.index));
        (all, away.collect())
    }
}
