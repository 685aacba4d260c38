//! The poll(2) back end: an array of pollfd, kept from wait to wait.

use std::os::fd::RawFd;

use libc::pollfd;
use syscalls::Errno;

use super::{Hit, Key, Set, Sleep, Watch};
use crate::edge::Backlog;
use crate::events::Events;
use crate::faults::make_room;
use crate::fdtable::FdTable;
use crate::files::{self, Kind};
use crate::patience;
use crate::sleeper::Sleeper;
use crate::sys::{self, Result};

/// So few descriptors are slept on without looking first: another system call costs as much.
const FEW: usize = 4;
/// So many looks that find nothing end the looking first.
const EAGER: u32 = 8;
/// When not looking first, it is tried once in so many waits whether that pays again.
const TRY_EVERY: u32 = 16;

/// What a poll that sleeps costs, in looks.
const SLEEP: u32 = 3;

/// So many are looked at by themselves at most.
const FRESH: usize = 32;

/// How often a file is counted again, if a read crossed that.
const TRIES: usize = 3;

/// Not in the set.
const NOWHERE: u32 = u32::MAX;

/// What belongs to the pollfd of the same position.
struct Watched {
    key: Key,
    watch: Watch,
    /// When it last had news, by the clock.
    stirred: u32,
}

/// A set over poll(2). `fds[i]` belongs to `watched[i]`; for a sleep the sleeper's wake-up descriptor is put behind them:
/// poll(2) registers with none that stands after the first that is ready.
pub struct PollSet {
    table: &'static FdTable,
    fds: Vec<pollfd>,
    watched: Vec<Watched>,
    /// By the key's index: the position in `watched`.
    positions: Vec<u32>,
    hits: Vec<Hit>,
    /// Second questions to the hits of a wait: which hit, and the pollfd that asks.
    asked: Vec<usize>,
    again: Vec<pollfd>,
    waits: u32,
    eagerness: u32,
    /// In looks.
    clock: u32,
    saved: u32,
    /// The last wait looked at everything and found nothing, but was kicked.
    only_kicked: bool,
    /// What was armed since then.
    fresh: Vec<Key>,
}

impl PollSet {
    /// An empty set, with room for so many descriptors: growing to it would leave as much memory behind.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn new(table: &'static FdTable, room: usize) -> Result<Self> {
        let mut set = Self {
            table,
            fds: Vec::new(),
            watched: Vec::new(),
            positions: Vec::new(),
            hits: Vec::new(),
            asked: Vec::new(),
            again: Vec::new(),
            waits: 0,
            eagerness: 0,
            clock: 0,
            saved: 0,
            only_kicked: false,
            fresh: Vec::new(),
        };
        let enough = set.fds.try_reserve_exact(room + 1).is_ok()
            && set.watched.try_reserve_exact(room).is_ok()
            && set.positions.try_reserve_exact(room).is_ok()
            && set.hits.try_reserve_exact(room).is_ok()
            && set.asked.try_reserve_exact(room).is_ok()
            && set.again.try_reserve_exact(room).is_ok()
            && set.fresh.try_reserve_exact(FRESH).is_ok();
        if !enough {
            return Err(Errno::ENOMEM);
        }
        Ok(set)
    }

    /// Whether to look before sleeping. A poll that may sleep puts itself on the wait queue of each descriptor up to the
    /// first that is ready, at three times the price of a look (170 against 50 ns a descriptor); so while looks mostly
    /// find something, they come first.
    fn looks_first(&self) -> bool {
        self.watched.len() >= FEW && (self.eagerness > 0 || self.waits.is_multiple_of(TRY_EVERY))
    }

    fn position(&self, key: Key) -> Option<usize> {
        let position = *self.positions.get(key.index as usize)?;
        (position != NOWHERE).then_some(position as usize)
    }

    /// A kick that ended a sleep over all others mostly hands over a few that a watcher saw stirring: they are looked at
    /// alone. The number found.
    fn look_at_fresh(&mut self) -> Result<usize> {
        let Self { positions, fds, fresh, again, .. } = self;
        again.clear();
        fresh.retain(|key| {
            let position = positions.get(key.index as usize).filter(|&&place| place != NOWHERE);
            position.is_some_and(|&place| {
                again.push(fds[place as usize]);
                true
            })
        });
        let found = sys::look(again)?;
        for (key, polled) in fresh.iter().zip(again) {
            fds[positions[key.index as usize] as usize].revents = polled.revents;
        }
        Ok(found)
    }

    /// Sleeps over all of them. Gives how many have news, and whether the sleeper was kicked.
    fn sleep(&mut self, sleeper: &Sleeper, sleep: &mut Sleep) -> Result<(usize, bool)> {
        // Alone in its process a thread is only kicked by its own signal handlers, which end the sleep anyway.
        let wake_fd = if sys::is_single_threaded() { -1 } else { sleeper.wake_fd() };
        self.fds.push(pollfd { fd: wake_fd, events: libc::POLLIN, revents: 0 });
        let found = sys::sleep(&mut self.fds, sleep.timeout.as_mut(), sleep.mask.as_ref());
        let kicked = self.fds.pop().is_some_and(|wake| wake.revents != 0);
        Ok((found? - usize::from(kicked), kicked))
    }

    /// Turns what poll reported into hits, each asked for the rest of its state where the poll did not cover it.
    fn collect(&mut self, mut found: usize) {
        self.asked.clear();
        self.again.clear();
        for (polled, watched) in self.fds.iter().zip(&mut self.watched) {
            if found == 0 {
                break;
            }
            if polled.revents == 0 {
                continue;
            }
            found -= 1;
            let silence =
                self.clock.wrapping_sub(std::mem::replace(&mut watched.stirred, self.clock));
            self.saved = self.saved.saturating_add(patience::saving(silence));
            let watch = &watched.watch;
            let open = polled.revents & libc::POLLNVAL == 0;
            // Before the state is asked for: what comes in between is in the report, and counted as growth later. The
            // other way round it would be neither.
            let racing = self.table.home(watch.fd).is_some_and(|home| home.peek().is_in_call());
            let ask = open && (watch.backlog || racing);
            let backlog = if ask { backlog(self.table, watch.fd, watch.kind) } else { None };
            if open && watch.whole != watch.mask {
                self.asked.push(self.hits.len());
                self.again.push(pollfd {
                    fd: polled.fd,
                    events: Events::from(watch.whole).to_poll(),
                    revents: 0,
                });
            }
            let levels = open.then(|| Events::from_poll(polled.revents));
            self.hits.push(Hit { key: watched.key, levels, backlog, racing });
        }
        if self.again.is_empty() {
            return;
        }
        // Only memory can be short here; the bits of the first poll are true all the same.
        if sys::look(&mut self.again).is_err() {
            return;
        }
        for (&hit, polled) in self.asked.iter().zip(&self.again) {
            let open = polled.revents & libc::POLLNVAL == 0;
            self.hits[hit].levels = open.then(|| Events::from_poll(polled.revents));
        }
    }
}

