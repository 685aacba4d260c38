//! What reads, writes and other calls of the program show of a file: evidence for edges (see the engine's edge.rs), which
//! poll(2) does not show.
//!
//! A call that wakes whoever polls the file is told of before it begins and after it is over: between the two a look may see
//! what it did already.

use libc::c_int;
use uepoll::fdtable::{Entry, Flags, Signs, Word};
use uepoll::files::{self, Kind};
use uepoll::sys;

use crate::openers::is_datagram;
use crate::{TABLE, engine, errno, left};

/// Who has to be told more than nothing.
pub const OF_INTEREST: Flags =
    Flags::EVIDENCE.union(Flags::EPOLL).union(Flags::OURS).union(Flags::PEERED);

fn sign(fd: c_int, signs: Signs) {
    if let Some(engine) = engine() {
        engine.sign(fd, signs);
    }
}

fn sign_of_call(fd: c_int, signs: Signs) {
    if let Some(engine) = engine() {
        engine.sign_of_call(fd, signs);
    }
}

/// Makes a call that wakes those who wait for some files, and gives signs of it if `wakes` says so of its result. Who polls the
/// first few of them may have seen why before: there it is a call on its way.
pub fn waking<T: Copy>(
    files: impl Iterator<Item = c_int>,
    signs: Signs,
    call: impl FnOnce() -> T,
    wakes: impl FnOnce(T) -> bool,
) -> T {
    let mut watched = files.filter(|&fd| TABLE.word(fd).is(Flags::EVIDENCE));
    // No memory is to be had: it may be in a handler.
    let begun: [Option<c_int>; 4] = std::array::from_fn(|_| watched.next());
    for home in begun.into_iter().flatten().filter_map(|fd| TABLE.home(fd)) {
        home.call_begins();
    }
    let all_end = |begun: [Option<c_int>; 4]| begun.into_iter().for_each(call_ends);
    let result = left::within(begun[0].map(|_| begun), all_end, call);
    let error = errno::get();
    let wakes = wakes(result);
    for fd in begun.into_iter().flatten() {
        if wakes { sign_of_call(fd, signs) } else { call_ends(Some(fd)) }
    }
    if wakes {
        watched.for_each(|fd| sign(fd, signs));
    }
    errno::set(error);
    result
}

/// A sign of a file that may be watched.
pub fn sign_evident(fd: c_int, signs: Signs) {
    if TABLE.word(fd).is(Flags::EVIDENCE) {
        sign(fd, signs);
    }
}

/// What is asked before a read, to see what the read did.
#[derive(Clone, Copy, Default)]
pub struct Before {
    /// The queue of a socket of messages: FIONREAD does not count them.
    queued: Option<u32>,
    /// The other end, whose writers the read may wake, and what it had no room for: anything (a pipe), or how much.
    other: Option<(c_int, u32)>,
    /// Whose pollers may see what the read does before its sign.
    seen_by: Option<c_int>,
    /// Where the bytes are counted.
    counted: Option<&'static Entry>,
}

impl Before {
    /// The read is over, with these signs for who polls that number.
    fn signs(&mut self, fd: c_int, signs: Signs) {
        if self.seen_by == Some(fd) {
            self.seen_by = None;
            sign_of_call(fd, signs);
        } else {
            sign(fd, signs);
        }
    }

    /// Itself, if it has to end.
    pub fn if_any(self) -> Option<Self> {
        (self.seen_by.is_some() || self.counted.is_some()).then_some(self)
    }

    /// The read is over, or was left.
    pub fn ends(self) {
        call_ends(self.seen_by);
        if let Some(home) = self.counted {
            home.read_ends();
        }
    }
}

pub fn before_read(fd: c_int, word: Word) -> Before {
    let mut before = Before::default();
    if word.is(Flags::EVIDENCE) {
        if matches!(word.kind(), Kind::Datagram | Kind::UnixPackets) {
            before.queued = files::queued(fd, word.kind(), TABLE.peer_of(fd));
        }
        before.counted = TABLE.home(fd);
        if let Some(home) = before.counted {
            home.read_begins();
        }
    }
    if word.is(Flags::PEERED)
        && !word.kind().wakes_itself()
        && let Some(other) = TABLE.get(fd).and_then(|entry| entry.peer())
        && TABLE.word(other).is(Flags::EVIDENCE)
    {
        before.other = unsent(word.kind(), other).map(|unsent| (other, unsent));
    }
    let itself = word.is(Flags::EVIDENCE) && word.kind().wakes_itself();
    before.seen_by = if itself { Some(fd) } else { before.other.map(|(other, _)| other) };
    if let Some(home) = before.seen_by.and_then(|number| TABLE.home(number)) {
        home.call_begins();
    }
    before
}

