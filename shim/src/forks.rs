//! Forks that do not run the handlers of pthread_atfork(3): `_Fork`, and fork and clone by `syscall()`. Those of vfork(2)
//! and of threads share the memory, and are none.

use libc::{c_long, pid_t};

use crate::hook::{hooks, real};
use crate::{errno, memory};

hooks! {
    /// _Fork(3)
    fn _Fork() -> pid_t {
        forking(|| c_long::from(real!(_Fork()))) as pid_t
    }
}

/// Makes a call that forks.
pub fn forking(fork: impl FnOnce() -> c_long) -> c_long {
    crate::before_fork();
    let result = fork();
    let error = errno::get();
    if result == 0 {
        crate::forked_child();
    } else {
        crate::forked_parent();
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
