//! Fleets: many hosts, one configuration, in etcd.
//!
//! The publisher (`publish`) checks a configuration, stores it in etcd as an immutable bundle, and has a group of hosts
//! enforce it, some first if that is wanted. The `agent` of each host follows its group and offers what it is to
//! enforce to the filter's process, which checks everything itself. [`main`] is the binary of both.
//!
//! `etcd` is a client of etcd; `store` is what is kept in it.

mod agent;
mod cli;
mod etcd;
mod outcome;
mod overview;
mod publish;
pub mod simulate;
mod store;

pub use cli::main;
