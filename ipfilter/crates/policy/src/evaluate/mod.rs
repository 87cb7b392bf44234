//! One evaluator: the rules of the policy language, whatever is asked.
//!
//! A statement is matched against a [`View`]: what is known of a request, or of all requests at once. Each
//! element has an [`Answer`]: yes, no or maybe, for one request or as sets of sources. [`request`]
//! sees a whole request; [`crate::network`] sees what an interface sees.

mod answer;
mod calls;
mod decide;
mod request;
mod rules;
mod view;

pub use request::{Context, Request};

pub(crate) use answer::{Answer, Reach};
pub(crate) use calls::{Calls, matches_a_call};
pub(crate) use decide::{Cover, Findings, Found, Pair, Rule, Rules};
pub(crate) use request::AskedRequest;
pub(crate) use rules::Factor;
pub(crate) use view::{Attribute, Caller, ClockText, View};
