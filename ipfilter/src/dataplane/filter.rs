//! An instance's filter in the kernel: put it on, replace it, look at it, take it off.

use std::{os::fd::OwnedFd, path::PathBuf};

use aya::{
    maps::{Array, Map, MapData, MapInfo},
    programs::loaded_programs,
};
use ipfilter_ebpf::abi::{self, Config, names};

use super::{
    counters::{self, Count},
    error::Error,
    hook::{Hook, Mode},
    interface::Interface,
    keys,
    object::Object,
    pins::{self, Pins},
    sys::{self, Raw},
    trace::{self, Trace},
};
use crate::{instance::Instance, plan::Plan};

/// A filter at an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The interface.
    pub interface: Interface,
    /// Where it stands.
    pub hook: Hook,
    /// The hooks tried before, and why they would not do.
    pub passed_over: Vec<String>,
}

/// What is found at an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The interface.
    pub interface: Interface,
    /// Where the filter stands.
    pub hook: Hook,
    /// The deployment's constants; none if another version of ipfilter made them.
    pub config: Option<Config>,
}

/// An instance's filter.
#[derive(Clone, Debug)]
pub struct Filter {
    pub(super) pins: Pins,
}

/// A pinned link whose interface is still there.
pub(super) struct Standing {
    pin: PathBuf,
    link: OwnedFd,
    pub(super) index: u32,
    pub(super) hook: Hook,
    pub(super) program: u32,
}

impl Filter {
    /// The filter of `instance`, whether there is one yet or not.
    #[must_use]
    pub fn of(instance: &Instance) -> Self {
        Self {
            pins: Pins::of(instance),
        }
    }

    /// Enforces `plan` at exactly these interfaces.
    ///
    /// Tables are filled and frozen first. Where the instance already stands, its program is
    /// replaced through the link, so that no packet goes unfiltered; then the other interfaces are
    /// attached, and last those no longer wanted are let go.
    ///
    /// # Errors
    ///
    /// When one interface fails, all are put back to what they had.
    pub fn deploy(
        &self,
        plan: &Plan,
        interfaces: &[Interface],
        mode: Mode,
    ) -> Result<Vec<Attached>, Error> {
        self.pins.create()?;
        let result = self.try_deploy(plan, interfaces, mode);
        if result.is_err() && self.pins.links().is_ok_and(|links| links.is_empty()) {
            self.pins.remove()?;
        }
        result
    }

    fn try_deploy(
        &self,
        plan: &Plan,
        interfaces: &[Interface],
        mode: Mode,
    ) -> Result<Vec<Attached>, Error> {
        let mut object = Object::load(plan, Some(&self.pins))?;
        let (standing, leaving): (Vec<_>, Vec<_>) =
            self.standing()?.into_iter().partition(|link| {
                mode.hooks().contains(&link.hook)
                    && interfaces
                        .iter()
                        .any(|interface| interface.index == link.index)
            });
        let mut change = Change::default();
        match self.change(&mut object, &standing, interfaces, mode, &mut change) {
            Ok(attached) => {
                for link in leaving {
                    pins::unpin(&link.pin)?;
                }
                Ok(attached)
            }
            Err(error) => Err(change.undo(error)),
        }
    }

    fn change(
        &self,
        object: &mut Object,
        standing: &[Standing],
        interfaces: &[Interface],
        mode: Mode,
        change: &mut Change,
    ) -> Result<Vec<Attached>, Error> {
        for link in standing {
            change.replace(link, link.hook.program(object)?)?;
        }
        interfaces
            .iter()
            .map(
                |interface| match standing.iter().find(|link| link.index == interface.index) {
                    Some(link) => Ok(Attached {
                        interface: interface.clone(),
                        hook: link.hook,
                        passed_over: Vec::new(),
                    }),
                    None => self.attach(object, interface, mode, change),
                },
            )
            .collect()
    }

    /// Attaches at the first hook that takes the program, and pins the link.
    fn attach(
        &self,
        object: &mut Object,
        interface: &Interface,
        mode: Mode,
        change: &mut Change,
    ) -> Result<Attached, Error> {
        let mut passed_over = Vec::new();
        for hook in mode.hooks() {
            let program = hook.program(object)?;
            match hook.attach(program, interface.index) {
                Ok(link) => {
                    let pin = self.pins.link(interface.index, *hook);
                    sys::pin(&link, &pin).map_err(|error| {
                        Error::io(format!("can't pin `{}`", pin.display()), error)
                    })?;
                    change.attached.push(pin);
                    return Ok(Attached {
                        interface: interface.clone(),
                        hook: *hook,
                        passed_over,
                    });
                }
                Err(error) => {
                    passed_over.push(format!(
                        "{}: {}",
                        hook.name(),
                        hook.explain(&error, interface.index)
                    ));
                }
            }
        }
        Err(Error::failed(
            format!("can't attach to `{}`", interface.name),
            passed_over.join("; "),
        ))
    }

