//! What is known of each descriptor number: one atomic word a number, read and written without locks.
//!
//! The interposed close, read and write pay one load for a descriptor that nobody watches. Everything here may run in a
//! signal handler, or between fork and exec: no lock, no allocation, no system call.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use bitflags::bitflags;

use crate::files::Kind;

/// Numbers from here on are not served: the kernel's own default limit (fs.nr_open).
pub const CAPACITY: usize = 1 << 20;

bitflags! {
    /// What somebody in this process has to do with a descriptor number.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Flags: u64 {
        /// Some interest list has an item on it.
        const WATCHED = 1 << 0;
        /// It is an epoll instance; its slot stands in [`Entry::slot_of_epoll`].
        const EPOLL = 1 << 1;
        /// It is a descriptor of the library: the program does not have it.
        const OURS = 1 << 2;
        /// An edge-triggered item wants to hear of the program's reads and writes.
        const EVIDENCE = 1 << 3;
        /// Another number has, or had, the same open file.
        const DUPED = 1 << 4;
        /// It is in a poll set: who sleeps on that set holds the file open.
        const HELD = 1 << 5;
        /// Made by this process for itself: no other process can have it.
        const PRIVATE = 1 << 6;
        /// A pipe or socket pair whose other end is known ([`Entry::peer`]), or an eventfd, which is its own.
        const PEERED = 1 << 7;
        /// The program shut its reading side: RDHUP is no sign of the other side's end.
        const DEAF = 1 << 8;
    }
}

const KIND_SHIFT: u32 = 9;
const HOLDER_SHIFT: u32 = 13;
const FILE_SHIFT: u32 = 29;
const FLAGS_MASK: u64 = 0x1ff;
const HOLDER_MASK: u64 = 0xffff;

/// The slot of the one instance that watches a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder(u16);

impl Holder {
    /// Nobody watches it.
    pub const NONE: Self = Self(0);
    /// More than one instance watches it, or did.
    pub const SEVERAL: Self = Self(u16::MAX);

    /// The holder that stands for the instance in `slot`.
    pub fn slot(slot: u16) -> Self {
        Self(slot + 1)
    }

    /// The slot, where it is one.
    pub fn as_slot(self) -> Option<u16> {
        (self != Self::NONE && self != Self::SEVERAL).then(|| self.0 - 1)
    }
}

/// An open file description's identity within this process: what dup'ed numbers share, and a number that was closed and
/// opened again does not. 0 is a file that nobody had to tell apart yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct FileId(u64);

impl FileId {
    /// Not told apart yet.
    pub const UNKNOWN: Self = Self(0);
}

/// A snapshot of a number's word. 0: nothing is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word(u64);

impl Word {
    /// Nothing known.
    pub const EMPTY: Self = Self(0);

    /// Its flags.
    #[inline]
    pub fn flags(self) -> Flags {
        Flags::from_bits_retain(self.0 & FLAGS_MASK)
    }

    /// Whether it has any of these flags.
    #[inline]
    pub fn is(self, flags: Flags) -> bool {
        self.0 & flags.bits() != 0
    }

    /// What kind of file it is.
    pub fn kind(self) -> Kind {
        Kind::from_nibble((self.0 >> KIND_SHIFT & 0xf) as u8)
    }

    /// Who watches it.
    pub fn holder(self) -> Holder {
        Holder((self.0 >> HOLDER_SHIFT & HOLDER_MASK) as u16)
    }

    /// Which open file it is.
    pub fn file(self) -> FileId {
        FileId(self.0 >> FILE_SHIFT)
    }

    /// This word with these flags beside its own.
    pub fn with(self, flags: Flags) -> Self {
        Self(self.0 | flags.bits())
    }

    /// This word without these flags.
    pub fn without(self, flags: Flags) -> Self {
        Self(self.0 & !flags.bits())
    }

    /// This word with that kind.
    pub fn with_kind(self, kind: Kind) -> Self {
        Self(self.0 & !(0xf << KIND_SHIFT) | u64::from(kind as u8) << KIND_SHIFT)
    }

    /// This word with that holder.
    pub fn with_holder(self, holder: Holder) -> Self {
        Self(self.0 & !(HOLDER_MASK << HOLDER_SHIFT) | u64::from(holder.0) << HOLDER_SHIFT)
    }

    /// This word with that file.
    pub fn with_file(self, file: FileId) -> Self {
        Self(self.0 & ((1 << FILE_SHIFT) - 1) | file.0 << FILE_SHIFT)
    }
}

