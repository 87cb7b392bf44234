//! The transcripts in the documentation are what the commands print.
//!
//! In `README.md` and below `ipfilter/docs/`, a block of language `console` is run: each line that begins
//! with `$ ` is a command, the lines below it are what it prints, and `? 3` between them is its exit
//! code. Paths are relative to the repository. `...` and `[..]` match any lines and any text.
//! Commands of other programs, `sudo` first of all, are shown and not run, and so are blocks of
//! another language, such as `text`.
//!
//! `TRYCMD=overwrite cargo test --package ipfilter --test it transcripts` writes what is printed now
//! into the documents.

use std::{env, path::Path, process::Command};

use trycmd::{TestCases, schema::Bin};

/// Set where the documents' paths are right.
const INSIDE: &str = "IPFILTER_TEST_TRANSCRIPTS";

/// Shown and not run: they need root, a network, or a service manager.
const OTHERS: &[&str] = &[
    "apt",
    "cargo",
    "curl",
    "docker",
    "kubectl",
    "sudo",
    "systemctl",
];

#[test]
fn documented_transcripts_are_true() {
    if env::var_os(INSIDE).is_some() {
        return run();
    }
    // A process of its own, because all tests of a process are in one folder.
    let (_, module) = module_path!().split_once("::").expect("a module");
    let output = Command::new(env::current_exe().expect("a test"))
        .args(["--exact", "--nocapture"])
        .arg(format!("{module}::documented_transcripts_are_true"))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .env(INSIDE, "1")
        .output()
        .expect("it starts");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}"
    );
}

fn run() {
    let cases = TestCases::new();
    cases
        .register_bin("ipfilter", Path::new(env!("CARGO_BIN_EXE_ipfilter")))
        .register_bins(OTHERS.iter().map(|name| (*name, Bin::Ignore)))
        .case("README.md")
        .case("ipfilter/docs/*.md")
        .case("ipfilter/docs/*/*.md");
}
