//! Those who sleep in poll(2), and how to get them out of it.
//!
//! A thread that sleeps in poll(2) holds every file of its set open: close() by another thread returns, but the peer
//! sees no end-of-file and the port cannot be bound again until that poll ends. So each sleeper shows by its *epoch*
//! whether it is inside (odd) or outside (even) a stretch in which it makes system calls on the program's descriptors,
//! and has a *wake-up eventfd* in its set. [`Sleepers::eject`] kicks it and waits for the epoch to move.
//!
//! The races, each closed by a store that is followed by a load on either side (all sequentially consistent):
//!
//! - a number is closed while its watcher goes to sleep: the closer clears the number's word, then reads the epoch; the
//!   sleeper makes its epoch odd, then looks for what was noticed. One of them sees the other.
//! - a change is made while the leader goes to sleep: the same, with [`Instance::attention`](crate::instance).
//!
//! - a leader is kicked while it only looks, when nothing need be written: the kicker sets `kicked`, then reads `bell`;
//!   the leader hangs its bell up, then reads `kicked` ([`Sleeper::fall_asleep`]). One of them sees the other.
//!
//! A kick is remembered (`kicked`) until the sleeper takes it: however many there are, one write wakes it.

use std::os::fd::RawFd;

use libc::timespec;
use once_cell::race::OnceBox;
use syscalls::Errno;

use crate::fdtable::FdTable;
use crate::hidden;
use crate::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicUsize, Ordering};
use crate::sys;

/// Sleepers are made in chunks, and never freed: who holds an index may look at it at any time.
const CHUNK: usize = if cfg!(shuttle) { 4 } else { 64 };
const CHUNKS: usize = if cfg!(shuttle) { 4 } else { 256 };

/// The index of a sleeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SleeperId(u16);

impl SleeperId {
    /// Where a word keeps a sleeper or none: its index plus one, or 0.
    pub fn to_word(id: Option<Self>) -> u16 {
        id.map_or(0, |id| id.0 + 1)
    }

    /// The sleeper of such a word.
    pub fn from_word(word: u16) -> Option<Self> {
        word.checked_sub(1).map(Self)
    }
}

/// How long a follower without a timeout sleeps at a time. A futex that is waited for without any timeout would be
/// waited for again after handlers with SA_RESTART; with one, any handler ends it.
const FOR_EVER: timespec = timespec { tv_sec: 1 << 30, tv_nsec: 0 };

/// What wakes a sleeper.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Bell {
    /// It sleeps in poll(2), or is about to: a write to its eventfd.
    Eventfd,
    /// It sleeps on `kicked`.
    Futex,
    /// It is awake, and looks at `kicked` before it sleeps.
    None,
}

/// One that sleeps: the leader of an instance, a follower, an observer or a watcher thread.
pub struct Sleeper {
    /// Odd: inside poll(2), or about to be.
    epoch: AtomicU32,
    /// How many wait for the epoch to move.
    ejectors: AtomicU32,
    /// 1: kicked.
    kicked: AtomicU32,
    /// A [`Bell`].
    bell: AtomicU8,
    taken: AtomicBool,
    /// Whether it may hold files of any instance.
    observer: AtomicBool,
    /// -1: none yet.
    wake_fd: AtomicI32,
    /// The thread inside, by its token.
    thread: AtomicUsize,
}

impl Sleeper {
    fn new() -> Self {
        Self {
            epoch: AtomicU32::new(0),
            ejectors: AtomicU32::new(0),
            kicked: AtomicU32::new(0),
            bell: AtomicU8::new(Bell::Eventfd as u8),
            taken: AtomicBool::new(false),
            observer: AtomicBool::new(false),
            wake_fd: AtomicI32::new(-1),
            thread: AtomicUsize::new(0),
        }
    }

    /// Readable when the sleeper was kicked; -1 where no descriptor could be had.
    pub fn wake_fd(&self) -> RawFd {
        self.wake_fd.load(Ordering::SeqCst)
    }

    /// Whether the calling thread was the last to go inside, and never came out.
    pub fn is_stranded(&self) -> bool {
        self.is_inside() && self.thread.load(Ordering::SeqCst) == sys::thread_token()
    }