/// What the program's own calls have shown of a descriptor, as five counters of 11 bits. Items keep the counts that
/// they last acted on. A counter moves only after somebody has looked at it (its bit of `FRESH`), so it cannot wrap
/// round to where the only looker left it, however often the program calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Evidence(u64);

/// One of the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Sign {
    /// A read found the end of what there was.
    Drained = 0,
    /// A write found no more room.
    Filled = 1,
    /// The file woke those who wait for input, whatever its level was.
    WokenIn = 2,
    /// The file woke those who wait for room, whatever its level was.
    WokenOut = 3,
    /// A read was told of an error, which woke everybody when it came.
    Failed = 4,
}

impl Evidence {
    const BITS: u32 = 11;
    const SIGNS: u32 = 5;
    const COUNT: u64 = (1 << Self::BITS) - 1;
    const COUNTS: u64 = (1 << (Self::SIGNS * Self::BITS)) - 1;
    const FRESH: u64 = ((1 << Self::SIGNS) - 1) << (Self::SIGNS * Self::BITS);
    /// The number stands in a stack of noticed numbers.
    const QUEUED: u64 = 1 << 63;

    /// What came since `then`.
    #[must_use]
    pub fn since(self, then: Self) -> Signs {
        let moved = |sign: Sign| (self.0 ^ then.0) >> (sign as u32 * Self::BITS) & Self::COUNT != 0;
        Signs {
            drained: moved(Sign::Drained),
            filled: moved(Sign::Filled),
            woken_in: moved(Sign::WokenIn),
            woken_out: moved(Sign::WokenOut),
            failed: moved(Sign::Failed),
        }
    }
}

/// What the program's calls have shown of a descriptor since an item last looked: which counters moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// [`Sign::Drained`]
    pub drained: bool,
    /// [`Sign::Filled`]
    pub filled: bool,
    /// [`Sign::WokenIn`]
    pub woken_in: bool,
    /// [`Sign::WokenOut`]
    pub woken_out: bool,
    /// [`Sign::Failed`]
    pub failed: bool,
}

/// All that is kept for one number.
pub struct Entry {
    word: AtomicU64,
    evidence: AtomicU64,
    /// Bytes that the program's reads took, modulo 2^32.
    consumed: AtomicU32,
    /// The next number in the stack of noticed numbers, while [`Evidence::QUEUED`].
    pub(crate) link: AtomicU32,
    /// The instance's slot for an epoll; the other end's number plus one for a pipe or a socket pair.
    relation: AtomicU32,
    /// The sleeper of the watcher that it is parked with, plus one; 0: none.
    pub(crate) watcher: AtomicU32,
    /// Writes of the program that have begun and not returned, where they wake this number's pollers.
    writers: AtomicU32,
    /// For a number with duplicates: the one of them that evidence is kept with ([`FdTable::home`]).
    home: AtomicU32,
}

impl Entry {
    const fn new() -> Self {
        Self {
            word: AtomicU64::new(0),
            evidence: AtomicU64::new(0),
            consumed: AtomicU32::new(0),
            link: AtomicU32::new(0),
            relation: AtomicU32::new(0),
            watcher: AtomicU32::new(0),
            writers: AtomicU32::new(0),
            home: AtomicU32::new(0),
        }
    }

    /// What is known now.
    #[inline]
    pub fn word(&self) -> Word {
        Word(self.word.load(Ordering::SeqCst))
    }

    /// Forgets everything and gives back what was known.
    fn clear(&self) -> Word {
        Word(self.word.swap(0, Ordering::SeqCst))
    }

