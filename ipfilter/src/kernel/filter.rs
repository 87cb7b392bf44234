//! An instance's filter in the kernel: inspecting and detaching it. [`deployment`](super::deployment)
//! attaches it.

use std::{collections::HashMap, fs::File, path::PathBuf, thread::sleep, time::Duration};

use aya::{
    maps::{Array, Map, MapData, MapInfo},
    programs::loaded_programs,
};
use ipfilter_ebpf::abi::{Config, names};

use super::{
    attachment::{Attachment, Place, is_ours, tcx_programs},
    counters::{Count, Counters},
    error::Error,
    hook::Hook,
    interface::Interface,
    keys, netlink,
    pins::Pins,
    shared, slots,
    sys::Raw,
    trace::{self, Trace},
    version::abi_version,
};
use crate::instance::Instance;

/// What is found at an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The interface. In another network namespace its name can't be asked for, and is its number
    /// after a `#`.
    pub interface: Interface,
    /// Where at the interface.
    pub hook: Hook,
    /// The deployment's constants; none if another version of ipfilter made them.
    pub config: Option<Config>,
}

/// An instance's filter.
#[derive(Clone, Debug)]
pub struct Filter {
    pub(super) pins: Pins,
}

/// Where the filter is attached.
pub(super) struct Standing {
    pub(super) attachment: Attachment,
    /// Whether the interface is in this network namespace.
    is_here: bool,
    /// The id of the program there.
    pub(super) program: u32,
}

/// A program of ipfilter at an interface of this network namespace for which no visible pin accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    /// The interface's name.
    pub interface: String,
    /// The id of the program.
    pub program: u32,
}

impl Filter {
    /// The filter of `instance`, whether or not it is attached.
    #[must_use]
    pub fn of(instance: &Instance) -> Self {
        Self {
            pins: Pins::of(instance),
        }
    }

    /// Where its pins are, by the path that this process reaches them by.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        self.pins.directory()
    }

    /// The directory of its pins, if there is one.
    ///
    /// # Errors
    ///
    /// When anyone but root could change it.
    pub fn open_directory(&self) -> Result<Option<File>, Error> {
        self.pins.open_directory()
    }

    /// The network namespaces in which instances of the same name have pins, for a reader.
    #[must_use]
    pub fn namesakes(&self) -> Vec<String> {
        self.pins.namesakes()
    }

    /// Where the instance is attached.
    pub(super) fn standing(&self) -> Result<Vec<Standing>, Error> {
        let all_here = |standing: &Vec<Standing>| standing.iter().all(|it| it.is_here);
        look(|| self.look_around(), all_here)
    }

    fn look_around(&self) -> Result<Vec<Standing>, Error> {
        let links = netlink::links()?;
        let mut standing = Vec::new();
        for mut attachment in Attachment::all(&self.pins)? {
            let place = attachment.locate(&links)?;
            let Some(program) = attachment.program()? else {
                continue;
            };
            let is_here = match place {
                Place::Here(link) => {
                    attachment.interface.name.clone_from(&link.name);
                    true
                }
                Place::Away | Place::Nowhere => false,
            };
            standing.push(Standing {
                is_here,
                attachment,
                program,
            });
        }
        Ok(standing)
    }

    /// Programs of ipfilter at interfaces of this network namespace for which no visible pin accounts: a
    /// process holds them by descriptor, or on a BPF file system of its own.
    ///
    /// # Errors
    ///
    /// When the kernel can't be asked.
    pub fn strays(&self) -> Result<Vec<Stray>, Error> {
        let pinned = self.pins.all_linked_programs();
        let mut strays = Vec::new();
        for link in netlink::links()? {
            // Kernels before 6.6 have none.
            let tcx = tcx_programs(&link.name).unwrap_or_default();
            for program in link.xdp.iter().copied().chain(tcx) {
                if !pinned.contains(&program) && is_ours(program).unwrap_or(false) {
                    strays.push(Stray {
                        interface: link.name.clone(),
                        program,
                    });
                }
            }
        }
        Ok(strays)
    }

    /// What is attached where.
    ///
    /// # Errors
    ///
    /// When the pins can't be read.
    pub fn inspect(&self) -> Result<Vec<Found>, Error> {
        let told = |found: &Vec<Found>| found.iter().all(|found| found.config.is_some());
        look(|| self.look_into(), told)
    }

    fn look_into(&self) -> Result<Vec<Found>, Error> {
        let standing = self.standing()?.into_iter();
        standing
            .map(|standing| {
                Ok(Found {
                    interface: standing.attachment.interface,
                    hook: standing.attachment.hook,
                    config: config_of(standing.program)?,
                })
            })
            .collect()
    }

    /// The counters of the first `apis` APIs, and of packets that reached none, by interface.
    ///
    /// # Errors
    ///
    /// When the counters can't be read.
    pub fn counters(&self, apis: usize) -> Result<Vec<Count>, Error> {
        Counters::pinned(&self.pins)?.read(apis)
    }

    /// The names of the interfaces that are counted apart, by number.
    ///
    /// # Errors
    ///
    /// When they can't be read.
    pub fn interface_names(&self) -> Result<HashMap<u32, String>, Error> {
        let named = slots::named(&self.pins.map(&shared::INTERFACES)?)?;
        Ok(named
            .into_iter()
            .map(|slot| (slot.index, slot.name))
            .collect())
    }

    /// The log of the deployed programs, if the log level enables it.
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

    /// Renews the key of future cookies. Call it at least once a minute, so that every key is short-lived.
    ///
    /// # Errors
    ///
    /// When the keys can't be written.
    pub fn rotate_keys(&self) -> Result<(), Error> {
        keys::rotate(&self.pins)
    }

    /// Detaches the filter from all interfaces and removes its counters. Returns where it was attached.
    ///
    /// # Errors
    ///
    /// When a pin can't be removed.
    pub fn detach(&self) -> Result<Vec<Interface>, Error> {
        let mut interfaces = Vec::new();
        for Standing { attachment, .. } in self.standing()? {
            attachment.detach()?;
            interfaces.push(attachment.interface);
        }
        self.pins.remove()?;
        Ok(interfaces)
    }
}

/// How often an inconsistent state is read again, and the pause between two reads.
const LOOKS: usize = 5;
const PAUSE: Duration = Duration::from_millis(10);

/// Reads again if what was read is inconsistent: the process that runs the filter may be replacing a program
/// at this moment.
fn look<T>(once: impl Fn() -> Result<T, Error>, is_plain: impl Fn(&T) -> bool) -> Result<T, Error> {
    let mut seen = once();
    for _ in 1..LOOKS {
        if seen.as_ref().is_ok_and(&is_plain) {
            break;
        }
        sleep(PAUSE);
        seen = once();
    }
    seen
}

/// The constants of a loaded program, if it is of this ABI version.
pub(super) fn config_of(program: u32) -> Result<Option<Config>, Error> {
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
                return Ok(Some(config).filter(|config| config.version == abi_version()));
            }
        }
    }
    Ok(None)
}
