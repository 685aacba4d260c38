//! What is delivered: the one place that decides it. Hits of a look become entries of the ready list, and these events.

use crate::backend::{Hit, Key, Watch, poll};
use crate::engine::Engine;
use crate::events::{Event, Events};
use crate::fdtable::FdTable;
use crate::files::{self, Kind};
use crate::instance::{Inner, Instance};
use crate::interest::{Item, Place};

/// What became of a delivery.
pub struct Delivered {
    /// Events written.
    pub count: usize,
    /// The program's array could not be written, where it had to be.
    pub fault: bool,
}

/// Where a delivery puts its events: the number in the array, and the event. False: the memory cannot be written.
pub type Sink<'a> = dyn FnMut(usize, Event) -> bool + 'a;

impl Inner {
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
        self.note_hits(engine, instance.slot, hits);
        self.looked = false;
        let delivered = self.write_events(engine.table, self.interest.ready_len(), max, sink);
        if !self.late.is_empty() {
            self.apply_late(engine.table);
        }
        delivered
    }

    /// Delivers what the last look found ready and had no room for, if that fills the array: such a wait need not look
    /// at all the others. These became ready before whatever is ready besides, so the order is the kernel's too. Items that
    /// are ready again after their report are left to the next look, for behind one of them may stand what no look has
    /// seen yet. `None`: a look is needed. The caller is inside a sleeper's stretch.
    pub fn deliver_left_over(
        &mut self,
        engine: &Engine,
        instance: &Instance,
        max: usize,
        sink: &mut Sink<'_>,
    ) -> Option<Delivered> {
        self.take_notices(engine, instance);
        let watches = self.left_over(engine.table, max)?;
        let mut hits = Vec::new();
        poll::look(engine.table, &watches, &mut hits);
        let all = hits.len() == max && hits.iter().all(|hit| self.is_news(engine.table, hit));
        if !all {
            return None;
        }
        self.looked = true;
        self.take_notices(engine, instance);
        self.look += 1;
        for hit in &hits {
            self.note_hit(engine, instance.slot, hit);
            if let Some(item) = self.interest.by_key(hit.key) {
                // What is written to it from now on gets another turn, though no whole look has ended this one.
                item.turn = 0;
            }
        }
        self.looked = false;
        let delivered = self.write_events(engine.table, max, max, sink);
        if !self.late.is_empty() {
            self.apply_late(engine.table);
        }
        Some(delivered)
    }

    /// Whether [`Inner::deliver_left_over`] is worth a try.
    pub fn may_be_left_over(&self, max: usize) -> bool {
        let first = || self.interest.ready().next().and_then(|index| self.interest.get(index));
        self.interest.ready_len() >= max
            && !self.is_nested
            && first().is_some_and(|item| self.is_left_over(item))
    }

    fn is_left_over(&self, item: &Item) -> bool {
        item.look >= self.whole_look && !item.trigger.stays_ready()
    }

    fn left_over(&self, table: &FdTable, max: usize) -> Option<Vec<(Key, Watch)>> {
        if self.interest.ready_len() < max {
            return None;
        }
        let watch = |index| {
            let item = self.interest.get(index)?;
            let found = self.is_left_over(item);
            let counted = item.is_counted(table, self.habit);
            let watch = if found { item.watch(counted) } else { None };
            Some((self.interest.key(index), watch?))
        };
        self.interest.ready().take(max).map(watch).collect()
    }

    fn is_news(&mut self, table: &FdTable, hit: &Hit) -> bool {
        self.interest.by_key(hit.key).zip(hit.levels).is_some_and(|(item, levels)| {
            table.word(item.via).file() == item.file && item.trigger.news(levels).is_some()
        })
    }

    #[cold]
    fn apply_late(&mut self, table: &FdTable) {
        let mut late = std::mem::take(&mut self.late);
        for (key, signs) in late.drain(..) {
            if let Some(item) = self.interest.by_key(key) {
                item.trigger.rearm(signs, item.kind);
                self.rewatch(table, key.index);
            }
        }
        self.late = late;
    }

    /// Writes events of the first `looked_at` of the ready list.
    fn write_events(
        &mut self,
        table: &FdTable,
        looked_at: usize,
        max: usize,
        sink: &mut Sink<'_>,
    ) -> Delivered {
        let (mut count, mut left) = (0, looked_at);
        let mut fault = false;
        while left > 0 && count < max {
            let Some(index) = self.interest.pop_ready() else { break };
            left -= 1;
            let Some(item) = self.interest.get_mut(index) else { continue };
            // Not among the hits of this look: it is no longer ready.
            if item.look != self.look {
                continue;
            }
            let levels = item.levels.into();
            let Some(events) = item.trigger.news(levels) else { continue };
            if !sink(count, Event { events, data: item.data }) {
                self.interest.push_ready_front(index);
                left += 1;
                fault = count == 0;
                break;
            }
            count += 1;
            self.reported(table, index, levels);
        }
        if left > 0 && self.interest.has_others() {
            self.keep(left);
        }
        Delivered { count, fault }
    }

    /// The first `left` of the ready list had no room. What the next look will not show again is kept for it.
    #[cold]
    fn keep(&mut self, left: usize) {
        let Self { interest, kept, look, .. } = self;
        for index in interest.ready().take(left) {
            let Some(item) = interest.get(index) else { continue };
            if item.look == *look
                && files::tells_once(item.via, item.kind)
                && kept.try_reserve(1).is_ok()
            {
                kept.push(interest.key(index));
            }
        }
    }

    /// What was kept, as hits of the look that is about to be made.
    #[inline]
    pub fn take_kept(&mut self, hits: &mut Vec<Hit>) {
        if !self.kept.is_empty() {
            self.hand_out_kept(hits);
        }
    }

    #[cold]
    fn hand_out_kept(&mut self, hits: &mut Vec<Hit>) {
        for key in self.kept.drain(..) {
            let levels = self.interest.by_key(key).map(|item| item.levels.into());
            if levels.is_some() && hits.try_reserve(1).is_ok() {
                hits.push(Hit { key, levels, backlog: None, racing: false });
            }
        }
    }

    /// Whether a wait would have something to report, given what a look has found.
    pub fn would_deliver(&mut self, engine: &Engine, slot: u16, hits: &mut [Hit]) -> bool {
        self.note_hits(engine, slot, hits);
        let look = self.look;
        hits.iter().any(|hit| {
            self.interest.by_key(hit.key).is_some_and(|item| {
                item.look == look && item.trigger.news(item.levels.into()).is_some()
            })
        })
    }

    /// Takes what a look has found, in the order of becoming ready as far as that is known.
    fn note_hits(&mut self, engine: &Engine, slot: u16, hits: &mut [Hit]) {
        self.look += 1;
        self.whole_look = self.look;
        if std::mem::take(&mut self.in_turns) {
            let seen = std::mem::replace(&mut self.turns_seen, self.turns);
            hits.sort_by_key(|hit| match self.interest.by_key(hit.key) {
                Some(item) if item.turn > seen => item.turn,
                _ => u64::MAX,
            });
        }
        for hit in hits {
            self.note_hit(engine, slot, hit);
        }
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
        if item.wants_evidence() {
            // A sign that is given, and not noticed yet.
            self.apply_signs(table, index);
        }
        let Some(item) = self.interest.get_mut(index) else { return };
        let before = Events::from(std::mem::replace(&mut item.levels, levels.into()));
        // A pipe's hang-up is over when its other end is opened, which wakes everybody.
        let opened = item.kind == Kind::Pipe && (before - levels).contains(Events::HUP);
        let stirs = opened || !(levels - before).is_empty();
        item.look = look;
        if item.trigger.news(levels).is_some() {
            let backlog = match item.kind {
                // What comes between the look and the question is in the report all the same: nobody has read yet.
                Kind::Tcp if levels.contains(Events::HUP) => poll::ended(item.via),
                Kind::Tcp if levels.contains(Events::PRI) => poll::arrivals(item.via),
                _ => hit.backlog,
            };
            // Something woke a file that was ready already: in a nested instance that counts.
            let grew = match (&mut item.backlog, backlog) {
                // The writing end of a pipe counts what the other end has to read.
                (Some(then), Some(now)) if levels.intersects(Events::READ) => {
                    item.nested && !now.is_empty() && then.grew(now)
                }
                _ => false,
            };
            let stirred = item.nested && (grew || stirs);
            item.backlog = backlog;
            let before = item.racing;
            item.racing = hit.racing && item.wants_evidence() && item.seen.is_in_call();
            if item.racing && !before && self.races.try_reserve(1).is_ok() {
                self.races.push(hit.key);
            }
            let is_new = self.interest.push_ready(index);
            self.stirs += u64::from(is_new || stirred);
            return;
        }
        let before = item.trigger;
        // An instance that was empty and is not so any more is an edge only if something woke it: it stirs then.
        if item.kind != Kind::Epoll {
            item.trigger.noticed(levels);
        }
        if item.trigger != before || item.place == Place::Out {
            self.rewatch(table, index);
        }
    }

    fn reported(&mut self, table: &FdTable, index: u32, levels: Events) {
        let Some(item) = self.interest.get_mut(index) else { return };
        let before = item.trigger;
        item.trigger.reported(levels);
        if item.trigger == before {
            // Level-triggered: it is ready until the next look says otherwise.
            self.interest.push_ready(index);
            return;
        }
        self.doubt(index);
        self.rewatch(table, index);
    }
}
