//! What happens at a fork: the engine's locks are held, so that the child finds them in nobody's hands.
//!
//! libc runs these handlers (pthread_atfork(3)) but for `_Fork`, and fork and clone by `syscall()`, which run them here.
//! vfork(2) and what makes threads share the memory, and are no forks.

use libc::{c_long, pid_t};
use std::sync::atomic::Ordering;
use uepoll::sys;

use crate::hook::{hooks, real};
use crate::{PID, TABLE, engine, errno, heap, memory};

hooks! {
    /// _Fork(3)
    fn _Fork() -> pid_t {
        forking(|| c_long::from(real!(_Fork()))) as pid_t
    }
}

/// Has libc run the handlers.
pub fn start() {
    // SAFETY: handlers without arguments, which live as long as the process.
    unsafe { libc::pthread_atfork(Some(before_fork), Some(forked_parent), Some(forked_child)) };
}

/// Between the handlers before and after a fork no signal handler may run: it could find the locks taken.
extern "C" fn before_fork() {
    std::mem::forget(sys::quiet::Quiet::enter());
    if let Some(engine) = engine() {
        engine.before_fork();
    }
    heap::hold_before_fork();
}

extern "C" fn forked_parent() {
    heap::release_after_fork();
    match engine() {
        Some(engine) => engine.after_fork_in_parent(),
        None => TABLE.share_private(),
    }
    sys::quiet::Quiet::leave();
}

extern "C" fn forked_child() {
    heap::release_in_child();
    PID.store(sys::getpid(), Ordering::SeqCst);
    match engine() {
        Some(engine) => engine.after_fork_in_child(),
        None => TABLE.share_private(),
    }
    sys::quiet::Quiet::leave();
}

/// Makes a call that forks.
pub fn forking(fork: impl FnOnce() -> c_long) -> c_long {
    before_fork();
    let result = fork();
    let error = errno::get();
    if result == 0 {
        forked_child();
    } else {
        forked_parent();
    }
    errno::set(error);
    result
}

/// Whether clone(2) with these flags and this stack is a fork.
pub fn is_fork(flags: usize, stack: usize) -> bool {
    flags & libc::CLONE_VM as usize == 0 && stack == 0
}

/// The same of clone3(2), by its arguments, `struct clone_args`.
pub fn is_fork_by(arguments: *const u64) -> bool {
    /// Of flags, pidfd, child_tid, parent_tid, exit_signal, stack.
    const FIRST: usize = 6;
    if !memory::readable(arguments, FIRST * size_of::<u64>()) {
        return false;
    }
    // SAFETY: readable, of the program's making.
    let [flags, _, _, _, _, stack] = unsafe { arguments.cast::<[u64; FIRST]>().read_unaligned() };
    is_fork(flags as usize, stack as usize)
}