    /// Whether it was kicked since it last settled.
    pub fn is_kicked(&self) -> bool {
        self.kicked.load(Ordering::SeqCst) != 0
    }

    /// Whether it is in poll(2), or about to be.
    pub fn is_inside(&self) -> bool {
        self.epoch.load(Ordering::SeqCst) & 1 == 1
    }

    /// Wakes it, now or when it next sleeps. Safe in a signal handler.
    pub fn kick(&self) {
        if self.kicked.swap(1, Ordering::SeqCst) == 0 {
            self.ring();
        }
    }

    fn ring(&self) {
        let bell = self.bell.load(Ordering::SeqCst);
        if bell == Bell::Eventfd as u8 {
            sys::eventfd_signal(self.wake_fd());
        } else if bell == Bell::Futex as u8 {
            sys::futex_wake(&self.kicked, 1);
        }
    }

    fn hang(&self, bell: Bell) {
        self.bell.store(bell as u8, Ordering::SeqCst);
    }

    /// It looks around, and will ask [`Sleeper::fall_asleep`] before it sleeps: until then kicks cost nothing.
    pub fn stay_awake(&self) {
        self.bell.store(Bell::None as u8, Ordering::Release);
    }

    /// It is about to sleep in poll(2). False: it was kicked while awake, and must look for what that was about.
    pub fn fall_asleep(&self) -> bool {
        self.hang(Bell::Eventfd);
        if !self.is_kicked() {
            return true;
        }
        self.stay_awake();
        self.kicked.store(0, Ordering::SeqCst);
        false
    }

    /// The leader is back, awake, and holds the instance's lock: what a kick was about is seen by who leads next, for it
    /// looks for that after taking the lock. Left standing, the kick would only cost it a look in vain.
    pub fn forget_kick(&self) {
        if self.is_kicked() {
            self.kicked.store(0, Ordering::SeqCst);
        }
    }

    /// Whether it will be outside soon, for it does not sleep.
    pub fn is_awake_inside(&self) -> bool {
        self.bell.load(Ordering::Acquire) == Bell::None as u8 && self.is_inside()
    }

    /// Sleeps without poll(2), where nothing but a kick is waited for and no signal mask is to be swapped: this needs no
    /// descriptor. The sleeper is the caller's own, and [`Sleeper::use_futex`] was called.
    ///
    /// # Errors
    /// EINTR when a signal handler ran.
    pub fn sleep_on_futex(&self, timeout: Option<timespec>) -> sys::Result<()> {
        sys::sleep_on_futex(&self.kicked, 0, timeout.unwrap_or(FOR_EVER))
    }

    /// From here on kicks wake a sleep on the futex.
    pub fn use_futex(&self) {
        self.hang(Bell::Futex);
    }

    /// Takes the kick back, after the sleep that it ended, and before the caller looks for what it was about. A kicker
    /// that finds the flag still set need not write, for that look comes after; one that has set it and writes late
    /// ends the next sleep for nothing, which does no harm.
    pub fn settle(&self) {
        sys::eventfd_reset(self.wake_fd());
        self.kicked.store(0, Ordering::SeqCst);
    }

