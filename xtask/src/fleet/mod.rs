//! `cargo xtask fleet`: many filtered hosts that follow a group on a real etcd.

mod site;
mod story;
mod traffic;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::Result;
use testkit::{need_root, process::Interrupt, program};

use crate::{
    build::{self, Profile},
    setup, table,
};
use site::Site;

/// How large, and how long.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// How many hosts
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u8).range(2..=100))]
    hosts: u8,
    /// How many prefixes the policies have
    #[arg(long, default_value_t = 1000)]
    prefixes: usize,
    /// How many publications are timed besides, while leaders of etcd are killed and members cut off
    #[arg(long, default_value_t = 10)]
    publishes: usize,
    /// Which binaries to build and try
    #[arg(long, value_enum, default_value_t)]
    profile: Profile,
    /// Try the binaries in this folder, and build nothing
    #[arg(long, value_name = "FOLDER", conflicts_with = "profile")]
    binaries: Option<PathBuf>,
}

impl Options {
    /// The programs to try.
    fn programs(&self, interrupt: &Interrupt) -> Result<(PathBuf, PathBuf)> {
        if let Some(folder) = &self.binaries {
            let folder = fs::canonicalize(folder)?;
            return Ok((folder.join("ipfilter"), folder.join("ipfilter-fleet")));
        }
        setup::run(interrupt)?;
        let ipfilter = build::binary(self.profile, interrupt)?;
        Ok((ipfilter, build::fleet(self.profile, interrupt)?))
    }
}

/// The smaller form that is part of the tests, on binaries in this folder.
pub(crate) fn small(binaries: &Path) -> Command {
    // This program, whose file the tests' build has replaced meanwhile.
    let mut command = Command::new("/proc/self/exe");
    command.args([
        "fleet",
        "--hosts",
        "3",
        "--prefixes",
        "100",
        "--publishes",
        "2",
    ]);
    command.arg("--binaries").arg(binaries);
    command
}

/// Plays the story, and shows what was expected and seen.
///
/// # Errors
/// [`testkit::Refused`] without root or the tools; on a signal; when something does not start.
pub(crate) fn run(options: &Options, interrupt: &Interrupt) -> Result<ExitCode> {
    need_root("the playground of a fleet")?;
    program::ETCD.command()?;
    program::ETCDCTL.command()?;
    let (ipfilter, fleet) = options.programs(interrupt)?;
    let mut site = Site::new(&ipfilter, &fleet, options.hosts, interrupt)?;
    let story = story::play(&mut site, options, interrupt)?;
    print!(
        "{}",
        table::render(&["step", "expected", "seen", "seconds"], &story.rows())
    );
    print!("{}", story.times());
    let wrong = story.wrong();
    match wrong {
        0 => println!("all {} steps as expected", story.rows().len()),
        wrong => println!("{wrong} of {} steps not as expected", story.rows().len()),
    }
    Ok(ExitCode::from(u8::from(wrong > 0)))
}
