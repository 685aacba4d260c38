//! What is known of each descriptor number: one atomic word a number, read and written without locks.
//!
//! The interposed close, read and write pay one load for a descriptor that nobody watches. Everything here may run in a
//! signal handler, or between fork and exec: no lock, no allocation, no system call.

use std::os::fd::RawFd;

use crate::files::Kind;
use crate::notice::Link;
pub use crate::sign::{Evidence, Signs};
use crate::sleeper::SleeperId;
use crate::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering};
use crate::sync::hint;
use crate::word::FILE_SHIFT;
pub use crate::word::{FileId, Flags, Holder, Word};

/// Numbers from here on are not served: the kernel's own default limit (fs.nr_open).
/// The models have few, and so has Miri, which looks at each of them.
pub const CAPACITY: usize = match () {
    () if cfg!(shuttle) => 64,
    () if cfg!(miri) => 1 << 8,
    () => 1 << 20,
};

/// How often to see whether a read is over: some 5 us.
const READ_SPINS: u32 = if cfg!(shuttle) { 1 } else { 256 };

/// All that is kept for one number: 40 bytes, a fifth of what a registered descriptor may take.
pub struct Entry {
    word: AtomicU64,
    evidence: AtomicU64,
    /// Bytes that the program's reads took, modulo 2^32.
    consumed: AtomicU32,
    /// Its places in the stacks of noticed numbers: signs, and closes.
    sign_link: Link,
    close_link: Link,
    /// The instance's slot for an epoll; the other end's number plus one for a pipe or a socket pair.
    relation: AtomicU32,
    /// The sleeper of the watcher that it is parked with, plus one; 0: none.
    watcher: AtomicU16,
    /// Reads of the program that have begun, and whose bytes may not be counted yet.
    readers: AtomicU16,
    /// For a number with duplicates: the one of them that evidence is kept with ([`FdTable::home`]).
    home: AtomicU32,
}

impl Entry {
    const fn new() -> Self {
        Self {
            word: AtomicU64::new(0),
            evidence: AtomicU64::new(0),
            consumed: AtomicU32::new(0),
            sign_link: Link::new(),
            close_link: Link::new(),
            relation: AtomicU32::new(0),
            watcher: AtomicU16::new(0),
            readers: AtomicU16::new(0),
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

    /// Takes and gives flags, if the number still is that file. False: it is not.
    pub fn set_flags(&self, file: FileId, give: Flags, take: Flags) -> bool {
        self.update(|word| (word.file() == file).then(|| word.without(take).with(give))).is_some()
    }

    /// Looks at the counters: from now on they move again.
    pub fn look(&self) -> Evidence {
        Evidence(self.evidence.fetch_and(!Evidence::FRESH, Ordering::SeqCst))
    }

    /// What a look would see.
    pub fn peek(&self) -> Evidence {
        Evidence(self.evidence.load(Ordering::SeqCst))
    }

    /// Counts signs, each if somebody has looked since the last of its kind.
    pub fn add_signs(&self, signs: Signs) {
        let _ = self.evidence.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |old| {
            Evidence(old).count(signs).map(|new| new.0)
        });
    }

    /// A call begins that may wake who polls this number, and give a sign of it.
    pub fn call_begins(&self) {
        let _ = self.evidence.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |old| {
            Evidence(old).begin().map(|new| new.0)
        });
    }

