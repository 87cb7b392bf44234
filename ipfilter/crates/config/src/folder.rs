//! Where the files are that a configuration names: on the disk, or in a bundle.

use std::{
    io,
    path::{Component, Path},
};

use ipfilter_bundle::Bundle;
use ipfilter_policy::Source;

use crate::files;

/// Where files are.
#[derive(Clone, Copy, Debug)]
pub enum Folder<'b> {
    /// At their paths.
    Disk,
    /// In a bundle, by the names that they have there.
    Bundle(&'b Bundle),
}

impl Folder<'_> {
    /// Reads a file of at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// When it is not there, larger, or can't be read.
    pub fn read(self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        match self {
            Self::Disk => files::read(path, limit),
            Self::Bundle(bundle) => {
                let content = content(bundle, path)?;
                match content.len() as u64 > limit {
                    true => Err(files::too_large(limit)),
                    false => Ok(content.to_vec()),
                }
            }
        }
    }

    /// Reads a policy.
    ///
    /// # Errors
    ///
    /// When it is not there, or can't be read.
    pub fn read_policy(self, path: &Path) -> io::Result<Source> {
        match self {
            Self::Disk => files::read_policy(path),
            Self::Bundle(bundle) => Ok(Source::new(files::shown(path), content(bundle, path)?)),
        }
    }
}

fn content<'b>(bundle: &'b Bundle, path: &Path) -> io::Result<&'b [u8]> {
    let content = name_within(path).and_then(|name| bundle.file(&name));
    content.ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            "the bundle has no file of this name",
        )
    })
}

/// The name that a file of a bundle has by its path from the configuration's folder; none if it lies outside.
pub(crate) fn name_within(path: &Path) -> Option<String> {
    let parts = path.components().filter(|part| *part != Component::CurDir);
    let parts = parts.map(|part| match part {
        Component::Normal(part) => part.to_str(),
        _ => None,
    });
    let parts: Vec<_> = parts.collect::<Option<_>>()?;
    (!parts.is_empty()).then(|| parts.join("/"))
}
