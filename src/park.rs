//! Idle descriptors, parked with watcher threads.
//!
//! poll(2) costs in proportion to what it looks at, so a descriptor that has been silent for a while is moved out of the
//! hot set to a *shard*: some descriptors over which a watcher thread sleeps. The watcher decides nothing: when
//! a descriptor stirs, it hands it back to the hot set and wakes the leader, which looks for itself. What is watched is
//! always the level of armed bits (edge.rs), so nothing is lost on either way.
//!
//! Descriptors are parked in batches and only when the hot set is large, so that a burst of activity over parked
//! descriptors does not move each of them back and forth. When one is idle stands in patience.rs.

use std::os::fd::RawFd;
use std::sync::Arc;

use libc::{pollfd, timespec};
use syscalls::Errno;

use crate::backend::Key;
use crate::engine::Engine;
use crate::events::Events;
use crate::faults::{self, Resource};
use crate::fdtable::{Entry, FdTable, FileId, Holder};
use crate::files;
use crate::instance::{Inner, Instance};
use crate::interest::Place;
use crate::sleeper::SleeperId;
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::thread;
use crate::sys;
use crate::sys::lock::Mutex;

/// A hot set of up to this many is cheap enough to be polled as a whole ...
const HOT: usize = if cfg!(shuttle) { 0 } else { 32 };
/// ... and one of up to this many not worth the first watcher: the program may be one that has a single thread.
const HOT_ALONE: usize = if cfg!(shuttle) { 0 } else { 64 };
/// An instance with up to this many items needs no watcher for what is left of its crowd.
const FEW: usize = if cfg!(shuttle) { 1 } else { 16 };
/// Fewer than this are not worth waking a watcher for.
const BATCH: usize = if cfg!(shuttle) { 1 } else { 16 };
/// Descriptors with one watcher. When one stirs, its thread polls all of the others anew, at up to half a microsecond
/// each if they are many and their memory is cold ...
const SHARD: usize = if cfg!(shuttle) { 2 } else { 64 };
/// ... so where most come back, there are fewer with one: twice the threads, and a third less processor time.
const LIVELY_SHARD: usize = if cfg!(shuttle) { 1 } else { 32 };
/// A watcher touches little of its stack.
const STACK: usize = if cfg!(shuttle) { 512 * 1024 } else { 64 * 1024 };
/// An empty shard's thread ends after this.
const RETIRE: timespec = timespec { tv_sec: 1, tv_nsec: 0 };

/// What the instance tells a watcher.
enum Letter {
    Park(Parked, pollfd),
    Drop(Key),
    Retire,
}

struct Parked {
    key: Key,
    file: FileId,
    /// When it last had news, by the set's clock.
    since: u32,
}

/// A watcher thread's post box.
struct Shard {
    engine: &'static Engine,
    sleeper: SleeperId,
    mail: Mutex<Vec<Letter>>,
    /// Descriptors that it has, or will have when it reads its mail.
    parked: AtomicU32,
}

impl Shard {
    /// How many more it may have, if so many is the most.
    fn room(&self, most: usize) -> usize {
        most.saturating_sub(self.parked.load(Ordering::SeqCst) as usize)
    }
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
    pub fn drop_item(&self, watcher: SleeperId, key: Key) {
        self.tell_to_drop(watcher, key);
        if let Some(shard) = self.of(watcher) {
            shard.engine.sleepers.kick_inside(watcher);
        }
    }

    /// The same, when the watcher wakes soon anyway, or does no harm if it does not.
    fn tell_to_drop(&self, watcher: SleeperId, key: Key) {
        if let Some(shard) = self.of(watcher) {
            shard.parked.fetch_sub(1, Ordering::SeqCst);
            shard.mail.lock().push(Letter::Drop(key));
        }
    }

