//! The authorization service: decides whole requests for a reverse proxy.
//!
//! A process without privileges. It reads the same configuration and policies as the filter and asks the
//! same evaluator, but links nothing of the filter's: no BPF, no netlink. [`main`] is its binary.
//!
//! A connection comes in (`listen`), speaks HTTP, gRPC or SPOE (`http`, `grpc`, `spoe`), and asks a question:
//! who a client is (`client`) and what it asks for (`question`), by what trusted proxies say. The `gate` has
//! the policies in force judge it (`service`), by every way its path can be read (`readings`).

mod answer;
mod cli;
mod client;
mod gate;
mod grpc;
mod http;
mod listen;
mod metrics;
mod page;
mod question;
mod read;
mod readings;
mod refusal;
mod service;
mod spoe;

pub use cli::main;
