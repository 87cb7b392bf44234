//! A policy as it is written: the whole document, each part with its place.
//!
//! Nothing is judged here, and nothing is thrown away.

pub(crate) mod action;
pub(crate) mod address;
pub(crate) mod condition;
pub(crate) mod container;
pub(crate) mod document;
pub(crate) mod key;
mod language;
pub(crate) mod principal;
pub(crate) mod reader;
pub(crate) mod resource;
pub(crate) mod statement;
pub(crate) mod template;
pub(crate) mod time;
