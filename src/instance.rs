//! An epoll instance: its interest list, what is done to it (epoll_ctl), and what it has to tell (collect, deliver).
//!
//! Who may do what to the set: while no thread leads, it stands in `set` and whoever holds the lock changes it. The
//! leader takes it along into its sleep; then changes wait in `changes` and `gone` until it is back.

use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use syscalls::Errno;

use crate::backend::{Hit, Key, Set, Watch, poll};
use crate::edge::{Backlog, Doubt, Trigger};
use crate::engine::Engine;
use crate::events::{Event, Events};
use crate::fdtable::{FdTable, FileId, Flags, Holder, Sign, Signs};
use crate::files::Kind;
use crate::interest::{Interest, Item, Place};
use crate::notice::Notices;
use crate::observe::Child;
use crate::park::Shards;
use crate::sleeper::SleeperId;
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
    leader: AtomicU32,
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
    gone: Vec<(Key, RawFd, FileId)>,
    /// Threads that wait behind the leader; the last in is the first out, as the kernel's exclusive waiters are.
    pub followers: VecDeque<SleeperId>,
    /// Edge-triggered items whose input may not be all read, and others that must be asked about.
    pub doubts: Vec<Key>,
    /// Items on numbers that several instances watch, or whose notices may go elsewhere: looked at in each wait.
    crowded: Vec<Key>,
    /// The engine's count of crowdings when `crowded` was made.
    crowdings: u32,
    /// Counts deliveries, to tell fresh levels from old ones.
    look: u64,
    /// Items that go on through another number than they were registered by.
    moved: Vec<Key>,
    /// Items that are instances themselves.
    pub nested: Vec<Child>,
    /// How often an item became ready that was not: what an edge is for an instance that this one is nested in.
    pub stirs: u64,
    /// The last turn that was given out.
    turns: u64,
    /// Somebody has a turn: the next hits are to be taken in order.
    in_turns: bool,
    /// Between a look and its delivery: what is noticed then goes into `late` too.
    looked: bool,
    /// Files that were emptied or filled between a look and its delivery.
    late: Vec<(Key, Signs)>,
    /// Numbers that were noticed, in a vector whose memory is kept.
    noticed: Vec<RawFd>,
    /// It was put into another instance.
    is_nested: bool,
    /// Watcher threads of this instance.
    pub shards: Shards,
    /// Waits since the last look for idle items.
    pub waits_since_parking: u32,
}

/// What became of a delivery.
pub struct Delivered {
    /// Events written.
    pub count: usize,
    /// The program's array could not be written, where it had to be.
    pub fault: bool,
}

/// Where a delivery puts its events: the number in the array, and the event. False: the memory cannot be written.
pub type Sink<'a> = dyn FnMut(usize, Event) -> bool + 'a;

