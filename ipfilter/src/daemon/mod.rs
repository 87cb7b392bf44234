//! The long-running process: one loop over one event type.
