//! What is released: its version and its date.

use std::{
    env,
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use testkit::{process::output, tool};

/// A version of the package.
#[derive(Debug)]
pub(super) struct Release {
    /// Of the workspace, as `0.1.0`.
    pub(super) version: &'static str,
    /// Of the package.
    pub(super) revision: u32,
    /// The date of the sources in seconds since 1970: files in the packages have it, so that the same
    /// sources give the same packages (<https://reproducible-builds.org/specs/source-date-epoch/>).
    pub(super) epoch: u64,
}

impl Release {
    /// That of these sources: dated by `SOURCE_DATE_EPOCH`, else by the last commit, else by the
    /// clock where this is no clone.
    ///
    /// # Errors
    /// When `SOURCE_DATE_EPOCH` is no number.
    pub(super) fn current(revision: u32) -> Result<Self> {
        Ok(Self {
            version: env!("CARGO_PKG_VERSION"),
            revision,
            epoch: epoch()?,
        })
    }

    /// The package's whole version.
    pub(super) fn full(&self) -> String {
        format!("{}-{}", self.version, self.revision)
    }

    /// The date in one of the formats of date(1).
    ///
    /// # Errors
    /// When `date` fails.
    pub(super) fn date(&self, format: &str) -> Result<String> {
        let mut date = Command::new(tool("date", "coreutils")?);
        date.args(["--utc", format])
            .arg(format!("--date=@{}", self.epoch));
        Ok(output(date.env("LC_ALL", "C"))?.trim().to_owned())
    }
}

fn epoch() -> Result<u64> {
    if let Ok(seconds) = env::var("SOURCE_DATE_EPOCH") {
        return seconds
            .parse()
            .context("`SOURCE_DATE_EPOCH` is not a number of seconds");
    }
    let mut git = Command::new("git");
    git.args(["log", "-1", "--format=%ct"])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    let committed = output(&mut git)
        .ok()
        .and_then(|text| text.trim().parse().ok());
    match committed {
        Some(seconds) => Ok(seconds),
        None => Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs()),
    }
}

/// Who answers for the package: `DEBFULLNAME` and `DEBEMAIL`, as Debian's own tools take it.
pub(super) fn maintainer() -> String {
    let variable = |name, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
    format!(
        "{} <{}>",
        variable("DEBFULLNAME", "The ipfilter authors"),
        variable("DEBEMAIL", "ipfilter@example.org")
    )
}

/// Where the package says to find out more: `IPFILTER_HOMEPAGE`.
pub(super) fn homepage() -> String {
    env::var("IPFILTER_HOMEPAGE").unwrap_or_else(|_| "https://ipfilter.example.org/".to_owned())
}