    /// Changes the word, as long as `change` gives one. Gives back the word before.
    pub fn update(&self, mut change: impl FnMut(Word) -> Option<Word>) -> Option<Word> {
        self.word
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |word| {
                change(Word(word)).map(|word| word.0)
            })
            .ok()
            .map(Word)
    }

    /// Takes and gives flags, if the number still is that file.
    pub fn set_flags(&self, file: FileId, give: Flags, take: Flags) {
        self.update(|word| (word.file() == file).then(|| word.without(take).with(give)));
    }

    /// Looks at the counters: from now on they move again.
    pub fn look(&self) -> Evidence {
        Evidence(self.evidence.fetch_and(!Evidence::FRESH, Ordering::SeqCst) & Evidence::COUNTS)
    }

    /// Counts one sign, if somebody has looked since the last of its kind.
    pub fn add_sign(&self, sign: Sign) {
        let fresh = 1 << (Evidence::SIGNS * Evidence::BITS + sign as u32);
        let shift = sign as u32 * Evidence::BITS;
        let _ = self.evidence.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |old| {
            let count = (old >> shift).wrapping_add(1) & Evidence::COUNT;
            (old & fresh == 0).then_some(old & !(Evidence::COUNT << shift) | count << shift | fresh)
        });
    }

    /// Marks the number as standing in a stack. False: it stood in one already.
    pub fn enqueue(&self) -> bool {
        self.evidence.fetch_or(Evidence::QUEUED, Ordering::SeqCst) & Evidence::QUEUED == 0
    }

    /// The number left its stack.
    pub fn dequeue(&self) {
        self.evidence.fetch_and(!Evidence::QUEUED, Ordering::SeqCst);
    }

    /// Whether the number stands in some stack.
    pub fn is_queued(&self) -> bool {
        self.evidence.load(Ordering::SeqCst) & Evidence::QUEUED != 0
    }

    /// Counts bytes that a read of the program took.
    pub fn consume(&self, bytes: u32) {
        self.consumed.fetch_add(bytes, Ordering::SeqCst);
    }

    /// Bytes that the program's reads took so far, modulo 2^32.
    pub fn consumed(&self) -> u32 {
        self.consumed.load(Ordering::SeqCst)
    }

    /// A write begins that will wake who polls this number.
    pub fn write_begins(&self) {
        self.writers.fetch_add(1, Ordering::SeqCst);
    }

    /// It returned, and its sign was given.
    pub fn write_ends(&self) {
        self.writers.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether such a write is on its way: what it does may be seen before its sign.
    pub fn is_being_written(&self) -> bool {
        self.writers.load(Ordering::SeqCst) != 0
    }

    /// The slot of the instance that this number is.
    pub fn slot_of_epoll(&self) -> Option<u16> {
        self.word().is(Flags::EPOLL).then(|| self.relation.load(Ordering::SeqCst) as u16)
    }

    /// Says which instance this number is; before its EPOLL flag.
    pub fn set_slot_of_epoll(&self, slot: u16) {
        self.relation.store(u32::from(slot), Ordering::SeqCst);
    }

    /// The number of the other end, where the hooks saw both being made.
    pub fn peer(&self) -> Option<RawFd> {
        match self.relation.load(Ordering::SeqCst) {
            0 => None,
            number => Some((number - 1) as RawFd),
        }
    }

    /// Says which number the other end has.
    fn set_peer(&self, peer: Option<RawFd>) {
        self.relation.store(peer.map_or(0, |fd| fd as u32 + 1), Ordering::SeqCst);
    }
}

/// The table. In a static it is zero-filled memory that costs nothing until it is touched.
pub struct FdTable {
    entries: [Entry; CAPACITY],
    /// One past the highest number that ever had a word.
    high: AtomicU32,
    files: AtomicU64,
    any_dup: AtomicBool,
}

impl FdTable {
    /// An empty table; made for a static, it is too large for a stack.
    #[must_use]
    #[allow(clippy::new_without_default, clippy::large_stack_arrays)]
    pub const fn new() -> Self {
        Self {
            entries: [const { Entry::new() }; CAPACITY],
            high: AtomicU32::new(0),
            files: AtomicU64::new(0),
            any_dup: AtomicBool::new(false),
        }
    }

    /// The entry of a number, if it is one that is served.
    #[inline]
    pub fn get(&self, fd: RawFd) -> Option<&Entry> {
        self.entries.get(fd as usize)
    }

    /// What is known of a number; nothing for one that is not served.
    #[inline]
    pub fn word(&self, fd: RawFd) -> Word {
        self.get(fd).map_or(Word::EMPTY, Entry::word)
    }

    /// An identity that no file had before (35 bits: two in the same item's life would take 3.4e10 files).
    pub fn new_file(&self) -> FileId {
        let next = self.files.fetch_add(1, Ordering::Relaxed) + 1;
        FileId(next & ((1 << (64 - FILE_SHIFT)) - 1))
    }

    /// Says that `fd` may have a word from now on, so that scans reach it.
    pub fn touch(&self, fd: RawFd) {
        self.high.fetch_max(fd as u32 + 1, Ordering::SeqCst);
    }

