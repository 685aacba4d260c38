//! How long to measure, and the loop that does it.

use std::io;
use std::time::{Duration, Instant};

/// Operations between two looks at the clock, so that the clock costs nothing next to them.
const BATCH: u64 = 32;
/// Operations that warm up at the least: the library parks what was silent in 32 waits, and these are long before it has.
const WARM_OPERATIONS: u64 = 128;

#[derive(Clone, Copy)]
pub struct Timing {
    pub warm: Duration,
    pub measure: Duration,
}

/// Nanoseconds an operation. The warm-up is the same work: caches, and time for the library to park what is silent.
pub fn nanoseconds(
    timing: Timing,
    mut operation: impl FnMut() -> io::Result<()>,
) -> io::Result<f64> {
    repeat(timing.warm, WARM_OPERATIONS, &mut operation)?;
    let begin = Instant::now();
    let count = repeat(timing.measure, 1, &mut operation)?;
    Ok(begin.elapsed().as_nanos() as f64 / count as f64)
}

fn repeat(
    time: Duration,
    least: u64,
    operation: &mut impl FnMut() -> io::Result<()>,
) -> io::Result<u64> {
    let begin = Instant::now();
    let mut count = 0;
    while begin.elapsed() < time || count < least {
        for _ in 0..BATCH {
            operation()?;
        }
        count += BATCH;
    }
    Ok(count)
}

/// The measurement is void when the calls did not do what they are timed for.
pub fn expect(what: &str, found: usize, expected: usize) -> io::Result<()> {
    if found == expected {
        Ok(())
    } else {
        Err(io::Error::other(format!("{what}: {found} instead of {expected}")))
    }
}