/// How much stands in the way of a writer.
fn unsent(kind: Kind, writer: c_int) -> Option<u32> {
    match kind {
        Kind::Pipe => Some(u32::from(sys::levels_now(writer, libc::POLLOUT) & libc::POLLOUT == 0)),
        Kind::UnixStream | Kind::UnixPackets => sys::bytes_unsent(writer).ok(),
        _ => None,
    }
}

/// Whether less stands in the way of a UNIX socket's writer than before, and little enough for the kernel to wake it.
fn gives_room(kind: Kind, writer: c_int, before: u32) -> bool {
    unsent(kind, writer).is_some_and(|now| now < before) && has_room(writer)
}

/// Whether the kernel calls a UNIX socket writable: its own memory is asked, not its peer's queue, as POLLOUT is.
fn has_room(writer: c_int) -> bool {
    let (Ok(unsent), Ok(limit)) =
        (sys::bytes_unsent(writer), sys::socket_option(writer, libc::SO_SNDBUF))
    else {
        return false;
    };
    (u64::from(unsent) + 1) * 4 <= limit as u64
}

/// A number is about to be closed: what that does to those who poll the other end, beside what their levels show. A UNIX
/// socket takes the messages with it that nobody has read, and their sender gets room; and it wakes an end that it has
/// hung up on before.
pub fn before_close(fd: c_int, word: Word) {
    let kind = word.kind();
    if word.is(Flags::PEERED)
        && matches!(kind, Kind::UnixPackets | Kind::UnixStream)
        && let Some(other) = TABLE.get(fd).and_then(|entry| entry.peer())
        && TABLE.word(other).is(Flags::EVIDENCE)
        && !TABLE.has_duplicate(fd)
    {
        if sys::levels_now(other, 0) & libc::POLLHUP != 0 && !is_datagram(fd) {
            sign(other, Signs::WOKEN);
        } else if kind == Kind::UnixPackets
            && sys::bytes_unsent(other).is_ok_and(|unsent| unsent > 0)
        {
            sign(other, Signs::WOKEN_OUT);
        }
    }
}

/// What a read has shown. `len` is what was asked for; `result` may be -1, with errno set.
pub fn after_read(
    fd: c_int,
    word: Word,
    len: usize,
    result: isize,
    flags: c_int,
    mut before: Before,
) {
    show_read(fd, word, len, result, flags, &mut before);
    before.ends();
}

fn show_read(fd: c_int, word: Word, len: usize, result: isize, flags: c_int, before: &mut Before) {
    if flags & (libc::MSG_PEEK | libc::MSG_ERRQUEUE) != 0 {
        return;
    }
    let error = errno::get();
    // Room that the read made wakes the other end's writers: those of a pipe if it was full.
    if let Some((other, unsent_before)) = before.other
        && match word.kind() {
            // A read that empties no whole buffer of it makes no room.
            Kind::Pipe => result > 0 && unsent_before != 0 && is_writable(other),
            kind => gives_room(kind, other, unsent_before),
        }
    {
        before.signs(other, Signs::WOKEN_OUT);
    }
    if !word.is(Flags::EVIDENCE) {
        return;
    }
    let kind = word.kind();
    match result {
        // An error other than EAGAIN takes nothing away.
        ..0 => {
            if error == libc::EAGAIN {
                before.signs(fd, Signs::DRAINED);
            } else if FROM_AFAR.contains(&error) {
                sign(fd, Signs::FAILED);
            }
        }
        // The end of a stream: IN stays high, and quiet.
        0 => {}
        1.. => {
            let took = match (before.queued, kind) {
                (Some(before), _) => before
                    .saturating_sub(files::queued(fd, kind, TABLE.peer_of(fd)).unwrap_or(before)),
                (None, Kind::EventfdSemaphore) => 1,
                (None, _) => result as u32,
            };
            if let Some(home) = TABLE.home(fd) {
                home.consume(took);
            }
            let short = match kind {
                // A read takes as many as fit, in whatever order; few programs read until EAGAIN.
                Kind::Signalfd => sys::levels_now(fd, libc::POLLIN) & libc::POLLIN == 0,
                _ => kind.short_read_drains() && (result as usize) < len,
            };
            let mut signs = Signs::TOOK;
            signs.set(Signs::DRAINED, short || kind.any_read_drains());
            signs.set(Signs::WOKEN_OUT, kind.wakes_itself());
            before.signs(fd, signs);
        }
    }
}

