//! Looking at instances from outside: poll(2) on an epoll descriptor, an instance in another one, and a wait that only
//! looks while another thread leads.
//!
//! All of these ask at the call, not what was remembered: the caller polls what the instance's items watch, itself. So
//! nobody has to keep an epoll descriptor's readiness up to date, and no thread is needed (docs/adr/0004). The price is
//! an array that is built for each look, which is why a plain wait does not go this way.

use std::os::fd::RawFd;

use libc::pollfd;
use syscalls::Errno;

use crate::backend::{Hit, Key, Sleep, Watch, poll};
use crate::deliver::{Delivered, Sink};
use crate::engine::Engine;
use crate::events::Events;
use crate::faults::make_room;
use crate::fdtable::{Entry, Flags};
use crate::instance::Instance;
use crate::nest::MAX_NESTS;
use crate::sleeper::Sleeper;
use crate::sys::{self, Result};
use crate::wait::{HALF_TICK, Wait, nap};

/// What an epoll descriptor reports when a wait on it would return something.
const READABLE: Events = Events::IN.union(Events::RDNORM);

/// What to sleep on.
#[derive(Default)]
struct View {
    fds: Vec<pollfd>,
    /// Something in it has to be asked again while asleep.
    ticking: bool,
}

impl Wait<'_, '_> {
    /// Waits by looking: for an instance with others in it, or without sleeping beside a leader.
    pub(crate) fn observe(&mut self) -> Result<usize> {
        let (engine, instance) = (self.engine, self.instance);
        engine.as_observer(|sleeper| {
            loop {
                let delivered = engine.deliver_from(sleeper, instance, self.max, self.sink);
                if delivered.count > 0 {
                    return Ok(delivered.count);
                }
                if delivered.fault {
                    return Err(Errno::EFAULT);
                }
                if self.sleep.is_over() {
                    return self.last_word.map_or(Ok(0), Err);
                }
                let mut view = View::default();
                engine.gather(instance, false, 0, &mut view);
                if engine.cancels() != self.cancels {
                    return Err(Errno::ECANCELED);
                }
                let slept = view.sleep(sleeper, &mut self.sleep);
                self.last_word = sleeper.awake(slept, &mut self.sleep)?;
            }
        })
    }
}

impl Engine {
    /// poll(2) over descriptors of which some are instances.
    ///
    /// # Errors
    /// EINTR, ENOMEM, EINVAL; ECANCELED as [`Engine::wait`].
    pub fn poll(
        &'static self,
        fds: &mut [pollfd],
        sleep: &mut Sleep,
        cancels: u32,
    ) -> Result<usize> {
        let mut last_word = None;
        self.as_observer(|sleeper| {
            loop {
                let count = self.look_at(sleeper, fds)?;
                if count > 0 {
                    return Ok(count);
                }
                if sleep.is_over() {
                    return last_word.map_or(Ok(0), Err);
                }
                let mut view = View::default();
                make_room(|| view.fds.try_reserve(fds.len() + 1))?;
                for polled in fds.iter() {
                    match self.instance(polled.fd) {
                        Some(held) if polled.events & READABLE.to_poll() != 0 => {
                            self.gather(held.instance(), false, 0, &mut view);
                        }
                        Some(_) => {}
                        None => view.fds.push(pollfd { revents: 0, ..*polled }),
                    }
                }
                if self.cancels() != cancels {
                    return Err(Errno::ECANCELED);
                }
                let slept = view.sleep(sleeper, sleep);
                last_word = sleeper.awake(slept, sleep)?;
            }
        })
    }

    /// poll(2) without sleeping.
    fn look_at(&'static self, sleeper: &Sleeper, fds: &mut [pollfd]) -> Result<usize> {
        let mut plain = copied(fds)?;
        for polled in &mut plain {
            let word = self.table.word(polled.fd);
            if word.is(Flags::EPOLL) {
                polled.fd = -1;
            }
        }
        let mut none = Sleep::NONE;
        sys::ppoll(&mut plain, none.timeout.as_mut(), None)?;
        for (polled, plain) in fds.iter_mut().zip(&plain) {
            polled.revents = plain.revents;
            if let Some(held) = self.instance(polled.fd) {
                let ready = self.is_ready(sleeper, held.instance(), 0);
                polled.revents = if ready { polled.events & READABLE.to_poll() } else { 0 };
            }
        }
        Ok(fds.iter().filter(|polled| polled.revents != 0).count())
    }

    /// Whether a wait on an instance would return something now.
    fn is_ready(&'static self, sleeper: &Sleeper, instance: &Instance, depth: usize) -> bool {
        let mut hits = self.look_inside(sleeper, instance, depth);
        instance.inner.lock().would_deliver(self, instance.slot, &mut hits)
    }

    fn deliver_from(
        &'static self,
        sleeper: &Sleeper,
        instance: &Instance,
        max: usize,
        sink: &mut Sink<'_>,
    ) -> Delivered {
        let mut hits = self.look_inside(sleeper, instance, 0);
        instance.inner.lock().deliver(self, instance, &mut hits, max, sink)
    }

