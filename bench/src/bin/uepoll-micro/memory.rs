//! Resident memory. The kernel keeps its items where no process is charged for them: the native figures are nought.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use crate::sys::{self, EPOLLIN, Epoll, Events};
use crate::timing::{Timing, expect};

/// An instance with many silent descriptors.
struct Crowd {
    epoll: Epoll,
    events: Events,
    _fds: Vec<OwnedFd>,
    /// What it all took, the first wait included.
    bytes: f64,
}

fn crowd(size: usize) -> io::Result<Crowd> {
    let mut events = Events::with_room(64);
    // A first small instance: what the library needs for any program at all is not a price of the descriptors.
    let first = Epoll::new()?;
    let fd = sys::eventfd(0)?;
    first.add(&fd, EPOLLIN, 0)?;
    expect("events", first.wait(&mut events, 0)?, 0)?;
    // Four bytes for each, which count.
    let mut fds = Vec::with_capacity(size);
    let epoll = Epoll::new()?;
    let before = resident()?;
    for index in 0..size {
        let fd = sys::eventfd(0)?;
        epoll.add(&fd, EPOLLIN, index)?;
        fds.push(fd);
    }
    // The set that is slept on, too, while nothing is parked yet.
    expect("events", epoll.wait(&mut events, 0)?, 0)?;
    Ok(Crowd { epoll, events, _fds: fds, bytes: resident()? - before })
}

/// Bytes for each of `size` registered descriptors: what opening and registering them takes, with one wait.
pub fn a_descriptor(size: usize) -> io::Result<f64> {
    Ok(crowd(size)?.bytes / size as f64)
}

/// kB for each thread that the library starts for `size` silent descriptors; 0 if there is none.
pub fn a_watcher(timing: Timing, size: usize) -> io::Result<f64> {
    let mut crowd = crowd(size)?;
    let (before, own) = (resident()?, threads()?);
    let begin = Instant::now();
    while begin.elapsed() < timing.warm + timing.measure {
        expect("events", crowd.epoll.wait(&mut crowd.events, 1)?, 0)?;
    }
    let watchers = threads()? - own;
    Ok(if watchers == 0 { 0.0 } else { (resident()? - before) / 1024.0 / watchers as f64 })
}

fn threads() -> io::Result<usize> {
    Ok(fs::read_dir("/proc/self/task")?.count())
}

/// Bytes, from where they are counted exactly: the sum in /proc/self/status lags behind by some pages a processor.
fn resident() -> io::Result<f64> {
    let text = fs::read_to_string("/proc/self/smaps_rollup")?;
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:")?.trim().strip_suffix(" kB"));
    let kilobytes: Option<f64> = line.and_then(|number| number.trim().parse().ok());
    kilobytes
        .map(|number| number * 1024.0)
        .ok_or_else(|| io::Error::other("smaps_rollup has no Rss"))
}
