//! What the development commands share with the tests of the other crates: network namespaces to
//! play and test in, and processes that end when their guard does.
//!
//! Nothing here knows what `ipfilter` is; the commands in `main.rs` and the tests do.

pub mod lists;
pub mod netns;
pub mod process;
mod promtool;
mod refused;
mod target;
pub mod toolchain;
pub mod vm;

pub use promtool::promtool;
pub use refused::{Refused, need_root, tool};
pub use target::target_dir;
