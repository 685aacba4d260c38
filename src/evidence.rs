//! What the hooks noticed, and what the files say of themselves, turned into armed bits (edge.rs).
//!
//! A hook counts a sign with the file ([`written`], [`notice`]) and puts its number on the instance's stack. The next wait
//! takes the stack ([`Inner::take_notices`]): closed numbers lose their items, signs arm bits again. What neither levels
//! nor signs can tell is asked of the file ([`Inner::resolve_doubts`]).

use std::os::fd::RawFd;

use crate::backend::{Hit, Key, poll};
use crate::edge::{Backlog, Doubt};
use crate::engine::Engine;
use crate::events::Events;
use crate::fdtable::{Entry, FdTable, Flags, Holder, Signs, Word};
use crate::files::Kind;
use crate::instance::{Inner, Instance};
use crate::interest::{Item, Place};
use crate::sys;

impl Inner {
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
        if !self.races.is_empty() {
            self.settle_races(engine.table);
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
        if self.crowded.is_empty() {
            return;
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

    /// A call that was on its way when its item was reported has given its sign, or has ended without: then the next sign
    /// is another call's.
    #[cold]
    fn settle_races(&mut self, table: &FdTable) {
        let mut races = std::mem::take(&mut self.races);
        races.retain(|&key| {
            self.apply_signs(table, key.index);
            let Some(item) = self.interest.by_key(key) else { return false };
            item.racing &= item.seen.is_in_call();
            item.racing
        });
        races.append(&mut self.races);
        self.races = races;
    }

    fn look_at_number(&mut self, engine: &Engine, slot: u16, fd: RawFd) {
        let word = engine.table.word(fd);
        if let Some(only) = self.interest.only_with_number(fd)
            && self.moved.is_empty()
            && !word.is(Flags::DUPED)
        {
            return self.look_at_item(engine, slot, only);
        }
        self.look_at_all_of_number(engine, slot, fd, word);
    }

    #[cold]
    fn look_at_all_of_number(&mut self, engine: &Engine, slot: u16, fd: RawFd, word: Word) {
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
    pub(crate) fn lost_number(&mut self, engine: &Engine, slot: u16, index: u32) {
        let table = engine.table;
        let Some(item) = self.interest.get(index) else { return };
        let key = self.interest.key(index);
        let (fd, file) = (item.fd, item.file);
        let other = engine.any_dup().then(|| table.number_of(file, fd)).flatten();
        match other {
            Some(other) => {
                let Some(item) = self.interest.get_mut(index) else { return };
                item.via = other;
                if item.wants_evidence() {
                    // The mark may have been set just after the number became another file's.
                    table.update_file(other, |word| word.with(Flags::EVIDENCE));
                }
                self.moved.push(key);
                if item.place == Place::Hot {
                    item.place = Place::Out;
                }
                if let Place::Parked(watcher) = item.place {
                    item.place = Place::Out;
                    self.shards.drop_item(watcher, key);
                }
                self.rewatch(table, index);
                // Those of before are before the next report; later they would look new.
                self.apply_signs(table, index);
            }
            None => {
                self.count_last_signs(table, index);
                self.remove(engine, slot, index);
            }
        }
    }

    /// The file of an item is closed. What woke it before is an edge all the same for whoever its instance is nested in.
    fn count_last_signs(&mut self, table: &FdTable, index: u32) {
        let Some(item) = self.interest.get(index).filter(|_| self.is_nested) else { return };
        // The number's counters go on from file to file; a next file in this instance comes after this look.
        let signs =
            table.get(item.via).map_or(Signs::empty(), |entry| entry.look().since(item.seen));
        self.stirs += u64::from(item.is_woken_by(signs));
    }

    /// Acts on what the program's calls have shown of an item's file since the last time.
    pub(crate) fn apply_signs(&mut self, table: &FdTable, index: u32) {
        let Some(item) = self.interest.get_mut(index) else { return };
        let Some(home) = table.home(item.via) else { return };
        let mut now = home.peek();
        if !now.since(item.seen).is_empty() {
            now = home.look();
        }
        let mut signs = now.since(std::mem::replace(&mut item.seen, now));
        if signs.is_empty() {
            return;
        }
        if signs.intersects(Signs::WOKEN_IN | Signs::WOKEN_OUT | Signs::WOKEN) {
            self.fetch(table, index);
        }
        let Some(item) = self.interest.get_mut(index) else { return };
        // listen(2) is told by DRAINED, shutdown(2) by WOKEN.
        if signs.intersects(Signs::DRAINED | Signs::WOKEN) && item.renew_kind(table.word(item.via))
        {
            self.rewatch(table, index);
        }
        let Some(item) = self.interest.get_mut(index) else { return };
        // One that has its turn already keeps it, as long as nobody looked.
        if signs.intersects(Signs::WOKEN_IN | Signs::WOKEN)
            && (item.turn <= self.turns_seen || item.turn_by_ctl)
        {
            self.turns += 1;
            item.turn = self.turns;
            item.turn_by_ctl = false;
            self.in_turns = true;
        }
        let racing = signs.intersects(item.kind.races()) && std::mem::take(&mut item.racing);
        if racing {
            signs = news_of_race(table, item, signs);
        }
        self.stirs += u64::from(item.is_woken_by(signs));
        if item.trigger.is_edge() {
            self.rearm(table, index, signs, racing);
        }
    }

    /// Arms the bits of an edge-triggered item that these signs prove news for. `racing`: they are what was left of the
    /// signs of a call that was on its way when the item was reported.
    fn rearm(&mut self, table: &FdTable, index: u32, mut signs: Signs, racing: bool) {
        let Some(item) = self.interest.get_mut(index) else { return };
        if table.word(item.via).is(Flags::DEAF) {
            item.trigger.shut();
        }
        let input_armed = item.trigger.is_input_armed();
        // More was taken than any look has seen: it came and went, and its wake-up stays. Not where the look was during the
        // read itself, and found nothing any more.
        if signs.contains(Signs::TOOK) && !racing {
            let consumed = table.home(item.via).map_or(0, Entry::consumed);
            let more = match item.backlog {
                // The look that saw it empty may have seen it so by this very read: it is armed, and nothing came.
                Some(then @ Backlog::Queue { .. })
                    if item.kind != Kind::Eventfd && !(input_armed && item.is_ready) =>
                {
                    then.is_exceeded(consumed)
                }
                _ => input_armed,
            };
            signs.set(Signs::WOKEN_IN, more || signs.contains(Signs::WOKEN_IN));
        }
        // A read stops before an urgent byte, so a short one has not emptied the connection.
        if matches!(item.backlog, Some(Backlog::Arrivals(_))) {
            signs -= Signs::DRAINED;
        }
        // Only after a report: a program that reads what was empty already proves nothing.
        if signs.contains(Signs::DRAINED) && !input_armed {
            item.trust = item.trust.saturating_add(1);
            self.habit.keep();
        }
        // A timer that was set and has expired is part of what the look found.
        if self.looked && signs.intersects(ENDS) && !has_expired(item) {
            self.late.push((Key { index, serial: item.serial() }, signs & ENDS));
        }
        let before = item.trigger;
        item.trigger.rearm(signs, item.kind);
        if item.trigger != before {
            self.rewatch(table, index);
            self.doubt(index);
        }
    }

    /// Sees that an item that neither poll nor the hooks can speak for is asked about.
    pub fn doubt(&mut self, index: u32) {
        let key = self.interest.key(index);
        if let Some(item) = self.interest.get_mut(index)
            && !item.doubted
            && item.trigger.doubt(item.kind, item.backlog).is_some()
        {
            item.doubted = true;
            let since = if self.is_shared { sys::coarse_millis() } else { 0 };
            self.doubts.push(Doubtful { key, since });
        }
    }

    /// A nested instance was looked at: that it stirred since the last look is an edge, here and, as wake-ups go up to
    /// the top, for whoever this one is nested in: between the two edge-triggered ends of a chain may be levels.
    pub fn child_seen(&mut self, key: Key, stirs: u64) {
        let Some(child) = self.nested.iter_mut().find(|child| child.key == key) else { return };
        // The first look after its ADD finds what was before.
        let known = child.stirs.replace(stirs);
        if known.is_some_and(|known| known != stirs)
            && let Some(item) = self.interest.by_key(key)
        {
            item.trigger.rearm_input();
            self.stirs += u64::from(item.trigger.wants(Events::IN | Events::RDNORM));
        }
    }

    /// Asks about the items that neither poll nor the hooks can speak for. Gives hits of its own, and whether the
    /// question has to be asked again while somebody sleeps.
    ///
    /// Where threads share the instance, what one of them has been told of it is about to read: it is left alone for a
    /// while.
    #[inline]
    pub fn resolve_doubts(&mut self, engine: &Engine, hits: &mut Vec<Hit>) -> bool {
        !self.doubts.is_empty() && self.ask_all(engine, hits)
    }

    fn ask_all(&mut self, engine: &Engine, hits: &mut Vec<Hit>) -> bool {
        let table = engine.table;
        let now = if self.is_shared { sys::coarse_millis() } else { 0 };
        let mut doubts = std::mem::take(&mut self.doubts);
        doubts.retain_mut(|doubtful| {
            if self.is_shared && now.wrapping_sub(doubtful.since) < GRACE {
                return true;
            }
            doubtful.since = now;
            let keep = self.ask(table, doubtful.key, hits);
            if !keep && let Some(item) = self.interest.by_key(doubtful.key) {
                item.doubted = false;
            }
            keep
        });
        // New ones behind the old, in the vector that has the memory.
        doubts.append(&mut self.doubts);
        self.doubts = doubts;
        !self.doubts.is_empty()
    }

    /// Asks about one item. False: there is no doubt left.
    fn ask(&mut self, table: &FdTable, key: Key, hits: &mut Vec<Hit>) -> bool {
        let Some(item) = self.interest.by_key(key) else { return false };
        let private = table.word(item.via).is(Flags::PRIVATE);
        let before = item.trigger;
        let keep = match item.trigger.doubt(item.kind, item.backlog) {
            None => return false,
            // The hooks see each write to it.
            Some(Doubt::Unread) if private && item.kind.wakes_itself() => return false,
            Some(Doubt::Unread) => {
                let (now, settled) = poll::counted_as(item.backlog, table, item.via, item.kind);
                // What is missing in the file is not counted yet.
                if !settled {
                    return true;
                }
                let is_low = || {
                    let input = (Events::IN | Events::RDNORM).to_poll();
                    sys::levels_now(item.via, input) & input == 0
                };
                let news = match (now, &mut item.backlog) {
                    // Empty by its own count: mostly, but bytes behind an urgent one are not counted.
                    (None, _) => is_low(),
                    (Some(now), _) if now.is_empty() => is_low(),
                    (Some(now), Some(then)) => {
                        let grew = then.grew(now);
                        if grew {
                            item.trigger.rearm(Signs::WOKEN_IN, item.kind);
                        }
                        grew
                    }
                    // It was trusted to be read to the end, and was not: what came since its report cannot be known.
                    (Some(now), None) => {
                        item.backlog = Some(now);
                        item.trust = 0;
                        self.habit.break_off();
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
                let (backlog, settled) = poll::counted_as(item.backlog, table, item.via, item.kind);
                if let (Some(then), Some(now)) = (&mut item.backlog, backlog)
                    && settled
                    && !now.is_empty()
                    && then.grew(now)
                {
                    item.trigger.rearm(Signs::WOKEN_IN, item.kind);
                    if matches!(now, Backlog::Ended { .. }) {
                        item.trigger.rearm(Signs::WOKEN, item.kind);
                    }
                }
                // The hang-up of a pipe is over when somebody opens its other end, who wakes all readers.
                if item.kind == Kind::Pipe
                    && item.trigger.reported_hup()
                    && !levels.contains(Events::HUP)
                {
                    item.trigger.rearm(Signs::WOKEN, item.kind);
                }
                if item.trigger.news(levels).is_some() {
                    // It may have begun anew, as another connection or as a listener.
                    let backlog = if levels.contains(Events::HUP) {
                        backlog
                    } else {
                        poll::backlog(table, item.via, item.kind)
                    };
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
}

/// How long an item of a shared instance is left alone after a report or a question, in milliseconds. With half a
/// [`TICK`](crate::wait::TICK) it stays within a whole one.
const GRACE: u32 = 4;

/// An item that has to be asked about.
pub struct Doubtful {
    pub(crate) key: Key,
    /// When it was reported, or asked about last, in milliseconds; only where threads share the instance.
    since: u32,
}

/// What shows that a level was low.
const ENDS: Signs = Signs::DRAINED.union(Signs::FILLED);
/// A call was on its way when its item was reported: what it did may be part of that report. Gives what is news all the same.
fn news_of_race(table: &FdTable, item: &mut Item, mut signs: Signs) -> Signs {
    let counted = signs & (Signs::WOKEN_IN | item.kind.counts_wake_ups());
    // What is still queued tells; if all was read since, nothing newer is there that its level would not tell.
    if !counted.is_empty() {
        let now = poll::backlog_as(item.backlog, table, item.via, item.kind);
        let woken = match (&mut item.backlog, now) {
            _ if item.trigger.is_edge() && item.trigger.is_input_armed() => false,
            (Some(then), Some(now)) => then.grew(now),
            _ => true,
        };
        signs.set(counted, woken);
    }
    // What a shutdown changes after the report is news by its level.
    signs -= Signs::WOKEN - counted;
    if !item.trigger.is_room_armed() {
        signs -= Signs::WOKEN_OUT;
    }
    // A timer that was set may have expired and been reported since.
    if has_expired(item) {
        signs -= Signs::DRAINED;
    }
    signs
}

/// Whether it is a timer, and its time is over.
fn has_expired(item: &Item) -> bool {
    let input = (Events::IN | Events::RDNORM).to_poll();
    item.kind == Kind::Timerfd && sys::levels_now(item.via, input) & input != 0
}

/// Whether an item's notices may not come by its instance's own stack.
fn is_crowded(table: &FdTable, item: &Item) -> bool {
    let word = table.word(item.via);
    let elsewhere = || table.home(item.via).is_some_and(Entry::is_noticed);
    word.holder() == Holder::SEVERAL || word.file() != item.file || elsewhere()
}

/// The program wrote to a watched file. That is an edge where edges count; everywhere it tells the order in which files
/// became ready, which poll does not.
pub fn written(engine: &Engine, fd: RawFd) {
    let word = engine.table.word(fd);
    if word.is(Flags::EVIDENCE) {
        return notice(engine, fd, Signs::WOKEN_IN, Of::Call);
    }
    let home = engine.table.home_number(fd);
    let Some(entry) = engine.table.get(home) else { return };
    entry.call_ends(Signs::WOKEN_IN);
    if let Some(instance) = word.holder().as_slot().and_then(|slot| engine.instance_in(slot)) {
        // Its leader is not woken: the level does that.
        instance.notices.push(engine.table, home);
        engine.sleepers.kick_observers();
    }
}

/// Of what signs are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// Of something that happened.
    Event,
    /// Of a call whose beginning was told, and that ends with them.
    Call,
}

/// What a hook tells of a descriptor that an edge-triggered item watches.
pub fn notice(engine: &Engine, fd: RawFd, signs: Signs, of: Of) {
    let home = engine.table.home_number(fd);
    let Some(entry) = engine.table.get(home) else { return };
    match of {
        Of::Event => entry.add_signs(signs),
        Of::Call => entry.call_ends(signs),
    }
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