    /// Opens a stretch in which the caller uses descriptors of the program.
    pub fn enter(&self) -> Inside<'_> {
        // Read after an odd epoch, which is stored after it.
        self.thread.store(sys::thread_token(), Ordering::Release);
        // The next odd number: it is odd already when this thread's last stretch was left by a longjmp, or is
        // interrupted by the signal handler that waits here. Nobody else writes it.
        let epoch = self.epoch.load(Ordering::SeqCst);
        self.epoch.store((epoch + 1) | 1, Ordering::SeqCst);
        Inside(self)
    }

    fn leave(&self) {
        // The next even number, unless a stretch within this one has left for both.
        let epoch = self.epoch.load(Ordering::SeqCst);
        self.epoch.store(epoch.next_multiple_of(2), Ordering::SeqCst);
        if self.ejectors.load(Ordering::SeqCst) != 0 {
            sys::futex_wake(&self.epoch, i32::MAX);
        }
    }

    /// Returns when it is outside, kicking it out if need be.
    fn eject(&self) {
        let epoch = self.epoch.load(Ordering::SeqCst);
        // A signal handler that closes a descriptor may have interrupted this very thread's poll: it has left it.
        if epoch & 1 == 0 || self.thread.load(Ordering::SeqCst) == sys::thread_token() {
            return;
        }
        self.ejectors.fetch_add(1, Ordering::SeqCst);
        // Also after another's kick: it may be this very thread's, interrupted before it rang by the handler that closes.
        self.kicked.store(1, Ordering::SeqCst);
        self.ring();
        while self.epoch.load(Ordering::SeqCst) == epoch {
            sys::futex_wait(&self.epoch, epoch);
        }
        self.ejectors.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The stretch that [`Sleeper::enter`] opened; it ends by dropping.
pub struct Inside<'a>(&'a Sleeper);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// All sleepers of an engine.
pub struct Sleepers {
    table: &'static FdTable,
    chunks: Box<[OnceBox<[Sleeper; CHUNK]>; CHUNKS]>,
    /// One past the highest index in use so far.
    high: AtomicU32,
    observers: AtomicU32,
}

impl Sleepers {
    pub(crate) fn new(table: &'static FdTable) -> Self {
        Self {
            table,
            chunks: Box::new([const { OnceBox::new() }; CHUNKS]),
            high: AtomicU32::new(0),
            observers: AtomicU32::new(0),
        }
    }

    /// The sleeper of an index.
    pub fn get(&self, id: SleeperId) -> Option<&Sleeper> {
        let index = usize::from(id.0);
        self.chunks.get(index / CHUNK)?.get()?.get(index % CHUNK)
    }

    /// Gives a sleeper its wake-up descriptor, if it has none and one can be had. Without, it cannot be kicked: it must
    /// look around by itself (and who ejects it waits for that).
    pub fn equip(&self, sleeper: &Sleeper) {
        if sleeper.wake_fd() < 0
            && let Ok(fd) = hidden::eventfd(self.table)
        {
            sleeper.wake_fd.store(fd, Ordering::SeqCst);
        }
    }

    /// A sleeper of the caller's own, with a wake-up descriptor if one can be had.
    ///
    /// # Errors
    /// EAGAIN when 16,384 sleep already.
    pub fn acquire(&self) -> sys::Result<SleeperId> {
        let id = self.acquire_bare()?;
        if let Some(sleeper) = self.get(id) {
            self.equip(sleeper);
            // A kick that was meant for who had it before, and came when nothing was written for it: who finds it standing
            // will not write either.
            if sleeper.is_kicked() {
                sys::eventfd_signal(sleeper.wake_fd());
            }
        }
        Ok(id)
    }

    /// A sleeper of the caller's own, for [`Sleeper::sleep_on_futex`].
    ///
    /// # Errors
    /// EAGAIN when 16,384 sleep already.
    pub fn acquire_bare(&self) -> sys::Result<SleeperId> {
        for index in 0..(CHUNKS * CHUNK) {
            let chunk = &self.chunks[index / CHUNK];
            let sleepers = chunk.get_or_init(|| Box::new(std::array::from_fn(|_| Sleeper::new())));
            let sleeper = &sleepers[index % CHUNK];
            if sleeper.taken.load(Ordering::Relaxed) || sleeper.taken.swap(true, Ordering::SeqCst) {
                continue;
            }
            self.high.fetch_max(index as u32 + 1, Ordering::SeqCst);
            return Ok(SleeperId(index as u16));
        }
        Err(Errno::EAGAIN)
    }

    /// Gives a sleeper back; its descriptor stays with it for the next one.
    pub fn release(&self, id: SleeperId) {
        let Some(sleeper) = self.get(id) else { return };
        if sleeper.bell.load(Ordering::SeqCst) == Bell::Eventfd as u8 {
            if sleeper.is_kicked() {
                sleeper.settle();
            }
        } else {
            sleeper.hang(Bell::Eventfd);
            sleeper.kicked.store(0, Ordering::SeqCst);
        }
        if sleeper.observer.swap(false, Ordering::SeqCst) {
            self.observers.fetch_sub(1, Ordering::SeqCst);
        }
        sleeper.taken.store(false, Ordering::SeqCst);
    }

