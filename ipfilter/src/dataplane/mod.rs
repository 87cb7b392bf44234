//! Plans in the kernel: load, fill, freeze, attach, pin, count.
