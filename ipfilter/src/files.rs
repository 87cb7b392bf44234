//! Reading the files that operators write.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use crate::policy::{SIZE_LIMIT, Source};

/// Reads a policy file; `-` is standard input. Reads no further than a policy may be long, which
/// [`crate::policy::parse`] then tells.
///
/// # Errors
///
/// When the file cannot be opened or read.
pub fn read_policy(path: &Path) -> io::Result<Source> {
    let name = path.display().to_string();
    let limit = SIZE_LIMIT as u64 + 1;
    let mut bytes = Vec::new();
    if name == "-" {
        io::stdin().lock().take(limit).read_to_end(&mut bytes)?;
    } else {
        File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    }
    Ok(Source::new(name, bytes))
}
