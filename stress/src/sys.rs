//! The calls of this program, through libc's symbols: natively the kernel's, preloaded the library's.
//!
//! Unsafe code stands here alone: the calls must pass by the very symbols that the library interposes, which no safe
//! wrapper promises. Every function takes what it points to as a reference or a slice, and gives the error's number.
#![allow(unsafe_code)]

use std::mem::{size_of, zeroed};
use std::time::Duration;

use libc::{c_int, pid_t, rlimit, sockaddr_in, socklen_t};

/// A descriptor's number.
pub type Fd = c_int;
/// A value, or errno.
pub type Answer<T = c_int> = Result<T, c_int>;
/// `struct epoll_event`.
pub type Event = libc::epoll_event;

pub const NO_EVENT: Event = Event { events: 0, u64: 0 };
pub const IN: u32 = libc::EPOLLIN as u32;
pub const OUT: u32 = libc::EPOLLOUT as u32;
pub const RDHUP: u32 = libc::EPOLLRDHUP as u32;
pub const ET: u32 = libc::EPOLLET as u32;
pub const ONESHOT: u32 = libc::EPOLLONESHOT as u32;

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

pub fn epoll() -> Answer<Fd> {
    call!(epoll_create1(libc::EPOLL_CLOEXEC))
}

pub fn ctl(epoll: Fd, op: c_int, fd: Fd, mask: u32, data: u64) -> Answer {
    let mut event = Event { events: mask, u64: data };
    call!(epoll_ctl(epoll, op, fd, &raw mut event))
}

pub fn add(epoll: Fd, fd: Fd, mask: u32, data: u64) -> Answer {
    ctl(epoll, libc::EPOLL_CTL_ADD, fd, mask, data)
}

pub fn modify(epoll: Fd, fd: Fd, mask: u32, data: u64) -> Answer {
    ctl(epoll, libc::EPOLL_CTL_MOD, fd, mask, data)
}

pub fn delete(epoll: Fd, fd: Fd) -> Answer {
    ctl(epoll, libc::EPOLL_CTL_DEL, fd, 0, 0)
}

pub fn wait(epoll: Fd, events: &mut [Event], millis: c_int) -> Answer<usize> {
    let count = call!(epoll_wait(epoll, events.as_mut_ptr(), events.len() as c_int, millis))?;
    Ok(count as usize)
}

/// Waits with `signal` blocked.
pub fn wait_without(
    epoll: Fd,
    events: &mut [Event],
    millis: c_int,
    signal: c_int,
) -> Answer<usize> {
    let mask = set_of(signal);
    let (start, len) = (events.as_mut_ptr(), events.len() as c_int);
    let count = call!(epoll_pwait(epoll, start, len, millis, &raw const mask))?;
    Ok(count as usize)
}

/// Waits by epoll_pwait2, with a timespec.
pub fn wait_for(epoll: Fd, events: &mut [Event], time: Duration) -> Answer<usize> {
    let time = timespec(time);
    let (start, len) = (events.as_mut_ptr(), events.len() as c_int);
    let count = call!(epoll_pwait2(epoll, start, len, &raw const time, std::ptr::null()))?;
    Ok(count as usize)
}

fn timespec(time: Duration) -> libc::timespec {
    libc::timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) }
}

/// What poll(2) tells of `fd` now, for words about a hang.
pub fn state_of(fd: Fd) -> i16 {
    let mut polled = libc::pollfd { fd, events: libc::POLLIN | libc::POLLOUT, revents: 0 };
    call!(poll(&raw mut polled, 1, 0)).map_or(0, |_| polled.revents)
}

pub fn pipe() -> Answer<[Fd; 2]> {
    let mut pair = [-1; 2];
    call!(pipe2(pair.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC))?;
    Ok(pair)
}

pub fn unix_pair(socket_type: c_int) -> Answer<[Fd; 2]> {
    let mut pair = [-1; 2];
    let socket_type = socket_type | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    call!(socketpair(libc::AF_UNIX, socket_type, 0, pair.as_mut_ptr()))?;
    Ok(pair)
}

pub fn eventfd() -> Answer<Fd> {
    call!(eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC))
}

fn address(port: u16) -> sockaddr_in {
    sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) },
        sin_zero: [0; 8],
    }
}

const ADDRESS_LEN: socklen_t = size_of::<sockaddr_in>() as socklen_t;

