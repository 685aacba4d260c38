//! The calls of the program under test, through libc's symbols, and the kernel's epoll, by system calls in line.
//!
//! Unsafe code stands here alone: the calls must pass by the very symbols that the library interposes, or past them,
//! and no safe wrapper promises either. Every function takes what it points to as a reference or a slice, and gives the
//! error's number.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::mem::{size_of, zeroed};

use libc::{c_int, c_uint, sockaddr, socklen_t};
use syscalls::{Sysno, syscall};

use crate::script::{Half, Way};

/// A descriptor's number.
pub type Fd = c_int;
/// A value, or errno.
pub type Answer<T = c_int> = Result<T, c_int>;
/// `struct epoll_event`.
pub use libc::epoll_event as Event;

fn errno() -> c_int {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

fn checked(result: c_int) -> Answer {
    if result < 0 { Err(errno()) } else { Ok(result) }
}

fn sized(result: isize) -> Answer<usize> {
    usize::try_from(result).map_err(|_| errno())
}

/// Calls a function of libc whose arguments are numbers, or pointers made from references in the same expression.
macro_rules! call {
    ($function:ident($($argument:expr),* $(,)?)) => {
        // SAFETY: the arguments are numbers, or point to live objects of the size that the call is told.
        checked(unsafe { libc::$function($($argument),*) })
    };
}

/// A system call that no library sees. The same holds of its arguments.
macro_rules! raw {
    ($name:ident $(, $argument:expr)*) => {
        // SAFETY: the arguments are numbers, or point to live objects of the size that the call is told.
        unsafe { syscall!(Sysno::$name $(, $argument)*) }
            .map(|value| value as c_int)
            .map_err(|error| error.into_raw())
    };
}

/// Our epoll: the interposed functions.
pub mod ours {
    use super::*;

    pub fn create() -> Answer<Fd> {
        call!(epoll_create1(libc::EPOLL_CLOEXEC))
    }

    pub fn ctl(epoll: Fd, op: c_int, fd: Fd, mut event: Event) -> Answer {
        call!(epoll_ctl(epoll, op, fd, &raw mut event))
    }

    pub fn wait(epoll: Fd, events: &mut [Event], millis: c_int) -> Answer<usize> {
        let count = call!(epoll_wait(epoll, events.as_mut_ptr(), events.len() as c_int, millis))?;
        Ok(count as usize)
    }

    pub fn poll(fd: Fd, events: i16) -> Answer<i16> {
        let mut polled = [libc::pollfd { fd, events, revents: 0 }];
        call!(poll(polled.as_mut_ptr(), 1, 0))?;
        Ok(polled[0].revents)
    }

    pub fn select(fd: Fd) -> Answer {
        let mut set = set_of(fd);
        let mut none = libc::timeval { tv_sec: 0, tv_usec: 0 };
        let null = std::ptr::null_mut();
        call!(select(fd + 1, &raw mut set, null, null, &raw mut none))
    }
}

/// The kernel's epoll.
pub mod kernel {
    use super::*;

    pub fn create() -> Answer<Fd> {
        raw!(epoll_create1, libc::EPOLL_CLOEXEC)
    }

    pub fn ctl(epoll: Fd, op: c_int, fd: Fd, mut event: Event) -> Answer {
        raw!(epoll_ctl, epoll, op, fd, &raw mut event)
    }

    pub fn wait(epoll: Fd, events: &mut [Event], millis: c_int) -> Answer<usize> {
        let count =
            raw!(epoll_pwait, epoll, events.as_mut_ptr(), events.len(), millis, 0usize, 8usize)?;
        Ok(count as usize)
    }

    pub fn poll(fd: Fd, events: i16) -> Answer<i16> {
        let mut polled = [libc::pollfd { fd, events, revents: 0 }];
        let mut none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        raw!(ppoll, polled.as_mut_ptr(), 1usize, &raw mut none, 0usize, 8usize)?;
        Ok(polled[0].revents)
    }

    pub fn select(fd: Fd) -> Answer {
        let mut set = set_of(fd);
        let mut none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        raw!(pselect6, fd + 1, &raw mut set, 0usize, 0usize, &raw mut none, 0usize)
    }

    pub fn close(fd: Fd) -> Answer {
        raw!(close, fd)
    }

    /// A duplicate with a number that scripts do not reach.
    pub fn dup_above(fd: Fd, least: Fd) -> Answer<Fd> {
        raw!(fcntl, fd, libc::F_DUPFD_CLOEXEC, least)
    }
}

fn set_of(fd: Fd) -> libc::fd_set {
    // SAFETY: a set of descriptors may be all zeros, and the number is below its size.
    unsafe {
        let mut set = zeroed();
        assert!((0..libc::FD_SETSIZE as c_int).contains(&fd));
        libc::FD_SET(fd, &raw mut set);
        set
    }
}

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

/// SIGUSR1 and SIGUSR2.
fn user_signals() -> libc::sigset_t {
    // SAFETY: the calls fill the set.
    unsafe {
        let mut set = zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGUSR1);
        libc::sigaddset(&raw mut set, libc::SIGUSR2);
        set
    }
}

