//! What tests, benchmarks and development commands run programs in: network namespaces, VMs with
//! other kernels, processes that end with their guards, and address lists to measure with.
//!
//! Nothing here knows what `ipfilter` is.

mod architecture;
pub mod etcd;
pub mod linking;
pub mod lists;
pub mod netns;
pub mod process;
pub mod program;
pub mod proxy;
mod refused;
pub mod root;
mod target;
pub mod vm;

pub use architecture::Architecture;
pub use refused::{Refused, need_root, tool};
pub use target::target_dir;
pub use vm::{cache, mirror};
