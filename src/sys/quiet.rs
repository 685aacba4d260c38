//! Stretches of a thread's life in which no signal handler of the program may run: those in which the thread is inside
//! the engine, with locks and memory in its hands, and not asleep.
//!
//! Blocking the signals would take two system calls each time. So handlers are held off when they come: the preload
//! library's trampoline asks [`is_quiet`], and if so blocks the signal, queues it again for the thread, and notes it by
//! [`defer`]. The end of the stretch lets it in. A stretch that nothing interrupts costs two stores.

use std::cell::Cell;

use super::unblock_signals;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static DEFERRED: Cell<u64> = const { Cell::new(0) };
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

/// A signal came, was blocked and is queued again.
pub fn defer(signal: i32) {
    DEFERRED.set(DEFERRED.get() | 1 << (signal - 1));
}

fn let_in() -> bool {
    let deferred = DEFERRED.take();
    if deferred != 0 {
        unblock_signals(deferred);
    }
    deferred != 0
}
