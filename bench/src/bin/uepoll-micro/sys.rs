//! The calls that are measured, as libc's symbols: those are what a preloaded library interposes. (rustix would make
//! the system calls itself and measure the kernel twice.)
#![allow(
    unsafe_code,
    reason = "epoll, eventfd and friends exist in libc only as foreign functions; all of them are here"
)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use libc::{c_int, epoll_event};

pub use libc::{EPOLLET, EPOLLIN, EPOLLONESHOT};

/// An epoll instance.
pub struct Epoll(OwnedFd);

/// Room for the events of one wait.
pub struct Events(Vec<epoll_event>);

impl Events {
    pub fn with_room(room: usize) -> Events {
        Events(vec![epoll_event { events: 0, u64: 0 }; room])
    }

    /// The data of an event of the last wait.
    pub fn data(&self, index: usize) -> usize {
        // A copy: the structure is packed on x86-64.
        let event = self.0[index];
        event.u64 as usize
    }
}

impl Epoll {
    pub fn new() -> io::Result<Epoll> {
        // SAFETY: no pointers; the result is checked before it is owned.
        owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) }).map(Epoll)
    }

    pub fn add(&self, fd: &OwnedFd, events: c_int, data: usize) -> io::Result<()> {
        self.ctl(libc::EPOLL_CTL_ADD, fd, events, data)
    }

    pub fn modify(&self, fd: &OwnedFd, events: c_int, data: usize) -> io::Result<()> {
        self.ctl(libc::EPOLL_CTL_MOD, fd, events, data)
    }

    pub fn delete(&self, fd: &OwnedFd) -> io::Result<()> {
        self.ctl(libc::EPOLL_CTL_DEL, fd, 0, 0)
    }

    /// How many events came. `timeout` is in milliseconds, -1 waits without end.
    pub fn wait(&self, events: &mut Events, timeout: c_int) -> io::Result<usize> {
        let room = events.0.len() as c_int;
        // SAFETY: the vector has room for that many events and is borrowed for the whole call.
        let count =
            unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.0.as_mut_ptr(), room, timeout) };
        if count < 0 { Err(io::Error::last_os_error()) } else { Ok(count as usize) }
    }

    pub fn number(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    fn ctl(&self, operation: c_int, fd: &OwnedFd, events: c_int, data: usize) -> io::Result<()> {
        let mut event = epoll_event { events: events as u32, u64: data as u64 };
        // SAFETY: the event lives over the call, which only reads it.
        done(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), operation, fd.as_raw_fd(), &mut event) })
    }
}

pub fn eventfd(count: u32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the result is checked before it is owned.
    owned(unsafe { libc::eventfd(count, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })
}

pub fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut pair = [-1; 2];
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: the array has room for both descriptors.
    done(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, pair.as_mut_ptr()) })?;
    Ok((owned(pair[0])?, owned(pair[1])?))
}

/// The reading and the writing end.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    // SAFETY: the array has room for both descriptors.
    done(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) })?;
    Ok((owned(ends[0])?, owned(ends[1])?))
}

pub fn dup(fd: &OwnedFd) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the result is checked before it is owned.
    owned(unsafe { libc::dup(fd.as_raw_fd()) })
}

/// One `write` call; anything but a full write is an error.
pub fn write(fd: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: the slice is valid for its length and only read.
    let written = unsafe { libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
    match usize::try_from(written) {
        Ok(written) if written == bytes.len() => Ok(()),
        Ok(_) => Err(io::Error::other("short write")),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// One `read` call.
pub fn read(fd: &OwnedFd, bytes: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the slice is valid for its length and borrowed for the whole call.
    let length = unsafe { libc::read(fd.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len()) };
    usize::try_from(length).map_err(|_| io::Error::last_os_error())
}

/// All descriptors that the hard limit allows.
pub fn raise_descriptor_limit() -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a structure of ours to write to.
    done(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: a structure of ours to read from.
    done(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) })
}

fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: callers hand over what the kernel has just opened for them, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn done(result: c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
