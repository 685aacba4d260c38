//! The system calls that the engine makes, and one word of libc's, and nothing else: the only unsafe code of the engine is in this
//! folder. In this file: polls, descriptors and limits.
//!
//! They are made directly, never through libc's symbols: those are the ones that the preload library interposes, and
//! the engine must not fall into its own hooks.
#![allow(unsafe_code)]

mod clock;
mod file;
pub mod lock;
mod memory;
mod parts;
pub mod quiet;
mod signals;
mod socket;
mod thread;

use std::os::fd::RawFd;

use libc::{c_int, pollfd, timespec};
use syscalls::{Errno, Sysno, syscall};

pub use self::clock::{coarse_millis, learn_of_clock, now};
pub use self::file::{append_file, fs_type, fstat, messages_queued, read_file, read_link};
pub use self::memory::{byte_is_readable, copy_out, eight_bytes_are_writable, map, remap, unmap};
pub use self::quiet::is_in_handler;
pub use self::signals::{
    block_signals, pending_signals, queue_signal, restore_signals, unblock_signals,
};
pub use self::socket::{
    TCP_CLOSE, TcpInfo, bytes_readable, bytes_unsent, is_tcp_closed, receive_memory, socket_option,
    tcp_info, unix_backlog,
};
pub use self::thread::{
    futex_wait, futex_wait_for, futex_wake, getpid, has_thread, is_single_threaded,
    learn_of_threads, pause, sleep_on_futex, thread_id, thread_token,
};
use crate::faults::{self, Resource};

/// What a call of the engine gives: a value, or the errno that the program will see.
pub type Result<T> = std::result::Result<T, Errno>;

/// A process-wide invariant of Linux on all architectures served: the kernel's sigset_t has 64 bits.
pub const SIGSET_BYTES: usize = 8;

/// ppoll(2) for a caller that means to sleep: signal handlers may run from here on. One that was held off before runs
/// now, and ends the sleep. Of any number of descriptors, of which the caller's wake-up descriptor is the last.
///
/// # Errors
/// EINTR when a signal handler ran, ENOMEM; EINVAL when RLIMIT_NOFILE is 0.
pub fn sleep(
    fds: &mut [pollfd],
    mut timeout: Option<&mut timespec>,
    mask: Option<&u64>,
) -> Result<usize> {
    match quiet::asleep(|| ppoll(fds, timeout.as_deref_mut(), mask)) {
        Some(Err(Errno::EINVAL)) => parts::sleep(fds, timeout, mask),
        slept => slept.unwrap_or(Err(Errno::EINTR)),
    }
}

/// ppoll(2) without sleeping, of any number of descriptors.
///
/// # Errors
/// ENOMEM; EINVAL when RLIMIT_NOFILE is 0.
pub fn look(fds: &mut [pollfd]) -> Result<usize> {
    let mut zero = timespec { tv_sec: 0, tv_nsec: 0 };
    match ppoll(fds, Some(&mut zero), None) {
        Err(Errno::EINVAL) => parts::look(fds),
        found => found,
    }
}

/// ppoll(2). `timeout` is updated to what is left of it, as the raw system call does; `None` sleeps for ever.
///
/// # Errors
/// EINTR when a signal handler ran, EINVAL when there are more descriptors than RLIMIT_NOFILE, ENOMEM.
pub fn ppoll(
    fds: &mut [pollfd],
    timeout: Option<&mut timespec>,
    mask: Option<&u64>,
) -> Result<usize> {
    // The kernel has room for some 30 on its stack.
    if fds.len() > 30 && faults::refuses(Resource::Poll) {
        return Err(Errno::ENOMEM);
    }
    let timeout = timeout.map_or(std::ptr::null_mut(), std::ptr::from_mut);
    let mask = mask.map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the slice, the timespec and the mask are exclusively borrowed or read-only for the whole call, and the
    // sizes given are theirs.
    unsafe { syscall!(Sysno::ppoll, fds.as_mut_ptr(), fds.len(), timeout, mask, SIGSET_BYTES) }
}

/// eventfd2(2) with the counter 0.
///
/// # Errors
/// EMFILE, ENFILE, ENODEV, ENOMEM.
pub fn eventfd(flags: c_int) -> Result<RawFd> {
    if faults::refuses(Resource::Descriptor) {
        return Err(Errno::EMFILE);
    }
    // SAFETY: no pointers.
    unsafe { syscall!(Sysno::eventfd2, 0, flags) }.map(as_fd)
}

