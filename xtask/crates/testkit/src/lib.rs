//! What tests, benchmarks and development commands run programs in: network namespaces, VMs with
//! other kernels, processes that end with their guards, and address lists to measure with.
//!
//! Nothing here knows what `ipfilter` is.

pub mod etcd;
pub mod lists;
pub mod netns;
pub mod process;
pub mod program;
pub mod proxy;
mod refused;
mod target;
pub mod vm;

pub use refused::{Refused, need_root, tool};
pub use target::target_dir;
