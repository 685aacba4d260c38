//! Stretches of a thread's life in which no signal handler of the program may run: those in which the thread is inside
//! the engine, with locks and memory in its hands, and not asleep.
//!
//! Blocking the signals would take two system calls each time. So handlers are held off when they come: the preload
//! library's trampoline asks [`is_quiet`], and if so blocks the signal, queues it again for the thread, and notes it by
//! [`defer`]. The end of the stretch lets it in. A stretch that nothing interrupts costs two stores.
//!
//! The kernel heeds what a handler changes in the mask that it returns to. valgrind, which stands before it, does not: there
//! the signal comes again at once, and would do so for ever. So what comes though it was put off is [kept](keep) here, and
//! queued when the stretch ends.
#![allow(unsafe_code)]

use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};

use libc::siginfo_t;

use super::{block_signals, queue_signal, restore_signals, thread_token, unblock_signals};

/// Signals that are not blocked by blocking them, of all threads. Memory that is never touched where blocking works.
static KEPT: [Kept; 256] = [const { Kept::new() }; 256];

struct Kept {
    /// The thread that it came for; 0: the place is free.
    owner: AtomicUsize,
    info: UnsafeCell<MaybeUninit<siginfo_t>>,
}

// SAFETY: a place is read and written by its owner alone.
unsafe impl Sync for Kept {}

impl Kept {
    const fn new() -> Self {
        Self { owner: AtomicUsize::new(0), info: UnsafeCell::new(MaybeUninit::uninit()) }
    }
}

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static HANDLERS: Cell<u32> = const { Cell::new(0) };
    static DEFERRED: Cell<u64> = const { Cell::new(0) };
    static ANY_KEPT: Cell<bool> = const { Cell::new(false) };
}

/// A stretch without handlers; it ends by dropping.
pub struct Quiet(());

impl Quiet {
    /// Begins one. They nest.
    pub fn enter() -> Self {
        DEPTH.set(DEPTH.get() + 1);
        Self(())
    }

    /// Ends a stretch whose guard was forgotten.
    pub fn leave() {
        drop(Self(()));
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
        if DEPTH.get() == 0 {
            let_in();
        }
    }
}

/// Runs `sleep` with handlers let in, whatever stretches are open. `None`: one was held off before, and ran now instead
/// of the sleep, which it would have ended.
pub fn asleep<T>(sleep: impl FnOnce() -> T) -> Option<T> {
    let depth = DEPTH.replace(0);
    let result = if let_in() { None } else { Some(sleep()) };
    DEPTH.set(depth);
    result
}

/// Whether the calling thread is in such a stretch.
pub fn is_quiet() -> bool {
    DEPTH.get() != 0
}

/// A handler of the program's begins on the calling thread.
pub fn handler_begins() {
    HANDLERS.set(HANDLERS.get() + 1);
}

/// It returns. One that jumps out never does.
pub fn handler_ends() {
    HANDLERS.set(HANDLERS.get().saturating_sub(1));
}

/// Whether the calling thread is in a handler, or has left one by a jump.
pub fn is_in_handler() -> bool {
    HANDLERS.get() != 0
}

/// A signal came, was blocked and is queued again.
pub fn defer(signal: i32) {
    DEFERRED.set(DEFERRED.get() | bit(signal));
}

/// Keeps a signal that came though it was put off and blocked before. False: it was not, or there are too many. To be called
/// with all signals blocked.
pub fn keep(signal: i32, info: &siginfo_t) -> bool {
    if DEFERRED.get() & bit(signal) == 0 {
        return false;
    }
    let claim = |kept: &&Kept| {
        kept.owner.compare_exchange(0, thread_token(), Ordering::Acquire, Ordering::Relaxed).is_ok()
    };
    let Some(place) = KEPT.iter().find(claim) else { return false };
    // SAFETY: this thread's now, and no handler of its own comes between.
    unsafe { (*place.info.get()).write(*info) };
    ANY_KEPT.set(true);
    true
}

fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

fn let_in() -> bool {
    let deferred = DEFERRED.take();
    if deferred != 0 {
        unblock_signals(deferred);
        if ANY_KEPT.get() {
            queue_kept();
        }
    }
    deferred != 0
}

#[cold]
fn queue_kept() {
    // They come when all are queued, and none may find the others half taken.
    let mask = block_signals();
    ANY_KEPT.set(false);
    let own = thread_token();
    for kept in KEPT.iter().filter(|kept| kept.owner.load(Ordering::Relaxed) == own) {
        // SAFETY: this thread's, and written when it was claimed.
        let info = unsafe { (*kept.info.get()).assume_init() };
        kept.owner.store(0, Ordering::Release);
        // One that is refused is lost, as one that the kernel has no room for.
        let _ = queue_signal(info.si_signo, &info);
    }
    restore_signals(mask);
}
