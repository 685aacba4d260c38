//! An epoll instance: its items, and the set that its leader sleeps on. What is noticed of the items stands in
//! evidence.rs, what is told of them in deliver.rs.
//!
//! Who may do what to the set: while no thread leads, it stands in `set` and whoever holds the lock changes it. The
//! leader takes it along into its sleep; then changes wait in `changes` and `gone` until it is back.

use std::collections::VecDeque;
use std::os::fd::RawFd;

use syscalls::Errno;

use crate::backend::{Hit, Key, Set, Watch};
use crate::edge::Trigger;
use crate::engine::Engine;
use crate::events::{Event, Events};
use crate::evidence::Doubtful;
use crate::faults::make_room;
use crate::fdtable::{FdTable, FileId, Flags, Holder, Signs};
use crate::files::Kind;
use crate::habit::Habit;
use crate::interest::{Interest, Item, Place};
use crate::notice::Notices;
use crate::observe::Child;
use crate::park::Shards;
use crate::patience::Patience;
use crate::sleeper::SleeperId;
use crate::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering};
use crate::sys::lock::Mutex;
use crate::sys::{self, Result};

/// An instance. Its memory is never freed, only used for another one: who has found it may look at it at any time.
pub struct Instance {
    /// Its place among the engine's instances.
    pub slot: u16,
    /// Numbers that want a look.
    pub notices: Notices,
    /// Something changed that the leader must know before it sleeps. Set under the lock; looked at inside
    /// [`Sleeper::enter`](crate::sleeper::Sleeper::enter).
    pub attention: AtomicBool,
    /// The leader's sleeper plus one; 0: nobody led yet.
    leader: AtomicU16,
    /// Calls that are in it now, and watchers of it. It is not used anew before they have left.
    pub users: AtomicU32,
    /// Descriptor numbers that stand for it.
    pub numbers: AtomicU32,
    /// Its last number was closed.
    pub closed: AtomicBool,
    /// The parameters of busy polling ([`BusyPoll::pack`]).
    pub busy_poll: AtomicU64,
    /// It was put into another instance.
    pub is_nested: AtomicBool,
    /// What the lock guards.
    pub inner: Mutex<Inner>,
}

/// `struct epoll_params` of ioctl_eventpoll(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct BusyPoll {
    /// Microseconds to poll for.
    pub usecs: u32,
    /// Packets at a time.
    pub budget: u16,
    /// Whether to prefer it to interrupts: 0 or 1.
    pub prefer: u8,
    /// Must be 0.
    pub pad: u8,
}

impl BusyPoll {
    /// As one word.
    #[must_use]
    pub fn pack(self) -> u64 {
        u64::from(self.usecs) | u64::from(self.budget) << 32 | u64::from(self.prefer) << 48
    }

    /// From one word.
    #[must_use]
    pub fn unpack(word: u64) -> Self {
        Self { usecs: word as u32, budget: (word >> 32) as u16, prefer: (word >> 48) as u8, pad: 0 }
    }
}

