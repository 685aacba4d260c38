//! Echoes: events of the kernel that repeat a state which has not changed since ours told it.
//!
//! The kernel's edge is a wake-up of the file. A file may wake its sleepers though nothing that anybody can ask it has
//! changed, and nothing in user space can find that. An event that only the kernel told is such an echo if
//!
//! - it is of an edge-triggered item, of a kind of file in [`ALLOWED`], or told right after an operation that the hooks
//!   do not see, or not whole (an inline system call, splice);
//! - ours told the item before, since its last ADD or MOD, with a mask that contains the event's;
//! - and the file's state has not changed since then, as far as it concerns the item, and as far as the program's own
//!   calls could show. The state is a [`Sample`]. It is taken at each wait, and after each operation on the file or on
//!   one of its group (the other end, where the process made both; TCP connections of the same listener), but for
//!   operations that no hook sees: what comes and goes between two of those nobody can know. A hooked read that took
//!   bytes is a change, whatever the samples say; so is a message or a connection that came.
//!
//! An event of an instance in another one, or its being readable, is an echo if the waits on the inner one find an echo
//! (`excuse.rs`). Nothing in the scripts of `regressions/` is an echo: what was found once stays found.
//!
//! What ours tells and the kernel does not is never an echo. It is excused in one case: the item is of a connection, and
//! was told last in a wait during which something came by itself (a full connection's timers, say). Ours was asked
//! before it came and tells it with the next wait; the kernel was asked after.

use std::collections::BTreeMap;

use crate::mask::Mask;
use crate::script::Kind;
use crate::twin::Instance;
use crate::world::FileId;

/// Kinds of files that echo, and what was seen. All are named in docs/limits.md, "Wake-ups that leave no trace".
pub const ALLOWED: &[(Kind, &str)] = &[
    (
        Kind::Tcp,
        "hang-ups, errors and acknowledgements wake everybody, also when they change no level",
    ),
    (Kind::TcpFresh, "as other TCP; connect wakes even when it fails"),
    (Kind::Udp, "memory of sent datagrams comes back"),
    (
        Kind::Fifo,
        "ends are opened and closed by name; a write wakes readers even when it finds no room",
    ),
    (Kind::UnixStream, "a read by an unknown peer wakes writers that have room"),
    (Kind::Pty, "a hang-up wakes again as input from before it moves on"),
];

/// Whether echoes of a kind of file are known.
pub fn is_allowed(kind: Kind) -> bool {
    ALLOWED.iter().any(|(allowed, _)| *allowed == kind)
}

/// What a script does about echoes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Echoes {
    /// They are counted, and the script goes on.
    Excused,
    /// They are differences of a kind of their own, which can be shrunk and looked at.
    Shown,
    /// They are differences as all others.
    Forbidden,
}

/// What a file says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// What poll(2) reports if asked for everything.
    pub levels: i16,
    /// FIONREAD
    pub queued: Option<i32>,
    /// What else the kind of file counts of its input: of UDP sockets the memory of what is queued, of TCP ones all bytes
    /// that ever came.
    pub count: Option<u64>,
    /// What the peer of a UNIX socket has not read yet.
    pub unread: Option<u64>,
    /// The state of a TCP connection, each change of which wakes everybody.
    pub state: Option<u8>,
}

/// What an item watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    File { id: FileId, kind: Kind },
    Instance(Instance),
}

/// A registration, from ADD or MOD to the next.
#[derive(Clone, Copy, Debug)]
pub struct Item {
    pub watched: Watched,
    pub mask: Mask,
    /// What ours told of it last, and how often the file had changed by then.
    told: Option<(Mask, Changes)>,
    /// Input came while both sides were asked and ours told it last.
    amid: bool,
}

/// How often a file was seen to change, by what changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Changes {
    input: u64,
    room: u64,
    /// Hang-ups and errors, which concern every item.
    end: u64,
}

impl Changes {
    /// What of it concerns an item with this mask, when it is told these events.
    fn concerning(self, item: Mask, event: Mask) -> Self {
        const END: u32 = (libc::POLLHUP | libc::POLLERR | libc::POLLRDHUP) as u32;
        let bits = if event.0 & !END == 0 { 0 } else { item.0 };
        // Input that came and went is told by what else is high; room that did so, only by itself.
        let room = bits & event.0;
        Self {
            input: if bits & u32::from(INPUT as u16) == 0 { 0 } else { self.input },
            room: if room & u32::from(ROOM as u16) == 0 { 0 } else { self.room },
            end: self.end,
        }
    }
}

const INPUT: i16 = libc::POLLIN | libc::POLLRDNORM | libc::POLLRDBAND | libc::POLLPRI;
const ROOM: i16 = libc::POLLOUT | libc::POLLWRNORM | libc::POLLWRBAND;

