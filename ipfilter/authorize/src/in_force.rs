//! The policies in force, and the overrides above them.

use std::sync::Arc;

use crate::{overruled::Overruled, service::Service};

/// What requests are decided by.
#[derive(Debug)]
pub(crate) struct InForce {
    pub(crate) service: Arc<Service>,
    pub(crate) overruled: Overruled,
    /// The digest of the plan that the filter enforces beside it, where that is known.
    pub(crate) plan: Option<String>,
}

impl InForce {
    /// Policies without a filter beside them.
    pub(crate) fn alone(service: Service) -> Self {
        Self {
            service: Arc::new(service),
            overruled: Overruled::default(),
            plan: None,
        }
    }
}