pub fn block_user_signals() -> Answer {
    let set = user_signals();
    call!(sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()))
}

pub fn signal_fd() -> Answer<Fd> {
    let set = user_signals();
    call!(signalfd(-1, &raw const set, libc::SFD_NONBLOCK))
}

pub fn kill(process: c_int, signal: c_int) -> Answer {
    call!(kill(process, signal))
}

pub fn process() -> c_int {
    std::process::id() as c_int
}

pub fn reap(child: c_int) -> Answer {
    call!(waitpid(child, std::ptr::null_mut(), 0))
}

pub fn pid_fd(child: c_int) -> Answer<Fd> {
    raw!(pidfd_open, child, 0usize)
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
    // SAFETY: the buffer is as long as the call is told.
    match way {
        Way::Plain => sized(unsafe { libc::read(fd, start, len) }),
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
    // SAFETY: the buffer is as long as the call is told.
    match way {
        Way::Plain => sized(unsafe { libc::write(fd, start.cast(), len) }),
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

pub fn is_open(fd: Fd) -> bool {
    raw!(fcntl, fd, libc::F_GETFD).is_ok()
}

/// Runs `work` in a child of fork(2), which ends with it and runs no exit handler. Gives the child's id.
pub fn in_child(work: impl FnOnce()) -> Answer {
    let child = call!(fork())?;
    if child == 0 {
        work();
        // SAFETY: ends the process.
        unsafe { libc::_exit(0) }
    }
    Ok(child)
}

/// A child without descriptors, which sleeps until it is killed.
pub fn sleeping_child() -> Answer {
    let mut gate = [-1; 2];
    raw!(pipe2, gate.as_mut_ptr(), libc::O_CLOEXEC)?;
    let child = in_child(|| {
        let _ = raw!(prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        let _ = raw!(close_range, 0usize, u32::MAX, 0usize);
        loop {
            let _ = raw!(pause);
        }
    });
    let _ = raw!(close, gate[1]);
    // The end comes when the child has closed everything.
    let mut byte = [0u8; 1];
    let _ = raw!(read, gate[0], byte.as_mut_ptr(), 1usize);
    let _ = raw!(close, gate[0]);
    child
}

/// Ends this process after so many seconds; 0 takes that back. `tell` runs first, in a signal handler.
pub fn alarm(seconds: u32, tell: extern "C" fn(c_int)) {
    // SAFETY: the handler does only what is allowed in one.
    unsafe {
        libc::signal(libc::SIGALRM, tell as libc::sighandler_t);
        libc::alarm(seconds);
    }
}

/// For the handler of an alarm: says a word on stderr and ends the process.
pub fn last_words(text: &[u8]) -> ! {
    let _ = raw!(write, 2usize, text.as_ptr(), text.len());
    // SAFETY: ends the process.
    unsafe { libc::_exit(2) }
}
