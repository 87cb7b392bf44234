//! What the operator asks for, from a file or from the command line.
//!
//! [`Config`] is the outcome of both. Each setting is defined once, in `settings.rs`. Policies are named
//! here, not read, and nothing here knows what becomes of a configuration. [`files`] reads what operators
//! write, [`endpoint`] says where something is served.

mod authorize;
mod bundle;
mod choice;
pub mod endpoint;
pub mod files;
mod fleet;
mod folder;
mod mode;
pub mod protected;
mod read;
mod recording;
mod settings;
mod source;
mod table;
#[cfg(test)]
mod tests;
mod value;

pub use authorize::{Authorize, Stage, User, VpcEndpoint};
pub use bundle::{NotGathered, gather, gathered, received};
pub use choice::{Choice, OnError, choice};
pub use endpoint::Endpoint;
pub use fleet::{Fleet, Follow};
pub use folder::Folder;
pub use mode::Mode;
pub use read::{ReadApi, Reading, Unusable, read};
pub use recording::Recording;
pub use settings::address;
pub use settings::{ApiConfig, Config, PolicyOptions, Service};
pub use source::{ConfigSource, GivenOptions};
pub use table::{Field, Given, Settings};
pub use value::{AnswerRate, duration};