/// The state of an instance, under its lock.
#[derive(Default)]
pub struct Inner {
    /// Registered items.
    pub interest: Interest,
    /// The hot set, while nobody leads. `None` also before the first use.
    pub set: Option<Box<dyn Set>>,
    /// Somebody has taken the set into a sleep.
    pub led: bool,
    /// Counts leaderships. A leader that finds another number when it is back has lost it: it was interrupted by a signal
    /// handler that waited itself, or that forked, and this is the child.
    pub leaderships: u32,
    /// Whom the set wakes; kept from leader to leader.
    pub sleeper: Option<SleeperId>,
    /// Items whose watch changed while the set was away.
    pub changes: Vec<Key>,
    /// Items that were removed while the set was away.
    pub(crate) gone: Vec<(Key, RawFd, FileId)>,
    /// Threads that wait behind the leader; the last in is the first out, as the kernel's exclusive waiters are.
    pub followers: VecDeque<SleeperId>,
    /// Edge-triggered items whose input may not be all read, and others that must be asked about.
    pub doubts: Vec<Doubtful>,
    /// Threads have waited behind each other.
    pub(crate) is_shared: bool,
    /// Items on numbers that several instances watch, or whose notices may go elsewhere: looked at in each wait.
    pub(crate) crowded: Vec<Key>,
    /// The engine's count of crowdings when `crowded` was made.
    pub(crate) crowdings: u32,
    /// Counts deliveries, to tell fresh levels from old ones.
    pub(crate) look: u64,
    /// The last of them that was after a look at everything.
    pub(crate) whole_look: u64,
    /// Items that go on through another number than they were registered by.
    pub(crate) moved: Vec<Key>,
    /// Items that are instances themselves.
    pub nested: Vec<Child>,
    /// How often an item became ready that was not: what an edge is for an instance that this one is nested in.
    pub stirs: u64,
    /// The last turn that was given out.
    pub(crate) turns: u64,
    /// The last turn that was given out before the last look.
    pub(crate) turns_seen: u64,
    /// Somebody has a turn: the next hits are to be taken in order.
    pub(crate) in_turns: bool,
    /// Between a look and its delivery: what is noticed then goes into `late` too.
    pub(crate) looked: bool,
    /// Files that were emptied or filled between a look and its delivery, and the signs of that.
    pub(crate) late: Vec<(Key, Signs)>,
    /// Items that are [racing](Item::racing).
    pub(crate) races: Vec<Key>,
    /// Items that were found ready, had no room, and will not be found so again ([`tells_once`](crate::files::tells_once)).
    pub(crate) kept: Vec<Key>,
    /// Numbers that were noticed, in a vector whose memory is kept.
    pub(crate) noticed: Vec<RawFd>,
    /// It was put into another instance.
    pub(crate) is_nested: bool,
    /// Watcher threads of this instance.
    pub shards: Shards,
    /// What the program does with its input.
    pub habit: Habit,
    /// How long an item must have been silent to be parked.
    pub patience: Patience,
}

impl Instance {
    pub(crate) fn new(slot: u16) -> Self {
        Self {
            slot,
            notices: Notices::default(),
            attention: AtomicBool::new(false),
            leader: AtomicU16::new(0),
            users: AtomicU32::new(0),
            numbers: AtomicU32::new(0),
            closed: AtomicBool::new(false),
            busy_poll: AtomicU64::new(0),
            is_nested: AtomicBool::new(false),
            inner: Mutex::new(Inner::default()),
        }
    }

    /// Who sleeps on its hot set, or last did.
    pub fn leader(&self) -> Option<SleeperId> {
        SleeperId::from_word(self.leader.load(Ordering::SeqCst))
    }

    /// Says who will sleep on the hot set.
    pub fn set_leader(&self, sleeper: Option<SleeperId>) {
        self.leader.store(SleeperId::to_word(sleeper), Ordering::SeqCst);
    }

    /// Whether the leader must not sleep: something changed, or was noticed.
    pub fn wants_attention(&self) -> bool {
        self.attention.load(Ordering::SeqCst) || !self.notices.is_empty()
    }

    /// Whether one of its numbers is, or was, an item of another instance.
    pub fn numbers_watched(&self) -> bool {
        self.is_nested.load(Ordering::SeqCst)
    }

    /// Wakes those who sleep on its items, if they are asleep: what they must know has been stored before.
    pub fn alert(&self, engine: &Engine) {
        if let Some(leader) = self.leader() {
            engine.sleepers.kick_inside(leader);
        }
        engine.sleepers.kick_observers();
    }
}