impl Instance {
    pub(crate) fn new(slot: u16) -> Self {
        Self {
            slot,
            notices: Notices::default(),
            attention: AtomicBool::new(false),
            leader: AtomicU32::new(0),
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
        self.leader.load(Ordering::SeqCst).checked_sub(1).map(SleeperId)
    }

    /// Says who will sleep on the hot set.
    pub fn set_leader(&self, sleeper: Option<SleeperId>) {
        self.leader.store(sleeper.map_or(0, |sleeper| sleeper.0 + 1), Ordering::SeqCst);
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
        let entry = table.get(fd).ok_or(Errno::ENOMEM)?;
        let key = self.interest.reserve(fd)?;
        self.changes.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
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
        let crowded = shared || home.is_queued();
        let index = self.interest.insert(item);
        if let Some(child) = entry.slot_of_epoll() {
            self.nested.push(Child { key: self.interest.key(index), slot: child, stirs: 0 });
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
                table.update_file(item.via, |word| word.with(Flags::EVIDENCE));
            }
            self.rewatch(table, index);
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
        let Some(item) = self.interest.get_mut(index) else { return };
        item.data = event.data;
        item.trigger = Trigger::new(event.events);
        item.backlog = None;
        if table.word(item.via).is(Flags::DEAF) {
            item.trigger.shut();
        }
        if item.wants_evidence()
            && let Some(home) = table.home(item.via)
        {
            table.update_file(item.via, |word| word.with(Flags::EVIDENCE));
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
        let same_file = self.interest.indices().any(|other| {
            engine.any_dup()
                && self.interest.get(other).is_some_and(|other| other.file == item.file)
        });
        if table.word(item.via).file() == item.file && !same_file {
            table.update_file(item.via, |word| {
                let sole = word.holder() == Holder::slot(slot);
                // HELD stays until the set has let go of it.
                if sole { word.without(Flags::WATCHED | Flags::EVIDENCE) } else { word }
            });
        }
        match item.place {
            Place::Out => let_go(table, item.via, item.file),
            Place::Hot => match &mut self.set {
                Some(set) => {
                    set.disarm(key);
                    let_go(table, item.via, item.file);
                }
                None => self.gone.push((key, item.via, item.file)),
            },
            Place::Parked(watcher) => self.shards.drop_item(engine, watcher, key),
        }
    }

    /// Brings the set in line with an item, now or when the leader is back.
    pub fn rewatch(&mut self, table: &FdTable, index: u32) {
        let key = self.interest.key(index);
        let Some(set) = &mut self.set else {
            self.changes.push(key);
            return;
        };
        let Some(item) = self.interest.get_mut(index) else { return };
        let private = item.kind == Kind::Eventfd && table.word(item.via).is(Flags::PRIVATE);
        // What a nested instance has to tell is asked of itself (observe.rs), not of its descriptor.
        let watch = if item.kind == Kind::Epoll { None } else { item.watch(private) };
        match watch {
            Some(watch) => {
                if item.place != Place::Hot {
                    if let Some(entry) = table.get(item.via) {
                        entry.set_flags(item.file, Flags::HELD, Flags::empty());
                    }
                    item.place = Place::Hot;
                }
                set.arm(key, watch);
            }
            None if item.place == Place::Hot => {
                set.disarm(key);
                item.place = Place::Out;
                let_go(table, item.via, item.file);
            }
            None => {}
        }
    }

    /// The set's vector for hits.
    pub fn take_hits(&mut self) -> Vec<Hit> {
        self.set.as_mut().map(|set| set.take_hits()).unwrap_or_default()
    }

    /// Gives the vector back, for its memory.
    pub fn recycle(&mut self, hits: Vec<Hit>) {
        if let Some(set) = &mut self.set {
            set.recycle(hits);
        }
    }

    /// What all items watch, whoever does it.
    pub fn watches(&self) -> impl Iterator<Item = (Key, Watch)> + '_ {
        self.interest.indices().filter_map(|index| {
            let item = self.interest.get(index).filter(|item| item.kind != Kind::Epoll)?;
            Some((self.interest.key(index), item.watch(false)?))
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

    /// A nested instance was looked at: that it stirred since the last look is an edge.
    pub fn child_seen(&mut self, key: Key, stirs: u64) {
        let Some(child) = self.nested.iter_mut().find(|child| child.key == key) else { return };
        if std::mem::replace(&mut child.stirs, stirs) != stirs
            && let Some(item) = self.interest.by_key(key)
        {
            item.trigger.rearm_input();
        }
    }

    /// Makes the set, or brings the one that is back in line with what changed meanwhile.
    ///
    /// # Errors
    /// ENOMEM when there is no memory for the set.
    pub fn settle(&mut self, engine: &Engine) -> Result<()> {
        if self.set.is_none() {
            self.set = Some(engine.new_set()?);
            self.changes = self.interest.indices().map(|index| self.interest.key(index)).collect();
            self.gone.clear();
        }
        for (key, fd, file) in std::mem::take(&mut self.gone) {
            if let Some(set) = &mut self.set {
                set.disarm(key);
            }
            let_go(engine.table, fd, file);
        }
        let mut changes = std::mem::take(&mut self.changes);
        for key in changes.drain(..) {
            if self.interest.by_key(key).is_some() {
                self.rewatch(engine.table, key.index);
            }
        }
        self.changes = changes;
        Ok(())
    }

    /// Acts on everything that the hooks noticed: descriptors that were closed, and evidence for edges.
    pub fn take_notices(&mut self, engine: &Engine, instance: &Instance) {
        if !instance.notices.is_empty() {
            let mut noticed = std::mem::take(&mut self.noticed);
            noticed.extend(instance.notices.take(engine.table));
            // The first noticed comes last off the stack.
            for fd in noticed.drain(..).rev() {
                self.look_at_number(engine, instance.slot, fd);
            }
            self.noticed = noticed;
        }
        if self.crowdings != engine.crowdings() {
            self.crowdings = engine.crowdings();
            self.crowded = self
                .interest
                .indices()
                .filter(|&index| {
                    self.interest.get(index).is_some_and(|item| is_crowded(engine.table, item))
                })
                .map(|index| self.interest.key(index))
                .collect();
        }
        let mut crowded = std::mem::take(&mut self.crowded);
        crowded.retain(|&key| {
            let known = self.interest.by_key(key).is_some();
            if known {
                self.look_at_item(engine, instance.slot, key.index);
            }
            known && self.interest.by_key(key).is_some()
        });
        self.crowded.append(&mut crowded);
    }

    fn look_at_number(&mut self, engine: &Engine, slot: u16, fd: RawFd) {
        let mut next = self.interest.with_number(fd).next();
        while let Some(index) = next {
            next = self.interest.with_number(fd).skip_while(|&other| other != index).nth(1);
            self.look_at_item(engine, slot, index);
        }
        let mut others: Vec<u32> = Vec::new();
        self.moved.retain(|&key| self.interest.by_key(key).is_some());
        for key in &self.moved {
            let via = self.interest.get(key.index).map(|item| item.via);
            others.extend((via == Some(fd)).then_some(key.index));
        }
        let word = engine.table.word(fd);
        if word.is(Flags::DUPED) {
            // What is known of a duplicate is known of the file.
            others.extend(self.interest.indices().filter(|&index| {
                let item = self.interest.get(index);
                item.is_some_and(|item| item.fd != fd && item.file == word.file())
            }));
        }
        for index in others {
            self.look_at_item(engine, slot, index);
        }
    }

    fn look_at_item(&mut self, engine: &Engine, slot: u16, index: u32) {
        let table = engine.table;
        let Some(item) = self.interest.get_mut(index) else { return };
        if table.word(item.via).file() == item.file {
            self.apply_signs(table, index);
            return;
        }
        self.lost_number(engine, slot, index);
    }

    /// The number that an item is watched by is another file's now. The item goes on through a duplicate, or is gone.
    fn lost_number(&mut self, engine: &Engine, slot: u16, index: u32) {
        let table = engine.table;
        let Some(item) = self.interest.get(index) else { return };
        let key = self.interest.key(index);
        let (fd, file) = (item.fd, item.file);
        let other = engine.any_dup().then(|| table.number_of(file, fd)).flatten();
        match other {
            Some(other) => {
                let Some(item) = self.interest.get_mut(index) else { return };
                item.via = other;
                self.moved.push(key);
                if item.place == Place::Hot {
                    item.place = Place::Out;
                }
                if let Place::Parked(watcher) = item.place {
                    item.place = Place::Out;
                    let key = self.interest.key(index);
                    self.shards.drop_item(engine, watcher, key);
                }
                self.rewatch(table, index);
            }
            None => self.remove(engine, slot, index),
        }
    }

    fn apply_signs(&mut self, table: &FdTable, index: u32) {
        let Some(item) = self.interest.get_mut(index) else { return };
        let Some(home) = table.home(item.via) else { return };
        let now = home.look();
        let mut signs = now.since(std::mem::replace(&mut item.seen, now));
        if signs.woken_in {
            self.turns += 1;
            item.turn = self.turns;
            self.in_turns = true;
            self.stirs += u64::from(item.trigger.wants_input());
        }
        self.stirs += u64::from(signs.woken_out && item.trigger.wants_room());
        if !item.trigger.is_edge() {
            return;
        }
        if table.word(item.via).is(Flags::DEAF) {
            item.trigger.shut();
        }
        let input_armed = item.trigger.is_input_armed();
        // The write may have been seen before its sign, and be part of the last report. What is still queued then tells;
        // if all was read since, nothing newer is there that its level would not tell.
        if signs.woken_in && std::mem::take(&mut item.racing) {
            let now = poll::backlog(table, item.via, item.kind);
            signs.woken_in = match (&mut item.backlog, now) {
                _ if input_armed => false,
                (Some(then), Some(now)) => then.grew(now),
                _ => true,
            };
        }
        // Only after a report: a program that reads what was empty already proves nothing.
        if signs.drained && !input_armed {
            item.trust = item.trust.saturating_add(1);
        }
        if self.looked && (signs.drained || signs.filled) {
            let key = Key { index, serial: item.serial() };
            let Signs { drained, filled, .. } = signs;
            self.late.push((key, Signs { drained, filled, ..Signs::default() }));
        }
        let before = item.trigger;
        item.trigger.rearm(signs);
        if item.trigger != before {
            self.rewatch(table, index);
        }
    }

    /// Asks about the items that neither poll nor the hooks can speak for. Gives hits of its own, and whether the
    /// question has to be asked again while somebody sleeps.
    pub fn resolve_doubts(&mut self, engine: &Engine, hits: &mut Vec<Hit>) -> bool {
        if self.doubts.is_empty() {
            return false;
        }
        let table = engine.table;
        let mut doubts = std::mem::take(&mut self.doubts);
        doubts.retain(|&key| {
            let keep = self.ask(table, key, hits);
            if !keep && let Some(item) = self.interest.by_key(key) {
                item.doubted = false;
            }
            keep
        });
        self.doubts.append(&mut doubts);
        !self.doubts.is_empty()
    }

    /// Asks about one item. False: there is no doubt left.
    fn ask(&mut self, table: &FdTable, key: Key, hits: &mut Vec<Hit>) -> bool {
        let Some(item) = self.interest.by_key(key) else { return false };
        let private = table.word(item.via).is(Flags::PRIVATE);
        let before = item.trigger;
        let keep = match item.trigger.doubt(item.kind) {
            None => return false,
            // The hooks see each write to it.
            Some(Doubt::Unread) if private && item.kind == Kind::Eventfd => return false,
            Some(Doubt::Unread) => {
                let now = poll::backlog(table, item.via, item.kind);
                let is_low = || {
                    let input = (Events::IN | Events::RDNORM).to_poll();
                    sys::levels_now(item.via, input) & input == 0
                };
                let news = match (now, &mut item.backlog) {
                    // Empty by its own count: mostly, but bytes behind an urgent one are not counted.
                    (Some(Backlog { queued: 0, .. }) | None, _) => is_low(),
                    (Some(now), Some(then)) => then.grew(now),
                    // It was trusted to be read to the end, and was not: what came since its report cannot be known.
                    (Some(now), None) => {
                        item.backlog = Some(now);
                        item.trust = 0;
                        true
                    }
                };
                if news {
                    item.trigger.rearm_input();
                }
                !news
            }
            Some(Doubt::Unmaskable) => {
                let whole = item.trigger.whole();
                let levels = Events::from_poll(sys::levels_now(item.via, whole.to_poll()));
                let backlog = poll::backlog(table, item.via, item.kind);
                if let (Some(then), Some(now)) = (&mut item.backlog, backlog)
                    && now.queued != 0
                    && then.grew(now)
                {
                    item.trigger.rearm_input();
                }
                if item.trigger.news(levels).is_some() {
                    hits.push(Hit { key, levels: Some(levels), backlog, racing: false });
                } else {
                    item.trigger.noticed(levels);
                }
                true
            }
        };
        if item.trigger != before {
            self.rewatch(table, key.index);
        }
        keep
    }

    /// Takes what a look has found, and writes events: at most `max`, in the order of becoming ready.
    ///
    /// Signs that came after the look count before the delivery and after it. Before: a write whose data is part of what
    /// is reported now is no edge of its own later. After: what was read to the end meanwhile, by another thread, was
    /// low, though the look found it high.
    pub fn deliver(
        &mut self,
        engine: &Engine,
        instance: &Instance,
        hits: &mut [Hit],
        max: usize,
        sink: &mut Sink<'_>,
    ) -> Delivered {
        self.looked = true;
        self.take_notices(engine, instance);
        self.looked = false;
        let delivered = self.write_events(engine, instance.slot, hits, max, sink);
        let mut late = std::mem::take(&mut self.late);
        for (key, signs) in late.drain(..) {
            if let Some(item) = self.interest.by_key(key) {
                item.trigger.rearm(signs);
                self.rewatch(engine.table, key.index);
            }
        }
        self.late = late;
        delivered
    }

    fn write_events(
        &mut self,
        engine: &Engine,
        slot: u16,
        hits: &mut [Hit],
        max: usize,
        sink: &mut Sink<'_>,
    ) -> Delivered {
        self.look += 1;
        if std::mem::take(&mut self.in_turns) {
            hits.sort_by_key(|hit| match self.interest.by_key(hit.key) {
                Some(item) if item.turn != 0 => item.turn,
                _ => u64::MAX,
            });
        }
        for hit in hits {
            self.note_hit(engine, slot, hit);
        }
        let mut count = 0;
        for _ in 0..self.interest.ready_len() {
            if count == max {
                break;
            }
            let Some(index) = self.interest.pop_ready() else { break };
            let Some(item) = self.interest.get_mut(index) else { continue };
            // Not among the hits of this look: it is no longer ready.
            if item.look != self.look {
                continue;
            }
            let levels = item.levels;
            let Some(events) = item.trigger.news(levels) else { continue };
            if !sink(count, Event { events, data: item.data }) {
                self.interest.push_ready_front(index);
                return Delivered { count, fault: count == 0 };
            }
            count += 1;
            self.reported(engine.table, index, levels);
        }
        Delivered { count, fault: false }
    }

    /// Whether a wait would have something to report, given what a look has found.
    pub fn would_deliver(&mut self, engine: &Engine, slot: u16, hits: &[Hit]) -> bool {
        self.look += 1;
        for hit in hits {
            self.note_hit(engine, slot, hit);
        }
        let look = self.look;
        hits.iter().any(|hit| {
            self.interest
                .by_key(hit.key)
                .is_some_and(|item| item.look == look && item.trigger.news(item.levels).is_some())
        })
    }

    fn note_hit(&mut self, engine: &Engine, slot: u16, hit: &Hit) {
        let look = self.look;
        let table = engine.table;
        let Some(item) = self.interest.by_key(hit.key) else { return };
        let index = hit.key.index;
        // A number that was closed and opened again during the poll: the state is another file's.
        if table.word(item.via).file() != item.file {
            return self.lost_number(engine, slot, index);
        }
        let Some(levels) = hit.levels else {
            // Closed by a way that no hook sees.
            if let Some(entry) = table.get(item.via) {
                entry.update(|word| {
                    (word.file() == item.file).then_some(crate::fdtable::Word::EMPTY)
                });
            }
            return self.lost_number(engine, slot, index);
        };
        let risen = levels - std::mem::replace(&mut item.levels, levels);
        item.look = look;
        item.turn = 0;
        if item.trigger.news(levels).is_some() {
            // Something woke a file that was ready already: in a nested instance that counts.
            let grew = match (&mut item.backlog, hit.backlog) {
                (Some(then), Some(now)) => item.nested && now.queued != 0 && then.grew(now),
                _ => false,
            };
            let stirred = item.nested && (grew || !risen.is_empty());
            item.backlog = hit.backlog;
            item.racing = hit.racing;
            if stirred || !self.interest.is_ready(index) {
                self.stirs += 1;
            }
            self.interest.push_ready(index);
            return;
        }
        let before = item.trigger;
        item.trigger.noticed(levels);
        if item.trigger != before || item.place == Place::Out {
            self.rewatch(table, index);
        }
    }

    fn reported(&mut self, table: &FdTable, index: u32, levels: Events) {
        let key = self.interest.key(index);
        let Some(item) = self.interest.get_mut(index) else { return };
        let before = item.trigger;
        item.trigger.reported(levels);
        if item.trigger == before {
            // Level-triggered: it is ready until the next look says otherwise.
            self.interest.push_ready(index);
            return;
        }
        if item.trigger.doubt(item.kind).is_some() && !item.doubted {
            item.doubted = true;
            self.doubts.push(key);
        }
        self.rewatch(table, index);
    }

    /// Forgets everything: the instance was closed. The numbers that it alone watched are as if never registered.
    pub fn clear(&mut self, engine: &Engine, instance: &Instance) {
        for index in self.interest.indices().collect::<Vec<_>>() {
            self.remove(engine, instance.slot, index);
        }
        self.shards.retire_all(engine);
        instance.notices.take(engine.table).for_each(drop);
        for (_, fd, file) in std::mem::take(&mut self.gone) {
            let_go(engine.table, fd, file);
        }
        instance.is_nested.store(false, Ordering::SeqCst);
        instance.busy_poll.store(0, Ordering::SeqCst);
        if let Some(sleeper) = self.sleeper.take() {
            instance.set_leader(None);
            engine.sleepers.release(sleeper);
        }
        *self = Self { look: self.look, ..Self::default() };
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

/// The set no longer has the file: its closer need not look for a sleeper.
fn let_go(table: &FdTable, fd: RawFd, file: FileId) {
    if let Some(entry) = table.get(fd) {
        entry.update(|word| {
            let sole = word.file() == file && word.holder() != Holder::SEVERAL;
            sole.then(|| {
                let holder = if word.is(Flags::WATCHED) { word.holder() } else { Holder::NONE };
                word.without(Flags::HELD).with_holder(holder)
            })
        });
    }
}

/// Whether an item's notices may not come by its instance's own stack.
fn is_crowded(table: &FdTable, item: &Item) -> bool {
    let word = table.word(item.via);
    word.holder() == Holder::SEVERAL || word.file() != item.file
}

/// The program wrote to a watched file. That is an edge where edges count; everywhere it tells the order in which files
/// became ready, which poll does not.
pub fn written(engine: &Engine, fd: RawFd) {
    let word = engine.table.word(fd);
    if word.is(Flags::EVIDENCE) {
        return notice(engine, fd, Sign::WokenIn);
    }
    let home = engine.table.home_number(fd);
    let Some(entry) = engine.table.get(home) else { return };
    entry.add_sign(Sign::WokenIn);
    if let Some(instance) = word.holder().as_slot().and_then(|slot| engine.instance_in(slot)) {
        // Its leader is not woken: the level does that.
        instance.notices.push(engine.table, home);
        engine.sleepers.kick_observers();
    }
}

/// What a hook tells of a descriptor that an edge-triggered item watches.
pub fn notice(engine: &Engine, fd: RawFd, sign: Sign) {
    let home = engine.table.home_number(fd);
    let Some(entry) = engine.table.get(home) else { return };
    entry.add_sign(sign);
    let holder = engine.table.word(fd).holder();
    match holder.as_slot().and_then(|slot| engine.instance_in(slot)) {
        Some(instance) => {
            instance.notices.push(engine.table, home);
            instance.alert(engine);
        }
        None if holder == Holder::SEVERAL => engine.alert_all(),
        None => {}
    }
}
