//! How many tests ended how, as Rust's test harness says it.

use std::{
    io::{BufRead as _, BufReader, Read},
    ops::AddAssign,
};

/// How many tests ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Counts {
    /// Reads the line that the harness closes with.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let (_, results) = line.split_once("test result: ")?;
        let number = |label| {
            results
                .split([';', '.'])
                .find_map(|part| part.trim().strip_suffix(label)?.trim().parse().ok())
        };
        Some(Self {
            passed: number("passed")?,
            failed: number("failed")?,
            skipped: number("ignored")?,
        })
    }

    /// Copies lines to standard output as they come, and sums up their results.
    pub(super) fn pass_on(stdout: impl Read) -> Self {
        let mut counts = Self::default();
        for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            if let Some(more) = Self::parse(&line) {
                counts += more;
            }
        }
        counts
    }

    /// How many ran.
    pub(crate) fn ran(self) -> u64 {
        self.passed + self.failed
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, more: Self) {
        self.passed += more.passed;
        self.failed += more.failed;
        self.skipped += more.skipped;
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\nrunning 3 tests\ntest a ... ok\n\n\
        test result: ok. 6 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s\n\
        test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.12s\n\
        test result: nonsense\nall in all: 900 passed\n";

    #[test]
    fn results_are_summed_over_all_test_binaries() {
        let counts = Counts::pass_on(OUTPUT.as_bytes());
        assert_eq!(
            counts,
            Counts {
                passed: 9,
                failed: 1,
                skipped: 1
            }
        );
    }

    #[test]
    fn the_closing_line_names_skipped_tests_only_if_there_are_any() {
        let counts = Counts {
            passed: 9,
            failed: 0,
            skipped: 0,
        };
        assert_eq!(counts.to_string(), "9 passed, 0 failed");
        assert_eq!(
            Counts {
                skipped: 2,
                ..counts
            }
            .to_string(),
            "9 passed, 0 failed, 2 skipped"
        );
    }
}
