//! Idle descriptors, parked with watcher threads.
//!
//! poll(2) costs in proportion to what it looks at, so a descriptor that has been silent for a while is moved out of the
//! hot set to a *shard*: a few hundred descriptors over which a watcher thread sleeps. The watcher decides nothing: when
//! a descriptor stirs, it hands it back to the hot set and wakes the leader, which looks for itself. What is watched is
//! always the level of armed bits (edge.rs), so nothing is lost on either way.
//!
//! Descriptors are parked in batches and only when the hot set is large, so that a burst of activity over parked
//! descriptors does not move each of them back and forth.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use libc::{pollfd, timespec};

use crate::backend::{Key, Watch};
use crate::engine::Engine;
use crate::fdtable::{FileId, Holder};
use crate::instance::{Inner, Instance};
use crate::interest::Place;
use crate::sleeper::SleeperId;
use crate::sys;
use crate::sys::lock::Mutex;

/// A hot set of up to this many is cheap enough to be polled as a whole (64 descriptors: 3 us).
const HOT: usize = 64;
/// A descriptor is idle when it had no news for so many waits that polling it in them cost as much as moving it: the
/// more there are, the fewer waits. This is the number for one descriptor, divided by how many there are ...
const IDLE: usize = 32_768;
/// ... but at least these: with fewer, whatever is served in turn would look idle.
const IDLE_AT_LEAST: usize = 32;
/// Fewer than this are not worth waking a watcher for.
const BATCH: usize = 32;
/// Descriptors with one watcher: its thread costs as much memory as this saves time.
const SHARD: u32 = 256;
/// A watcher touches little of its stack.
const STACK: usize = 64 * 1024;
/// An empty shard's thread ends after this.
const RETIRE: timespec = timespec { tv_sec: 1, tv_nsec: 0 };

/// What the instance tells a watcher.
enum Letter {
    Park(Parked),
    Drop(Key),
    Retire,
}

struct Parked {
    key: Key,
    file: FileId,
    watch: Watch,
}

/// A watcher thread's post box.
struct Shard {
    sleeper: SleeperId,
    mail: Mutex<Vec<Letter>>,
    /// Descriptors that it has, or will have when it reads its mail.
    parked: AtomicU32,
}

/// The watchers of an instance; under its lock.
#[derive(Default)]
pub struct Shards(Vec<Arc<Shard>>);

impl Shards {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// An item is no longer to be watched by its watcher. It may stir once more before the letter is read.
    pub fn drop_item(&self, engine: &Engine, watcher: SleeperId, key: Key) {
        if let Some(shard) = self.0.iter().find(|shard| shard.sleeper == watcher) {
            shard.parked.fetch_sub(1, Ordering::SeqCst);
            shard.mail.lock().push(Letter::Drop(key));
            engine.sleepers.kick_inside(watcher);
        }
    }

    /// Has all watchers look around.
    pub fn kick(&self, engine: &Engine) {
        self.0.iter().for_each(|shard| engine.sleepers.kick(shard.sleeper));
    }

    /// Ends all watchers.
    pub fn retire_all(&mut self, engine: &Engine) {
        for shard in self.0.drain(..) {
            shard.mail.lock().push(Letter::Retire);
            engine.sleepers.kick(shard.sleeper);
        }
    }

    /// In a child of fork: the threads are not here.
    pub fn forget(&mut self) {
        std::mem::forget(std::mem::take(&mut self.0));
    }

    /// Before fork: no letter may be half written. Under the instance's lock.
    pub(crate) fn hold_before_fork(&self) {
        self.0.iter().for_each(|shard| sys::lock::hold_before_fork(&shard.mail));
    }

    /// After fork, on either side.
    pub(crate) fn release_after_fork(&self) {
        self.0.iter().for_each(|shard| sys::lock::release_after_fork(&shard.mail, |_| ()));
    }
}

impl Inner {
    /// Parks what has long been idle, if that is worth it. The caller leads and is about to sleep.
    pub fn park_idle(&mut self, engine: &'static Engine, instance: &'static Instance) {
        self.waits_since_parking += 1;
        let Some(set) = &self.set else { return };
        let waits = (IDLE / set.len().max(1)).max(IDLE_AT_LEAST) as u32;
        if set.len() <= HOT || self.waits_since_parking < waits / 2 {
            return;
        }
        self.waits_since_parking = 0;
        let mut idle = set.idle(waits);
        idle.retain(|&key| self.may_park(engine, key));
        if idle.len() < BATCH {
            return;
        }
        for key in idle {
            let Some(shard) = self.shard_with_room(engine, instance) else { return };
            self.park(engine, &shard, key);
            engine.sleepers.kick_inside(shard.sleeper);
        }
    }

    fn may_park(&mut self, engine: &Engine, key: Key) -> bool {
        let Some(item) = self.interest.by_key(key) else { return false };
        let sole = engine.table.word(item.via).holder() != Holder::SEVERAL;
        sole && !item.doubted && item.place == Place::Hot
    }

