//! Prometheus's checker of metrics and rules. Its package has a server and much else besides: only
//! the program is kept, unless it is installed.

use std::{
    fs,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result};

use crate::{
    target_dir, tool,
    vm::{
        cache::Part,
        mirror::{Suite, unpack},
    },
};

const NAME: &str = "promtool";
const PACKAGE: &str = "prometheus";

/// Any release will do; this is the one that the system images are of, too.
const SUITE: &str = "bookworm";

/// Where `promtool` is: installed, or else fetched from Debian's package and kept below `target`.
///
/// # Errors
/// When no mirror that this machine knows has it.
pub fn promtool() -> Result<PathBuf> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Ok(installed) = tool(NAME, PACKAGE) {
        return Ok(installed);
    }
    let home = target_dir()?.join("tools").join(NAME);
    let program = home.join(NAME);
    if program.exists() {
        return Ok(program);
    }
    eprintln!("fetching `{NAME}` of Debian `{SUITE}`, to be kept below `target`");
    let fetch = || -> Result<()> {
        let part = Part::new(&home)?;
        let suite = Suite::open(SUITE, &part.path().join("apt"))?;
        let packages = part.path().join("packages");
        let unpacked = part.path().join("unpacked");
        for package in suite.download(&[PACKAGE.to_owned()], &packages)? {
            unpack(&package, &unpacked)?;
        }
        fs::rename(unpacked.join("usr/bin").join(NAME), part.path().join(NAME))?;
        for folder in ["apt", "packages", "unpacked"] {
            fs::remove_dir_all(part.path().join(folder))?;
        }
        part.finish()
    };
    fetch().with_context(|| format!("can't get `{NAME}`: run `apt-get install {PACKAGE}`"))?;
    Ok(program)
}
