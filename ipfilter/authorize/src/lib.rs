//! The authorization service: decides whole requests for a reverse proxy.
//!
//! A process without privileges. It asks the same evaluator as the filter about the same policies, which the
//! filter's process hands it (`follow`) or which it reads itself (`read`), but links nothing of the filter's:
//! no BPF, no netlink. [`main`] is its binary.
//!
//! A connection comes in (`listen`), speaks HTTP, gRPC or SPOE (`http`, `grpc`, `spoe`), and asks a question:
//! who a client is (`client`) and what it asks for (`question`), by what trusted proxies say. The `gate` has
//! the policies in force judge it (`service`), by every way its path can be read (`readings`).

mod answer;
mod cli;
mod client;
mod failure;
mod follow;
mod gate;
mod grpc;
mod http;
mod in_force;
mod listen;
mod metrics;
mod overruled;
mod page;
mod question;
mod read;
mod readings;
mod refusal;
mod service;
mod spoe;

pub use cli::main;