    /// Whether the watcher that an item was last parked with has not read yet that it was dropped. Who closes a descriptor
    /// ejects one watcher only, so until then it cannot be parked with another one.
    pub(crate) fn may_still_hold(&self, watcher: Option<SleeperId>, key: Key) -> bool {
        let Some(shard) = watcher.and_then(|watcher| self.of(watcher)) else { return false };
        let unread = shard
            .mail
            .lock()
            .iter()
            .any(|letter| matches!(letter, Letter::Drop(dropped) if *dropped == key));
        if unread {
            shard.engine.sleepers.kick_inside(shard.sleeper);
        }
        unread
    }

    fn of(&self, watcher: SleeperId) -> Option<&Shard> {
        self.0.iter().find(|shard| shard.sleeper == watcher).map(|shard| &**shard)
    }

    /// How many are parked.
    fn parked(&self) -> usize {
        self.0.iter().map(|shard| shard.parked.load(Ordering::SeqCst) as usize).sum()
    }

    /// The emptiest shard with room for a batch.
    fn with_room(&self, most: usize) -> Option<Arc<Shard>> {
        let emptiest = self.0.iter().min_by_key(|shard| shard.parked.load(Ordering::SeqCst))?;
        (emptiest.room(most) >= BATCH).then(|| emptiest.clone())
    }

    /// Has all watchers look around.
    pub fn kick(&self, engine: &Engine) {
        self.0.iter().for_each(|shard| engine.sleepers.kick(shard.sleeper));
    }

    /// Has all watchers end.
    fn end(&self, engine: &Engine) {
        for shard in &self.0 {
            shard.mail.lock().push(Letter::Retire);
            engine.sleepers.kick(shard.sleeper);
        }
    }

    /// Ends all watchers, of an instance that was closed.
    pub fn retire_all(&mut self, engine: &Engine) {
        self.end(engine);
        self.0.clear();
    }

    /// A watcher has left its last poll.
    fn forget_one(&mut self, shard: &Shard) {
        self.0.retain(|other| other.sleeper != shard.sleeper);
    }

    /// In a child of fork: the threads are not here.
    pub fn forget(&mut self) {
        std::mem::forget(std::mem::take(&mut self.0));
    }
}

impl Inner {
    /// Parks what has long been idle, if that is worth it. The caller leads and is about to sleep.
    pub fn park_idle(&mut self, engine: &'static Engine, instance: &'static Instance) {
        if self.interest.count() <= FEW {
            return self.melt(engine.table);
        }
        let Some(set) = &mut self.set else { return };
        if !self.patience.is_over(set.clock()) || engine.watchers.are_held_off() {
            return;
        }
        self.patience.kept(set.take_saved());
        let (hot, batch) =
            if self.shards.is_empty() { (HOT_ALONE, 2 * BATCH) } else { (HOT, BATCH) };
        if set.len() <= hot {
            return;
        }
        let silence = self.patience.silence(set.len() + self.shards.parked(), set.len());
        let mut idle = set.idle(silence);
        idle.retain(|&(key, _)| self.may_park(engine, key));
        if idle.len() < batch {
            return;
        }
        // A whole batch goes to one shard: each watcher that is told to take some polls all that it has anew.
        let most = if self.patience.is_lively() { LIVELY_SHARD } else { SHARD };
        while idle.len() >= BATCH {
            let shard = self.shards.with_room(most).or_else(|| self.start_shard(engine, instance));
            let Some(shard) = shard else { return };
            let batch = idle.split_off(idle.len().saturating_sub(shard.room(most)));
            for (key, since) in batch {
                self.park(engine, &shard, key, since);
            }
            engine.sleepers.kick_inside(shard.sleeper);
        }
        if let Some(set) = &mut self.set {
            set.shrink();
        }
    }

    /// Takes back what is parked. Its watchers, with nothing to watch, end.
    fn melt(&mut self, table: &FdTable) {
        if self.shards.parked() == 0 {
            return;
        }
        for index in 0..self.interest.places() {
            let key = self.interest.key(index);
            let Some(item) = self.interest.get_mut(index) else { continue };
            if let Place::Parked(watcher) = item.place {
                item.place = Place::Out;
                self.shards.drop_item(watcher, key);
                self.rewatch(table, index);
            }
        }
    }

