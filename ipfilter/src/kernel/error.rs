//! What can go wrong between a plan and the kernel.

use std::io;

use rustix::thread::{CapabilitySet, capabilities};

/// Why the data plane could not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It needs a privilege or a kernel feature that is not there.
    #[error("{0}")]
    Refused(String),
    /// Descriptors or memory ran out, so that nothing is known of what was tried.
    #[error("{0}")]
    Exhausted(String),
    /// It was tried, and failed.
    #[error("{what}: {error}")]
    Failed {
        /// What was tried.
        what: String,
        /// What came of it.
        error: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// Ends with the kernel's reason, and with what is missing where that is a privilege.
    #[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
    pub(super) fn io(what: impl Into<String>, error: io::Error) -> Self {
        let what = what.into();
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => {
                Self::Refused(format!("{what}: {}: {}", reason(&error), missing()))
            }
            Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS) => {
                Self::Exhausted(format!("{what}: {}", reason(&error)))
            }
            _ => Self::failed(what, reason(&error)),
        }
    }

    /// The same for an error that has the kernel's somewhere behind it, if the kernel gave it.
    pub(super) fn caused(
        what: impl Into<String>,
        error: &(dyn std::error::Error + 'static),
    ) -> Self {
        let mut causes = vec![error];
        while let Some(cause) = causes.last().and_then(|cause| cause.source()) {
            causes.push(cause);
        }
        let kernels = causes
            .iter()
            .find_map(|cause| cause.downcast_ref::<io::Error>());
        match kernels.and_then(io::Error::raw_os_error) {
            Some(code) => Self::io(what, io::Error::from_raw_os_error(code)),
            None => {
                let told: Vec<_> = causes.iter().map(ToString::to_string).collect();
                Self::failed(what, told.join(": "))
            }
        }
    }

    pub(super) fn failed(
        what: impl Into<String>,
        error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Failed {
            what: what.into(),
            error: error.into(),
        }
    }
}

/// What the errors of "errno(3)" are called that a data plane meets, and what helps against them.
const REASONS: [(i32, &str, &str); 17] = [
    (libc::E2BIG, "E2BIG", ""),
    (libc::EACCES, "EACCES", ""),
    (libc::EAGAIN, "EAGAIN", ""),
    (libc::EBUSY, "EBUSY", ""),
    (libc::EEXIST, "EEXIST", ""),
    (libc::EINVAL, "EINVAL", ""),
    (
        libc::EMFILE,
        "EMFILE",
        "; raise the limit (`ulimit -n`, `LimitNOFILE=`)",
    ),
    (
        libc::ENFILE,
        "ENFILE",
        "; raise the limit (`sysctl fs.file-max`)",
    ),
    (libc::ENOBUFS, "ENOBUFS", ""),
    (libc::ENODEV, "ENODEV", ""),
    (libc::ENOENT, "ENOENT", ""),
    (
        libc::ENOMEM,
        "ENOMEM",
        "; before Linux 5.11 raise the limit of locked memory too (`ulimit -l`)",
    ),
    (libc::ENOSPC, "ENOSPC", ""),
    (libc::ENOSYS, "ENOSYS", ""),
    (libc::EOPNOTSUPP, "EOPNOTSUPP", ""),
    (libc::EPERM, "EPERM", ""),
    (libc::EROFS, "EROFS", ""),
];

/// The kernel's reason: its sentence, its name, and what helps.
pub(super) fn reason(error: &io::Error) -> String {
    let Some(code) = error.raw_os_error() else {
        return error.to_string();
    };
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
    let text: String = first.into_iter().chain(letters).collect();
    let named = REASONS.iter().find(|(other, ..)| *other == code);
    match named {
        Some((_, name, advice)) => format!("{text} ({name}){advice}"),
        None => format!("{text} (error {code})"),
    }
}

/// The capabilities that the data plane needs: to attach to interfaces, and to load programs and open
/// what is loaded by its number.
const NEEDED: [(CapabilitySet, &str); 2] = [
    (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
    (CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN"),
];

/// Which privilege is missing.
fn missing() -> String {
    let effective = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    let lacking = NEEDED
        .iter()
        .filter(|(capability, _)| !effective.contains(*capability));
    let lacking: Vec<_> = lacking.map(|(_, name)| *name).collect();
    let is_root = rustix::process::geteuid().is_root();
    match (is_root, lacking.as_slice()) {
        (false, _) => "run it as root".to_owned(),
        (true, []) => {
            "root may not, as in a user namespace, under kernel lockdown or by a security \
                       module: the kernel's log may say more"
                .to_owned()
        }
        (true, lacking) => format!(
            "this process is root without {}, as in a container: give it these capabilities \
             (`--cap-add`, `CapabilityBoundingSet=`)",
            lacking.join(" and ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_reason_comes_last_and_by_name() {
        for (code, said) in [
            (
                libc::EMFILE,
                "it failed: too many open files (EMFILE); raise the limit (`ulimit -n`, `LimitNOFILE=`)",
            ),
            (libc::EBUSY, "it failed: device or resource busy (EBUSY)"),
            (
                libc::EXDEV,
                "it failed: invalid cross-device link (error 18)",
            ),
        ] {
            let error = io::Error::from_raw_os_error(code);
            assert_eq!(Error::io("it failed", error).to_string(), said);
        }
        let denied = Error::io("it failed", io::Error::from_raw_os_error(libc::EPERM));
        assert!(matches!(denied, Error::Refused(_)));
        assert!(
            denied
                .to_string()
                .starts_with("it failed: operation not permitted (EPERM): ")
        );
    }

    #[test]
    fn a_cause_is_found_behind_other_errors() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] io::Error);
        let outer = |code| Outer(io::Error::from_raw_os_error(code));
        let said = Error::caused("it failed", &outer(libc::EBUSY)).to_string();
        assert_eq!(said, "it failed: device or resource busy (EBUSY)");
        let said = Error::caused("it failed", &Outer(io::Error::other("inner"))).to_string();
        assert_eq!(said, "it failed: outer: inner");
    }
}
