//! ipfilter lets the clients that an AWS API Gateway resource policy names reach an API, and turns
//! everyone else away at the network interface.
//!
//! The modules, in the order in which data flows: [`policy`] text becomes [`addresses`] sets, [`plan`] makes
//! tables of them, [`kernel`] loads and attaches those, [`daemon`] keeps them current, [`cli`] is what an
//! operator types and [`view`] what is answered.

pub use ipfilter_addresses as addresses;
pub use ipfilter_config::{self as config, endpoint, files};
pub use ipfilter_document as document;
pub use ipfilter_overrides as overrides;
pub use ipfilter_plan as plan;
pub use ipfilter_policy as policy;

pub mod agreement;
pub mod cli;
mod compare;
pub mod daemon;
pub mod exposure;
pub mod failure;
mod impact;
pub mod instance;
pub mod kernel;
pub mod lock;
mod namespace;
pub mod packet;
mod prepare;
pub mod progress;
pub mod published;
mod replay;
pub mod session;
pub mod state;
mod verify;
pub mod view;
