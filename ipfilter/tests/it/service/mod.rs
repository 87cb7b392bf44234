//! The real binary: its commands, its daemon, its outputs, and everything that goes wrong around it.

mod activity;
mod authorize;
mod busy;
mod changes;
mod chaos;
mod complete;
mod config;
mod confirm;
mod cut;
mod daemon;
mod doors;
mod explain_live;
mod exposure;
mod fail2ban;
mod faults;
mod init;
pub(crate) mod live;
mod metrics;
mod names;
mod overrides;
mod ownership;
mod pace;
mod reports;
mod run;
mod special_files;
mod status;
mod top;