/// A listener on a free port of 127.0.0.1, and the port.
pub fn listener(flags: c_int) -> Answer<(Fd, u16)> {
    let fd = call!(socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC | flags, 0))?;
    let mut bound = address(0);
    call!(bind(fd, (&raw const bound).cast(), ADDRESS_LEN))?;
    call!(listen(fd, 4096))?;
    let mut len = ADDRESS_LEN;
    call!(getsockname(fd, (&raw mut bound).cast(), &raw mut len))?;
    Ok((fd, u16::from_be(bound.sin_port)))
}

/// A connection to `port`: made, or on its way if `flags` says that nothing blocks.
pub fn connect(port: u16, flags: c_int) -> Answer<Fd> {
    let fd = call!(socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC | flags, 0))?;
    let address = address(port);
    match call!(connect(fd, (&raw const address).cast(), ADDRESS_LEN)) {
        Ok(_) | Err(libc::EINPROGRESS) => Ok(fd),
        // Interrupted, it goes on by itself: connect(2).
        Err(libc::EINTR) => until_writable(fd).map(|()| fd),
        Err(error) => {
            let _ = close(fd);
            Err(error)
        }
    }
}

fn until_writable(fd: Fd) -> Answer<()> {
    let mut polled = libc::pollfd { fd, events: libc::POLLOUT, revents: 0 };
    loop {
        match call!(poll(&raw mut polled, 1, -1)) {
            Ok(0) | Err(libc::EINTR) => {}
            answer => return answer.map(drop),
        }
    }
}

/// What became of a connect that was on its way.
pub fn error_of(fd: Fd) -> Answer {
    let (mut error, mut len): (c_int, _) = (0, size_of::<c_int>() as socklen_t);
    let value = (&raw mut error).cast();
    call!(getsockopt(fd, libc::SOL_SOCKET, libc::SO_ERROR, value, &raw mut len))?;
    if error == 0 { Ok(0) } else { Err(error) }
}

pub fn accept(listener: Fd) -> Answer<Fd> {
    let null = std::ptr::null_mut();
    call!(accept4(listener, null, null.cast(), libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC))
}

pub fn set_nonblocking(fd: Fd) -> Answer {
    call!(fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK))
}

/// Small writes go at once.
pub fn no_delay(fd: Fd) -> Answer {
    let one: c_int = 1;
    let len = size_of::<c_int>() as socklen_t;
    call!(setsockopt(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, (&raw const one).cast(), len))
}

/// The next close resets the connection.
pub fn linger_none(fd: Fd) -> Answer {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let len = size_of::<libc::linger>() as socklen_t;
    call!(setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, (&raw const linger).cast(), len))
}

/// No more is written to the connection.
pub fn shutdown_write(fd: Fd) -> Answer {
    call!(shutdown(fd, libc::SHUT_WR))
}

pub fn read(fd: Fd, into: &mut [u8]) -> Answer<usize> {
    // SAFETY: a writable slice of that length.
    sized(unsafe { libc::read(fd, into.as_mut_ptr().cast(), into.len()) })
}

pub fn write(fd: Fd, bytes: &[u8]) -> Answer<usize> {
    // SAFETY: a readable slice of that length.
    sized(unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) })
}

/// A write to a socket whose other end may be closed.
pub fn send(fd: Fd, bytes: &[u8]) -> Answer<usize> {
    // SAFETY: a readable slice of that length.
    sized(unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) })
}

pub fn close(fd: Fd) -> Answer {
    call!(close(fd))
}

pub fn close_from(fd: Fd) -> Answer {
    call!(close_range(fd as u32, u32::MAX, 0))
}

pub fn dup(fd: Fd) -> Answer<Fd> {
    call!(fcntl(fd, libc::F_DUPFD_CLOEXEC, 0))
}

/// Forks. The child does `work` and exits with what that gives; it must take no lock that another thread may hold.
pub fn fork(work: impl FnOnce() -> u8) -> Answer<pid_t> {
    // SAFETY: no pointers. The child runs `work`, of which the caller was told, and never returns from here.
    let child = checked(unsafe { libc::fork() })?;
    if child == 0 {
        let status = work();
        // SAFETY: ends the process; no destructor and no exit handler of the parent's runs.
        unsafe { libc::_exit(c_int::from(status)) };
    }
    Ok(child)
}

/// Ends the process at once, whatever its threads do.
pub fn exit_now(status: u8) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(c_int::from(status)) }
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Exit(c_int),
    Signal(c_int),
}

