//! The interest list of an instance: its items, found by number and by key, and the ready list that runs through them.

use std::os::fd::RawFd;

use syscalls::Errno;

use crate::backend::{Key, Watch};
use crate::edge::{Backlog, Trigger};
use crate::events::{Events, Reports};
use crate::faults::make_room;
use crate::fdtable::{Evidence, FdTable, FileId, Flags, Signs, Word};
use crate::files::Kind;
use crate::habit::Habit;
use crate::slab::Slab;
use crate::sleeper::SleeperId;
use crate::sys::Result;

/// No index.
const NONE: u32 = u32::MAX;

/// Where an item is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In no set: it has nothing to tell (fired, or out of poll's reach).
    Out,
    /// In the instance's own set, the hot one.
    Hot,
    /// With a watcher thread.
    Parked(SleeperId),
}

/// One registration.
#[derive(Debug)]
pub struct Item {
    /// The number that it was registered by.
    pub fd: RawFd,
    /// The number that it is watched by: another one, when `fd` was closed and a duplicate lives.
    pub via: RawFd,
    /// The open file.
    pub file: FileId,
    /// What kind of file.
    pub kind: Kind,
    /// The program's word.
    pub data: u64,
    /// When its state is news.
    pub trigger: Trigger,
    /// Added with EPOLLEXCLUSIVE.
    pub exclusive: bool,
    /// Evidence acted upon.
    pub seen: Evidence,
    /// What was queued when input was last reported, where that was asked.
    pub backlog: Option<Backlog>,
    /// Its last report may be of a write whose sign is still to come.
    pub racing: bool,
    /// How often in a row it was seen drained after a report.
    pub trust: u8,
    /// Its turn among those that the program was seen writing to; 0: not known.
    pub turn: u64,
    /// It has its turn by epoll_ctl, which does not know whether the file is ready.
    pub turn_by_ctl: bool,
    /// Its instance is, or was, in another one.
    pub nested: bool,
    /// In the list of doubts.
    pub doubted: bool,
    /// Where it is watched.
    pub place: Place,
    /// Its state at the last look, and which look that was.
    pub levels: Reports,
    /// See `levels`.
    pub look: u64,
    serial: u32,
    next_same: u32,
    /// Whether it stands in the ready list, and between which.
    pub is_ready: bool,
    links: Links,
}

#[derive(Clone, Copy, Debug)]
struct Links {
    before: u32,
    after: u32,
}

impl Item {
    /// A fresh registration of an open file.
    pub fn new(fd: RawFd, file: FileId, kind: Kind, data: u64, asked: Events) -> Self {
        Self {
            fd,
            via: fd,
            file,
            kind,
            data,
            trigger: Trigger::new(asked, kind),
            exclusive: asked.contains(Events::EXCLUSIVE),
            seen: Evidence::default(),
            backlog: None,
            racing: false,
            trust: 0,
            turn: 0,
            turn_by_ctl: false,
            nested: false,
            doubted: false,
            place: Place::Out,
            levels: Reports::default(),
            look: 0,
            serial: 0,
            next_same: NONE,
            is_ready: false,
            links: Links { before: NONE, after: NONE },
        }
    }

    /// Which of its place's items it is.
    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// Says so.
    pub fn set_serial(&mut self, serial: u32) {
        self.serial = serial;
    }

    /// Whether these signs tell of a wake-up that concerns it: in an instance that is in another one each counts.
    pub fn is_woken_by(&self, signs: Signs) -> bool {
        // What was read came after a look that did not see it; who waits for urgent bytes only is not shown input.
        let came = signs.contains(Signs::TOOK)
            && self.trigger.wants(Events::READ)
            && !Events::from(self.levels).intersects(Events::READ);
        let input = came || signs.contains(Signs::WOKEN_IN);
        // So did an error that a call was told of; errors wake for whatever mask.
        let failed =
            signs.contains(Signs::FAILED) && !Events::from(self.levels).contains(Events::ERR);
        (signs.contains(Signs::WOKEN) || failed) && !self.trigger.is_fired()
            || input && self.trigger.wants(self.kind.wakes_for_input())
            || signs.contains(Signs::WOKEN_OUT) && self.trigger.wants(self.kind.wakes_for_room())
    }

    /// A socket is another kind of file after listen(2), and a listener after shutdown(2). True: now it is.
    pub fn renew_kind(&mut self, word: Word) -> bool {
        let changed = self.kind.is_socket() && word.kind() != self.kind && word.file() == self.file;
        if changed {
            self.kind = word.kind();
        }
        changed
    }

    /// Whether the program's own calls tell something that its levels do not.
    pub fn wants_evidence(&self) -> bool {
        self.trigger.is_edge() || self.nested
    }

    /// Whether it is left to the program to read it to the end.
    pub fn is_trusted(&self, habit: Habit) -> bool {
        self.trust >= habit.needed()
    }

