//! The kernel's functions that programs call.

use std::{collections::HashMap, fs};

use super::instruction::lost;
use crate::kernel::error::Error;

/// The kernel's helpers by the distance from the place that calls count from.
pub(super) struct Helpers {
    names: HashMap<u64, String>,
    base: Option<u64>,
}

impl Helpers {
    /// Those that the kernel lists for root.
    pub(super) fn read() -> Self {
        let text = fs::read_to_string("/proc/kallsyms").unwrap_or_default();
        let symbols = text.lines().filter_map(|line| {
            let mut words = line.split(' ');
            let address = u64::from_str_radix(words.next()?, 16).ok()?;
            Some((address, words.nth(1)?))
        });
        let mut base = None;
        let mut names = HashMap::new();
        for (address, name) in symbols {
            if name == "__bpf_call_base" {
                base = Some(address);
            }
            if name.starts_with("bpf_") || name.ends_with("_elem") {
                names.insert(address, name.to_owned());
            }
        }
        Self { names, base }
    }

    pub(super) fn name(&self, distance: i32) -> Result<&str, Error> {
        let address = self
            .base
            .map(|base| base.wrapping_add_signed(distance.into()));
        let name = address.and_then(|address| self.names.get(&address));
        name.map(String::as_str)
            .ok_or_else(|| lost("a helper whose name the kernel does not show"))
    }
}