    /// Looks once at all items of an instance.
    fn look_inside(
        &'static self,
        sleeper: &Sleeper,
        instance: &Instance,
        depth: usize,
    ) -> Vec<Hit> {
        let mut hits = Vec::new();
        let mut inner = instance.inner.lock();
        // Inside no lock is waited for: its holder may be interrupted by a handler that closes a descriptor, and waits
        // for this sleeper.
        let inside = sleeper.enter();
        inner.take_notices(self, instance);
        inner.resolve_doubts(self, &mut hits);
        let watches: Vec<(Key, Watch)> = inner.watches().collect();
        let nested = inner.nested.clone();
        drop(inner);

        poll::look(self.table, &watches, &mut hits);
        drop(inside);
        for child in nested {
            if depth > MAX_NESTS {
                break;
            }
            hits.extend(self.look_at_child(sleeper, instance, &child, depth));
        }
        hits
    }

    fn look_at_child(
        &'static self,
        sleeper: &Sleeper,
        instance: &Instance,
        child: &Child,
        depth: usize,
    ) -> Option<Hit> {
        let within = self.instance_in(child.slot)?;
        let ready = self.is_ready(sleeper, within, depth + 1);
        let stirs = within.inner.lock().stirs;
        instance.inner.lock().child_seen(child.key, stirs);
        let levels = if ready { READABLE } else { Events::empty() };
        Some(Hit { key: child.key, levels: Some(levels), backlog: None, racing: false })
    }

    /// An instance is about to leave another one, which is itself in one: what stirred in it before counts there.
    pub(crate) fn see_child(&'static self, instance: &Instance, fd: RawFd) {
        let Some(slot) = self.table.get(fd).and_then(Entry::slot_of_epoll) else { return };
        let child = instance.inner.lock().nested.iter().find(|child| child.slot == slot).copied();
        let Some(child) = child else { return };
        // Without a sleeper it is one wake-up less for who waits outside.
        let _ = self.as_observer(|sleeper| {
            self.look_at_child(sleeper, instance, &child, 0);
            Ok(())
        });
    }

    /// Adds to a view what may make an instance ready. `mute`: it was reported as ready, edge-triggered, so what made
    /// it so is left out.
    fn gather(&'static self, instance: &Instance, mute: bool, depth: usize, view: &mut View) {
        let inner = instance.inner.lock();
        view.ticking |= mute || !inner.doubts.is_empty();
        for (key, watch) in inner.watches() {
            if !(mute && inner.interest.is_ready(key.index)) {
                let events = Events::from(watch.mask).to_poll();
                view.fds.push(pollfd { fd: watch.fd, events, revents: 0 });
            }
        }
        let nested: Vec<(u16, bool)> = inner
            .nested
            .iter()
            .filter_map(|child| {
                let trigger = &inner.interest.get(child.key.index)?.trigger;
                let armed = trigger.watch()?.intersects(READABLE);
                Some((child.slot, !armed))
            })
            .collect();
        drop(inner);
        for (slot, muted) in nested {
            if let Some(child) = self.instance_in(slot)
                && depth <= MAX_NESTS
            {
                self.gather(child, mute || muted, depth + 1, view);
            }
        }
    }

    /// Runs with a sleeper that may hold files of any instance.
    fn as_observer<T>(&self, run: impl FnOnce(&Sleeper) -> Result<T>) -> Result<T> {
        let id = self.sleepers.acquire()?;
        let sleeper = self.sleepers.get(id).ok_or(Errno::EAGAIN)?;
        self.sleepers.observe(id);
        let result = run(sleeper);
        self.sleepers.release(id);
        result
    }
}

/// A copy of an array of the program's, which may be larger than the heap's reserve.
///
/// # Errors
/// ENOMEM.
fn copied(fds: &[pollfd]) -> Result<Vec<pollfd>> {
    let mut copy = Vec::new();
    make_room(|| copy.try_reserve_exact(fds.len()))?;
    copy.extend_from_slice(fds);
    Ok(copy)
}

impl View {
    fn sleep(&mut self, sleeper: &Sleeper, sleep: &mut Sleep) -> Result<usize> {
        self.fds.push(pollfd { fd: sleeper.wake_fd(), events: libc::POLLIN, revents: 0 });
        let mut nap = nap(sleep, (self.ticking || sleeper.wake_fd() < 0).then_some(HALF_TICK));
        let given = nap.timeout;
        let _inside = sleeper.enter();
        // Something was closed since the array was made: its number may be another file's by now.
        if sleeper.is_kicked() {
            return Ok(0);
        }
        let slept = sys::sleep(&mut self.fds, nap.timeout.as_mut(), nap.mask.as_ref());
        sleep.spend(given, nap.timeout);
        slept
    }
}

impl Sleeper {
    /// After an observer's sleep: a signal ends the wait, but what is ready goes first, so it is looked for once more.
    fn awake(&self, slept: Result<usize>, sleep: &mut Sleep) -> Result<Option<Errno>> {
        self.settle();
        match slept {
            Ok(_) => Ok(None),
            Err(Errno::EINTR) => {
                *sleep = Sleep::NONE;
                Ok(Some(Errno::EINTR))
            }
            Err(error) => Err(error),
        }
    }
}

/// An instance among the items of another one.
#[derive(Clone, Copy, Debug)]
pub struct Child {
    /// The item.
    pub key: Key,
    /// The instance.
    pub slot: u16,
    /// How often it had stirred when it was last looked at.
    pub stirs: Option<u64>,
}