pub fn wait_for_child(child: pid_t) -> Answer<End> {
    loop {
        if let Some(end) = look_at_child(child, 0)? {
            return Ok(end);
        }
    }
}

/// The same without sleeping; `None`: it runs.
pub fn has_ended(child: pid_t) -> Answer<Option<End>> {
    look_at_child(child, libc::WNOHANG)
}

fn look_at_child(child: pid_t, flags: c_int) -> Answer<Option<End>> {
    let mut status = 0;
    match call!(waitpid(child, &raw mut status, flags)) {
        Ok(0) | Err(libc::EINTR) => Ok(None),
        Ok(_) if libc::WIFEXITED(status) => Ok(Some(End::Exit(libc::WEXITSTATUS(status)))),
        Ok(_) => Ok(Some(End::Signal(libc::WTERMSIG(status)))),
        Err(error) => Err(error),
    }
}

pub fn kill(process: pid_t, signal: c_int) -> Answer {
    call!(kill(process, signal))
}

/// This process ends when its parent does.
pub fn die_with_parent() -> Answer {
    call!(prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))
}

/// SIGALRM ends this process after `seconds`.
pub fn alarm(seconds: u32) {
    // SAFETY: no pointers.
    unsafe { libc::alarm(seconds) };
}

pub fn process_id() -> pid_t {
    // SAFETY: no pointers.
    unsafe { libc::getpid() }
}

pub fn thread_id() -> pid_t {
    // SAFETY: no pointers.
    unsafe { libc::gettid() }
}

pub fn signal_thread(process: pid_t, thread: pid_t, signal: c_int) -> Answer {
    // SAFETY: numbers only.
    let result = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal) };
    checked(result as c_int)
}

fn set_of(signal: c_int) -> libc::sigset_t {
    // SAFETY: a set of signals may be all zeros; it is then made as the functions say.
    unsafe {
        let mut set = zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        set
    }
}

/// Sets a handler. It may call what signal-safety(7) allows, and epoll_ctl.
pub fn handle(signal: c_int, handler: extern "C" fn(c_int)) -> Answer {
    // SAFETY: an action may be all zeros: no flags, no signals blocked.
    let mut action: libc::sigaction = unsafe { zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    call!(sigaction(signal, &raw const action, std::ptr::null_mut()))
}

/// Does something, and leaves errno as it was: for signal handlers.
pub fn keeping_errno(work: impl FnOnce()) {
    // SAFETY: the thread's own errno.
    let before = unsafe { *libc::__errno_location() };
    work();
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = before };
}

/// As many descriptors as may be had; gives how many.
pub fn raise_descriptor_limit() -> Answer<u64> {
    let mut limit = rlimit { rlim_cur: 0, rlim_max: 0 };
    call!(getrlimit(libc::RLIMIT_NOFILE, &raw mut limit))?;
    limit.rlim_cur = limit.rlim_max;
    call!(setrlimit(libc::RLIMIT_NOFILE, &raw const limit))?;
    Ok(limit.rlim_cur)
}

/// This process may not start any thread or process from here on, if it is not privileged.
pub fn refuse_threads() -> Answer {
    let limit = rlimit { rlim_cur: 0, rlim_max: 0 };
    call!(setrlimit(libc::RLIMIT_NPROC, &raw const limit))
}

pub fn is_root() -> bool {
    // SAFETY: no pointers.
    unsafe { libc::geteuid() == 0 }
}

/// Becomes another user, for good.
pub fn become_user(user: u32) -> Answer {
    call!(setgid(user))?;
    call!(setuid(user))
}

/// A clock as libc tells it.
pub fn clock(clock: c_int) -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let _ = call!(clock_gettime(clock, &raw mut now));
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// A clock as the kernel tells it, whatever was preloaded in front of libc.
pub fn kernels_clock(clock: c_int) -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: one writable timespec.
    unsafe { libc::syscall(libc::SYS_clock_gettime, clock, &raw mut now) };
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Sleeps, by the kernel's clock alone.
pub fn sleep(time: Duration) {
    let time = timespec(time);
    let null: *const libc::timespec = std::ptr::null();
    // SAFETY: one readable timespec.
    unsafe { libc::syscall(libc::SYS_nanosleep, &raw const time, null) };
}

/// Children of this process will have clocks of their own.
pub fn unshare_clocks() -> Answer {
    call!(unshare(libc::CLONE_NEWTIME))
}