/// A write on its way.
#[derive(Clone, Copy)]
pub struct Begun {
    /// The watched number whose pollers it wakes, as far as is known.
    peer: Option<c_int>,
    /// The file's own number, where those who wait for room in it are woken.
    itself: Option<c_int>,
}

impl Begun {
    /// Itself, if anybody may see it.
    pub fn if_any(self) -> Option<Self> {
        (self.peer.is_some() || self.itself.is_some()).then_some(self)
    }

    /// It is over and has nothing to tell, or was left.
    pub fn ends(self) {
        call_ends(self.peer);
        call_ends(self.itself);
    }
}

pub fn write_begins(fd: c_int, word: Word) -> Begun {
    let itself = word.is(Flags::EVIDENCE) && word.kind().write_gives_room();
    let begun = Begun { peer: watched_peer(fd, word), itself: itself.then_some(fd) };
    for home in [begun.peer, begun.itself].into_iter().flatten().filter_map(|it| TABLE.home(it)) {
        home.call_begins();
    }
    begun
}

fn watched_peer(fd: c_int, word: Word) -> Option<c_int> {
    let peer = if word.is(Flags::PEERED) { TABLE.get(fd)?.peer()? } else { return None };
    TABLE.word(peer).is(Flags::WATCHED).then_some(peer)
}

fn call_ends(number: Option<c_int>) {
    if let Some(home) = number.and_then(|number| TABLE.home(number)) {
        home.call_ends(Signs::empty());
    }
}

/// Errors that came to the file from elsewhere, and woke who waits for it; the call that is told of one takes it away.
/// Others are the call's own fault.
pub const FROM_AFAR: [c_int; 9] = [
    libc::ECONNREFUSED,
    libc::ECONNRESET,
    libc::ECONNABORTED,
    libc::EHOSTUNREACH,
    libc::EHOSTDOWN,
    libc::ENETUNREACH,
    libc::ENETDOWN,
    libc::ETIMEDOUT,
    libc::EPROTO,
];

/// Whether it was a UNIX message that was made already which could not be sent.
fn is_refusal(fd: c_int, error: c_int) -> bool {
    match error {
        libc::EAGAIN | libc::ECONNREFUSED | libc::EPERM => true,
        // Records without a connection are not even made; datagrams are, since Linux 6.14.
        libc::ENOTCONN => is_datagram(fd),
        // By the other side's shutdown, not by the own one.
        libc::EPIPE => is_datagram(fd) && !TABLE.word(fd).is(Flags::MUTE),
        _ => false,
    }
}

/// What a write has shown. `result` may be -1, with errno set.
pub fn after_write(fd: c_int, word: Word, len: usize, result: isize, begun: Begun) {
    let Begun { peer, itself } = begun;
    let error = errno::get();
    let kind = word.kind();
    let refused = result < 0 && error == libc::EAGAIN;
    // An empty message is one, too.
    let sent = result > 0 || result == 0 && matches!(kind, Kind::Datagram | Kind::UnixPackets);
    if let (Some(peer), Some(engine)) = (peer, engine()) {
        // A pipe wakes its readers even for a write that finds it full.
        if sent || refused && kind == Kind::Pipe {
            engine.written(peer);
        } else {
            call_ends(Some(peer));
        }
    }
    if !word.is(Flags::EVIDENCE) {
        return call_ends(itself);
    }
    let short = refused || result >= 0 && (result as usize) < len;
    if peer.is_none() && result < 0 {
        after_refusal(fd, word);
    }
    // The other end of a FIFO, or one in another process, may empty it unseen before anybody looks.
    let full = kind == Kind::Pipe && !word.is(Flags::PEERED) && !short && !is_writable(fd);
    // An eventfd refuses what would overflow it, with room for less.
    if full || short && !(kind.wakes_itself() && is_writable(fd)) {
        sign(fd, Signs::FILLED);
    }
    if result > 0 && peer.is_none() && kind.wakes_itself() {
        sign(fd, Signs::WOKEN_IN);
    }
    let own = kind == Kind::UnixPackets && error == libc::ECONNREFUSED;
    if result < 0 && FROM_AFAR.contains(&error) && !own {
        sign(fd, Signs::FAILED);
    }
    // A datagram that was refused had its memory already.
    let given_back = match kind {
        Kind::UnixPackets => result < 0 && is_refusal(fd, error) && has_room(fd),
        _ => sent && kind.write_gives_room(),
    };
    match itself {
        // Who polls it may have seen the room already.
        Some(itself) if given_back => sign_of_call(itself, Signs::WOKEN_OUT),
        None if given_back => sign(fd, Signs::WOKEN_OUT),
        _ => call_ends(itself),
    }
}