    /// It ends with these signs.
    pub fn call_ends(&self, signs: Signs) {
        let _ = self.evidence.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |old| {
            let ended = Evidence(old).end();
            Some(ended.count(signs).unwrap_or(ended).0)
        });
    }

    /// Its place in the stack of numbers that there are signs of.
    pub(crate) fn sign_link(&self) -> &Link {
        &self.sign_link
    }

    /// Its place in the stack of numbers that were closed.
    pub(crate) fn close_link(&self) -> &Link {
        &self.close_link
    }

    /// Whether the number stands in some instance's stack.
    pub fn is_noticed(&self) -> bool {
        self.sign_link.is_taken() || self.close_link.is_taken()
    }

    /// Counts bytes that a read of the program took.
    pub fn consume(&self, bytes: u32) {
        self.consumed.fetch_add(bytes, Ordering::SeqCst);
    }

    /// A read begins that will be counted.
    pub fn read_begins(&self) {
        self.readers.fetch_add(1, Ordering::SeqCst);
    }

    /// It was counted, and its signs were given.
    pub fn read_ends(&self) {
        // Where it began on the number's last file, there is nothing to end.
        let less = |readers: u16| readers.checked_sub(1);
        let _ = self.readers.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
    }

    /// While a read is on its way its bytes may be gone from the file and not counted: waits a moment for its end. False:
    /// there still is one, which may sleep, or may have lost its processor.
    pub fn await_reads(&self) -> bool {
        (0..READ_SPINS).any(|_| {
            hint::spin_loop();
            !self.is_being_read()
        })
    }

    /// Whether one is on its way now.
    pub fn is_being_read(&self) -> bool {
        self.readers.load(Ordering::SeqCst) != 0
    }

    /// Bytes that the program's reads took so far, modulo 2^32.
    pub fn consumed(&self) -> u32 {
        self.consumed.load(Ordering::SeqCst)
    }

    /// The watcher that it is, or was last, parked with.
    pub fn watcher(&self) -> Option<SleeperId> {
        SleeperId::from_word(self.watcher.load(Ordering::SeqCst))
    }

    /// Says so; gives who it was before.
    pub fn set_watcher(&self, watcher: Option<SleeperId>) -> Option<SleeperId> {
        SleeperId::from_word(self.watcher.swap(SleeperId::to_word(watcher), Ordering::SeqCst))
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

#[cfg(not(shuttle))]
const _: () = assert!(size_of::<Entry>() == 40, "it is there for each number");

/// The table. In a static it is zero-filled memory that costs nothing until it is touched.
pub struct FdTable {
    entries: [Entry; CAPACITY],
    /// One past the highest number of the program's that ever had a word.
    high: AtomicU32,
    /// The library's own numbers lie in this range, far above: apart, so that scans need not go there. Kept as the
    /// distance from the table's end, and one past the highest.
    ours_below_end: AtomicU32,
    ours_end: AtomicU32,
    files: AtomicU64,
    any_dup: AtomicBool,
    /// A bit for each kind of file that an item which wants evidence was ever registered for.
    evident_kinds: AtomicU32,
}

impl FdTable {
    /// An empty table; made for a static, it is too large for a stack.
    #[must_use]
    #[allow(clippy::new_without_default, clippy::large_stack_arrays)]
    pub const fn new() -> Self {
        Self {
            entries: [const { Entry::new() }; CAPACITY],
            high: AtomicU32::new(0),
            ours_below_end: AtomicU32::new(0),
            ours_end: AtomicU32::new(0),
            files: AtomicU64::new(0),
            any_dup: AtomicBool::new(false),
            evident_kinds: AtomicU32::new(0),
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

    /// An identity that no file had before (34 bits: two in the same item's life would take 1.7e10 files).
    pub fn new_file(&self) -> FileId {
        let next = self.files.fetch_add(1, Ordering::Relaxed) + 1;
        FileId(next & ((1 << (64 - FILE_SHIFT)) - 1))
    }

    /// Says that `fd` may have a word from now on, so that scans reach it.
    pub fn touch(&self, fd: RawFd) {
        self.high.fetch_max(fd as u32 + 1, Ordering::SeqCst);
    }

    /// Says that `fd` may be one of the library's own.
    pub fn touch_ours(&self, fd: RawFd) {
        self.ours_below_end.fetch_max((CAPACITY - fd as usize) as u32, Ordering::SeqCst);
        self.ours_end.fetch_max(fd as u32 + 1, Ordering::SeqCst);
    }

    /// Where the library's own numbers are, or were.
    pub fn ours(&self) -> std::ops::Range<RawFd> {
        let first = CAPACITY - self.ours_below_end.load(Ordering::SeqCst) as usize;
        first as RawFd..self.ours_end.load(Ordering::SeqCst) as RawFd
    }

    /// One past the highest number of the program's that ever had a word.
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
    /// they inherit what is known of the file; one of them is given back, too.
    pub fn close(&self, fd: RawFd) -> (Word, Option<RawFd>) {
        let Some(entry) = self.get(fd) else { return (Word::EMPTY, None) };
        let word = entry.word();
        let heir = if word.is(Flags::DUPED) { self.bequeath(fd, entry, word.file()) } else { None };
        if heir.is_none() {
            self.part(fd, entry, word);
        }
        // Calls that are still on their way are none on the number's next file.
        entry.evidence.fetch_and(!Evidence::CALLS, Ordering::SeqCst);
        entry.readers.store(0, Ordering::SeqCst);
        (entry.clear(), heir)
    }

    /// The last number of one end is closed: the other end must not take the number's next file for it.
    fn part(&self, fd: RawFd, entry: &Entry, word: Word) {
        let Some(peer) = entry.peer().filter(|_| word.is(Flags::PEERED)) else { return };
        let forget = |other: RawFd| {
            if let Some(other) = self.get(other).filter(|other| other.word().is(Flags::PEERED)) {
                let mine = fd as u32 + 1;
                let _ =
                    other.relation.compare_exchange(mine, 0, Ordering::SeqCst, Ordering::SeqCst);
            }
        };
        if self.word(peer).is(Flags::DUPED) {
            (0..self.high()).for_each(forget);
        } else {
            forget(peer);
        }
    }

    /// Gives what is known of a file with duplicates to one of them. `None`: there is none any more.
    fn bequeath(&self, fd: RawFd, entry: &Entry, file: FileId) -> Option<RawFd> {
        let duplicates = || (0..self.high()).filter(|&n| n != fd && self.word(n).file() == file);
        let heir = duplicates().next()?;
        if self.home_number(fd) == fd
            && let Some(to) = self.get(heir)
        {
            to.evidence.store(entry.evidence.load(Ordering::SeqCst), Ordering::SeqCst);
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
        Some(heir)
    }

    /// The number of a file's other end, if it is known, and its own.
    pub fn peer_of(&self, fd: RawFd) -> Option<RawFd> {
        self.get(fd).filter(|entry| entry.word().is(Flags::PEERED))?.peer()
    }

    /// Whether another number is the same open file.
    pub fn has_duplicate(&self, fd: RawFd) -> bool {
        let word = self.word(fd);
        let same = |other| other != fd && self.word(other).file() == word.file();
        word.is(Flags::DUPED) && (0..self.high()).any(same)
    }

    /// Whether any number was ever duplicated.
    pub fn any_dup(&self) -> bool {
        self.any_dup.load(Ordering::SeqCst)
    }

    /// Whether evidence of this kind of file was ever wanted.
    pub fn wants_evidence_of(&self, kind: Kind) -> bool {
        self.evident_kinds.load(Ordering::Relaxed) & 1 << kind as u32 != 0
    }

    /// Says that evidence of this kind of file is wanted, for good.
    pub fn set_wants_evidence_of(&self, kind: Kind) {
        self.evident_kinds.fetch_or(1 << kind as u32, Ordering::Relaxed);
    }

    /// The numbers of this kind of which evidence is wanted.
    pub fn evident(&self, kind: Kind) -> impl Iterator<Item = RawFd> {
        let is_evident = move |fd: &RawFd| {
            let word = self.word(*fd);
            word.is(Flags::EVIDENCE) && word.kind() == kind
        };
        let end = if self.wants_evidence_of(kind) { self.high() } else { 0 };
        (0..end).filter(is_evident)
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
        // Not looked at a second time: it may be closed by then, and closed numbers are all of one file.
        let mut file = fresh;
        entry.update(|word| {
            let is_new = word.file() == FileId::UNKNOWN;
            file = if is_new { fresh } else { word.file() };
            is_new.then(|| word.with_file(fresh))
        });
        Some(file)
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
            .with_file(FileId(0x3_ffff_ffff));
        assert_eq!(word.flags(), Flags::WATCHED | Flags::EVIDENCE);
        assert_eq!(word.kind(), Kind::Other);
        assert_eq!(word.holder().as_slot(), Some(41));
        assert_eq!(word.file(), FileId(0x3_ffff_ffff));
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
            entry.add_signs(Signs::DRAINED);
        }
        entry.add_signs(Signs::WOKEN_OUT);
        let signs = entry.look().since(start);
        assert_eq!(signs, Signs::DRAINED | Signs::WOKEN_OUT);
    }

    #[test]
    fn counters_do_not_carry_into_each_other() {
        let entry = entry();
        let start = entry.look();
        for _ in 0..(1u32 << Evidence::BITS) {
            entry.add_signs(Signs::DRAINED);
            entry.look();
        }
        assert_eq!(entry.look().since(start), Signs::empty(), "all the way round");
    }

    #[test]
    fn a_call_ends_with_its_sign() {
        let entry = entry();
        let start = entry.look();
        entry.call_begins();
        entry.call_begins();
        assert!(entry.peek().is_in_call());
        entry.call_ends(Signs::WOKEN_OUT);
        let seen = entry.look();
        assert_eq!(seen.since(start), Signs::WOKEN_OUT);
        assert!(seen.is_in_call(), "the other one goes on");
        entry.call_ends(Signs::empty());
        assert!(!entry.peek().is_in_call());
        assert!(entry.peek().since(seen).is_empty(), "and had nothing to tell");
        entry.call_ends(Signs::empty());
        assert!(!entry.peek().is_in_call(), "one that was never counted");
    }

    #[test]
    fn calls_beyond_counting_disturb_nothing() {
        let entry = entry();
        entry.add_signs(Signs::all());
        let start = entry.look();
        (0..1000).for_each(|_| entry.call_begins());
        assert!(entry.peek().is_in_call());
        (0..1000).for_each(|_| entry.call_ends(Signs::empty()));
        assert!(!entry.peek().is_in_call());
        assert!(entry.peek().since(start).is_empty());
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
}