    /// Whether a hit must tell how much is queued: not where the hooks see each write, nor where it is read to the end.
    pub fn is_counted(&self, table: &FdTable, habit: Habit) -> bool {
        let private = self.kind.wakes_itself() && table.word(self.via).is(Flags::PRIVATE);
        !private && !self.is_trusted(habit)
    }

    /// What to watch it for; `None`: nothing. `counted`: whether a hit may have to tell how much is queued.
    pub fn watch(&self, counted: bool) -> Option<Watch> {
        let mask = self.trigger.watch()?;
        let mut whole = self.trigger.whole();
        if self.nested {
            // The other side's end, and its urgent bytes, wake whoever waits, and count in the outer instance.
            whole |= Events::RDHUP;
            if self.kind.is_socket() && self.trigger.wants(Events::READ) {
                whole |= Events::PRI;
            }
        }
        let edge = self.wants_evidence() && self.trigger.watches_input();
        let backlog = counted && edge;
        Some(Watch {
            fd: self.via,
            mask: mask.into(),
            whole: whole.into(),
            kind: self.kind,
            backlog,
        })
    }
}

/// The items, and the ready list: those that were seen ready, in the order of becoming so.
#[derive(Default)]
pub struct Interest {
    places: Slab,
    /// By number: the first item registered by it.
    by_fd: Vec<u32>,
    count: usize,
    /// Of these, of no kind of their own.
    others: usize,
    first_ready: Option<u32>,
    last_ready: Option<u32>,
    ready: usize,
}

impl Interest {
    /// How many items.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether some are of no kind of their own.
    pub fn has_others(&self) -> bool {
        self.others != 0
    }

    /// The item of a place.
    pub fn get(&self, index: u32) -> Option<&Item> {
        self.places.get(index)
    }

    /// The item of a place, to change it.
    pub fn get_mut(&mut self, index: u32) -> Option<&mut Item> {
        self.places.get_mut(index)
    }

    /// The item of a key, if it still is that one.
    pub fn by_key(&mut self, key: Key) -> Option<&mut Item> {
        self.get_mut(key.index).filter(|item| item.serial == key.serial)
    }

    /// The key of an item.
    pub fn key(&self, index: u32) -> Key {
        Key { index, serial: self.get(index).map_or(0, |item| item.serial) }
    }

