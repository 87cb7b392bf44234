//! `ipfilter keygen`: a pair of keys for signing releases.

use std::{fs::OpenOptions, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::PathBuf};

use ipfilter_bundle::KeyPair;

use crate::outcome::{Exit, Stop, print};

/// Make a pair of keys to sign releases with
///
/// Writes the secret key to a new file, which only its owner can read, and prints the public key, for
/// `trusted_keys` in the configuration of each host.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file for the secret key; one that exists is left as it is
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<Exit, Stop> {
    let shown = args.file.display();
    let keys =
        KeyPair::generate().map_err(|error| Stop::failed(format!("no random bytes: {error}")))?;
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&args.file);
    let mut file =
        file.map_err(|error| Stop::failed(format!("can't create `{shown}`: {error}")))?;
    let text = format!("{}\n", keys.secret_text());
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all());
    written.map_err(|error| Stop::failed(format!("can't write `{shown}`: {error}")))?;
    print(&format!("{}\n", keys.public()))?;
    Ok(Exit::Fine)
}
