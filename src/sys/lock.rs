//! A mutex that survives fork(2).
//!
//! parking_lot's own lock keeps its sleepers in a table of the process: after a fork the child finds threads in it that
//! it does not have, and may hand them the lock. This one is a single word and a futex, so a fork handler that takes
//! it before and releases it after leaves nothing behind (docs/adr/0003).
#![allow(unsafe_code)]

use parking_lot::lock_api;

use super::{futex_wait, futex_wake};
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::hint;

const FREE: u32 = 0;
const TAKEN: u32 = 1;
/// Taken, and somebody may sleep on it.
const CONTENDED: u32 = 2;

/// How often a taker looks again before it sleeps: about 4 us. The engine's locks are held for well under a microsecond,
/// but for a look at a few descriptors (`Inner::deliver_left_over`), which takes one or two.
const SPINS: u32 = if cfg!(shuttle) { 1 } else { 256 };

/// One word: free, taken, or taken with sleepers.
pub struct RawLock(AtomicU32);

/// A mutex over [`RawLock`], with parking_lot's guards.
pub type Mutex<T> = lock_api::Mutex<RawLock, T>;
/// The guard of a [`Mutex`].
pub type MutexGuard<'a, T> = lock_api::MutexGuard<'a, RawLock, T>;

// SAFETY: `lock` returns only after this thread changed the word from FREE, and only the holder changes it back; the
// guard's state is empty.
unsafe impl lock_api::RawMutex for RawLock {
    #[allow(clippy::declare_interior_mutable_const)]
    const INIT: Self = Self(AtomicU32::new(FREE));
    type Guard = lock_api::GuardNoSend;

    fn lock(&self) -> Self::Guard {
        if !self.take() {
            self.take_slowly();
        }
        lock_api::GuardNoSend::new()
    }

    fn try_lock(&self) -> Option<Self::Guard> {
        self.take().then(lock_api::GuardNoSend::new)
    }

    unsafe fn unlock(&self, _: Self::Guard) {
        if self.0.swap(FREE, Ordering::Release) == CONTENDED {
            futex_wake(&self.0, 1);
        }
    }

    fn is_locked(&self) -> bool {
        self.0.load(Ordering::Relaxed) != FREE
    }
}

impl RawLock {
    fn take(&self) -> bool {
        self.0.compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[cold]
    fn take_slowly(&self) {
        for _ in 0..SPINS {
            hint::spin_loop();
            // A look first: a failed exchange would take the line away from the holder.
            if self.0.load(Ordering::Relaxed) == FREE && self.take() {
                return;
            }
        }
        // From here on the word says CONTENDED whenever we hold it: another sleeper may be left behind us.
        while self.0.swap(CONTENDED, Ordering::Acquire) != FREE {
            futex_wait(&self.0, CONTENDED);
        }
    }
}

/// Takes a lock for the time of a fork; [`release_after_fork`] gives it back, in the parent and in the child.
pub fn hold_before_fork<T>(mutex: &Mutex<T>) {
    std::mem::forget(mutex.lock());
}

/// Gives back what [`hold_before_fork`] took. To be called by the fork handlers only, after it, once on either side.
pub fn release_after_fork<T>(mutex: &Mutex<T>) {
    // SAFETY: the forking thread holds the lock since the handler before; in the child it is the only thread.
    unsafe { mutex.force_unlock(lock_api::GuardNoSend::new()) }
}
