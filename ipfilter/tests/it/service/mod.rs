//! The real binary: its commands, its daemon, its outputs, and everything that goes wrong around it.

mod chaos;
mod config;
mod daemon;
mod explain_live;
pub(crate) mod live;
mod metrics;
mod ownership;
mod reports;
mod run;
mod special_files;
mod top;
