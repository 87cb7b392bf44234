//! `cargo xtask`: set-up, run, test and the other development commands.

fn main() {}
