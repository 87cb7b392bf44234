//! `cargo xtask dist`: a Debian package and a tarball, with everything that belongs on a host.
//!
//! Both are made from one [`tree`], so they can't differ. What is in it comes from `ipfilter/dist`,
//! from the release build, and from what that binary writes about itself.

mod debian;
mod release;
mod tarball;
mod tree;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use testkit::process::Interrupt;

use crate::{
    build::{self, Profile},
    setup,
};
use release::Release;
use tree::Tree;

/// The programs that packing takes, and the Debian packages that have them.
pub(crate) const TOOLS: &[(&str, &str)] = &[
    ("dpkg-deb", "dpkg"),
    ("dpkg-shlibdeps", "dpkg-dev"),
    ("md5sum", "coreutils"),
    ("strip", "binutils"),
    ("tar", "tar"),
    ("gzip", "gzip"),
];

/// What to make of it.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How the binary is built; `dev` is for trying the package itself
    #[arg(long, value_enum, default_value_t)]
    profile: Profile,
    /// The package's revision: the part of its version after the dash
    #[arg(long, value_name = "N", default_value_t = 1)]
    revision: u32,
    /// Where to put the two files [default: target/dist]
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

/// Builds everything and packs it.
///
/// # Errors
/// [`testkit::Refused`] where a tool is missing that can't be installed; when a build or a tool fails.
pub(crate) fn run(options: &Options, interrupt: &Interrupt) -> Result<ExitCode> {
    setup::run(interrupt)?;
    setup::tools("packages are made with them", TOOLS, interrupt)?;
    let release = Release::current(options.revision)?;
    let output = match &options.output {
        Some(folder) => folder.clone(),
        None => testkit::target_dir()?.join("dist"),
    };
    let work = output.join("work");
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    let binary = build::binary(options.profile, interrupt)?;
    let service = build::service(options.profile, interrupt)?;
    let manual = work.join("manual");
    build::manual(&binary, &manual, release.epoch)?;
    let tree = Tree::new(work.join("root"));
    tree.fill(&[&binary, &service], &manual, &release)?;
    let compression = match options.profile {
        Profile::Release => debian::Compression::Small,
        Profile::Dev => debian::Compression::Fast,
    };
    for file in [
        debian::pack(&tree, &release, compression, &output)?,
        tarball::pack(&tree, &release, &output)?,
    ] {
        interrupt.check()?;
        announce(&file)?;
    }
    fs::remove_dir_all(&work)?;
    Ok(ExitCode::SUCCESS)
}

fn announce(file: &Path) -> Result<()> {
    let size = fs::metadata(file)
        .with_context(|| format!("`{}` was not made", file.display()))?
        .len();
    println!("{} {:.1} MiB", file.display(), size as f64 / 1_048_576.0);
    Ok(())
}
