//! What the kernel side and userspace share: the binary interface, the packet parser, the interval
//! table and the verdict. Pure `no_std` code that depends on nothing else of ours, compiled for the
//! BPF target and for the host, so that tests and fuzzers run the very code that the kernel runs.

#![no_std]

pub mod abi;
pub mod interval;
pub mod reply;
pub mod share;
pub mod siphash;
pub mod verdict;
pub mod wire;
