//! The `ipfilter` command.

fn main() {}
