//! epoll_wait: the way of one event from the file to the program.
//!
//! One thread at a time leads an instance. It takes the hot set along and sleeps on it with the caller's own signal
//! mask, so a wait is one system call and signals are exact. Others that wait meanwhile are followers: they sleep until
//! they are kicked, on a futex if their signal mask stays. Whoever stops leading wakes one follower, which leads then:
//! one event wakes one thread.
//!
//! Nothing is held while sleeping. Threads are woken after unlocking.

use libc::{pollfd, timespec};
use syscalls::Errno;

use crate::backend::{Sleep, poll};
use crate::deliver::{Delivered, Sink};
use crate::engine::Engine;
use crate::instance::{Inner, Instance};
use crate::sleeper::{Sleeper, SleeperId};
use crate::sync::atomic::Ordering;
use crate::sync::hint;
use crate::sys::lock::MutexGuard;
use crate::sys::{self, Result};

/// While somebody sleeps and there is an item that only asking can tell of, it is asked this often.
pub const TICK: timespec = timespec { tv_sec: 0, tv_nsec: 10_000_000 };
/// Where threads share the instance: an item may just have been left alone.
pub const HALF_TICK: timespec = timespec { tv_sec: 0, tv_nsec: TICK.tv_nsec / 2 };

/// How often to see whether the leader's look is over before sleeping behind it: about 5 us.
const LOOK_SPINS: u32 = if cfg!(shuttle) { 2 } else { 256 };

/// One call of epoll_wait on its way.
pub struct Wait<'a, 'b> {
    pub(crate) engine: &'static Engine,
    pub(crate) instance: &'static Instance,
    /// What is left of the time, and the caller's mask.
    pub(crate) sleep: Sleep,
    pub(crate) max: usize,
    pub(crate) sink: &'a mut Sink<'b>,
    /// What the wait ends with when the time is over: a signal came, but ready events go first.
    pub(crate) last_word: Option<Errno>,
    /// The engine's count of cancellations when the caller last looked.
    pub(crate) cancels: u32,
}

impl Wait<'_, '_> {
    /// Waits, and gives the number of events written.
    ///
    /// # Errors
    /// EINTR when a signal handler ran, EFAULT when the first event could not be written, ENOMEM.
    pub fn run(&mut self) -> Result<usize> {
        // Without time to sleep the caller's signals are not let in either.
        if self.sleep.is_over() {
            self.sleep = Sleep::NONE;
        }
        let mut patience = true;
        loop {
            let mut inner = self.instance.inner.lock();
            self.take_over(&mut inner);
            if self.engine.cancels() != self.cancels {
                if !inner.led {
                    hand_over(self.engine, inner);
                }
                return Err(Errno::ECANCELED);
            }
            if !inner.nested.is_empty() {
                // Nobody leads an instance with others in it. Who follows since before there were any observes too.
                hand_over(self.engine, inner);
                return self.observe();
            }
            if inner.led && patience && self.leader(&inner).is_some_and(Sleeper::is_awake_inside) {
                patience = false;
                self.await_look(inner);
                continue;
            }
            if inner.led && self.sleep.is_over() {
                drop(inner);
                return self.observe();
            }
            if !inner.led
                && let Some(delivered) = self.deliver_left_over(&mut inner)
            {
                hand_over(self.engine, inner);
                return delivered;
            }
            if inner.led {
                self.follow(inner)?;
            } else if let Some(count) = self.lead(inner)? {
                return Ok(count);
            }
        }
    }

    /// The leader may be this very thread: interrupted by the signal handler that waits now, or gone from its sleep by
    /// a longjmp. It will find, if it ever returns, that it leads no more.
    fn take_over(&self, inner: &mut Inner) {
        if inner.led && self.leader(inner).is_some_and(Sleeper::is_stranded) {
            inner.led = false;
            inner.leaderships += 1;
        }
    }