    /// Takes back what is parked, and has the watchers end. They stay in the list until they have left their polls, for who closes
    /// what they hold must find them.
    pub(crate) fn end_watchers(&mut self, engine: &Engine) {
        self.melt(engine.table);
        self.shards.end(engine);
    }

    fn may_park(&mut self, engine: &Engine, key: Key) -> bool {
        let Some(item) = self.interest.by_key(key) else { return false };
        let sole = engine.table.word(item.via).holder() != Holder::SEVERAL;
        let before = engine.table.get(item.via).and_then(Entry::watcher);
        sole && !item.doubted
            && item.place == Place::Hot
            && !self.shards.may_still_hold(before, key)
            // Its watcher would take the news that it wakes of.
            && !files::tells_once(item.via, item.kind)
    }

    fn park(&mut self, engine: &Engine, shard: &Shard, key: Key, since: u32) {
        let (Some(item), Some(set)) = (self.interest.by_key(key), &mut self.set) else { return };
        let (Some(watch), Some(entry)) = (item.watch(false), engine.table.get(item.via)) else {
            return;
        };
        item.place = Place::Parked(shard.sleeper);
        entry.set_watcher(Some(shard.sleeper));
        set.disarm(key);
        shard.parked.fetch_add(1, Ordering::SeqCst);
        self.patience.parked();
        let polled = polled(watch.fd, Events::from(watch.mask).to_poll());
        shard.mail.lock().push(Letter::Park(Parked { key, file: item.file, since }, polled));
    }

    fn start_shard(
        &mut self,
        engine: &'static Engine,
        instance: &'static Instance,
    ) -> Option<Arc<Shard>> {
        let shard = start_watcher(engine, instance)?;
        self.shards.0.push(shard.clone());
        Some(shard)
    }

    /// The program was seen writing to an item: if it is parked, it is hot again now, and not when its watcher has woken and
    /// said so. The watcher finds the letter when it wakes of the same write.
    pub fn fetch(&mut self, table: &FdTable, index: u32) {
        let key = self.interest.key(index);
        let Some(item) = self.interest.get_mut(index) else { return };
        if let Place::Parked(watcher) = item.place {
            item.place = Place::Out;
            self.patience.came_back();
            self.shards.tell_to_drop(watcher, key);
            self.rewatch(table, index);
        }
    }

    /// A watcher's descriptors stirred. False: all of them were fetched meanwhile.
    fn take_back(&mut self, shard: &Shard, stirred: &[Parked]) -> bool {
        let mut any = false;
        for parked in stirred {
            let key = parked.key;
            let Some(item) = self.interest.by_key(key) else { continue };
            if item.place == Place::Parked(shard.sleeper) {
                item.place = Place::Out;
                shard.parked.fetch_sub(1, Ordering::SeqCst);
                self.patience.returned(parked.since);
                self.rewatch(shard.engine.table, key.index);
                any = true;
            }
        }
        any
    }

    /// An empty shard wants to end. True: it ends.
    fn retire(&mut self, shard: &Shard) -> bool {
        let empty = shard.parked.load(Ordering::SeqCst) == 0 && shard.mail.lock().is_empty();
        if empty {
            self.shards.forget_one(shard);
        }
        empty
    }
}

/// Starts a watcher; `None` where no thread or descriptor can be had: then everything stays hot.
fn start_watcher(engine: &'static Engine, instance: &'static Instance) -> Option<Arc<Shard>> {
    let sleeper = engine.sleepers.acquire().ok()?;
    let wakeable = engine.sleepers.get(sleeper).is_some_and(|sleeper| sleeper.wake_fd() >= 0);
    let shard = Arc::new(Shard {
        engine,
        sleeper,
        mail: Mutex::new(Vec::new()),
        parked: AtomicU32::new(0),
    });
    let watched = shard.clone();
    instance.users.fetch_add(1, Ordering::SeqCst);
    let may = engine.watchers.begin();
    // No signal handler of the program may run on the thread: it starts with all signals blocked.
    let mask = sys::block_signals();
    let started = may
        && wakeable
        && !faults::refuses(Resource::Thread)
        && thread::Builder::new()
            .name("uepoll".into())
            .stack_size(STACK)
            .spawn(move || watch(instance, &watched))
            .is_ok();
    sys::restore_signals(mask);
    if !started {
        if may {
            engine.watchers.cancel();
        }
        instance.leave();
        engine.sleepers.release(sleeper);
        return None;
    }
    Some(shard)
}

