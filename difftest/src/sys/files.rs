//! Descriptors: making them, and what programs do to them.

use std::ffi::CStr;
use std::mem::{size_of, zeroed};

use libc::{c_int, c_uint, sockaddr, socklen_t};
use syscalls::{Sysno, syscall};

use super::{Answer, Fd, checked, sized};
use crate::script::{Half, Way};

pub fn pipe() -> Answer<[Fd; 2]> {
    let mut pair = [-1; 2];
    call!(pipe2(pair.as_mut_ptr(), libc::O_NONBLOCK))?;
    Ok(pair)
}

pub fn socket_pair(socket_type: c_int) -> Answer<[Fd; 2]> {
    let mut pair = [-1; 2];
    let socket_type = socket_type | libc::SOCK_NONBLOCK;
    call!(socketpair(libc::AF_UNIX, socket_type, 0, pair.as_mut_ptr()))?;
    Ok(pair)
}

pub fn make_fifo(path: &CStr) -> Answer {
    call!(mkfifo(path.as_ptr(), 0o600))
}

pub fn open(path: &CStr, flags: c_int) -> Answer<Fd> {
    call!(open(path.as_ptr(), flags | libc::O_NONBLOCK))
}

/// A socket of UDP or TCP, or of a UNIX stream.
pub fn socket(family: c_int, socket_type: c_int) -> Answer<Fd> {
    call!(socket(family, socket_type | libc::SOCK_NONBLOCK, 0))
}

/// An address as the kernel takes it.
#[derive(Clone, Copy)]
pub struct Address {
    storage: libc::sockaddr_storage,
    len: socklen_t,
}

impl Address {
    /// A free port of 127.0.0.1.
    pub fn loopback() -> Self {
        let mut address = Self::any(libc::AF_INET);
        let inet = libc::sockaddr_in {
            sin_family: libc::AF_INET as u16,
            sin_port: 0,
            sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) },
            sin_zero: [0; 8],
        };
        // SAFETY: the storage is made to hold any address.
        unsafe { (&raw mut address.storage).cast::<libc::sockaddr_in>().write(inet) };
        address.len = size_of::<libc::sockaddr_in>() as socklen_t;
        address
    }

    /// A family without an address: bind(2) chooses a UNIX one, and connect(2) dissolves.
    pub fn any(family: c_int) -> Self {
        // SAFETY: an address may be all zeros.
        let mut storage: libc::sockaddr_storage = unsafe { zeroed() };
        storage.ss_family = family as u16;
        Self { storage, len: 2 }
    }

    fn as_ptr(&self) -> *const sockaddr {
        (&raw const self.storage).cast()
    }
}

pub fn bind(fd: Fd, address: &Address) -> Answer {
    call!(bind(fd, address.as_ptr(), address.len))
}

pub fn name_of(fd: Fd) -> Answer<Address> {
    let mut address = Address::any(0);
    let mut len = size_of::<libc::sockaddr_storage>() as socklen_t;
    call!(getsockname(fd, (&raw mut address.storage).cast(), &raw mut len))?;
    Ok(Address { len, ..address })
}

pub fn connect(fd: Fd, address: &Address) -> Answer {
    call!(connect(fd, address.as_ptr(), address.len))
}

pub fn listen(fd: Fd) -> Answer {
    call!(listen(fd, 8))
}

pub fn accept(fd: Fd) -> Answer<Fd> {
    let null = std::ptr::null_mut();
    call!(accept4(fd, null, null.cast(), libc::SOCK_NONBLOCK))
}

/// The next close resets the connection.
pub fn linger_none(fd: Fd) -> Answer {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let len = size_of::<libc::linger>() as socklen_t;
    call!(setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, (&raw const linger).cast(), len))
}

pub fn shutdown(fd: Fd, half: Half) -> Answer {
    let how = match half {
        Half::Read => libc::SHUT_RD,
        Half::Write => libc::SHUT_WR,
        Half::Both => libc::SHUT_RDWR,
    };
    call!(shutdown(fd, how))
}

pub fn eventfd(flags: c_int) -> Answer<Fd> {
    call!(eventfd(0, flags | libc::EFD_NONBLOCK))
}

pub fn timer() -> Answer<Fd> {
    call!(timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK))
}

