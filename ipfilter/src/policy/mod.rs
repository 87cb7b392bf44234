//! Resource policies: from text to decisions. No IO.
