//! ipfilter lets the clients that an AWS API Gateway resource policy names reach an API, and turns
//! everyone else away at the network interface.
//!
//! The modules stand in the order the data flows: [`policy`] text becomes [`addresses`] sets,
//! [`plan`] makes tables of them, [`dataplane`] loads and attaches those, [`daemon`] keeps them
//! current, [`cli`] is what an operator types and [`report`] what is answered.

pub mod addresses;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod dataplane;
pub mod endpoint;
pub mod files;
pub mod instance;
pub mod packet;
pub mod plan;
pub mod policy;
pub mod progress;
pub mod report;
