//! Networks made of network namespaces, to run real programs in: built with iproute2, joined by
//! veth pairs, gone when dropped.
//!
//! [`Network`] makes namespaces and links between them; [`Playground`] is the ready-made network
//! that the embedded demonstration and the live tests use. Programs enter a namespace through
//! `nsenter` rather than `ip netns exec`, because the latter gives them a private `/sys` in which
//! the BPF file system is hidden.
//!
//! This knows nothing of filters or policies. It never touches the network it was started in.

mod network;
mod playground;
mod star;
mod sweep;

pub use network::{Namespace, Network};
pub use playground::{ALLOWED, Addresses, DENIED, HOST, Playground, ROUTER};
pub use star::{Spoke, Star};
