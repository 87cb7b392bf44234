//! What is asked of etcd (v3): a client on tonic, of the few calls that are made here. It fails over between the
//! members of the cluster, and knows nothing of groups and bundles.

mod access;
mod client;
mod connection;
mod failure;
mod messages;
mod place;
mod txn;
mod watch;

pub(crate) use access::{Access, Credentials};
pub(crate) use client::Client;
pub(crate) use failure::Failure;
pub(crate) use messages::KeyValue;
pub(crate) use place::Place;
pub(crate) use txn::Txn;
pub(crate) use watch::{Changed, Watch};

/// The first key behind those that begin with `prefix`.
fn behind(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last = last.saturating_add(1);
    }
    end
}
