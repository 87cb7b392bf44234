//! Where an instance's links and maps are pinned.

use std::{
    fs::{self, File},
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use aya::maps::{Map, MapData};

use super::{
    bpffs,
    error::Error,
    hook::Hook,
    pin::{Pinned, open, strange, unpin},
    shared::{self, Shared},
    sys::{self, Kind},
    version::abi_version,
};
use crate::instance::{BPFFS, DIRECTORY, Instance};

/// An instance's directory on the BPF file system, and the pinned objects that this process holds.
#[derive(Clone, Debug)]
pub(super) struct Pins {
    instance: Instance,
    /// The path by which this process reaches the file system.
    root: Arc<Mutex<PathBuf>>,
    held: Arc<Mutex<Vec<Weak<Pinned>>>>,
}

/// What was repaired.
#[derive(Debug, Default)]
pub struct Repaired {
    /// A sentence for each thing that was repaired.
    pub done: Vec<String>,
    /// What could not be.
    pub failed: Vec<Error>,
}

impl Pins {
    pub(super) fn of(instance: &Instance) -> Self {
        Self {
            instance: instance.clone(),
            root: Arc::new(Mutex::new(bpffs::root())),
            held: Arc::default(),
        }
    }

    /// The instance.
    pub(super) fn instance(&self) -> &Instance {
        &self.instance
    }

    fn root(&self) -> PathBuf {
        self.root
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The directory, by the path that this process reaches it by.
    pub(super) fn directory(&self) -> PathBuf {
        self.root().join(DIRECTORY).join(self.instance.key())
    }

    /// Creates the directory, and mounts the BPF file system if it is not mounted. Returns whether it had to
    /// be mounted.
    pub(super) fn create(&self) -> Result<bool, Error> {
        let (root, mounted) = bpffs::mounted_root()?;
        bpffs::directory(&root, &self.instance.key(), true)?;
        *self.root.lock().unwrap_or_else(PoisonError::into_inner) = root;
        Ok(mounted)
    }

    /// The directory, if it exists.
    pub(super) fn open_directory(&self) -> Result<Option<File>, Error> {
        let directory = bpffs::directory(&self.root(), &self.instance.key(), false)?;
        Ok(directory.map(Into::into))
    }

    /// The instances of this name that have pins for other network namespaces, by namespace.
    pub(super) fn namesakes(&self) -> Vec<String> {
        let entries = fs::read_dir(self.root().join(DIRECTORY))
            .into_iter()
            .flatten();
        let keys = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok());
        let mut found: Vec<_> = keys
            .filter_map(|key| self.instance.namesake(&key))
            .collect();
        found.sort_unstable();
        found
    }

    /// The ids of the programs behind all pinned links, whichever instance's.
    pub(super) fn all_linked_programs(&self) -> Vec<u32> {
        let list = |directory: PathBuf| fs::read_dir(directory).into_iter().flatten().flatten();
        let instances = list(self.root().join(DIRECTORY));
        let pins = instances.flat_map(|instance| list(instance.path()));
        let links = pins.filter(|pin| matches!(Name::of(&pin.path()), Some(Name::Link(_))));
        links
            .filter_map(|link| sys::open(&link.path()).ok())
            .filter_map(|link| Some(sys::link_info(link).ok()?.program))
            .collect()
    }

    /// The path of a shared map. Its layout is part of the ABI, so its name ends with the ABI version.
    pub(super) fn shared(&self, map: &Shared) -> PathBuf {
        self.directory()
            .join(format!("{}_v{}", map.pin, abi_version()))
    }

    /// The map at [`Self::shared`], opened.
    pub(super) fn open(&self, map: &Shared) -> Result<OwnedFd, Error> {
        open(&self.shared(map))
    }

    /// The map at [`Self::shared`], to be read and written.
    pub(super) fn map(&self, map: &Shared) -> Result<Map, Error> {
        let path = self.shared(map);
        let map = MapData::from_fd(self.open(map)?).and_then(Map::from_map_data);
        map.map_err(|error| Error::failed(format!("can't open `{}`", path.display()), error))
    }

    /// The link to the interface with this number. Names won't do: an interface can be renamed, and
    /// the file system takes no dots.
    pub(super) fn link(&self, ifindex: u32, hook: Hook) -> PathBuf {
        self.directory()
            .join(format!("link_{ifindex}_{}", hook.name()))
    }

    /// The pinned links, opened.
    pub(super) fn links(&self) -> Result<Vec<(Arc<Pinned>, Hook)>, Error> {
        let mut links = Vec::new();
        for path in self.entries()? {
            let Some(Name::Link(hook)) = Name::of(&path) else {
                continue;
            };
            let link = open(&path)?;
            if !matches!(sys::identity(&link), Ok((Kind::Link, _))) {
                return Err(strange(&path));
            }
            links.push((self.hold(path, link), hook));
        }
        Ok(links)
    }

    /// Keeps in this process an object that is, or will be, pinned at `path`.
    pub(super) fn hold(&self, path: PathBuf, object: OwnedFd) -> Arc<Pinned> {
        let pinned = Arc::new(Pinned { path, object });
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|other| other.strong_count() > 0);
        held.push(Arc::downgrade(&pinned));
        pinned
    }

    /// Whether this process holds any of it.
    pub(super) fn are_held(&self) -> bool {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter().any(|pinned| pinned.strong_count() > 0)
    }

    /// Pins again whatever this process holds whose pin is gone.
    pub(super) fn restore(&self) -> Repaired {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let held: Vec<_> = held.iter().filter_map(Weak::upgrade).collect();
        let mut repaired = Repaired::default();
        if held.is_empty() {
            return repaired;
        }
        match self.create() {
            Ok(true) => repaired.done.push(format!(
                "the BPF file system on `{BPFFS}` was gone: mounted it again"
            )),
            Ok(false) => {}
            Err(error) => {
                repaired.failed.push(error);
                return repaired;
            }
        }
        for pinned in held {
            match pinned.restore() {
                Ok(false) => {}
                Ok(true) => repaired.done.push(format!(
                    "the pin `{}` was gone: pinned it again",
                    pinned.shown().display()
                )),
                Err(error) => repaired.failed.push(error),
            }
        }
        repaired
    }

    /// Removes the maps of other versions.
    pub(super) fn remove_other_versions(&self) -> Result<(), Error> {
        let ours = shared::ALL.map(|map| self.shared(map));
        for path in self.entries()? {
            if Name::of(&path) == Some(Name::Map) && !ours.contains(&path) {
                unpin(&path)?;
            }
        }
        Ok(())
    }

    /// Removes all pins of ours, which detaches every link that no other process holds. Foreign files are
    /// left alone, and then the directory too.
    pub(super) fn remove(&self) -> Result<(), Error> {
        for path in self.entries()? {
            if Name::of(&path).is_some() {
                unpin(&path)?;
            }
        }
        match fs::remove_dir(self.directory()) {
            Err(error)
                if !matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty
                ) =>
            {
                let directory = self.instance.pins();
                Err(Error::io(
                    format!("can't remove `{}`", directory.display()),
                    error,
                ))
            }
            _ => Ok(()),
        }
    }

    /// The paths in the directory, sorted.
    fn entries(&self) -> Result<Vec<PathBuf>, Error> {
        let shown = self.instance.pins();
        let failed = |error| Error::io(format!("can't list `{}`", shown.display()), error);
        if self.open_directory()?.is_none() {
            return Ok(Vec::new());
        }
        let entries = match fs::read_dir(self.directory()) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut paths = entries
            .map(|entry| entry.map(|entry| entry.path()).map_err(failed))
            .collect::<Result<Vec<_>, _>>()?;
        paths.sort_unstable();
        Ok(paths)
    }
}

