//! The integration tests: one binary, grouped by what they show.
//!
//! - [`policy`]: what a policy means, and how `check` and `explain` say it. Needs no root.
//! - [`change`]: what a change would do, before it is made.
//! - [`kernel`]: what loaded programs do with packets, and how deployments are made.
//! - [`service`]: the real binary, under traffic, with everything that goes wrong around it.
//! - [`kubernetes`]: the manifests. Needs no root.
//! - [`matrix`]: what must hold on every supported kernel and network card; runs in VMs.
//!
//! [`transcripts`] runs the documentation, [`documented`] checks that it is complete. The rest is shared: a network to run programs in, frames, policies and the corpus.

#[cfg(test)]
mod change;
#[cfg(test)]
#[expect(
    dead_code,
    reason = "shared with the policy crate's tests, which read the rest"
)]
mod corpus;
#[cfg(test)]
mod documented;
#[cfg(test)]
mod frames;
#[cfg(test)]
mod generate;
#[cfg(test)]
mod kernel;
#[cfg(test)]
mod kubernetes;
#[cfg(test)]
mod lab;
#[cfg(test)]
mod matrix;
#[cfg(test)]
mod names;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod service;
#[cfg(test)]
mod terminal;
#[cfg(test)]
mod transcripts;