/// Adds one to an eventfd. Errors are of no use to anybody: a full counter is readable all the same.
pub fn eventfd_signal(fd: RawFd) {
    let one = 1u64;
    // SAFETY: eight readable bytes.
    let _ = unsafe { syscall!(Sysno::write, fd, &raw const one, 8) };
}

/// Sets a non-blocking eventfd back to 0.
pub fn eventfd_reset(fd: RawFd) {
    let mut count = 0u64;
    // SAFETY: eight writable bytes.
    let _ = unsafe { syscall!(Sysno::read, fd, &raw mut count, 8) };
}

/// close(2), past every hook.
pub fn close(fd: RawFd) {
    // SAFETY: no pointers; the callers own the number.
    let _ = unsafe { syscall!(Sysno::close, fd) };
}

fn fcntl(fd: RawFd, cmd: c_int, arg: usize) -> Result<usize> {
    // SAFETY: only commands without a pointer are used in this file.
    unsafe { syscall!(Sysno::fcntl, fd, cmd, arg) }
}

/// A duplicate of `fd`, close-on-exec, with the lowest free number from `from` on.
///
/// # Errors
/// EBADF, EMFILE, EINVAL when `from` is past RLIMIT_NOFILE.
pub fn dup_from(fd: RawFd, from: RawFd) -> Result<RawFd> {
    if faults::refuses(Resource::Descriptor) {
        return Err(Errno::EMFILE);
    }
    fcntl(fd, libc::F_DUPFD_CLOEXEC, from as usize).map(as_fd)
}

/// Whether `fd` is open, and for more than its path: what epoll_ctl and epoll_wait answer EBADF to.
///
/// # Errors
/// EBADF.
pub fn check_open(fd: RawFd) -> Result<()> {
    if status_flags(fd)? & libc::O_PATH != 0 {
        return Err(Errno::EBADF);
    }
    Ok(())
}

/// The file status flags (fcntl F_GETFL).
///
/// # Errors
/// EBADF.
pub fn status_flags(fd: RawFd) -> Result<c_int> {
    fcntl(fd, libc::F_GETFL, 0).map(|flags| flags as c_int)
}

/// What poll(2) reports of one descriptor at this moment, of the bits asked for and those that cannot be masked.
pub fn levels_now(fd: RawFd, events: i16) -> i16 {
    let mut set = [pollfd { fd, events, revents: 0 }];
    let mut zero = timespec { tv_sec: 0, tv_nsec: 0 };
    match ppoll(&mut set, Some(&mut zero), None) {
        Ok(_) => set[0].revents,
        Err(_) => 0,
    }
}

/// The soft and hard limits of descriptors.
pub fn descriptor_limits() -> (u64, u64) {
    let mut old = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let none = std::ptr::null::<libc::rlimit>();
    // SAFETY: one writable struct rlimit.
    let _ = unsafe { syscall!(Sysno::prlimit64, 0, libc::RLIMIT_NOFILE, none, &raw mut old) };
    (old.rlim_cur, old.rlim_max)
}

/// Sets the soft limit of descriptors.
///
/// # Errors
/// EPERM above the hard limit, EINVAL.
pub fn set_descriptor_limit(soft: u64, hard: u64) -> Result<()> {
    let new = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: one readable struct rlimit.
    unsafe { syscall!(Sysno::prlimit64, 0, libc::RLIMIT_NOFILE, &raw const new, 0) }.map(|_| ())
}

/// Whether two descriptors of this process are the same open file (kcmp(2)), where the kernel would tell.
pub fn same_open_file(one: RawFd, other: RawFd) -> Option<bool> {
    const KCMP_FILE: c_int = 0;
    let pid = getpid();
    // SAFETY: no pointers.
    unsafe { syscall!(Sysno::kcmp, pid, pid, KCMP_FILE, one, other) }.ok().map(|order| order == 0)
}

fn as_fd(number: usize) -> RawFd {
    number as RawFd
}

/// close_range(2) without flags.
///
/// # Errors
/// EINVAL, ENOSYS on kernels before 5.9.
pub fn close_range(first: u32, last: u32) -> Result<()> {
    // SAFETY: no pointers; the callers own the numbers.
    unsafe { syscall!(Sysno::close_range, first, last, 0) }.map(|_| ())
}

/// Whether the calling thread has a capability (capget(2)).
pub fn has_capability(capability: u32) -> bool {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    let mut sets = [[0u32; 3]; 2];
    // SAFETY: a header, and the two triples that version 3 writes.
    let got = unsafe { syscall!(Sysno::capget, header.as_ptr(), sets.as_mut_ptr()) };
    let [effective, ..] = sets[(capability / 32) as usize % 2];
    got.is_ok() && effective >> (capability % 32) & 1 != 0
}
