//! What one deployment enforces, as tables. No IO.