    /// One past the highest number that ever had a word.
    pub fn high(&self) -> RawFd {
        self.high.load(Ordering::SeqCst) as RawFd
    }

    /// The kind of the file that was just opened as `fd`, and nothing else: what was known of the number before is of a
    /// file that was closed unseen.
    pub fn opened(&self, fd: RawFd, kind: Kind) -> Option<Word> {
        let entry = self.get(fd)?;
        let fresh = Word::EMPTY.with_kind(kind);
        self.touch(fd);
        let old = entry.update(|_| Some(fresh))?;
        entry.set_peer(None);
        Some(old)
    }

    /// Two numbers were opened as the ends of a pipe or a socket pair.
    pub fn opened_pair(&self, one: RawFd, other: RawFd, kind: Kind) {
        for (fd, peer) in [(one, other), (other, one)] {
            self.opened(fd, kind);
            if let Some(entry) = self.get(fd) {
                entry.set_peer(Some(peer));
                entry.update(|word| Some(word.with(Flags::PEERED)));
            }
        }
    }

    /// A number was opened as an eventfd: what is written to it wakes itself. One that closes on exec is this process'
    /// own until it forks: a spawned program does not get it, and a fork is seen.
    pub fn opened_eventfd(&self, fd: RawFd, kind: Kind, cloexec: bool) {
        self.opened(fd, kind);
        if let Some(entry) = self.get(fd) {
            entry.set_peer(Some(fd));
            let private = if cloexec { Flags::PRIVATE } else { Flags::empty() };
            entry.update(|word| Some(word.with(Flags::PEERED | private)));
        }
    }

    /// A number no longer closes on exec, or never did: other programs may get its file.
    pub fn inheritable(&self, fd: RawFd) {
        if let Some(entry) = self.get(fd)
            && entry.word().is(Flags::PRIVATE)
        {
            entry.update(|word| Some(word.without(Flags::PRIVATE)));
        }
    }

    /// `new` became a duplicate of `old`: the same file, and all that is known of it.
    pub fn duplicated(&self, old: RawFd, new: RawFd) {
        let (Some(from), Some(to)) = (self.get(old), self.get(new)) else { return };
        let Some(file) = self.identify(old) else { return };
        self.any_dup.store(true, Ordering::SeqCst);
        self.touch(new);
        if !from.word().is(Flags::DUPED) {
            from.home.store(old as u32, Ordering::SeqCst);
        }
        to.home.store(from.home.load(Ordering::SeqCst), Ordering::SeqCst);
        from.set_flags(file, Flags::DUPED, Flags::PRIVATE);
        to.relation.store(from.relation.load(Ordering::SeqCst), Ordering::SeqCst);
        let word = from.word();
        to.update(|_| Some(word));
    }

    /// The number that evidence of `fd`'s file is kept with: itself, unless it has duplicates.
    pub fn home_number(&self, fd: RawFd) -> RawFd {
        let Some(entry) = self.get(fd) else { return fd };
        let word = entry.word();
        if !word.is(Flags::DUPED) {
            return fd;
        }
        let home = entry.home.load(Ordering::SeqCst) as RawFd;
        if self.word(home).file() == word.file() { home } else { fd }
    }

    /// The entry that evidence of `fd`'s file is kept in.
    pub fn home(&self, fd: RawFd) -> Option<&Entry> {
        self.get(self.home_number(fd))
    }

    /// Changes the words of all numbers of `fd`'s file.
    pub fn update_file(&self, fd: RawFd, mut change: impl FnMut(Word) -> Word) {
        let word = self.word(fd);
        self.touch(fd);
        let mut one = |fd: RawFd| {
            if let Some(entry) = self.get(fd) {
                entry.update(|now| (now.file() == word.file()).then(|| change(now)));
            }
        };
        if word.is(Flags::DUPED) {
            (0..self.high()).for_each(one);
        } else {
            one(fd);
        }
    }

    /// The number is being closed, or was: forgets what was known of it, and gives it back. Where it has duplicates,
    /// they inherit what is known of the file.
    pub fn close(&self, fd: RawFd) -> Word {
        let Some(entry) = self.get(fd) else { return Word::EMPTY };
        let word = entry.word();
        if word.is(Flags::DUPED) {
            self.bequeath(fd, entry, word.file());
        }
        entry.clear()
    }