/// What a watcher has; `fds[i + 1]` belongs to `parked[i]`, `fds[0]` is its wake-up descriptor.
struct Held {
    parked: Vec<Parked>,
    fds: Vec<pollfd>,
}

impl Held {
    /// Does as the letters say. True: the watcher is to end.
    fn read(&mut self, shard: &Shard) -> bool {
        let mut over = false;
        for letter in std::mem::take(&mut *shard.mail.lock()) {
            match letter {
                Letter::Park(parked, polled) => {
                    self.parked.push(parked);
                    self.fds.push(polled);
                }
                Letter::Drop(key) => drop(self.take(|parked, _| parked.key == key)),
                Letter::Retire => over = true,
            }
        }
        over
    }

    /// Takes out those of which `is_out` says so.
    fn take(&mut self, is_out: impl Fn(&Parked, &pollfd) -> bool) -> Vec<Parked> {
        let mut out = Vec::new();
        for place in (0..self.parked.len()).rev() {
            if is_out(&self.parked[place], &self.fds[place + 1]) {
                self.fds.swap_remove(place + 1);
                out.push(self.parked.swap_remove(place));
            }
        }
        out
    }
}

/// The watcher thread.
fn watch(instance: &'static Instance, shard: &Shard) {
    let engine = shard.engine;
    let Some(sleeper) = engine.sleepers.get(shard.sleeper) else { return };
    let mut held = Held { parked: Vec::new(), fds: vec![polled(-1, libc::POLLIN)] };
    loop {
        if held.read(shard) || instance.closed.load(Ordering::SeqCst) {
            break;
        }
        let inside = sleeper.enter();
        // Letters that came before the watcher was seen inside. The box is not waited for here: who has its lock may be
        // interrupted by a handler that closes a descriptor, and waits for this watcher.
        if shard.mail.try_lock().is_none_or(|mail| !mail.is_empty()) {
            continue;
        }
        // Closed ones: their closers wait for this.
        held.take(|parked, polled| engine.table.word(polled.fd).file() != parked.file);
        held.fds[0].fd = sleeper.wake_fd();
        let mut retire = RETIRE;
        let timeout = held.parked.is_empty().then_some(&mut retire);
        let found = sys::ppoll(&mut held.fds, timeout, None);
        drop(inside);
        if held.fds[0].revents != 0 {
            sleeper.settle();
        }
        match found {
            Ok(0) if instance.inner.lock().retire(shard) => break,
            Ok(0) => continue,
            Ok(_) => {}
            // The C library's signal, for which see [`sys::block_signals`].
            Err(Errno::EINTR) => continue,
            // Memory is short: nothing is known, so all that is held goes back to the leader.
            Err(_) => held.fds.iter_mut().for_each(|polled| polled.revents = 1),
        }
        // What was fetched meanwhile need not be handed over, and its instance's lock not be fought for.
        if held.read(shard) {
            break;
        }
        let stirred = held.take(|_, polled| polled.revents != 0);
        if !stirred.is_empty() && instance.inner.lock().take_back(shard, &stirred) {
            instance.attention.store(true, Ordering::SeqCst);
            instance.alert(engine);
        }
    }
    instance.inner.lock().shards.forget_one(shard);
    engine.sleepers.release(shard.sleeper);
    instance.leave();
    engine.watchers.end();
}

fn polled(fd: RawFd, events: i16) -> pollfd {
    pollfd { fd, events, revents: 0 }
}
