//! epoll_wait over descriptors that do not change: what a look costs.

use std::io;

use crate::sys::{EPOLLIN, Epoll, Events};
use crate::timing::{Timing, expect, nanoseconds};
use crate::watched::{Kind, Watched};

/// Level-triggered and never drained: every wait finds the same `ready` descriptors (none or one) among `size`.
pub fn among(
    timing: Timing,
    kind: Kind,
    size: usize,
    ready: usize,
    timeout: i32,
) -> io::Result<f64> {
    let epoll = Epoll::new()?;
    let crowd = Watched::crowd(&epoll, kind, size, EPOLLIN)?;
    for watched in crowd.iter().skip(size / 2).take(ready) {
        watched.stir()?;
    }
    let mut events = Events::with_room(64);
    nanoseconds(timing, || expect("events", epoll.wait(&mut events, timeout)?, ready))
}

/// How many times as long one ready among `large` takes as one among `small`, in one process.
pub fn parked_over(timing: Timing, large: usize, small: usize) -> io::Result<f64> {
    let few = among(timing, Kind::SocketPair, small, 1, -1)?;
    let many = among(timing, Kind::SocketPair, large, 1, -1)?;
    Ok(many / few)
}
