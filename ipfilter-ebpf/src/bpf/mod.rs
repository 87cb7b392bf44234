//! Everything that exists only in the kernel: packet pointers, maps, and the way out.

pub mod act;
pub mod callers;
pub mod context;
pub mod maps;
pub mod record;
pub mod report;
pub mod share;