    /// The places of all items registered by a number: more than one only after it was closed with duplicates alive
    /// and opened again.
    pub fn with_number(&self, fd: RawFd) -> impl Iterator<Item = u32> + '_ {
        let first = self.by_fd.get(fd as usize).copied().unwrap_or(NONE);
        std::iter::successors(Some(first), |&index| self.get(index).map(|item| item.next_same))
            .take_while(|&index| index != NONE)
    }

    /// The place of the item registered by a number, if there is one and no more.
    pub fn only_with_number(&self, fd: RawFd) -> Option<u32> {
        let first = self.by_fd.get(fd as usize).copied()?;
        (self.get(first)?.next_same == NONE).then_some(first)
    }

    /// The item of a number and an open file.
    pub fn find(&self, fd: RawFd, file: FileId) -> Option<u32> {
        self.with_number(fd).find(|&index| self.get(index).is_some_and(|item| item.file == file))
    }

    /// How many places there are, taken or free.
    pub fn places(&self) -> u32 {
        self.places.len()
    }

    /// The places of all items.
    pub fn indices(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.places.len()).filter(|&index| self.get(index).is_some())
    }

    /// Makes room for one more item with this number, and says which key it will have.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn reserve(&mut self, fd: RawFd) -> Result<Key> {
        let numbers = (fd as usize + 1).saturating_sub(self.by_fd.len());
        make_room(|| self.by_fd.try_reserve(numbers))?;
        self.places.reserve().ok_or(Errno::ENOMEM)
    }

    /// Adds an item; [`Interest::reserve`] made room. Gives its place.
    ///
    /// # Errors
    /// ENOMEM, where it was not called.
    pub fn insert(&mut self, mut item: Item) -> Result<u32> {
        let fd = item.fd as usize;
        if self.by_fd.len() <= fd {
            self.by_fd.resize(fd + 1, NONE);
        }
        item.next_same = self.by_fd[fd];
        let Some(key) = self.places.insert(item) else { return Err(Errno::ENOMEM) };
        self.by_fd[fd] = key.index;
        self.count += 1;
        self.others +=
            usize::from(self.get(key.index).is_some_and(|item| item.kind == Kind::Other));
        Ok(key.index)
    }

    /// Takes an item out, of the ready list too.
    pub fn remove(&mut self, index: u32) -> Option<Item> {
        self.unready(index);
        let item = self.places.remove(index)?;
        self.count -= 1;
        self.others -= usize::from(item.kind == Kind::Other);
        let before = self
            .with_number(item.fd)
            .find(|&other| self.get(other).is_some_and(|other| other.next_same == index));
        match before.and_then(|before| self.get_mut(before)) {
            Some(before) => before.next_same = item.next_same,
            None => self.by_fd[item.fd as usize] = item.next_same,
        }
        Some(item)
    }

    /// How many items stand in the ready list.
    pub fn ready_len(&self) -> usize {
        self.ready
    }

    /// The ready list, from its front.
    pub fn ready(&self) -> impl Iterator<Item = u32> + '_ {
        std::iter::successors(self.first_ready, |&index| {
            let after = self.get(index)?.links.after;
            (after != NONE).then_some(after)
        })
    }

    /// Whether an item stands in the ready list.
    pub fn is_ready(&self, index: u32) -> bool {
        self.get(index).is_some_and(|item| item.is_ready)
    }

    /// Puts an item at the end of the ready list. False: it stands there already.
    pub fn push_ready(&mut self, index: u32) -> bool {
        let last = self.last_ready;
        let Some(item) = self.get_mut(index) else { return false };
        if std::mem::replace(&mut item.is_ready, true) {
            return false;
        }
        item.links = Links { before: last.unwrap_or(NONE), after: NONE };
        match last {
            Some(last) => self.link(last, |links| links.after = index),
            None => self.first_ready = Some(index),
        }
        self.last_ready = Some(index);
        self.ready += 1;
        true
    }

    /// Puts an item back at the front of the ready list: its report could not be written.
    pub fn push_ready_front(&mut self, index: u32) {
        let first = self.first_ready;
        let Some(item) = self.get_mut(index) else { return };
        if std::mem::replace(&mut item.is_ready, true) {
            return;
        }
        item.links = Links { before: NONE, after: first.unwrap_or(NONE) };
        match first {
            Some(first) => self.link(first, |links| links.before = index),
            None => self.last_ready = Some(index),
        }
        self.first_ready = Some(index);
        self.ready += 1;
    }

    /// Takes the first of the ready list.
    pub fn pop_ready(&mut self) -> Option<u32> {
        let index = self.first_ready?;
        let item = self.get_mut(index)?;
        item.is_ready = false;
        let after = item.links.after;
        if after == NONE {
            (self.first_ready, self.last_ready) = (None, None);
        } else {
            self.first_ready = Some(after);
            self.link(after, |links| links.before = NONE);
        }
        self.ready -= 1;
        Some(index)
    }

    /// Takes an item off the ready list, wherever it stands.
    pub fn unready(&mut self, index: u32) {
        let Some(item) = self.get_mut(index) else { return };
        if !std::mem::replace(&mut item.is_ready, false) {
            return;
        }
        let links = item.links;
        let known = |index: u32| (index != NONE).then_some(index);
        match known(links.before) {
            Some(before) => self.link(before, |other| other.after = links.after),
            None => self.first_ready = known(links.after),
        }
        match known(links.after) {
            Some(after) => self.link(after, |other| other.before = links.before),
            None => self.last_ready = known(links.before),
        }
        self.ready -= 1;
    }

    fn link(&mut self, index: u32, change: impl FnOnce(&mut Links)) {
        if let Some(item) = self.get_mut(index) {
            change(&mut item.links);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(list: &mut Interest, fd: RawFd) -> u32 {
        list.reserve(fd).unwrap();
        list.insert(Item::new(fd, FileId::UNKNOWN, Kind::Other, fd as u64, Events::IN)).unwrap()
    }

    fn drain(list: &mut Interest) -> Vec<RawFd> {
        std::iter::from_fn(|| list.pop_ready().map(|index| list.get(index).unwrap().fd)).collect()
    }

    #[test]
    fn the_ready_list_is_a_queue_with_unlinking() {
        let mut list = Interest::default();
        let items: Vec<u32> = (0..5).map(|fd| add(&mut list, fd)).collect();
        for &index in items.iter().chain(&items) {
            list.push_ready(index);
        }
        assert_eq!(list.ready_len(), 5);
        list.unready(items[0]);
        list.unready(items[2]);
        list.remove(items[4]);
        assert_eq!(list.ready().collect::<Vec<_>>(), [items[1], items[3]]);
        assert_eq!(drain(&mut list), [1, 3]);
        list.push_ready(items[0]);
        list.push_ready_front(items[1]);
        assert_eq!(drain(&mut list), [1, 0]);
        assert_eq!(list.ready_len(), 0);
    }

    #[test]
    fn a_key_names_one_item_only() {
        let mut list = Interest::default();
        let index = add(&mut list, 7);
        let key = list.key(index);
        list.remove(index);
        assert_eq!(add(&mut list, 8), index, "the place is used again");
        assert!(list.by_key(key).is_none());
        assert_eq!(list.find(7, FileId::UNKNOWN), None);
        assert_eq!(list.count(), 1);
    }

    #[test]
    fn a_number_may_have_several_items() {
        let mut list = Interest::default();
        let items: Vec<u32> = (0..3).map(|_| add(&mut list, 4)).collect();
        list.remove(items[1]);
        assert_eq!(list.with_number(4).collect::<Vec<_>>(), [items[2], items[0]]);
        list.remove(items[2]);
        list.remove(items[0]);
        assert_eq!(list.with_number(4).count(), 0);
    }
}
