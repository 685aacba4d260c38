//! Atomics, threads and the hint of a spin: the standard library's, or, with `--cfg shuttle`, shuttle's, which decides at
//! each of their operations who goes on (tests/models).

#[cfg(not(shuttle))]
pub use std::{hint, sync::atomic, thread};

#[cfg(shuttle)]
pub use shuttle::{hint, sync::atomic, thread};