/// Looks once at descriptors that are in no set of the caller's.
pub fn look(table: &FdTable, watches: &[(Key, Watch)], hits: &mut Vec<Hit>) {
    let asked = |(_, watch): &(Key, Watch)| pollfd {
        fd: watch.fd,
        events: Events::from(watch.whole).to_poll(),
        revents: 0,
    };
    let mut fds: Vec<pollfd> = watches.iter().map(asked).collect();
    if sys::look(&mut fds).is_err() {
        return;
    }
    for (polled, (key, watch)) in fds.iter().zip(watches) {
        if polled.revents != 0 {
            let open = polled.revents & libc::POLLNVAL == 0;
            let levels = open.then(|| Events::from_poll(polled.revents));
            let backlog =
                if open && watch.backlog { backlog(table, watch.fd, watch.kind) } else { None };
            let racing = table.home(watch.fd).is_some_and(|home| home.peek().is_in_call());
            hits.push(Hit { key: *key, levels, backlog, racing });
        }
    }
}

/// How much is queued in a watched file, and how much the program has read of it so far; and whether the two belong together,
/// for a read may have taken bytes that are not counted yet.
pub fn counted(table: &FdTable, fd: RawFd, kind: Kind) -> Option<(Backlog, bool)> {
    let consumed = match kind {
        // Reading it sets it to 0.
        Kind::Eventfd => 0,
        Kind::Signalfd => return Some((Backlog::Pending(sys::pending_signals()), true)),
        _ => {
            let home = table.home(fd)?;
            let mut tries = 0..TRIES;
            return loop {
                let settled = home.await_reads();
                let consumed = home.consumed();
                let queued = files::queued(fd, kind, table.peer_of(fd))?;
                let same = settled && !home.is_being_read() && home.consumed() == consumed;
                if same || tries.next().is_none() {
                    break Some((Backlog::Queue { queued, consumed }, same));
                }
            };
        }
    };
    let queued = files::queued(fd, kind, table.peer_of(fd))?;
    Some((Backlog::Queue { queued, consumed }, true))
}

/// The same, where nothing better can be done about a read that has lost its processor between taking and counting: what
/// it took will look like what came.
pub fn backlog(table: &FdTable, fd: RawFd, kind: Kind) -> Option<Backlog> {
    counted(table, fd, kind).map(|(backlog, _)| backlog)
}

/// The same, in the way that it was counted before.
pub fn backlog_as(
    then: Option<Backlog>,
    table: &FdTable,
    fd: RawFd,
    kind: Kind,
) -> Option<Backlog> {
    match then {
        Some(Backlog::Arrivals(_)) => arrivals(fd),
        Some(Backlog::Ended { .. }) => ended(fd),
        _ => backlog(table, fd, kind),
    }
}

/// The same, as [`counted`].
pub fn counted_as(
    then: Option<Backlog>,
    table: &FdTable,
    fd: RawFd,
    kind: Kind,
) -> (Option<Backlog>, bool) {
    match then {
        Some(Backlog::Arrivals(_) | Backlog::Ended { .. }) => {
            (backlog_as(then, table, fd, kind), true)
        }
        _ => counted(table, fd, kind).map_or((None, true), |(now, same)| (Some(now), same)),
    }
}

