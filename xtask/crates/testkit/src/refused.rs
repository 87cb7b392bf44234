//! What this machine or this user can't do: told in one sentence, exit code 5.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The machine or the user lacks something that nothing here may change: the sentence says what,
/// and what to do about it.
///
/// The commands exit with code 5 for it, as `ipfilter` itself does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(pub String);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// Refuses anybody but root; `what` begins the sentence: `the playground`, `network namespaces`.
///
/// # Errors
/// [`Refused`] when the effective user is not root.
pub fn need_root(what: &str) -> Result<(), Refused> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Refused(format!(
        "{what} needs root: run the same command as root or with `sudo -E env \"PATH=$PATH\"`"
    )))
}

/// Where the program `name` is: in `PATH`, or in the system folders that a user's `PATH` may lack.
///
/// # Errors
/// [`Refused`], naming the Debian `package` that has it, when it is nowhere.
pub fn tool(name: &str, package: &str) -> Result<PathBuf, Refused> {
    find(name).ok_or_else(|| {
        Refused(format!(
            "`{name}` is not installed: run `apt-get install {package}`"
        ))
    })
}

fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_is_found_and_an_invented_tool_is_refused_by_name() {
        assert!(tool("sh", "dash").unwrap().is_absolute());
        let refused = tool("no-such-tool", "some-package").unwrap_err();
        assert_eq!(
            refused.to_string(),
            "`no-such-tool` is not installed: run `apt-get install some-package`"
        );
    }
}
