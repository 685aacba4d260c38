//! Threads: how they sleep and wake each other, and who they are.
#![allow(unsafe_code)]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, Ordering};

use libc::{c_int, timespec};
use syscalls::{Errno, Sysno, syscall};

use super::{Result, quiet};

/// Sleeps until `word` is no longer `value`, or somebody wakes it, or for no reason.
pub fn futex_wait(word: &AtomicU32, value: u32) {
    // SAFETY: an aligned word that lives as long as the borrow; no timeout.
    let _ = unsafe {
        syscall!(Sysno::futex, word.as_ptr(), libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG, value, 0)
    };
}

/// The same, for so many ms at most.
pub fn futex_wait_for(word: &AtomicU32, value: u32, millis: u32) {
    let timeout = timespec { tv_sec: 0, tv_nsec: i64::from(millis) * 1_000_000 };
    let op = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: an aligned word and a timespec that live as long as the borrows.
    let _ = unsafe { syscall!(Sysno::futex, word.as_ptr(), op, value, &raw const timeout) };
}

/// Sleeps until `word` is no longer `value` or `timeout` is over, or for no reason; signal handlers may run, as in
/// [`sleep`](super::sleep).
///
/// # Errors
/// EINTR when a signal handler ran, whatever SA_RESTART says: there is a timeout.
pub fn sleep_on_futex(word: &AtomicU32, value: u32, timeout: timespec) -> Result<()> {
    let wait = || {
        let op = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
        // SAFETY: an aligned word and a timespec that live as long as the borrows.
        unsafe { syscall!(Sysno::futex, word.as_ptr(), op, value, &raw const timeout) }
    };
    match quiet::asleep(wait) {
        None | Some(Err(Errno::EINTR)) => Err(Errno::EINTR),
        Some(_) => Ok(()),
    }
}

/// Wakes up to `count` of those who sleep in [`futex_wait`] on `word`.
pub fn futex_wake(word: &AtomicU32, count: c_int) {
    // SAFETY: only the address is used.
    let _ = unsafe {
        syscall!(Sysno::futex, word.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, count)
    };
}

/// The process' id, asked of the kernel: a vfork child must not be told its parent's.
pub fn getpid() -> u32 {
    // SAFETY: no arguments; it cannot fail.
    unsafe { syscall!(Sysno::getpid) }.unwrap_or(0) as u32
}

/// glibc's word on whether the process has one thread, not 0 if so; null where it has none.
static SINGLE_THREADED: OnceLock<AtomicPtr<AtomicU8>> = OnceLock::new();

/// Looks for what [`is_single_threaded`] is told by. Until then, and where libc does not tell, there may be threads.
pub fn learn_of_threads() {
    SINGLE_THREADED.get_or_init(|| {
        // SAFETY: a lookup by a constant name.
        let place = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"__libc_single_threaded".as_ptr()) };
        AtomicPtr::new(place.cast())
    });
}

/// Whether the calling thread is the only one, and no other one can come up while it is in a system call. Threads that were
/// made without libc are not known.
pub fn is_single_threaded() -> bool {
    let place = SINGLE_THREADED.get().map_or(std::ptr::null_mut(), |it| it.load(Ordering::Relaxed));
    // SAFETY: null, or a char of libc's, which lives as long as the process and is written by libc alone.
    unsafe { place.as_ref() }.is_some_and(|it| it.load(Ordering::Relaxed) != 0)
}

/// A number that no other living thread has: the address of a thread-local. Costs no system call, and is safe in a
/// signal handler.
pub fn thread_token() -> usize {
    thread_local!(static TOKEN: u8 = const { 0 });
    TOKEN.with(|token| std::ptr::from_ref(token) as usize)
}

/// The calling thread's id.
pub fn thread_id() -> u32 {
    // SAFETY: no arguments; it cannot fail.
    unsafe { syscall!(Sysno::gettid) }.unwrap_or(0) as u32
}

/// Whether the process has this thread: by a signal that is none (tgkill(2)).
pub fn has_thread(thread: u32) -> bool {
    // SAFETY: no pointers.
    unsafe { syscall!(Sysno::tgkill, getpid(), thread, 0) }.is_ok()
}

/// Sleeps, or for less if a handler runs.
pub fn pause(time: timespec) {
    // SAFETY: a readable timespec; what is left is not asked for.
    let _ = unsafe { syscall!(Sysno::nanosleep, &raw const time, 0) };
}
