//! The calls of the program under test, through libc's symbols, and the kernel's epoll, by system calls in line.
//!
//! Unsafe code stands here alone: the calls must pass by the very symbols that the library interposes, or past them,
//! and no safe wrapper promises either. Every function takes what it points to as a reference or a slice, and gives the
//! error's number.
#![allow(unsafe_code)]

use std::mem::zeroed;

use libc::c_int;
use syscalls::{Sysno, syscall};

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

mod files;
pub use files::*;

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
        poll_for(fd, events, 0)
    }

    /// The same, for so many milliseconds.
    pub fn poll_for(fd: Fd, events: i16, time: u8) -> Answer<i16> {
        let mut polled = [libc::pollfd { fd, events, revents: 0 }];
        let mut left = libc::timespec { tv_sec: 0, tv_nsec: i64::from(time) * 1_000_000 };
        raw!(ppoll, polled.as_mut_ptr(), 1usize, &raw mut left, 0usize, 8usize)?;
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

/// Takes what is pending of them away.
pub fn drain_user_signals() {
    let (set, none) = (user_signals(), libc::timespec { tv_sec: 0, tv_nsec: 0 });
    while call!(sigtimedwait(&raw const set, std::ptr::null_mut(), &raw const none)).is_ok() {}
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

/// Returns when a child has ended. It stays to be reaped.
pub fn await_end(child: c_int) {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    let how = libc::WEXITED | libc::WNOWAIT;
    let _ = call!(waitid(libc::P_PID, child as libc::id_t, info.as_mut_ptr(), how));
}

pub fn pid_fd(child: c_int) -> Answer<Fd> {
    raw!(pidfd_open, child, 0usize)
}

/// Bytes that a read would find, as the file says; of message sockets those of the next message.
pub fn queued(fd: Fd) -> Option<c_int> {
    let mut count: c_int = 0;
    raw!(ioctl, fd, libc::FIONREAD, &raw mut count).ok().map(|_| count)
}

/// Whether a descriptor was opened for reading.
pub fn is_readable(fd: Fd) -> bool {
    raw!(fcntl, fd, libc::F_GETFL, 0)
        .is_ok_and(|flags| flags as c_int & libc::O_ACCMODE != libc::O_WRONLY)
}

/// Memory of what was sent by a UNIX socket and is not read yet.
pub fn unread(fd: Fd) -> Option<u64> {
    let mut count: c_int = 0;
    raw!(ioctl, fd, libc::TIOCOUTQ, &raw mut count).ok().map(|_| count as u64)
}

/// Memory of what came to a socket and is not read yet.
pub fn received(fd: Fd) -> Option<u64> {
    // The first of the numbers is that of the receiving side (sock_diag(7), SK_MEMINFO_RMEM_ALLOC).
    let mut numbers = [0u32; 16];
    let mut len = std::mem::size_of_val(&numbers) as libc::socklen_t;
    option(fd, libc::SOL_SOCKET, libc::SO_MEMINFO, numbers.as_mut_ptr().cast(), &mut len)?;
    Some(u64::from(numbers[0]))
}

/// Bytes that ever came to a TCP socket. FIONREAD does not count those behind urgent ones.
pub fn ever_received(fd: Fd) -> Option<u64> {
    // `struct tcp_info` has tcpi_bytes_received here since Linux 4.1; libc's ends before it.
    const BYTES_RECEIVED: usize = 128 / 8;
    tcp_info(fd).map(|numbers| numbers[BYTES_RECEIVED])
}

/// The state of a TCP socket: ESTABLISHED, FIN_WAIT2 and so on.
pub fn tcp_state(fd: Fd) -> Option<u8> {
    tcp_info(fd).map(|numbers| numbers[0].to_ne_bytes()[0])
}

fn tcp_info(fd: Fd) -> Option<[u64; 32]> {
    let mut numbers = [0u64; 32];
    let mut len = std::mem::size_of_val(&numbers) as libc::socklen_t;
    option(fd, libc::IPPROTO_TCP, libc::TCP_INFO, numbers.as_mut_ptr().cast(), &mut len)?;
    Some(numbers)
}

fn option(
    fd: Fd,
    level: c_int,
    name: c_int,
    value: *mut u8,
    len: &mut libc::socklen_t,
) -> Option<c_int> {
    raw!(getsockopt, fd, level, name, value, std::ptr::from_mut(len)).ok()
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
