//! What is kept on disk of an instance: its record, the inputs of its deployments, its overrides, and
//! what happened to it.
//!
//! Used by the daemon and by the commands alike; knows no map and no packet, and decides nothing.

mod activity;
mod fleet;
mod history;
mod input_file;
mod inputs;
mod overrides;
mod record;
mod recording;
mod requester;
mod store;
mod trial;
mod verified;

pub(crate) use activity::note;
pub use activity::{Entry, Kind, activity};
pub use fleet::{Accepted, Refusal, Since};
pub(crate) use fleet::{Admitted, forget_bundle, keep_bundle};
pub use history::History;
pub use input_file::{FileState, InputFile};
pub use inputs::Inputs;
pub(crate) use overrides::{load as load_overrides, save as save_overrides};
pub(crate) use record::PlanRecord;
pub use record::{ApiRecord, Cause, Deployed, Outcome, Record, Reload};
pub(crate) use recording::record;
pub use recording::recorded;
pub use requester::{Requester, User};
pub use trial::{Purpose, Trial};
pub(crate) use trial::{shown as shown_time, since_boot};
pub use verified::Verified;