    fn leader(&self, inner: &Inner) -> Option<&'static Sleeper> {
        inner.sleeper.and_then(|id| self.engine.sleepers.get(id))
    }

    /// The leader only looks: a few microseconds later it leaves with events, and perhaps leaves some over, or sleeps.
    /// To sleep behind it for that time, and be woken, would cost both more. Should it have lost its processor, nobody
    /// waits for it to get one.
    fn await_look(&self, inner: MutexGuard<'_, Inner>) {
        let Some(leader) = self.leader(&inner) else { return };
        drop(inner);
        for _ in 0..LOOK_SPINS {
            if !leader.is_awake_inside() {
                return;
            }
            hint::spin_loop();
        }
    }

    /// What was found ready before and found no room comes first, without another look at everything.
    fn deliver_left_over(&mut self, inner: &mut Inner) -> Option<Result<usize>> {
        if !inner.may_be_left_over(self.max) {
            return None;
        }
        let sleeper = self.leader(inner)?;
        // Whoever closes one of these waits until the look at them is over. No lock is waited for inside.
        let inside = sleeper.enter();
        let delivered = inner.deliver_left_over(self.engine, self.instance, self.max, self.sink);
        drop(inside);
        match delivered? {
            Delivered { count: 0, fault: true } => Some(Err(Errno::EFAULT)),
            // All were closed at the last moment.
            Delivered { count: 0, .. } => None,
            Delivered { count, .. } => Some(Ok(count)),
        }
    }

    /// Sleeps on the hot set, and delivers what it shows. `None`: nothing yet.
    fn lead(&mut self, mut inner: MutexGuard<'_, Inner>) -> Result<Option<usize>> {
        let (engine, instance) = (self.engine, self.instance);
        let sleeper = match prepare(engine, instance, &mut inner) {
            Ok(sleeper) => sleeper,
            // Who cannot lead must not keep a follower from trying.
            Err(error) => {
                hand_over(engine, inner);
                return Err(error);
            }
        };
        // From here on the program's descriptors are asked and polled; sleeper.rs names the races that this closes.
        sleeper.stay_awake();
        let inside = sleeper.enter();
        // What is said after this load is followed by a kick, for the stretch has begun.
        if instance.attention.load(Ordering::SeqCst) {
            instance.attention.store(false, Ordering::SeqCst);
        }
        inner.take_notices(engine, instance);
        let mut asked = Vec::new();
        inner.take_kept(&mut asked);
        let ticking = inner.resolve_doubts(engine, &mut asked) || sleeper.wake_fd() < 0;
        let tick = if inner.is_shared { HALF_TICK } else { TICK };
        let parked = if self.sleep.is_over() { inner.parked() } else { Vec::new() };
        if !self.sleep.is_over() {
            inner.park_idle(engine, instance);
        }
        let Some(mut set) = inner.set.take() else { return Err(Errno::ENOMEM) };
        inner.led = true;
        inner.leaderships += 1;
        let leadership = inner.leaderships;
        drop(inner);

        let at_once = !asked.is_empty() || instance.wants_attention();
        let mut nap = if at_once { Sleep::NONE } else { nap(&self.sleep, ticking.then_some(tick)) };
        let given = nap.timeout;
        let slept = set.wait(sleeper, &mut nap);
        if !at_once {
            self.sleep.spend(given, nap.timeout);
        }
        let mut hits = set.take_hits();
        hits.append(&mut asked);
        if hits.is_empty() && !parked.is_empty() {
            poll::look(engine.table, &parked, &mut hits);
        }
        drop(inside);
        if matches!(slept, Ok(true)) {
            sleeper.settle();
        }

        let mut inner = instance.inner.lock();
        if inner.leaderships != leadership {
            drop(inner);
            return slept.map(|_| None);
        }
        inner.set = Some(set);
        inner.led = false;
        sleeper.forget_kick();
        let settled = inner.settle(engine);
        // What crossed with a write or a read is asked about. No lock is waited for inside.
        let inside = sleeper.enter();
        let delivered = inner.deliver(engine, instance, &mut hits, self.max, self.sink);
        drop(inside);
        inner.recycle(hits);
        let over = self.sleep.is_over() && !instance.wants_attention();
        let next = match (delivered.count, slept) {
            (0, _) if delivered.fault => Err(Errno::EFAULT),
            // Nothing was found, and the time is over or a signal came.
            (0, Err(Errno::EINTR)) if !self.sleep.is_over() => Err(Errno::EINTR),
            (0, Err(error)) if error != Errno::EINTR => Err(error),
            (0, _) if over => self.last_word.map_or(Ok(Some(0)), Err),
            (0, _) => settled.map(|()| None),
            (count, _) => Ok(Some(count)),
        };
        if !matches!(next, Ok(None)) {
            hand_over(engine, inner);
        }
        next
    }

    /// Sleeps behind the leader, until it is over or this thread is to lead.
    fn follow(&mut self, mut inner: MutexGuard<'_, Inner>) -> Result<()> {
        let engine = self.engine;
        // Before there is a sleeper to give back.
        inner.followers.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        // Only poll swaps the signal mask together with its sleep.
        let futex = self.sleep.mask.is_none();
        let sleepers = &engine.sleepers;
        let id = if futex { sleepers.acquire_bare()? } else { sleepers.acquire()? };
        let Some(sleeper) = sleepers.get(id) else { return Err(Errno::EAGAIN) };
        if futex {
            sleeper.use_futex();
        }
        inner.followers.push_back(id);
        // What one thread has not read yet, another one may be reading.
        inner.habit.break_off();
        inner.is_shared = true;
        drop(inner);

        let slept =
            if futex { self.sleep_on_futex(sleeper) } else { self.sleep_on_eventfd(sleeper) };

        let mut inner = self.instance.inner.lock();
        inner.followers.retain(|&follower| follower != id);
        drop(inner);
        engine.sleepers.release(id);
        if let Err(error) = slept {
            // If it was chosen to lead at the same moment, it must lead once more, to hand over.
            self.last_word = Some(error);
            self.sleep = Sleep::NONE;
        }
        Ok(())
    }

    fn sleep_on_futex(&mut self, sleeper: &Sleeper) -> Result<()> {
        let begin = self.sleep.timeout.map(|_| sys::now());
        let slept = sleeper.sleep_on_futex(self.sleep.timeout);
        if let Some(begin) = begin {
            self.sleep.spend(Some(sys::now()), Some(begin));
        }
        slept
    }

    fn sleep_on_eventfd(&mut self, sleeper: &Sleeper) -> Result<()> {
        let mut nap = nap(&self.sleep, (sleeper.wake_fd() < 0).then_some(TICK));
        let given = nap.timeout;
        let mut set = [pollfd { fd: sleeper.wake_fd(), events: libc::POLLIN, revents: 0 }];
        let slept = sys::sleep(&mut set, nap.timeout.as_mut(), nap.mask.as_ref());
        self.sleep.spend(given, nap.timeout);
        slept.map(|_| ())
    }
}