/// The meaning of a name in the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    /// A link, at this hook.
    Link(Hook),
    /// A shared map, of any ABI version.
    Map,
}

impl Name {
    /// None for a foreign name.
    fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let is_number = |text: &str| text.parse::<u32>().is_ok();
        if let Some(rest) = name.strip_prefix("link_") {
            let (ifindex, hook) = rest.split_once('_')?;
            return is_number(ifindex).then_some(Self::Link(hook.parse().ok()?));
        }
        let (map, version) = name.rsplit_once("_v")?;
        let known = shared::ALL.iter().any(|shared| shared.pin == map);
        (known && is_number(version)).then_some(Self::Map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_ours_are_told_from_others() {
        for (name, meaning) in [
            ("link_7_native", Some(Name::Link(Hook::Native))),
            ("link_12_tcx", Some(Name::Link(Hook::Tcx))),
            ("counters_v1", Some(Name::Map)),
            ("keys_v22", Some(Name::Map)),
            ("interfaces_v2", Some(Name::Map)),
            ("link_7_offloaded", None),
            ("link_x_native", None),
            ("link_native", None),
            ("counters", None),
            ("counters_vx", None),
            ("mine", None),
        ] {
            assert_eq!(Name::of(Path::new(name)), meaning, "{name}");
        }
    }
}
