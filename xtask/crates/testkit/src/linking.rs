//! What a program takes from the C library.

use std::{path::Path, process::Command};

use anyhow::{Result, ensure};

use crate::{process::output, tool};

/// What loads modules of the C library: hosts, users, services, character sets.
const LOADING: [&str; 9] = [
    "dlopen",
    "getaddrinfo",
    "getgrgid_r",
    "getgrnam_r",
    "gethostbyname",
    "getpwnam_r",
    "getpwuid_r",
    "getservbyname",
    "iconv_open",
];

/// The functions that `program` calls which load modules of the C library while it runs. One that is linked
/// statically must call none: the modules on a host are of another version than the library in it.
///
/// # Errors
/// When it is not linked dynamically, so that nothing can be found out; without binutils.
pub fn loading_calls(program: &Path) -> Result<Vec<&'static str>> {
    let mut nm = Command::new(tool("nm", "binutils")?);
    nm.args(["--dynamic", "--undefined-only", "--format=posix"]);
    let said = output(nm.arg(program))?;
    let called: Vec<&str> = said
        .lines()
        .filter_map(|line| line.split([' ', '@']).next())
        .collect();
    ensure!(
        called.contains(&"__libc_start_main"),
        "`{}` is not linked dynamically",
        program.display()
    );
    Ok(LOADING
        .into_iter()
        .filter(|name| called.contains(name))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_looks_users_up_is_found_out() {
        let calls = loading_calls(&tool("ls", "coreutils").unwrap()).unwrap();
        let other = loading_calls(&tool("getent", "libc-bin").unwrap()).unwrap();
        assert!(!calls.contains(&"getaddrinfo"), "{calls:?}");
        assert!(other.contains(&"getaddrinfo"), "{other:?}");
        assert!(loading_calls(Path::new("/etc/passwd")).is_err());
    }
}