    fn park(&mut self, engine: &Engine, shard: &Shard, key: Key) {
        let (Some(item), Some(set)) = (self.interest.by_key(key), &mut self.set) else { return };
        let (Some(watch), Some(entry)) = (item.watch(true), engine.table.get(item.via)) else {
            return;
        };
        item.place = Place::Parked(shard.sleeper);
        entry.watcher.store(shard.sleeper.0 + 1, Ordering::SeqCst);
        set.disarm(key);
        shard.parked.fetch_add(1, Ordering::SeqCst);
        shard.mail.lock().push(Letter::Park(Parked { key, file: item.file, watch }));
    }

    fn shard_with_room(
        &mut self,
        engine: &'static Engine,
        instance: &'static Instance,
    ) -> Option<Arc<Shard>> {
        let room = |shard: &&Arc<Shard>| shard.parked.load(Ordering::SeqCst) < SHARD;
        if let Some(shard) = self.shards.0.iter().find(room) {
            return Some(shard.clone());
        }
        let shard = start_watcher(engine, instance)?;
        self.shards.0.push(shard.clone());
        Some(shard)
    }

    /// A watcher's descriptors stirred, or its empty shard wants to end. True: it ends.
    fn take_back(&mut self, engine: &Engine, shard: &Shard, stirred: &[Key]) {
        for &key in stirred {
            let Some(item) = self.interest.by_key(key) else { continue };
            if item.place == Place::Parked(shard.sleeper) {
                item.place = Place::Out;
                shard.parked.fetch_sub(1, Ordering::SeqCst);
                self.rewatch(engine.table, key.index);
            }
        }
    }

    fn retire(&mut self, shard: &Shard) -> bool {
        let empty = shard.parked.load(Ordering::SeqCst) == 0 && shard.mail.lock().is_empty();
        if empty {
            self.shards.0.retain(|other| other.sleeper != shard.sleeper);
        }
        empty
    }
}

/// Starts a watcher; `None` where no thread or descriptor can be had: then everything stays hot.
fn start_watcher(engine: &'static Engine, instance: &'static Instance) -> Option<Arc<Shard>> {
    let sleeper = engine.sleepers.acquire().ok()?;
    let wakeable = engine.sleepers.get(sleeper).is_some_and(|sleeper| sleeper.wake_fd() >= 0);
    let shard =
        Arc::new(Shard { sleeper, mail: Mutex::new(Vec::new()), parked: AtomicU32::new(0) });
    let watched = shard.clone();
    instance.users.fetch_add(1, Ordering::SeqCst);
    // No signal handler of the program may run on the thread: it starts with all signals blocked.
    let mask = sys::block_signals();
    let started = wakeable
        && std::thread::Builder::new()
            .name("uepoll".into())
            .stack_size(STACK)
            .spawn(move || watch(engine, instance, &watched))
            .is_ok();
    sys::restore_signals(mask);
    if !started {
        instance.leave();
        engine.sleepers.release(sleeper);
        return None;
    }
    Some(shard)
}

/// The watcher thread.
fn watch(engine: &'static Engine, instance: &'static Instance, shard: &Shard) {
    let Some(sleeper) = engine.sleepers.get(shard.sleeper) else { return };
    let mut held: Vec<Parked> = Vec::new();
    let mut fds: Vec<pollfd> = Vec::new();
    loop {
        let mut over = instance.closed.load(Ordering::SeqCst);
        for letter in std::mem::take(&mut *shard.mail.lock()) {
            match letter {
                Letter::Park(parked) => held.push(parked),
                Letter::Drop(key) => held.retain(|parked| parked.key != key),
                Letter::Retire => over = true,
            }
        }
        if over {
            break;
        }
        let inside = sleeper.enter();
        // Letters that came before the watcher was seen inside. The box is not waited for here: who has its lock may be
        // interrupted by a handler that closes a descriptor, and waits for this watcher.
        if shard.mail.try_lock().is_none_or(|mail| !mail.is_empty()) {
            continue;
        }
        // Closed ones: their closers wait for this.
        held.retain(|parked| engine.table.word(parked.watch.fd).file() == parked.file);
        fds.clear();
        fds.push(polled(sleeper.wake_fd(), libc::POLLIN));
        fds.extend(held.iter().map(|parked| polled(parked.watch.fd, parked.watch.mask.to_poll())));
        let mut retire = RETIRE;
        let timeout = held.is_empty().then_some(&mut retire);
        let found = sys::ppoll(&mut fds, timeout, None);
        drop(inside);
        if fds[0].revents != 0 {
            sleeper.settle();
        }
        match found {
            Ok(0) if instance.inner.lock().retire(shard) => break,
            Ok(0) => continue,
            Ok(_) => {}
            // Memory is short: nothing is known, so all that is held goes back to the leader.
            Err(_) => fds.iter_mut().for_each(|polled| polled.revents = 1),
        }
        let mut stirred = Vec::new();
        let mut revents = fds[1..].iter().map(|polled| polled.revents);
        held.retain(|parked| {
            let quiet = revents.next() == Some(0);
            if !quiet {
                stirred.push(parked.key);
            }
            quiet
        });
        if !stirred.is_empty() {
            instance.inner.lock().take_back(engine, shard, &stirred);
            instance.attention.store(true, Ordering::SeqCst);
            instance.alert(engine);
        }
    }
    engine.sleepers.release(shard.sleeper);
    instance.leave();
}

fn polled(fd: RawFd, events: i16) -> pollfd {
    pollfd { fd, events, revents: 0 }
}
