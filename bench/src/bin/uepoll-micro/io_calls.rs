//! What replaced functions cost that have nothing to do with epoll.

use std::fs::OpenOptions;
use std::hint::black_box;
use std::io;
use std::os::fd::OwnedFd;

use crate::sys::{self, EPOLLIN, Epoll, Events};
use crate::timing::{Timing, expect, nanoseconds};
use crate::watched::{Kind, Watched};

/// An instance that watches something else: the library is at work in this process, but not on our descriptor.
pub fn elsewhere() -> io::Result<(Epoll, OwnedFd)> {
    let epoll = Epoll::new()?;
    let other = sys::eventfd(0)?;
    epoll.add(&other, EPOLLIN, 0)?;
    expect("events", epoll.wait(&mut Events::with_room(1), 0)?, 0)?;
    Ok((epoll, other))
}

pub fn null(timing: Timing) -> io::Result<f64> {
    let _elsewhere = elsewhere()?;
    let null = OwnedFd::from(OpenOptions::new().write(true).open("/dev/null")?);
    nanoseconds(timing, || sys::write(&null, black_box(b"x")))
}

pub fn eventfd(timing: Timing, watch: bool) -> io::Result<f64> {
    let (epoll, _other) = elsewhere()?;
    let watched = Watched::new(Kind::Eventfd)?;
    if watch {
        epoll.add(&watched.fd, EPOLLIN, 1)?;
    }
    nanoseconds(timing, || {
        watched.stir()?;
        watched.drain()
    })
}

pub fn dup_close(timing: Timing) -> io::Result<f64> {
    let _elsewhere = elsewhere()?;
    let fd = sys::eventfd(0)?;
    nanoseconds(timing, || sys::dup(&fd).map(drop))
}
