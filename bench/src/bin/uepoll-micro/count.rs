//! Operations done exactly N times. What a run with 2N does more than one with N is N operations, whatever the start of a
//! program costs; so nothing here but the operation itself may depend on N.

use std::fs::OpenOptions;
use std::io;
use std::mem::forget;
use std::os::fd::OwnedFd;

use crate::io_calls::elsewhere;
use crate::sys::{self, EPOLLET, EPOLLIN, Epoll, Events};
use crate::timing::expect;
use crate::watched::{Kind, Watched};

/// Descriptors opened for `add` and `del`, and so the most that either can do.
const MOST: usize = 2000;

pub fn run(operation: &str, times: usize) -> io::Result<()> {
    match operation {
        "add" => add_delete(times, 0),
        "del" => add_delete(MOST, times),
        "mod" => modify(times),
        "write-unwatched" => unwatched(times, 0),
        "read-unwatched" => unwatched(0, times),
        "wait-1-of-16" => wait(times, 1, 16),
        "wait-64-of-64" => wait(times, 64, 64),
        "edge-1-of-16" => edge(times, 16),
        _ => Err(io::Error::other(format!("there is no operation {operation:?}"))),
    }
}

fn add_delete(add: usize, delete: usize) -> io::Result<()> {
    let epoll = Epoll::new()?;
    let fds = (0..MOST).map(|_| sys::eventfd(0)).collect::<io::Result<Vec<_>>>()?;
    for (index, fd) in fds.iter().take(add).enumerate() {
        epoll.add(fd, EPOLLIN, index)?;
    }
    for fd in fds.iter().take(delete) {
        epoll.delete(fd)?;
    }
    // Closing a descriptor that is watched costs more than another: that is not what is counted.
    forget((epoll, fds));
    Ok(())
}

fn modify(times: usize) -> io::Result<()> {
    let epoll = Epoll::new()?;
    let crowd = Watched::crowd(&epoll, Kind::Eventfd, 16, EPOLLIN)?;
    for time in 0..times {
        epoll.modify(&crowd[time % crowd.len()].fd, EPOLLIN, time)?;
    }
    Ok(())
}

/// Files that nobody watches, in a program that has an instance.
fn unwatched(writes: usize, reads: usize) -> io::Result<()> {
    let _elsewhere = elsewhere()?;
    let null = OwnedFd::from(OpenOptions::new().write(true).open("/dev/null")?);
    let zero = OwnedFd::from(OpenOptions::new().read(true).open("/dev/zero")?);
    for _ in 0..writes {
        sys::write(&null, b"x")?;
    }
    for _ in 0..reads {
        expect("bytes read", sys::read(&zero, &mut [0; 8])?, 8)?;
    }
    Ok(())
}

/// Level-triggered and never drained, so that every wait finds the same.
fn wait(times: usize, ready: usize, size: usize) -> io::Result<()> {
    let epoll = Epoll::new()?;
    let crowd = Watched::crowd(&epoll, Kind::SocketPair, size, EPOLLIN)?;
    for watched in crowd.iter().take(ready) {
        watched.stir()?;
    }
    let mut events = Events::with_room(size);
    for _ in 0..times {
        expect("events", epoll.wait(&mut events, -1)?, ready)?;
    }
    Ok(())
}

/// Edge-triggered: a write on the other end, the wait that reports it, the read that drains it.
fn edge(times: usize, size: usize) -> io::Result<()> {
    let epoll = Epoll::new()?;
    let crowd = Watched::crowd(&epoll, Kind::SocketPair, size, EPOLLIN | EPOLLET)?;
    let mut events = Events::with_room(size);
    for time in 0..times {
        let watched = &crowd[time % size];
        watched.stir()?;
        expect("events", epoll.wait(&mut events, -1)?, 1)?;
        watched.drain()?;
    }
    Ok(())
}