impl Inner {
    /// EPOLL_CTL_ADD of a file that can be polled. Gives the item's place.
    ///
    /// # Errors
    /// ENOMEM, ENOSPC.
    pub fn add(
        &mut self,
        engine: &Engine,
        slot: u16,
        fd: RawFd,
        kind: Kind,
        event: Event,
    ) -> Result<u32> {
        let table = engine.table;
        engine.check_memory()?;
        let entry = table.get(fd).ok_or(Errno::ENOMEM)?;
        let key = self.interest.reserve(fd)?;
        make_room(|| self.changes.try_reserve(1))?;
        if let Some(set) = &mut self.set {
            set.reserve(key)?;
        }
        engine.count_watch()?;
        let file = table.identify(fd).ok_or(Errno::ENOMEM)?;
        let mut item = Item::new(fd, file, kind, event.data, event.events);
        item.nested = self.is_nested;
        if entry.word().is(Flags::DEAF) {
            item.trigger.shut();
        }
        let evidence = if item.wants_evidence() { Flags::EVIDENCE } else { Flags::empty() };
        if item.wants_evidence() {
            table.set_wants_evidence_of(kind);
        }
        let mine = Holder::slot(slot);
        let before = entry.word().holder();
        let holder = match before {
            Holder::NONE => mine,
            before if before == mine => mine,
            _ => Holder::SEVERAL,
        };
        table.update_file(fd, |word| {
            word.with(Flags::WATCHED | evidence).with_kind(kind).with_holder(holder)
        });
        // Its evidence may go to the other instances' stacks, now or from a moment ago.
        let shared = holder == Holder::SEVERAL;
        if shared {
            engine.crowd();
        }
        let home = table.home(fd).ok_or(Errno::ENOMEM)?;
        item.seen = home.look();
        let crowded = shared || home.is_noticed() || entry.is_noticed();
        let index = self.interest.insert(item)?;
        if let Some(child) = entry.slot_of_epoll() {
            self.nested.push(Child { key: self.interest.key(index), slot: child, stirs: None });
        }
        if crowded {
            self.crowded.push(self.interest.key(index));
        }
        self.rewatch(table, index);
        Ok(index)
    }

    /// The instance was put into another one: what wakes its items is an edge there, so their evidence counts.
    pub fn become_nested(&mut self, table: &FdTable) {
        self.is_nested = true;
        for index in 0..self.interest.places() {
            if let Some(item) = self.interest.get_mut(index) {
                item.nested = true;
                table.set_wants_evidence_of(item.kind);
                table.update_file(item.via, |word| word.with(Flags::EVIDENCE));
            }
            self.rewatch(table, index);
        }
    }

    /// An item was added or changed: if it is ready, it is so from now on; if not, its turn comes with a write.
    pub fn give_turn(&mut self, index: u32) {
        let Some(item) = self.interest.get_mut(index) else { return };
        if item.turn <= self.turns_seen {
            self.turns += 1;
            item.turn = self.turns;
            item.turn_by_ctl = true;
            self.in_turns = true;
        }
    }

    /// An item was added or changed. In an instance that is itself watched, that it is ready at once is an edge there.
    pub fn stir_if_ready(&mut self, instance: &Instance, index: u32) {
        let Some(item) = self.interest.get(index) else { return };
        // One that was ready already wakes nobody again.
        let known = self.interest.is_ready(index);
        if known || !instance.numbers_watched() || item.kind == Kind::Epoll {
            return;
        }
        let whole = item.trigger.whole().to_poll();
        let levels = Events::from_poll(sys::levels_now(item.via, whole));
        if item.trigger.news(levels).is_some() {
            self.stirs += 1;
            self.interest.push_ready(index);
        }
    }

    /// EPOLL_CTL_MOD: a new mask and word, and everything is news again.
    pub fn modify(&mut self, table: &FdTable, index: u32, event: Event) {
        if self.is_nested {
            // What woke it before counts in the outer instance.
            self.apply_signs(table, index);
        }
        let Some(item) = self.interest.get_mut(index) else { return };
        item.data = event.data;
        item.renew_kind(table.word(item.via));
        item.trigger = Trigger::new(event.events, item.kind);
        item.backlog = None;
        // What the new mask asks for has not risen by being asked for.
        item.levels = (Events::from(item.levels) | (Events::all() - Events::HUP)).into();
        if table.word(item.via).is(Flags::DEAF) {
            item.trigger.shut();
        }
        if item.wants_evidence()
            && let Some(home) = table.home(item.via)
        {
            table.update_file(item.via, |word| word.with(Flags::EVIDENCE));
            table.set_wants_evidence_of(item.kind);
            item.seen = home.look();
        }
        self.rewatch(table, index);
    }

