//! A mutex that survives fork(2).
//!
//! parking_lot's own lock keeps its sleepers in a table of the process: after a fork the child finds threads in it that
//! it does not have, and may hand them the lock. This one is a word and a futex, so a fork handler that takes
//! it before and releases it after leaves nothing behind (docs/adr/0003).
//!
//! While a fork holds all locks it waits for malloc's, and whoever has those may be a thread whose signal handler waits for
//! one of ours. So a handler does not wait for a fork for long: it borrows the lock from the forking thread, which does
//! nothing with it but keep others away.
#![allow(unsafe_code)]

use parking_lot::lock_api;

use super::{futex_wait, futex_wait_for, futex_wake, is_in_handler};
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::hint;

const FREE: u32 = 0;
const TAKEN: u32 = 1;
/// Taken, and somebody may sleep on it.
const CONTENDED: u32 = 2;

/// How often a taker looks again before it sleeps: about 4 us. The engine's locks are held for well under a microsecond,
/// but for a look at a few descriptors (`Inner::deliver_left_over`), which takes one or two.
const SPINS: u32 = if cfg!(shuttle) { 1 } else { 256 };

/// Held for a fork: a handler may borrow it ...
const LENDABLE: u32 = 1;
/// ... as one has done.
const LENT: u32 = 2;
/// So long, in ms, a handler waits for a fork before it takes it for one that waits for the handler. Much longer than forks
/// of all but the largest processes take, since what is changed while the memory is copied the child finds half done.
const PATIENCE_MS: u32 = 20;

/// The fork of the moment waits for a handler. It may wait for more of them: each is over before malloc goes on, and the next
/// one may come before that has given its lock back.
static STUCK: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// A word: free, taken, or taken with sleepers; and what a fork has to do with it.
pub struct RawLock {
    word: AtomicU32,
    fork: AtomicU32,
}

/// A mutex over [`RawLock`], with parking_lot's guards.
pub type Mutex<T> = lock_api::Mutex<RawLock, T>;
/// The guard of a [`Mutex`].
pub type MutexGuard<'a, T> = lock_api::MutexGuard<'a, RawLock, T>;

// SAFETY: `lock` returns only after this thread changed the word from FREE, and only the holder changes it back; the
// guard's state is empty.
unsafe impl lock_api::RawMutex for RawLock {
    #[allow(clippy::declare_interior_mutable_const)]
    const INIT: Self = Self { word: AtomicU32::new(FREE), fork: AtomicU32::new(0) };
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
        // Whoever unlocks what is lent is who has borrowed it.
        if self.fork.load(Ordering::Relaxed) == LENT {
            return self.fork.store(LENDABLE, Ordering::Release);
        }
        if self.word.swap(FREE, Ordering::Release) == CONTENDED {
            futex_wake(&self.word, 1);
        }
    }

    fn is_locked(&self) -> bool {
        self.word.load(Ordering::Relaxed) != FREE
    }
}

impl RawLock {
    fn take(&self) -> bool {
        self.word.compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[cold]
    fn take_slowly(&self) {
        for _ in 0..SPINS {
            hint::spin_loop();
            // A look first: a failed exchange would take the line away from the holder.
            if self.word.load(Ordering::Relaxed) == FREE && self.take() {
                return;
            }
        }
        // From here on the word says CONTENDED whenever we hold it: another sleeper may be left behind us.
        let mut waited = 0;
        while self.word.swap(CONTENDED, Ordering::Acquire) != FREE {
            if !is_in_handler() {
                futex_wait(&self.word, CONTENDED);
                continue;
            }
            if (waited >= PATIENCE_MS || STUCK.load(Ordering::Relaxed)) && self.borrow() {
                STUCK.store(true, Ordering::Relaxed);
                return;
            }
            futex_wait_for(&self.word, CONTENDED, 1);
            waited += 1;
        }
    }

    /// False: it is held by a thread that works, or another handler has borrowed it.
    fn borrow(&self) -> bool {
        self.fork.compare_exchange(LENDABLE, LENT, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Waits until nobody has borrowed it; from then on nobody can.
    fn take_back(&self) {
        while self.fork.compare_exchange(LENDABLE, 0, Ordering::Acquire, Ordering::Relaxed).is_err()
        {
            futex_wait_for(&self.fork, LENT, 1);
        }
    }
}

/// Takes a lock for the time of a fork; [`release_after_fork`] or [`release_in_child`] gives it back.
pub fn hold_before_fork<T>(mutex: &Mutex<T>) {
    std::mem::forget(mutex.lock());
    STUCK.store(false, Ordering::Relaxed);
    // SAFETY: the lock's own word is not touched.
    unsafe { mutex.raw() }.fork.store(LENDABLE, Ordering::Release);
}

/// Gives back what [`hold_before_fork`] took, in the parent; to be called by the fork handler only.
pub fn release_after_fork<T>(mutex: &Mutex<T>) {
    // SAFETY: the forking thread holds it.
    unsafe { mutex.raw() }.take_back();
    // SAFETY: the forking thread holds the lock since the handler before.
    unsafe { mutex.force_unlock(lock_api::GuardNoSend::new()) }
}

/// The same in the child. True: a handler had borrowed it, and is not here to finish what it began.
pub fn release_in_child<T>(mutex: &Mutex<T>) -> bool {
    // SAFETY: the forking thread holds the lock since the handler before, and is the only one.
    let lent = unsafe { mutex.raw() }.fork.swap(0, Ordering::Acquire) == LENT;
    // SAFETY: as above.
    unsafe { mutex.force_unlock(lock_api::GuardNoSend::new()) };
    lent
}