    /// Marks a sleeper as one that may hold files of any instance.
    pub fn observe(&self, id: SleeperId) {
        let Some(sleeper) = self.get(id) else { return };
        if !sleeper.observer.swap(true, Ordering::SeqCst) {
            self.observers.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Wakes a sleeper.
    pub fn kick(&self, id: SleeperId) {
        if let Some(sleeper) = self.get(id) {
            sleeper.kick();
        }
    }

    /// Wakes a sleeper if it is inside. What it must know has been stored before.
    pub fn kick_inside(&self, id: SleeperId) {
        if let Some(sleeper) = self.get(id)
            && sleeper.is_inside()
        {
            sleeper.kick();
        }
    }

    /// Returns when the sleeper holds no file that was closed before the call.
    pub fn eject(&self, id: SleeperId) {
        if let Some(sleeper) = self.get(id) {
            sleeper.eject();
        }
    }

    fn all(&self) -> impl Iterator<Item = &Sleeper> {
        (0..self.high.load(Ordering::SeqCst)).filter_map(|index| self.get(SleeperId(index as u16)))
    }

    /// Wakes all who sleep over several instances.
    pub fn kick_observers(&self) {
        if self.observers.load(Ordering::SeqCst) != 0 {
            let observes = |sleeper: &&Sleeper| sleeper.observer.load(Ordering::SeqCst);
            self.all().filter(observes).for_each(Sleeper::kick);
        }
    }

    /// Ejects all who sleep over several instances.
    pub fn eject_observers(&self) {
        if self.observers.load(Ordering::SeqCst) != 0 {
            let observes = |sleeper: &&Sleeper| sleeper.observer.load(Ordering::SeqCst);
            self.all().filter(observes).for_each(|sleeper| {
                // It may have made its array and not gone inside yet: then it finds the kick there.
                sleeper.kick();
                sleeper.eject();
            });
        }
    }

    /// Wakes everybody: a thread among them may have been cancelled.
    pub fn kick_all(&self) {
        let taken = |sleeper: &&Sleeper| sleeper.taken.load(Ordering::SeqCst);
        self.all().filter(taken).for_each(Sleeper::kick);
    }

    /// Ejects everybody.
    pub fn eject_all(&self) {
        self.all().for_each(Sleeper::eject);
    }

    /// The program takes the number of a wake-up descriptor: the file goes on by another one. Who sleeps on it sleeps
    /// on the file.
    pub(crate) fn move_wake_fd(&self, fd: RawFd) {
        let Some(sleeper) = self.all().find(|sleeper| sleeper.wake_fd() == fd) else { return };
        let moved = hidden::duplicate(self.table, fd).unwrap_or(-1);
        sleeper.wake_fd.store(moved, Ordering::SeqCst);
        sleeper.kick();
        hidden::forget(self.table, fd);
    }

    /// In a child of fork: the other threads are not here, and the wake-up descriptors are the parent's open files.
    pub(crate) fn after_fork(&self) {
        for sleeper in self.all() {
            let fd = sleeper.wake_fd.swap(-1, Ordering::SeqCst);
            if fd >= 0 {
                hidden::close(self.table, fd);
            }
            sleeper.kicked.store(0, Ordering::SeqCst);
            sleeper.hang(Bell::Eventfd);
            sleeper.ejectors.store(0, Ordering::SeqCst);
            sleeper.observer.store(false, Ordering::SeqCst);
            // A handler that forked out of its own poll goes back there and leaves it in good order.
            let here = sleeper.thread.load(Ordering::SeqCst) == sys::thread_token();
            if !(sleeper.is_inside() && here) {
                let epoch = sleeper.epoch.load(Ordering::SeqCst);
                sleeper.epoch.store(epoch.next_multiple_of(2), Ordering::SeqCst);
                sleeper.taken.store(false, Ordering::SeqCst);
            }
        }
        self.observers.store(0, Ordering::SeqCst);
    }
}
