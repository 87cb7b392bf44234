//! The kinds of machines that programs are built for and tried on.

use std::env;

/// A kind of machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// 64-bit Intel and AMD.
    X86_64,
    /// 64-bit Arm.
    Arm64,
}

impl Architecture {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::X86_64, Self::Arm64];

    /// This machine's.
    #[must_use]
    pub fn here() -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|one| one.linux() == env::consts::ARCH)
    }

    /// The one that one of its names means.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|one| [one.linux(), one.debian()].contains(&name))
    }

    /// What Linux, RPM and Rust call it.
    #[must_use]
    pub fn linux(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }

    /// What Debian and OCI images call it.
    #[must_use]
    pub fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// Rust's target, with the C library that Debian has.
    #[must_use]
    pub fn target(self) -> String {
        format!("{}-unknown-linux-gnu", self.linux())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_known_by_all_its_names() {
        for one in Architecture::ALL {
            assert_eq!(Architecture::from_name(one.linux()), Some(one));
            assert_eq!(Architecture::from_name(one.debian()), Some(one));
        }
        assert_eq!(Architecture::from_name("mips"), None);
    }
}