    fn bequeath(&self, fd: RawFd, entry: &Entry, file: FileId) {
        let duplicates = || (0..self.high()).filter(|&n| n != fd && self.word(n).file() == file);
        let Some(heir) = duplicates().next() else { return };
        if self.home_number(fd) == fd
            && let Some(to) = self.get(heir)
        {
            let counts = entry.evidence.load(Ordering::SeqCst) & !Evidence::QUEUED;
            let _ = to.evidence.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |old| {
                Some(old & Evidence::QUEUED | counts)
            });
            to.consumed.store(entry.consumed(), Ordering::SeqCst);
            duplicates().filter_map(|n| self.get(n)).for_each(|other| {
                other.home.store(heir as u32, Ordering::SeqCst);
            });
        }
        // Who named the closed number as its other end now names the heir: the duplicates of an eventfd, or those of the
        // other end.
        let mine = fd as u32 + 1;
        for other in (0..self.high()).filter_map(|n| self.get(n)) {
            if other.word().is(Flags::PEERED) {
                let _ = other.relation.compare_exchange(
                    mine,
                    heir as u32 + 1,
                    Ordering::SeqCst,
                    Ordering::SeqCst,
                );
            }
        }
    }

    /// Whether any number was ever duplicated.
    pub fn any_dup(&self) -> bool {
        self.any_dup.load(Ordering::SeqCst)
    }

    /// Other processes may have what was this one's alone: it forked, or sent descriptors away.
    pub fn share_private(&self) {
        for fd in 0..self.high() {
            self.inheritable(fd);
        }
    }

    /// The file's identity, given now if it had none.
    pub fn identify(&self, fd: RawFd) -> Option<FileId> {
        let entry = self.get(fd)?;
        let fresh = self.new_file();
        self.touch(fd);
        entry.update(|word| (word.file() == FileId::UNKNOWN).then(|| word.with_file(fresh)));
        Some(entry.word().file())
    }

    /// A number by which `file` is still open: `preferred` if it is that file, else any.
    pub fn number_of(&self, file: FileId, preferred: RawFd) -> Option<RawFd> {
        if self.word(preferred).file() == file {
            return Some(preferred);
        }
        (0..self.high()).find(|&fd| self.word(fd).file() == file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry::new()
    }

    #[test]
    fn a_word_keeps_its_parts_apart() {
        let word = Word::EMPTY
            .with(Flags::WATCHED | Flags::EVIDENCE)
            .with_kind(Kind::Other)
            .with_holder(Holder::slot(41))
            .with_file(FileId(0x7_ffff_ffff));
        assert_eq!(word.flags(), Flags::WATCHED | Flags::EVIDENCE);
        assert_eq!(word.kind(), Kind::Other);
        assert_eq!(word.holder().as_slot(), Some(41));
        assert_eq!(word.file(), FileId(0x7_ffff_ffff));
        let word = word.with_holder(Holder::SEVERAL).without(Flags::WATCHED);
        assert_eq!(word.holder().as_slot(), None);
        assert_eq!(word.kind(), Kind::Other);
        assert_eq!(word.flags(), Flags::EVIDENCE);
    }

    #[test]
    fn no_number_of_signs_hides_one() {
        let entry = entry();
        let start = entry.look();
        for _ in 0..(1u32 << Evidence::BITS) {
            entry.add_sign(Sign::Drained);
        }
        entry.add_sign(Sign::WokenOut);
        entry.enqueue();
        let signs = entry.look().since(start);
        assert_eq!(signs, Signs { drained: true, woken_out: true, ..Signs::default() });
    }

    #[test]
    fn counters_do_not_carry_into_each_other() {
        let entry = entry();
        let start = entry.look();
        for _ in 0..(1u32 << Evidence::BITS) {
            entry.add_sign(Sign::Drained);
            entry.look();
        }
        assert_eq!(entry.look().since(start), Signs::default(), "all the way round");
    }

    #[test]
    fn flags_change_only_on_the_same_file() {
        let entry = entry();
        entry.update(|word| Some(word.with_file(FileId(7))));
        entry.set_flags(FileId(8), Flags::HELD, Flags::empty());
        assert_eq!(entry.word().flags(), Flags::empty());
        entry.set_flags(FileId(7), Flags::HELD, Flags::empty());
        assert_eq!(entry.word().flags(), Flags::HELD);
    }

    #[test]
    fn enqueue_says_who_was_first() {
        let entry = entry();
        assert!(entry.enqueue());
        assert!(!entry.enqueue());
        entry.dequeue();
        assert!(entry.enqueue());
    }
}
