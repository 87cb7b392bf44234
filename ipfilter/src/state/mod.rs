//! What is kept on disk of an instance: its record, and the inputs of its deployments.
//!
//! Used by the daemon and by the commands alike; knows no map and no packet, and decides nothing.

mod history;
mod inputs;
mod overrides;
mod record;
mod store;

pub use history::History;
pub use inputs::Inputs;
pub(crate) use overrides::{load as load_overrides, save as save_overrides};
pub(crate) use record::PlanRecord;
pub use record::{ApiRecord, Cause, Deployed, Outcome, Record, Reload};
