//! The signals of the calling thread.
#![allow(unsafe_code)]

use libc::c_int;
use syscalls::{Sysno, syscall};

use super::{Result, SIGSET_BYTES, getpid, thread_id};

/// By this signal the C library has every thread of the process change its user and group ids (nptl(7)). A thread that
/// blocked it, as no call of the C library can, would keep setuid waiting for ever.
const SIGSETXID: u32 = 33;

/// Blocks every signal that may be blocked for the calling thread, and gives back the mask it had.
pub fn block_signals() -> u64 {
    let all = !(1u64 << (SIGSETXID - 1));
    let mut old = 0u64;
    // SAFETY: two words of the kernel's sigset_t.
    let _ = unsafe {
        syscall!(
            Sysno::rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const all,
            &raw mut old,
            SIGSET_BYTES
        )
    };
    old
}

/// Sets the calling thread's signal mask, to what [`block_signals`] gave.
pub fn restore_signals(mask: u64) {
    // SAFETY: one word of the kernel's sigset_t.
    let _ = unsafe {
        syscall!(Sysno::rt_sigprocmask, libc::SIG_SETMASK, &raw const mask, 0, SIGSET_BYTES)
    };
}

/// Signals that are pending for the calling thread or its process, and blocked.
pub fn pending_signals() -> u64 {
    let mut set = 0u64;
    // SAFETY: one word of the kernel's sigset_t.
    let _ = unsafe { syscall!(Sysno::rt_sigpending, &raw mut set, SIGSET_BYTES) };
    set
}

/// Lets signals in that were blocked.
pub fn unblock_signals(set: u64) {
    // SAFETY: one word of the kernel's sigset_t.
    let _ = unsafe {
        syscall!(Sysno::rt_sigprocmask, libc::SIG_UNBLOCK, &raw const set, 0, SIGSET_BYTES)
    };
}

/// Queues a signal for the calling thread, with all that came with it (rt_tgsigqueueinfo(2)).
///
/// # Errors
/// EAGAIN when RLIMIT_SIGPENDING is reached.
pub fn queue_signal(signal: c_int, info: &libc::siginfo_t) -> Result<()> {
    // SAFETY: a readable siginfo_t; a thread may send itself any.
    unsafe {
        syscall!(Sysno::rt_tgsigqueueinfo, getpid(), thread_id(), signal, std::ptr::from_ref(info))
    }
    .map(|_| ())
}