/// What had come to each file at some time: how often input, how often an end, and a connection's state.
type Arrivals = BTreeMap<FileId, (u64, u64, Option<u8>)>;

/// What the samples and the waits have said so far.
#[derive(Default)]
pub struct Ledger {
    items: BTreeMap<u64, Item>,
    files: BTreeMap<FileId, (Option<Sample>, Changes)>,
    /// The last operation is one that the hooks see not at all, or not whole.
    blind: bool,
}

impl Ledger {
    /// An ADD or MOD succeeded on both sides.
    pub fn registered(&mut self, data: u64, watched: Watched, mask: Mask) {
        if let Watched::File { id, .. } = watched
            && mask.0 & Mask::ET != 0
        {
            self.files.entry(id).or_default();
        }
        self.items.insert(data, Item { watched, mask, told: None, amid: false });
    }

    pub fn item(&self, data: u64) -> Option<Item> {
        self.items.get(&data).copied()
    }

    /// Files whose samples matter.
    pub fn files(&self) -> Vec<FileId> {
        self.files.keys().copied().collect()
    }

    /// A file that is open no more.
    pub fn forget(&mut self, file: FileId) {
        self.files.remove(&file);
    }

    pub fn sampled(&mut self, file: FileId, sample: Sample) {
        let Some((last, changes)) = self.files.get_mut(&file) else { return };
        let Some(last) = last.replace(sample) else { return };
        let risen = sample.levels & !last.levels;
        // What was read and what was filled wakes nobody. Where all that ever came is counted, the queue says no more.
        let came = match (last.count, sample.count) {
            (Some(before), Some(now)) => now > before,
            _ => sample.queued > last.queued,
        };
        changes.input += u64::from(risen & INPUT != 0 || came);
        changes.room += u64::from(risen & ROOM != 0 || sample.unread < last.unread);
        changes.end += u64::from((last.levels ^ sample.levels) & !(INPUT | ROOM) != 0);
    }

    /// The file's input changed, even if it looks the same now.
    pub fn stirred(&mut self, file: FileId) {
        if let Some((_, changes)) = self.files.get_mut(&file) {
            changes.input += 1;
        }
    }

    /// Such an operation comes next. Everybody has looked: what is high now is known to both sides, and what it wakes
    /// without changing any state is an echo.
    pub fn goes_blind(&mut self) {
        self.blind = true;
        for item in self.items.values_mut() {
            let Watched::File { id, .. } = item.watched else { continue };
            if let Some((Some(sample), changes)) = self.files.get(&id) {
                let high = u32::from(sample.levels as u16);
                item.told = Some((Mask(high), *changes));
            }
        }
    }

    /// Whether the last operation was such a one.
    pub fn is_blind(&self) -> bool {
        self.blind
    }

    /// Another operation comes next.
    pub fn sees_again(&mut self) {
        self.blind = false;
    }

    /// Ours told an event.
    pub fn told(&mut self, data: u64, mask: Mask) {
        let Some(item) = self.items.get_mut(&data) else { return };
        let Watched::File { id, .. } = item.watched else {
            item.told = Some((mask, Changes::default()));
            return;
        };
        let Some((_, changes)) = self.files.get(&id) else { return };
        // What was told of the same state before still counts, where it is more.
        let more = item.told.is_some_and(|(told, at)| at == *changes && told.contains(mask));
        if !more {
            item.told = Some((mask, *changes));
        }
    }

    /// What has come to each file so far.
    pub fn arrivals(&self) -> Arrivals {
        let arrived = |sample: &Option<Sample>, changes: &Changes| {
            (changes.input, changes.end, sample.and_then(|sample| sample.state))
        };
        self.files.iter().map(|(id, (sample, changes))| (*id, arrived(sample, changes))).collect()
    }

    /// Ours told an event in a wait before which so much had come.
    pub fn told_since(&mut self, data: u64, before: &Arrivals, after: &Arrivals) {
        let Some(item) = self.items.get_mut(&data) else { return };
        let Watched::File { id, .. } = item.watched else { return };
        item.amid = before.get(&id) != after.get(&id);
    }

    /// Whether an event that only ours told may be one that came between the two sides' last waits.
    pub fn came_between(&self, data: u64) -> bool {
        self.items.get(&data).is_some_and(|item| {
            let moves =
                matches!(item.watched, Watched::File { kind: Kind::Tcp | Kind::TcpFresh, .. });
            moves && item.amid && item.mask.0 & Mask::ET != 0
        })
    }

    /// Whether ours told an item with these events before.
    pub fn was_told(&self, data: u64, event: Mask) -> bool {
        self.items
            .get(&data)
            .and_then(|item| item.told)
            .is_some_and(|(told, _)| told.contains(event))
    }

