//! Plans in the kernel: load, fill, freeze, attach, pin, count.
//!
//! The only part that knows aya and the bpf system call. It is handed a [`Plan`](crate::plan::Plan)
//! and knows nothing of policies, of the clock, or of who asked.

mod attachment;
mod bpffs;
mod callers;
mod clsact;
mod counters;
mod deployment;
mod dump;
mod entrances;
mod error;
mod filter;
mod hook;
mod interface;
mod keys;
mod memory;
mod monitor;
mod netlink;
mod object;
mod pin;
mod pins;
mod probe;
mod programs;
mod proof;
mod repair;
mod reports;
mod sections;
mod shared;
mod slots;
mod sockets;
mod steps;
mod sys;
mod test_run;
mod top_sources;
mod trace;
mod trial;
mod trie_key;
mod version;

pub use crate::config::Mode;
pub use attachment::Attachment;
pub use callers::Caller;
pub use counters::Count;
pub use deployment::{Deployment, Followed, Prepared};
pub use dump::{Constant, Dump};
pub use entrances::unfiltered;
pub use error::Error;
pub use filter::{Filter, Found, Stray};
pub use hook::Hook;
pub use interface::{Bound, Interface, Matched, host_addresses};
pub use monitor::Monitor;
pub use pins::Repaired;
pub use probe::{Probed, Verdict};
pub use reports::{Denial, Follower, Reader, monotonic};
pub use sockets::{Connection, Listener, connections, destroy, listeners};
pub use steps::{Stepper, Steps};
pub use test_run::{Action, Kind};
pub use top_sources::TopSource;
pub use trace::Trace;
pub use trial::Trial;
pub use version::{abi_version, pretend_abi_version};