/// Sets a timer, or stops it with 0.
pub fn arm(fd: Fd, millis: u8) -> Answer {
    // SAFETY: a timer's setting may be all zeros.
    let mut setting: libc::itimerspec = unsafe { zeroed() };
    setting.it_value.tv_nsec = libc::c_long::from(millis) * 1_000_000;
    call!(timerfd_settime(fd, 0, &raw const setting, std::ptr::null_mut()))
}

pub fn inotify(directory: &CStr) -> Answer<Fd> {
    let fd = call!(inotify_init1(libc::IN_NONBLOCK))?;
    call!(inotify_add_watch(fd, directory.as_ptr(), libc::IN_CREATE))?;
    Ok(fd)
}

/// A terminal without line editing: its two sides.
pub fn terminal() -> Answer<[Fd; 2]> {
    let master = call!(posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_NONBLOCK))?;
    call!(unlockpt(master))?;
    let slave = call!(ioctl(master, libc::TIOCGPTPEER, libc::O_RDWR | libc::O_NOCTTY))?;
    // SAFETY: the settings are written by the first call before they are read.
    unsafe {
        let mut settings = zeroed();
        libc::tcgetattr(slave, &raw mut settings);
        libc::cfmakeraw(&raw mut settings);
        libc::tcsetattr(slave, libc::TCSANOW, &raw const settings);
        libc::fcntl(slave, libc::F_SETFL, libc::O_RDWR | libc::O_NONBLOCK);
    }
    Ok([master, slave])
}

pub fn read(fd: Fd, buffer: &mut [u8], way: Way) -> Answer<usize> {
    let (start, len) = (buffer.as_mut_ptr().cast(), buffer.len());
    match way {
        // SAFETY: the buffer is as long as the call is told.
        Way::Plain => sized(unsafe { libc::read(fd, start, len) }),
        // SAFETY: as above.
        Way::Message => sized(unsafe { libc::recv(fd, start, len, 0) }),
        Way::Vector => {
            let part = [libc::iovec { iov_base: start, iov_len: len }];
            // SAFETY: as above.
            sized(unsafe { libc::readv(fd, part.as_ptr(), 1) })
        }
        Way::Foreign => raw!(read, fd, start, len).map(|count| count as usize),
    }
}

pub fn write(fd: Fd, buffer: &[u8], way: Way) -> Answer<usize> {
    let (start, len) = (buffer.as_ptr(), buffer.len());
    match way {
        // SAFETY: the buffer is as long as the call is told.
        Way::Plain => sized(unsafe { libc::write(fd, start.cast(), len) }),
        // SAFETY: as above.
        Way::Message => sized(unsafe { libc::send(fd, start.cast(), len, libc::MSG_NOSIGNAL) }),
        Way::Vector => {
            let part = [libc::iovec { iov_base: start.cast_mut().cast(), iov_len: len }];
            // SAFETY: as above.
            sized(unsafe { libc::writev(fd, part.as_ptr(), 1) })
        }
        Way::Foreign => raw!(write, fd, start, len).map(|count| count as usize),
    }
}

pub fn send_urgent(fd: Fd) -> Answer<usize> {
    let byte = [b'!'];
    // SAFETY: the buffer is as long as the call is told.
    sized(unsafe { libc::send(fd, byte.as_ptr().cast(), 1, libc::MSG_OOB | libc::MSG_NOSIGNAL) })
}

pub fn splice(from: Fd, to: Fd, amount: usize) -> Answer<usize> {
    let none = std::ptr::null_mut();
    // SAFETY: no offsets are given.
    sized(unsafe { libc::splice(from, none, to, none, amount, libc::SPLICE_F_NONBLOCK) })
}

pub fn close(fd: Fd) -> Answer {
    call!(close(fd))
}

pub fn close_range(first: Fd, last: Fd) -> Answer {
    call!(close_range(first as c_uint, last as c_uint, 0))
}

pub fn dup(fd: Fd) -> Answer<Fd> {
    call!(dup(fd))
}

pub fn dup_fd(fd: Fd) -> Answer<Fd> {
    call!(fcntl(fd, libc::F_DUPFD, 3))
}

pub fn dup2(from: Fd, onto: Fd) -> Answer<Fd> {
    call!(dup2(from, onto))
}

pub fn dup3(from: Fd, onto: Fd) -> Answer<Fd> {
    call!(dup3(from, onto, libc::O_CLOEXEC))
}