/// A write failed. A full FIFO wakes its readers all the same; which they are, only the files themselves tell.
#[cold]
pub fn after_refusal(fd: c_int, word: Word) {
    let error = errno::get();
    let may_be_fifo = matches!(word.kind(), Kind::Unknown | Kind::Pipe);
    if error != libc::EAGAIN || !may_be_fifo || !TABLE.wants_evidence_of(Kind::Pipe) {
        return;
    }
    let identity = |fd| sys::fstat(fd).map(|stat| (stat.st_dev, stat.st_ino));
    if let Ok(file) = identity(fd) {
        let reads = |fd| sys::status_flags(fd).is_ok_and(|f| f & libc::O_ACCMODE != libc::O_WRONLY);
        let same = |reader: &c_int| identity(*reader) == Ok(file) && reads(*reader);
        TABLE.evident(Kind::Pipe).filter(same).for_each(|reader| sign(reader, Signs::WOKEN_IN));
    }
    errno::set(error);
}

fn is_writable(fd: c_int) -> bool {
    sys::levels_now(fd, libc::POLLOUT) & libc::POLLOUT != 0
}

/// Runs a call that reads one descriptor and writes another. A short one has stopped at either end: which, the files
/// say; where neither does (another thread was as quick), at both.
pub fn moving(from: c_int, to: c_int, len: usize, call: impl FnOnce() -> isize) -> isize {
    let (source, target) = (TABLE.word(from), TABLE.word(to));
    if !source.is(OF_INTEREST) && !target.is(OF_INTEREST) {
        return call();
    }
    let before = before_read(from, source);
    let begun = write_begins(to, target);
    let both_end = |(before, begun): (Before, Begun)| {
        before.ends();
        begun.ends();
    };
    let result = left::within(Some((before, begun)), both_end, call);
    let error = errno::get();
    // 0 is the end of the source, which says nothing of either side.
    let short = result < 0 && error == libc::EAGAIN || result > 0 && (result as usize) < len;
    let (mut empty, mut full) = (false, false);
    if short {
        let levels = sys::levels_now(from, libc::POLLIN | libc::POLLRDHUP);
        empty = levels & libc::POLLIN == 0;
        full = !empty && !is_writable(to);
        // Neither, and not for a message's or a stream's end either: another thread was as quick.
        let ends = libc::POLLRDHUP | libc::POLLHUP;
        if !empty && !full && source.kind().short_read_drains() && levels & ends == 0 {
            (empty, full) = (true, true);
        }
    }
    let all = result.max(0) as usize;
    // Unlike read(2), splice(2) wakes a pipe's writers whenever it has taken a whole buffer.
    if result > 0
        && source.kind() == Kind::Pipe
        && let Some((writer, 0)) = before.other
        && sys::bytes_readable(from) == Ok(0)
    {
        sign(writer, Signs::WOKEN_OUT);
    }
    if result >= 0 || empty {
        after_read(from, source, all + usize::from(empty), result, 0, before);
    } else {
        before.ends();
    }
    errno::set(error);
    // Where nothing was moved nothing was written, not even an empty message.
    if result > 0 {
        after_write(to, target, all + usize::from(full), result, begun);
    } else {
        // Unlike write(2), it wakes nobody when it finds no room.
        begun.ends();
        if full && target.is(Flags::EVIDENCE) {
            sign(to, Signs::FILLED);
        }
    }
    errno::set(error);
    result
}

/// What an accept has shown.
pub fn after_accept(listener: c_int, fd: c_int) {
    let word = TABLE.word(listener);
    if !word.is(Flags::EVIDENCE) {
        return;
    }
    if fd >= 0 {
        if let Some(home) = TABLE.home(listener) {
            home.consume(1);
        }
    } else if errno::get() == libc::EAGAIN {
        sign(listener, Signs::DRAINED);
    }
}