    /// The instance's links. Pins of interfaces that are gone are removed.
    pub(super) fn standing(&self) -> Result<Vec<Standing>, Error> {
        let mut standing = Vec::new();
        for pin in self.pins.links()? {
            let link = sys::open(&pin.path).map_err(|error| {
                Error::io(format!("can't open `{}`", pin.path.display()), error)
            })?;
            let info = sys::link_info(&link).map_err(|error| {
                Error::io(format!("can't look at `{}`", pin.path.display()), error)
            })?;
            if info.ifindex == 0 {
                pins::unpin(&pin.path)?;
                continue;
            }
            standing.push(Standing {
                pin: pin.path,
                link,
                index: info.ifindex,
                hook: pin.hook,
                program: info.program,
            });
        }
        Ok(standing)
    }

    /// What stands where.
    ///
    /// # Errors
    ///
    /// When the pins can't be read.
    pub fn inspect(&self) -> Result<Vec<Found>, Error> {
        self.standing()?
            .into_iter()
            .filter_map(|link| Some((Interface::numbered(link.index)?, link)))
            .map(|(interface, link)| {
                Ok(Found {
                    interface,
                    hook: link.hook,
                    config: config_of(link.program)?,
                })
            })
            .collect()
    }

    /// The counters of the first `apis` APIs, and of packets that reached none.
    ///
    /// # Errors
    ///
    /// When the counters can't be read.
    pub fn counters(&self, apis: usize) -> Result<Vec<Count>, Error> {
        counters::read(&counters::pinned(&self.pins)?, apis)
    }

    /// The log of the deployed programs, if the log level has them write one.
    ///
    /// # Errors
    ///
    /// When the log can't be opened.
    pub fn trace(&self) -> Result<Option<Trace>, Error> {
        let standing = self.standing()?;
        match standing.first() {
            Some(link) if trace::level() > 0 => Trace::of(link.program).map(Some),
            _ => Ok(None),
        }
    }

    /// Renews the key of the cookies to come; at least once a minute keeps every key short-lived.
    ///
    /// # Errors
    ///
    /// When the keys can't be written.
    pub fn rotate_keys(&self) -> Result<(), Error> {
        keys::rotate(&self.pins)
    }

    /// Takes the filter off all interfaces, and forgets its counters. Returns where it stood.
    ///
    /// # Errors
    ///
    /// When a pin can't be removed.
    pub fn detach(&self) -> Result<Vec<Interface>, Error> {
        let standing = self.standing()?;
        let interfaces = standing
            .iter()
            .filter_map(|link| Interface::numbered(link.index))
            .collect();
        drop(standing);
        self.pins.remove()?;
        Ok(interfaces)
    }
}

/// What a deployment has changed so far.
#[derive(Default)]
struct Change {
    replaced: Vec<(OwnedFd, OwnedFd)>,
    attached: Vec<PathBuf>,
}

impl Change {
    fn replace(&mut self, link: &Standing, program: OwnedFd) -> Result<(), Error> {
        let failed = |error| {
            Error::io(
                format!("can't replace the program behind `{}`", link.pin.display()),
                error,
            )
        };
        let before = sys::program_by_id(link.program).map_err(failed)?;
        let fd = link.link.try_clone().map_err(failed)?;
        sys::link_update(&fd, program).map_err(failed)?;
        self.replaced.push((fd, before));
        Ok(())
    }

    /// Puts everything back, and says so if that fails too.
    fn undo(self, error: Error) -> Error {
        let failures: Vec<String> = self
            .replaced
            .iter()
            .filter_map(|(link, before)| sys::link_update(link, before).err())
            .map(|failure| failure.to_string())
            .chain(
                self.attached
                    .iter()
                    .filter_map(|pin| pins::unpin(pin).err())
                    .map(|failure| failure.to_string()),
            )
            .collect();
        if failures.is_empty() {
            return error;
        }
        Error::failed(
            format!("{error}; putting the old plan back failed too"),
            failures.join("; "),
        )
    }
}

/// The constants of a loaded program, if it is one of this version's.
fn config_of(program: u32) -> Result<Option<Config>, Error> {
    let failed = |error: &dyn std::error::Error| {
        Error::failed("can't look at a loaded program", error.to_string())
    };
    for info in loaded_programs() {
        let info = info.map_err(|error| failed(&error))?;
        if info.id() != program {
            continue;
        }
        for id in info
            .map_ids()
            .map_err(|error| failed(&error))?
            .unwrap_or_default()
        {
            let map = MapInfo::from_id(id).map_err(|error| failed(&error))?;
            if map.name_as_str() == Some(names::CONFIG_SECTION)
                && map.value_size() as usize == size_of::<Config>()
            {
                let data = MapData::from_id(id).map_err(|error| failed(&error))?;
                let array = Array::<_, Raw<Config>>::try_from(Map::Array(data))
                    .map_err(|error| failed(&error))?;
                let Raw(config) = array.get(&0, 0).map_err(|error| failed(&error))?;
                return Ok(Some(config).filter(|config| config.version == abi::VERSION));
            }
        }
    }
    Ok(None)
}