    /// EPOLL_CTL_DEL, or the end of the file.
    pub fn remove(&mut self, engine: &Engine, slot: u16, index: u32) {
        let table = engine.table;
        let key = self.interest.key(index);
        let Some(item) = self.interest.remove(index) else { return };
        engine.uncount_watch();
        if item.kind == Kind::Epoll {
            self.nested.retain(|child| child.key != key);
        }
        // Another item on the same file has another number of it: only then is the list gone through.
        let word = table.word(item.via);
        let same_file = word.is(Flags::DUPED)
            && self
                .interest
                .indices()
                .any(|other| self.interest.get(other).is_some_and(|other| other.file == item.file));
        if word.file() == item.file && !same_file {
            table.update_file(item.via, |word| {
                let sole = word.holder() == Holder::slot(slot);
                // HELD stays until the set has let go of it.
                if sole { word.without(Flags::WATCHED | Flags::EVIDENCE) } else { word }
            });
        }
        match item.place {
            Place::Out if self.set.is_none() && !self.led => {
                self.let_go(table, key, item.via, item.file);
            }
            // What is out may stand in a set that is away: by the number that it lost meanwhile.
            Place::Out | Place::Hot => match &mut self.set {
                Some(set) => {
                    set.disarm(key);
                    self.let_go(table, key, item.via, item.file);
                }
                None => self.gone.push((key, item.via, item.file)),
            },
            Place::Parked(watcher) => self.shards.drop_item(watcher, key),
        }
    }

    /// Brings the set in line with an item, now or when the leader is back.
    pub fn rewatch(&mut self, table: &FdTable, index: u32) {
        let key = self.interest.key(index);
        let Some(set) = &mut self.set else {
            // Without a leader there is no set yet: it will be made with all items.
            if self.led {
                self.changes.push(key);
            }
            return;
        };
        let Some(item) = self.interest.get_mut(index) else { return };
        let counted = item.is_counted(table, self.habit);
        // What a nested instance has to tell is asked of itself (observe.rs), not of its descriptor.
        let watch = if item.kind == Kind::Epoll { None } else { item.watch(counted) };
        match watch {
            Some(watch) => {
                if item.place != Place::Hot {
                    // What its watcher knows of it is out of date.
                    if let Place::Parked(watcher) = item.place {
                        self.shards.drop_item(watcher, key);
                    }
                    item.place = Place::Out;
                    // Its closer finds the mark, or we find that it was there: then nobody would get us out of a poll over
                    // the file, and its notice may be on its way still.
                    let held = table.get(item.via).is_some_and(|entry| {
                        entry.set_flags(item.file, Flags::HELD, Flags::empty())
                    });
                    if !held {
                        self.crowded.push(key);
                        return;
                    }
                    item.place = Place::Hot;
                }
                set.arm(key, watch);
            }
            None if item.place == Place::Hot => {
                set.disarm(key);
                item.place = Place::Out;
                let (via, file) = (item.via, item.file);
                self.let_go(table, key, via, file);
            }
            None => {}
        }
    }

    /// Gives the set's vector of hits back, for its memory.
    pub fn recycle(&mut self, hits: Vec<Hit>) {
        if let Some(set) = &mut self.set {
            set.recycle(hits);
        }
    }