/// The next stretch of a sleep, which ends at the next tick, if there is one.
pub fn nap(sleep: &Sleep, tick: Option<timespec>) -> Sleep {
    let mut nap = *sleep;
    if let Some(tick) = tick
        && nap.timeout.is_none_or(|left| longer(left, tick))
    {
        nap.timeout = Some(tick);
    }
    nap
}

fn longer(one: timespec, other: timespec) -> bool {
    (one.tv_sec, one.tv_nsec) > (other.tv_sec, other.tv_nsec)
}

/// Whatever a leader needs that may not be had.
fn prepare<'e>(engine: &'e Engine, instance: &Instance, inner: &mut Inner) -> Result<&'e Sleeper> {
    inner.settle(engine)?;
    leader_sleeper(engine, instance, inner)
}

/// The sleeper of whoever leads, kept from leader to leader: its wake-up descriptor stands in the set.
fn leader_sleeper<'e>(
    engine: &'e Engine,
    instance: &Instance,
    inner: &mut Inner,
) -> Result<&'e Sleeper> {
    let id: SleeperId = match inner.sleeper {
        Some(id) => id,
        None => {
            let id = engine.sleepers.acquire()?;
            inner.sleeper = Some(id);
            instance.set_leader(Some(id));
            id
        }
    };
    let sleeper = engine.sleepers.get(id).ok_or(Errno::EAGAIN)?;
    engine.sleepers.equip(sleeper);
    Ok(sleeper)
}

/// The leader leaves: one follower leads from here on.
fn hand_over(engine: &Engine, mut inner: MutexGuard<'_, Inner>) {
    let next = inner.followers.pop_back();
    drop(inner);
    if let Some(next) = next {
        engine.sleepers.kick(next);
    }
}
