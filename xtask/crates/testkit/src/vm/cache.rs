//! What is kept below cargo's target folder between runs, and what is there for one run only.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result};

use crate::target_dir;

/// A folder in the making: it gets its name when it is whole, and goes away otherwise.
#[derive(Debug)]
pub struct Part {
    folder: Scratch,
    home: PathBuf,
}

impl Part {
    /// Begins what shall become `home`.
    ///
    /// # Errors
    /// When the folder can't be made.
    pub fn new(home: &Path) -> Result<Self> {
        let folder = home.parent().unwrap_or(home);
        Ok(Self {
            folder: Scratch::in_folder(folder)?,
            home: home.to_owned(),
        })
    }

    /// Where to put things.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Takes the place of what had the name before.
    ///
    /// # Errors
    /// When a file system refuses it.
    pub fn finish(self) -> Result<()> {
        if self.home.exists() {
            fs::remove_dir_all(&self.home)?;
        }
        fs::rename(self.path(), &self.home)
            .with_context(|| format!("can't make `{}`", self.home.display()))
    }
}

/// A folder that goes away with its owner.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// A new one, empty, for a run of a VM.
    pub(super) fn new() -> Result<Self> {
        Self::in_folder(&target_dir()?.join("vm"))
    }

    pub(crate) fn in_folder(folder: &Path) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("run-{}-{number}", process::id()));
        if path.exists() {
            // Left by a process that had our number before us and was killed.
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(&path).with_context(|| format!("can't make `{}`", path.display()))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A part that was finished has gone already; nothing can be done about other failures.
        let _: std::io::Result<()> = fs::remove_dir_all(&self.0);
    }
}
