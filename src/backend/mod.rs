//! What an engine under the instances must supply: a set of watched descriptors that one thread can sleep on.
//!
//! The contract, held to by every back end and shown by the same tests for each:
//!
//! - *arm* watches a descriptor for the given levels from the next *wait* on; arming a key again replaces what was
//!   watched. A level that is high when the wait begins is a hit: arming never has to look.
//! - *disarm* forgets a key. Once disarm has returned and the sleeper has been ejected, nothing sleeps on the file.
//! - *wait* returns when something armed is high, when the sleeper was kicked, when the time is over or a signal handler
//!   ran; all that was high at its last look is in *hits*, each key once. A hit carries the whole state that was asked
//!   for with the key, seen after the wait.

pub mod poll;

use std::os::fd::RawFd;

use crate::edge::Backlog;
use crate::events::{Events, Reports};
use crate::files::Kind;
use crate::sleeper::Sleeper;
use crate::sys::Result;

/// Names an item for as long as it lives: its place in the interest list, and which of the place's items it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Key {
    /// The place.
    pub index: u32,
    /// Counts the items that had the place.
    pub serial: u32,
}

/// What to watch a descriptor for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// The number.
    pub fd: RawFd,
    /// What is news.
    pub mask: Reports,
    /// What a hit must tell besides.
    pub whole: Reports,
    /// The file's kind.
    pub kind: Kind,
    /// Whether a hit must tell how much is queued in the file.
    pub backlog: bool,
}

/// A watched descriptor that had news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Which item.
    pub key: Key,
    /// Its state; `None`: the number is not open.
    pub levels: Option<Events>,
    /// What was queued in it, before the state was asked for.
    pub backlog: Option<Backlog>,
    /// A write of the program to it was on its way: its sign may come after what it did was seen here.
    pub racing: bool,
}

/// How long to sleep, and with which signals blocked.
#[derive(Clone, Copy, Debug)]
pub struct Sleep {
    /// At most this long, updated to what is left of it; `None`: for ever.
    pub timeout: Option<libc::timespec>,
    /// The signal mask while asleep, in the kernel's form; `None`: as it is.
    pub mask: Option<u64>,
}

impl Sleep {
    /// No sleep at all.
    pub const NONE: Self =
        Self { timeout: Some(libc::timespec { tv_sec: 0, tv_nsec: 0 }), mask: None };

    /// Takes what was slept from what is left: of a stretch that was `given`, `unspent` was not slept.
    pub fn spend(&mut self, given: Option<libc::timespec>, unspent: Option<libc::timespec>) {
        let (Some(left), Some(given), Some(unspent)) = (&mut self.timeout, given, unspent) else {
            return;
        };
        left.tv_sec -= given.tv_sec - unspent.tv_sec;
        left.tv_nsec -= given.tv_nsec - unspent.tv_nsec;
        if left.tv_nsec < 0 {
            left.tv_sec -= 1;
            left.tv_nsec += 1_000_000_000;
        } else if left.tv_nsec >= 1_000_000_000 {
            left.tv_sec += 1;
            left.tv_nsec -= 1_000_000_000;
        }
        if left.tv_sec < 0 {
            *left = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        }
    }

    /// Whether there is no time (left) to sleep.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.timeout.is_some_and(|left| left.tv_sec <= 0 && left.tv_nsec <= 0)
    }
}

/// A set of watched descriptors. The contract stands above.
pub trait Set: Send {
    /// Makes room for one more key, so that the next [`Set::arm`] of a new one cannot fail.
    ///
    /// # Errors
    /// ENOMEM.
    fn reserve(&mut self, key: Key) -> Result<()>;
    /// Watches a descriptor under a key.
    fn arm(&mut self, key: Key, watch: Watch);
    /// Forgets a key.
    fn disarm(&mut self, key: Key);
    /// Sleeps until there is news. True: the sleeper was kicked out of it. The sleeper is awake, and asked before it
    /// sleeps ([`Sleeper::fall_asleep`]).
    ///
    /// # Errors
    /// EINTR when a signal handler ran; ENOMEM.
    fn wait(&mut self, sleeper: &Sleeper, sleep: &mut Sleep) -> Result<bool>;
    /// The hits of the last wait, which are then forgotten.
    fn take_hits(&mut self) -> Vec<Hit>;
    /// Gives the emptied vector of [`Set::take_hits`] back, for its memory.
    fn recycle(&mut self, hits: Vec<Hit>);
    /// Keys in the set.
    fn len(&self) -> usize;
    /// Whether the set is empty.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// What polls have cost each key so far, in looks.
    fn clock(&self) -> u32;
    /// The keys that had no news for so long, and when they last had.
    fn idle(&self, silence: u32) -> Vec<(Key, u32)>;
    /// Many keys have left for long: gives their memory back.
    fn shrink(&mut self);
    /// What was [saved](crate::patience::saving) with the keys that had news since the last call.
    fn take_saved(&mut self) -> u32;
}
