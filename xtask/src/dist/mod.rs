//! `cargo xtask dist`: packages for hosts of every kind, with everything that belongs on one.
//!
//! All are made from one [`tree`] for each architecture, so they can't differ. What is in it comes from
//! `ipfilter/dist`, from the release build, and from what that binary writes about itself.

mod archive;
mod bom;
mod debian;
mod image;
mod release;
mod rpm;
mod tarball;
mod tree;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context as _, Result};
use testkit::{Architecture, Refused, process::Interrupt};

use crate::{
    build::{self, Profile, Shipped},
    setup::{self, cross::Compiler},
};
use release::Release;
use tree::Tree;

/// The programs that packing takes, and the Debian packages that have them.
pub(crate) const TOOLS: &[(&str, &str)] = &[
    ("dpkg-deb", "dpkg"),
    ("md5sum", "coreutils"),
    ("rpmbuild", "rpm"),
    ("tar", "tar"),
    ("gzip", "gzip"),
    ("gpg", "gpg"),
];

/// What to make of it.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How the programs are built; `dev` is for trying the packages themselves
    #[arg(long, value_enum, default_value_t)]
    profile: Profile,
    /// The package's revision: the part of its version after the dash
    #[arg(long, value_name = "N", default_value_t = 1)]
    revision: u32,
    /// Only for these: x86_64, aarch64 (also by Debian's names)
    #[arg(long = "architecture", value_name = "NAME", value_delimiter = ',', value_parser = architecture)]
    architectures: Vec<Architecture>,
    /// A file with the secret key to sign with, as `gpg --export-secret-keys` writes it
    #[arg(long, value_name = "FILE")]
    sign: Option<PathBuf>,
    /// Where to put the files [default: target/dist]
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

/// For the command line.
pub(crate) fn architecture(name: &str) -> Result<Architecture, String> {
    Architecture::from_name(name).ok_or_else(|| {
        let names = Architecture::ALL.map(Architecture::linux);
        format!("there are {}", names.join(", "))
    })
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
    fs::create_dir_all(&output)?;
    let work = output.join("work");
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    let trees = trees(options, &release, &work, interrupt)?;
    let mut files = Vec::new();
    for tree in &trees {
        files.extend(packages(tree, options.profile, &release, &output)?);
        interrupt.check()?;
    }
    files.push(image::pack(&trees, &release, &output)?);
    let architectures: Vec<Architecture> = trees.iter().map(Tree::architecture).collect();
    files.push(bom::write(&architectures, &release, &output)?);
    let sums = archive::sums(&files, options.sign.as_deref(), &output)?;
    for file in files.iter().chain(&sums) {
        announce(file)?;
    }
    fs::remove_dir_all(&work)?;
    Ok(ExitCode::SUCCESS)
}

/// Builds the programs for each architecture, and lays out what is on a host.
fn trees(
    options: &Options,
    release: &Release,
    work: &Path,
    interrupt: &Interrupt,
) -> Result<Vec<Tree>> {
    let here = Architecture::here()
        .ok_or_else(|| Refused("packages are made on x86-64 and arm64 only".to_owned()))?;
    let wanted: &[Architecture] = match &*options.architectures {
        [] => &Architecture::ALL,
        named => named,
    };
    let own = shipped(here, options.profile, interrupt)?;
    // A binary writes its own pages; those for other architectures are the same.
    let manual = work.join("manual");
    build::manual(&own.ipfilter, &manual, release.epoch)?;
    let trees = wanted.iter().map(|&architecture| {
        let tree = Tree::new(work, architecture);
        if architecture == here {
            tree.fill(&own, &manual, release)?;
        } else {
            tree.fill(
                &shipped(architecture, options.profile, interrupt)?,
                &manual,
                release,
            )?;
        }
        Ok(tree)
    });
    trees.collect()
}

fn shipped(architecture: Architecture, profile: Profile, interrupt: &Interrupt) -> Result<Shipped> {
    let start = Instant::now();
    let compiler = Compiler::provide(architecture, interrupt)?;
    let shipped = build::shipped(&compiler, profile, interrupt)?;
    let seconds = start.elapsed().as_secs_f64();
    eprintln!("built for {}, {seconds:.1} s", architecture.linux());
    Ok(shipped)
}

/// What is made of one tree.
fn packages(
    tree: &Tree,
    profile: Profile,
    release: &Release,
    output: &Path,
) -> Result<[PathBuf; 3]> {
    let compression = match profile {
        Profile::Release => debian::Compression::Small,
        Profile::Dev => debian::Compression::Fast,
    };
    Ok([
        debian::pack(tree, release, compression, output)?,
        rpm::pack(tree, release, compression, output)?,
        tarball::pack(tree, release, output)?,
    ])
}

fn announce(file: &Path) -> Result<()> {
    let size = fs::metadata(file)
        .with_context(|| format!("`{}` was not made", file.display()))?
        .len();
    println!("{} {:.1} MiB", file.display(), size as f64 / 1_048_576.0);
    Ok(())
}