/// What has come over a TCP connection.
pub fn arrivals(fd: RawFd) -> Option<Backlog> {
    sys::tcp_info(fd).ok().map(|info| Backlog::Arrivals(info.arrivals))
}

/// How far the end of a TCP connection has come.
pub fn ended(fd: RawFd) -> Option<Backlog> {
    let sys::TcpInfo { state, arrivals, .. } = sys::tcp_info(fd).ok()?;
    Some(Backlog::Ended { state, arrivals })
}

impl Set for PollSet {
    fn reserve(&mut self, key: Key) -> Result<()> {
        let missing = (key.index as usize + 1).saturating_sub(self.positions.len());
        make_room(|| {
            self.fds.try_reserve(2)?;
            self.watched.try_reserve(1)?;
            self.positions.try_reserve(missing)?;
            self.hits.try_reserve(self.watched.len() + 1)?;
            self.asked.try_reserve(self.watched.len() + 1)?;
            self.again.try_reserve(self.watched.len() + 1)
        })?;
        if missing > 0 {
            self.positions.resize(key.index as usize + 1, NOWHERE);
        }
        Ok(())
    }

    fn arm(&mut self, key: Key, watch: Watch) {
        if self.only_kicked && !self.fresh.contains(&key) {
            self.only_kicked = self.fresh.len() < FRESH;
            if self.only_kicked {
                self.fresh.push(key);
            }
        }
        let polled =
            pollfd { fd: watch.fd, events: Events::from(watch.mask).to_poll(), revents: 0 };
        if let Some(position) = self.position(key) {
            self.fds[position] = polled;
            let watched = &mut self.watched[position];
            watched.key = key;
            watched.watch = watch;
            return;
        }
        if self.positions.len() <= key.index as usize {
            self.positions.resize(key.index as usize + 1, NOWHERE);
        }
        self.positions[key.index as usize] = self.watched.len() as u32;
        self.fds.push(polled);
        self.watched.push(Watched { key, watch, stirred: self.clock });
    }

    fn disarm(&mut self, key: Key) {
        let Some(position) = self.position(key) else { return };
        if self.watched[position].key != key {
            return;
        }
        self.positions[key.index as usize] = NOWHERE;
        self.fds.swap_remove(position);
        self.watched.swap_remove(position);
        if let Some(moved) = self.watched.get(position) {
            self.positions[moved.key.index as usize] = position as u32;
        }
    }

    fn wait(&mut self, sleeper: &Sleeper, sleep: &mut Sleep) -> Result<bool> {
        self.waits = self.waits.wrapping_add(1);
        let fresh = std::mem::take(&mut self.only_kicked) && !self.fresh.is_empty();
        if fresh && !sleep.is_over() {
            let found = self.look_at_fresh()?;
            if found > 0 {
                self.fresh.clear();
                self.collect(found);
                return Ok(false);
            }
        }
        self.fresh.clear();
        let mut found = 0;
        if self.looks_first() && !sleep.is_over() {
            self.clock = self.clock.wrapping_add(1);
            found = sys::look(&mut self.fds)?;
            self.eagerness = match found {
                0 => self.eagerness.saturating_sub(1),
                _ => (self.eagerness + 2).min(EAGER),
            };
        }
        let mut kicked = false;
        if found == 0 {
            if sleep.is_over() {
                self.clock = self.clock.wrapping_add(1);
                found = sys::look(&mut self.fds)?;
            } else if sleeper.fall_asleep() {
                self.clock = self.clock.wrapping_add(SLEEP);
                let slept = self.sleep(sleeper, sleep);
                sleeper.stay_awake();
                (found, kicked) = slept?;
            } else {
                return Ok(false);
            }
        }
        self.collect(found);
        self.only_kicked = kicked && self.hits.is_empty();
        Ok(kicked)
    }

    fn take_hits(&mut self) -> Vec<Hit> {
        std::mem::take(&mut self.hits)
    }

    fn recycle(&mut self, mut hits: Vec<Hit>) {
        hits.clear();
        self.hits = hits;
    }

    fn len(&self) -> usize {
        self.watched.len()
    }

    fn clock(&self) -> u32 {
        self.clock
    }

    fn idle(&self, silence: u32) -> Vec<(Key, u32)> {
        let idle = |watched: &&Watched| self.clock.wrapping_sub(watched.stirred) >= silence;
        self.watched.iter().filter(idle).map(|watched| (watched.key, watched.stirred)).collect()
    }

    fn shrink(&mut self) {
        let enough = 2 * self.watched.len() + FEW;
        if self.watched.capacity() > 2 * enough {
            self.fds.shrink_to(enough + 1);
            self.watched.shrink_to(enough);
            self.hits.shrink_to(enough);
            self.asked.shrink_to(enough);
            self.again.shrink_to(enough);
        }
    }

    fn take_saved(&mut self) -> u32 {
        std::mem::take(&mut self.saved)
    }
}