    /// What all items watch, whoever does it.
    pub fn watches(&self) -> impl Iterator<Item = (Key, Watch)> + '_ {
        self.interest.indices().filter_map(|index| {
            let item = self.interest.get(index).filter(|item| item.kind != Kind::Epoll)?;
            let counted = !item.is_trusted(self.habit);
            Some((self.interest.key(index), item.watch(counted)?))
        })
    }

    /// What is watched by watcher threads, for who must know now.
    pub fn parked(&self) -> Vec<(Key, Watch)> {
        if self.shards.is_empty() {
            return Vec::new();
        }
        let is_parked = |index| {
            self.interest.get(index).is_some_and(|item| matches!(item.place, Place::Parked(_)))
        };
        self.watches().filter(|(key, _)| is_parked(key.index)).collect()
    }

    /// Makes the set, or brings the one that is back in line with what changed meanwhile.
    ///
    /// # Errors
    /// ENOMEM when there is no memory for the set.
    #[inline]
    pub fn settle(&mut self, engine: &Engine) -> Result<()> {
        if self.set.is_none() {
            self.make_set(engine)?;
        }
        if !self.gone.is_empty() || !self.changes.is_empty() {
            self.apply_changes(engine);
        }
        Ok(())
    }

    #[cold]
    fn make_set(&mut self, engine: &Engine) -> Result<()> {
        self.set = Some(engine.new_set(self.interest.places() as usize)?);
        self.changes.clear();
        self.gone.clear();
        for index in 0..self.interest.places() {
            self.rewatch(engine.table, index);
        }
        Ok(())
    }

    fn apply_changes(&mut self, engine: &Engine) {
        for (key, fd, file) in std::mem::take(&mut self.gone) {
            if let Some(set) = &mut self.set {
                set.disarm(key);
            }
            self.let_go(engine.table, key, fd, file);
        }
        let mut changes = std::mem::take(&mut self.changes);
        for key in changes.drain(..) {
            if self.interest.by_key(key).is_some() {
                self.rewatch(engine.table, key.index);
            }
        }
        self.changes = changes;
    }

    /// Forgets everything: the instance was closed. The numbers that it alone watched are as if never registered.
    pub fn clear(&mut self, engine: &Engine, instance: &Instance) {
        for index in self.interest.indices().collect::<Vec<_>>() {
            self.remove(engine, instance.slot, index);
        }
        self.shards.retire_all(engine);
        instance.notices.take(engine.table).for_each(drop);
        for (key, fd, file) in std::mem::take(&mut self.gone) {
            self.let_go(engine.table, key, fd, file);
        }
        instance.is_nested.store(false, Ordering::SeqCst);
        instance.busy_poll.store(0, Ordering::SeqCst);
        if let Some(sleeper) = self.sleeper.take() {
            instance.set_leader(None);
            engine.sleepers.release(sleeper);
        }
        *self = Self { look: self.look, whole_look: self.look, ..Self::default() };
    }

    /// The set no longer has the file: its closer need not look for a sleeper, unless a watcher that the item was fetched from
    /// has not read so yet, and may be in a poll over it.
    fn let_go(&self, table: &FdTable, key: Key, fd: RawFd, file: FileId) {
        let Some(entry) = table.get(fd) else { return };
        if self.shards.may_still_hold(entry.watcher(), key) {
            return;
        }
        entry.update(|word| {
            let sole = word.file() == file && word.holder() != Holder::SEVERAL;
            sole.then(|| {
                let holder = if word.is(Flags::WATCHED) { word.holder() } else { Holder::NONE };
                word.without(Flags::HELD).with_holder(holder)
            })
        });
    }

    /// In a child of fork: the set may be on the stack of a thread that is not here, and so may be the watchers.
    pub fn after_fork(&mut self, instance: &Instance) {
        // Not freed: the fork may have come out of a signal handler.
        std::mem::forget(self.set.take());
        self.led = false;
        self.leaderships += 1;
        self.sleeper = None;
        instance.set_leader(None);
        self.followers.clear();
        self.shards.forget();
        for index in 0..self.interest.places() {
            if let Some(item) = self.interest.get_mut(index) {
                item.place = Place::Out;
            }
        }
    }
}