    /// Whether an event that only the kernel told is an echo, and of what.
    pub fn echo(&self, data: u64, event: Mask) -> Option<Kind> {
        let item = self.items.get(&data).filter(|item| item.mask.0 & Mask::ET != 0)?;
        let Watched::File { id, kind } = item.watched else { return None };
        let (told, at) = item.told?;
        let (_, changes) = self.files.get(&id)?;
        let same = at.concerning(item.mask, event) == changes.concerning(item.mask, event);
        ((self.blind || is_allowed(kind)) && same && told.contains(event)).then_some(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IN: u32 = 1;
    const OUT: u32 = 4;

    fn sample(levels: i16, queued: i32) -> Sample {
        Sample { levels, queued: Some(queued), count: None, unread: None, state: None }
    }

    /// A ledger with item 7 of file 1, of which ours told `told` when it was writable and empty.
    fn ledger(kind: Kind, mask: u32, told: u32) -> Ledger {
        let mut ledger = Ledger::default();
        ledger.registered(7, Watched::File { id: 1, kind }, Mask(mask));
        ledger.sampled(1, sample(4, 0));
        ledger.told(7, Mask(told));
        ledger.sampled(1, sample(4, 0));
        ledger
    }

    #[test]
    fn the_same_state_told_again_is_an_echo() {
        let ledger = ledger(Kind::Tcp, IN | OUT | Mask::ET, OUT);
        assert_eq!(ledger.echo(7, Mask(OUT)), Some(Kind::Tcp));
    }

    #[test]
    fn what_ours_did_not_tell_is_none() {
        assert_eq!(ledger(Kind::Tcp, IN | OUT | Mask::ET, OUT).echo(7, Mask(IN | OUT)), None);
        let mut ledger = Ledger::default();
        ledger.registered(7, Watched::File { id: 1, kind: Kind::Tcp }, Mask(OUT | Mask::ET));
        ledger.sampled(1, sample(4, 0));
        assert_eq!(ledger.echo(7, Mask(OUT)), None);
    }

    #[test]
    fn what_came_during_a_wait_may_be_told_later() {
        let mut ledger = ledger(Kind::Tcp, IN | Mask::ET, IN);
        let before = ledger.arrivals();
        ledger.told_since(7, &before, &ledger.arrivals());
        assert!(!ledger.came_between(7));
        ledger.sampled(1, sample(libc::POLLIN, 9));
        ledger.told_since(7, &before, &ledger.arrivals());
        assert!(ledger.came_between(7));
    }

    #[test]
    fn levels_do_not_echo() {
        assert_eq!(ledger(Kind::Tcp, OUT | Mask::ONESHOT, OUT).echo(7, Mask(OUT)), None);
    }

    #[test]
    fn pipes_do_not_echo() {
        assert_eq!(ledger(Kind::Pipe, OUT | Mask::ET, OUT).echo(7, Mask(OUT)), None);
    }

    #[test]
    fn a_change_that_went_away_is_a_change() {
        let mut ledger = ledger(Kind::Tcp, IN | OUT | Mask::ET, OUT);
        ledger.sampled(1, sample(5, 1));
        ledger.sampled(1, sample(4, 0));
        assert_eq!(ledger.echo(7, Mask(OUT)), None);
    }

    #[test]
    fn a_change_of_what_was_not_asked_for_is_none() {
        let mut ledger = ledger(Kind::Tcp, OUT | Mask::ET, OUT);
        ledger.sampled(1, sample(5, 1));
        assert_eq!(ledger.echo(7, Mask(OUT)), Some(Kind::Tcp));
        ledger.sampled(1, sample(5 | libc::POLLHUP, 1));
        assert_eq!(ledger.echo(7, Mask(OUT)), None, "but for the end");
    }

    #[test]
    fn what_came_without_a_trace_is_a_change() {
        let mut ledger = ledger(Kind::Tcp, IN | OUT | Mask::ET, OUT);
        ledger.stirred(1);
        assert_eq!(ledger.echo(7, Mask(OUT)), None);
    }

    #[test]
    fn a_change_that_was_told_begins_anew() {
        let mut ledger = ledger(Kind::Tcp, IN | OUT | Mask::ET, OUT);
        ledger.sampled(1, sample(5, 1));
        ledger.told(7, Mask(IN | OUT));
        assert_eq!(ledger.echo(7, Mask(OUT)), Some(Kind::Tcp));
        assert_eq!(ledger.echo(7, Mask(IN | OUT)), Some(Kind::Tcp));
    }

    #[test]
    fn a_new_registration_has_been_told_nothing() {
        let mut ledger = ledger(Kind::Tcp, OUT | Mask::ET, OUT);
        ledger.registered(8, Watched::File { id: 1, kind: Kind::Tcp }, Mask(OUT | Mask::ET));
        assert_eq!(ledger.echo(8, Mask(OUT)), None);
    }
}
