//! All watcher threads of an engine: how many there are, and how to be without any for a while.
//!
//! Some of what unshare(2) and setns(2) do is for processes with one thread only, and who leaves the table of descriptors
//! would leave its watchers behind with the old one, and with files that it closes in the new one.

use libc::timespec;

use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sys;
use crate::sys::lock::{Mutex, hold_before_fork, release_after_fork, release_in_child};

/// A thread that has ended is there for the kernel for a moment still. It is looked for so often ...
const LOOKS: u32 = 10_000;
/// ... with this between. Not for ever: its id may be another thread's by now.
const PAUSE: timespec = timespec { tv_sec: 0, tv_nsec: 100_000 };

/// The watchers of all instances.
#[derive(Default)]
pub struct Watchers {
    /// Those that were started and have not ended.
    alive: AtomicU32,
    /// Those that have ended, and may still be there for the kernel.
    ending: Mutex<Vec<u32>>,
    /// How many want none to be started, and nothing to be parked.
    held_off: AtomicU32,
}

impl Watchers {
    /// One is to be started. False: not now.
    pub(crate) fn begin(&self) -> bool {
        // Counted first: who holds watchers off sees it, or is seen.
        self.alive.fetch_add(1, Ordering::SeqCst);
        let may = !self.are_held_off();
        if !may {
            self.cancel();
        }
        may
    }

    /// It could not be started.
    pub(crate) fn cancel(&self) {
        if self.alive.fetch_sub(1, Ordering::SeqCst) == 1 && self.are_held_off() {
            sys::futex_wake(&self.alive, i32::MAX);
        }
    }

    /// The calling watcher is about to end.
    pub(crate) fn end(&self) {
        let mut ending = self.ending.lock();
        ending.retain(|&thread| sys::has_thread(thread));
        ending.push(sys::thread_id());
        drop(ending);
        self.cancel();
    }

    /// Whether nothing is to be parked.
    pub(crate) fn are_held_off(&self) -> bool {
        self.held_off.load(Ordering::SeqCst) != 0
    }

    /// From here on none is started.
    pub(crate) fn hold_off(&'static self) -> NoWatchers {
        self.held_off.fetch_add(1, Ordering::SeqCst);
        NoWatchers(self)
    }

    /// Whether there is one.
    pub(crate) fn any(&self) -> bool {
        self.alive.load(Ordering::SeqCst) != 0
    }

    /// Returns when all have ended, for the kernel too. They are held off.
    pub(crate) fn await_end(&self) {
        loop {
            match self.alive.load(Ordering::SeqCst) {
                0 => break,
                alive => sys::futex_wait(&self.alive, alive),
            }
        }
        let mut looks = 0..LOOKS;
        for thread in std::mem::take(&mut *self.ending.lock()) {
            while sys::has_thread(thread) && looks.next().is_some() {
                sys::pause(PAUSE);
            }
        }
    }

    pub(crate) fn before_fork(&self) {
        hold_before_fork(&self.ending);
    }

    pub(crate) fn release_after_fork(&self) {
        release_after_fork(&self.ending);
    }

    /// In a child of fork: they are not here, nor is who held them off.
    pub(crate) fn after_fork(&self) {
        release_in_child(&self.ending);
        self.alive.store(0, Ordering::SeqCst);
        self.held_off.store(0, Ordering::SeqCst);
        self.ending.lock().clear();
    }
}

/// As long as this lives no watcher is started.
pub struct NoWatchers(&'static Watchers);

impl Drop for NoWatchers {
    fn drop(&mut self) {
        self.0.held_off.fetch_sub(1, Ordering::SeqCst);
    }
}
