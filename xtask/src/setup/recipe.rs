//! How `bpf-linker` is built with a given LLVM: packages and a command.

use std::path::{Path, PathBuf};

/// The release this project is tested with, and the versions of LLVM it can be built with. For
/// other versions the newest release is asked for.
const TESTED: (&str, std::ops::RangeInclusive<u32>) = ("0.13.0", 21..=23);

/// What the build needs, on Debian and Ubuntu.
pub(super) fn packages(llvm: &str) -> Vec<String> {
    [
        format!("llvm-{llvm}-dev"),
        format!("libpolly-{llvm}-dev"),
        "zlib1g-dev".to_owned(),
        "libzstd-dev".to_owned(),
        "libxml2-dev".to_owned(),
        "g++".to_owned(),
    ]
    .into()
}

/// The build as a shell's command line, for the user to run.
pub(super) fn command_line(llvm: &str) -> String {
    format!(
        "LLVM_PREFIX={} cargo install {}",
        prefix(llvm).display(),
        arguments(llvm).join(" ")
    )
}

/// What `cargo` is run with.
pub(super) fn arguments(llvm: &str) -> Vec<String> {
    let (release, versions) = TESTED;
    let mut arguments = vec!["bpf-linker".to_owned()];
    if llvm.parse().map_or(true, |llvm| versions.contains(&llvm)) {
        arguments.extend(["--version", release, "--locked"].map(str::to_owned));
    }
    arguments.push("--no-default-features".to_owned());
    arguments.push(format!("--features=llvm-{llvm}"));
    arguments
}

/// Where Debian and Ubuntu put an LLVM.
pub(super) fn prefix(llvm: &str) -> PathBuf {
    Path::new("/usr/lib").join(format!("llvm-{llvm}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tested_release_is_asked_for_with_an_llvm_it_knows() {
        assert_eq!(
            arguments("22").join(" "),
            "bpf-linker --version 0.13.0 --locked --no-default-features --features=llvm-22"
        );
        assert_eq!(
            arguments("24").join(" "),
            "bpf-linker --no-default-features --features=llvm-24"
        );
    }

    #[test]
    fn the_command_line_is_for_a_shell() {
        assert!(
            command_line("$LLVM")
                .starts_with("LLVM_PREFIX=/usr/lib/llvm-$LLVM cargo install bpf-linker ")
        );
    }
}
