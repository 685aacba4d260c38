//! The engine: all instances of a process, and what the hooks ask of it.

use std::os::fd::RawFd;

use libc::c_int;
use once_cell::race::OnceBox;
use syscalls::Errno;

use crate::backend::poll::PollSet;
use crate::backend::{Set, Sleep};
use crate::deliver::Sink;
use crate::evidence::{self, Of};
use crate::faults::make_room;
use crate::fdtable::{Entry, FdTable, Flags, Holder, Signs};
use crate::files::Kind;
use crate::instance::Instance;
use crate::sleeper::Sleepers;
use crate::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use crate::sys::lock::{Mutex, hold_before_fork, release_after_fork, release_in_child};
use crate::sys::quiet::Quiet;
use crate::sys::{self, Result};
use crate::wait::Wait;
use crate::watchers::{NoWatchers, Watchers};

/// Instances that a process can have at a time.
pub const MAX_INSTANCES: usize = if cfg!(shuttle) { 4 } else { 8192 };

/// `epoll_wait` accepts arrays of up to this many events: INT_MAX bytes.
pub const MAX_EVENTS: c_int = c_int::MAX / 12;

/// What the kernel allows where /proc/sys/fs/epoll/max_user_watches is absent and nobody said otherwise.
pub const DEFAULT_MAX_WATCHES: usize = 1 << 20;

/// All instances of a process.
pub struct Engine {
    pub(crate) table: &'static FdTable,
    pub(crate) sleepers: Sleepers,
    instances: Box<[OnceBox<Instance>]>,
    registry: Mutex<Registry>,
    /// Serialises what looks at the nesting of instances: taken before any instance's lock.
    pub(crate) nesting: Mutex<()>,
    watches: AtomicUsize,
    max_watches: usize,
    is_exhausted: fn() -> bool,
    crowdings: AtomicU32,
    pub(crate) watchers: Watchers,
    /// Who this process is: a vfork child shares all this memory, and must change nothing.
    pid: AtomicU32,
    cancels: AtomicU32,
}

/// Which slots are in use.
#[derive(Default)]
struct Registry {
    free: Vec<u16>,
    live: Vec<u16>,
    next: u16,
}

/// A call's hold on an instance: it is not used anew before all have let go.
pub struct Use(&'static Instance);

impl std::ops::Deref for Use {
    type Target = Instance;
    fn deref(&self) -> &Instance {
        self.0
    }
}

impl Use {
    pub(crate) fn instance(&self) -> &'static Instance {
        self.0
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Instance {
    /// A call, or a watcher, is done with it. After a fork the counts of threads that are not here are gone: it stays
    /// at 0.
    pub fn leave(&self) {
        let less = |users: u32| users.checked_sub(1);
        let _ = self.users.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
    }
}

impl Engine {
    /// An engine over a table of descriptors. `max_watches` stands in for the kernel's limit where that cannot be read;
    /// `is_exhausted` says whether the heap goes on with its last reserve, so that nothing new may be begun.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn new(
        table: &'static FdTable,
        max_watches: Option<usize>,
        is_exhausted: fn() -> bool,
    ) -> Result<Self> {
        let mut instances = Vec::new();
        make_room(|| instances.try_reserve_exact(MAX_INSTANCES))?;
        instances.resize_with(MAX_INSTANCES, OnceBox::new);
        sys::learn_of_threads();
        sys::learn_of_clock();
        Ok(Self {
            table,
            sleepers: Sleepers::new(table),
            instances: instances.into_boxed_slice(),
            registry: Mutex::new(Registry::default()),
            nesting: Mutex::new(()),
            watches: AtomicUsize::new(0),
            max_watches: kernel_max_watches().or(max_watches).unwrap_or(DEFAULT_MAX_WATCHES),
            is_exhausted,
            crowdings: AtomicU32::new(0),
            watchers: Watchers::default(),
            pid: AtomicU32::new(sys::getpid()),
            cancels: AtomicU32::new(0),
        })
    }

    /// epoll_create1(2). `flags` may hold EPOLL_CLOEXEC.
    ///
    /// # Errors
    /// EINVAL for other flags, EMFILE, ENFILE, ENOMEM.
    pub fn create(&self, flags: c_int) -> Result<RawFd> {
        if flags & !libc::EPOLL_CLOEXEC != 0 {
            return Err(Errno::EINVAL);
        }
        self.check_memory()?;
        let mut registry = self.registry.lock();
        self.reap(&mut registry);
        make_room(|| registry.live.try_reserve(1))?;
        make_room(|| registry.free.try_reserve(MAX_INSTANCES))?;
        let slot = match registry.free.last() {
            Some(&slot) => slot,
            None if usize::from(registry.next) < MAX_INSTANCES => registry.next,
            None => return Err(Errno::EMFILE),
        };
        let instance = self.slot(slot)?;
        let cloexec = if flags == 0 { 0 } else { libc::EFD_CLOEXEC };
        let epfd = sys::eventfd(cloexec)?;
        let Some(entry) = self.table.get(epfd) else {
            sys::close(epfd);
            return Err(Errno::EMFILE);
        };
        self.table.opened(epfd, Kind::Epoll);
        instance.closed.store(false, Ordering::SeqCst);
        instance.numbers.store(1, Ordering::SeqCst);
        entry.set_slot_of_epoll(slot);
        let file = self.table.new_file();
        entry.update(|word| Some(word.with(Flags::EPOLL).with_file(file)));
        if registry.free.pop().is_none() {
            registry.next += 1;
        }
        registry.live.push(slot);
        Ok(epfd)
    }

    /// The instance of a slot, made now if it is the slot's first.
    fn slot(&self, slot: u16) -> Result<&Instance> {
        let place = &self.instances[usize::from(slot)];
        if place.get().is_none() {
            let mut room: Vec<Instance> = Vec::new();
            make_room(|| room.try_reserve_exact(1))?;
            drop(room);
            let _ = place.set(Box::new(Instance::new(slot)));
        }
        place.get().ok_or(Errno::ENOMEM)
    }

    /// Makes slots of closed instances free. Not done by close itself, which may run in a signal handler.
    fn reap(&self, registry: &mut Registry) {
        let mut live = std::mem::take(&mut registry.live);
        live.retain(|&slot| {
            let Some(instance) = self.instance_in(slot) else { return false };
            let done = instance.closed.load(Ordering::SeqCst);
            if done {
                instance.inner.lock().shards.retire_all(self);
            }
            if !done || instance.users.load(Ordering::SeqCst) != 0 {
                return true;
            }
            instance.inner.lock().clear(self, instance);
            registry.free.push(slot);
            false
        });
        registry.live = live;
    }

    /// Looks at everything that was noticed and not yet looked at.
    pub(crate) fn sweep(&self) {
        let mut registry = self.registry.lock();
        self.reap(&mut registry);
        for instance in registry.live.iter().filter_map(|&slot| self.instance_in(slot)) {
            instance.inner.lock().take_notices(self, instance);
        }
    }

    /// The instance in a slot, live or not.
    pub(crate) fn instance_in(&self, slot: u16) -> Option<&Instance> {
        self.instances.get(usize::from(slot))?.get()
    }

    /// The instance that a number stands for.
    pub fn instance(&'static self, epfd: RawFd) -> Option<Use> {
        let entry = self.table.get(epfd)?;
        let instance = self.instance_in(entry.slot_of_epoll()?)?;
        instance.users.fetch_add(1, Ordering::SeqCst);
        let held = Use(instance);
        // Closed, and perhaps reaped, between the look and the count: the number says so.
        (entry.slot_of_epoll() == Some(instance.slot)).then_some(held)
    }

    /// epoll_pwait2(2), and with other timeouts its older sisters. `in_reach` says whether the program's array lies in
    /// the address space; `sink` writes to it.
    ///
    /// # Errors
    /// EBADF, EINVAL, EFAULT, EINTR, ENOMEM; checked in the kernel's order. ECANCELED when [`Engine::cancelled`] was
    /// called since [`Engine::cancels`] gave `cancels`: the call may be made again with what is left in `sleep`.
    pub fn wait(
        &'static self,
        epfd: RawFd,
        max: c_int,
        sleep: &mut Sleep,
        in_reach: bool,
        sink: &mut Sink<'_>,
        cancels: u32,
    ) -> Result<usize> {
        let held = self.instance(epfd);
        if held.is_none() && self.not_an_instance(epfd, None) == Errno::EBADF {
            return Err(Errno::EBADF);
        }
        if !(1..=MAX_EVENTS).contains(&max) {
            return Err(Errno::EINVAL);
        }
        if !in_reach {
            return Err(Errno::EFAULT);
        }
        let held = held.ok_or(Errno::EINVAL)?;
        let instance = held.instance();
        let max = max as usize;
        let mut wait =
            Wait { engine: self, instance, sleep: *sleep, max, sink, last_word: None, cancels };
        let result = wait.run();
        *sleep = wait.sleep;
        result
    }

    /// How often threads were cancelled: read before the caller looks whether it was one of them.
    pub fn cancels(&self) -> u32 {
        self.cancels.load(Ordering::SeqCst)
    }

    /// A thread was cancelled: those that wait leave the engine with ECANCELED, to see whether it was them. Unwinding
    /// out of the middle of the engine would leave it in no good order.
    pub fn cancelled(&self) {
        self.cancels.fetch_add(1, Ordering::SeqCst);
        self.sleepers.kick_all();
    }

    /// A number is about to be closed, by this process and not by a vfork child. Returns when nobody in the library
    /// holds its file any more. Safe in a signal handler.
    ///
    /// # Errors
    /// EBADF when it is a descriptor of the library, which the program does not have.
    pub fn closing(&self, fd: RawFd) -> Result<()> {
        let Some(entry) = self.table.get(fd) else { return Ok(()) };
        let word = entry.word();
        if word.is(Flags::OURS) {
            return Err(Errno::EBADF);
        }
        if !word.is(Flags::WATCHED | Flags::EPOLL | Flags::HELD | Flags::DUPED) {
            self.table.close(fd);
            return Ok(());
        }
        if self.is_foreign() {
            return Ok(());
        }
        let slot = entry.slot_of_epoll();
        let (old, heir) = self.table.close(fd);
        let watcher = entry.set_watcher(None);
        if let Some(instance) = slot.and_then(|slot| self.instance_in(slot))
            && instance.numbers.fetch_sub(1, Ordering::SeqCst) == 1
        {
            instance.closed.store(true, Ordering::SeqCst);
            // Its watchers end. Where the lock is taken, they end when the slot is used again. No handler may find it taken
            // by the thread that it interrupts.
            let _quiet = Quiet::enter();
            if let Some(inner) = instance.inner.try_lock() {
                inner.shards.kick(self);
            }
        }
        let holder = old.holder();
        if holder == Holder::SEVERAL {
            self.registered_instances()
                .for_each(|instance| instance.attention.store(true, Ordering::SeqCst));
            self.crowd();
            self.sleepers.eject_all();
        } else if let Some(instance) = holder.as_slot().and_then(|slot| self.instance_in(slot)) {
            instance.notices.push_closed(self.table, fd);
            // What was noticed of the file and not yet taken is the heir's now.
            if let Some(heir) = heir {
                // The heir's number may stand in another instance's stack, from a file that had it before.
                if self.table.get(heir).is_some_and(Entry::is_noticed) {
                    self.crowd();
                }
                instance.notices.push(self.table, heir);
            }
            if old.is(Flags::HELD) {
                if let Some(leader) = instance.leader() {
                    self.sleepers.eject(leader);
                }
                if let Some(watcher) = watcher {
                    self.sleepers.eject(watcher);
                }
            }
            // They hold what is in no set, too.
            self.sleepers.eject_observers();
        }
        Ok(())
    }

    /// The program wants a number of the library's own for itself: the descriptor moves to another one.
    pub fn give_up(&self, fd: RawFd) {
        self.sleepers.move_wake_fd(fd);
    }

    /// `new` became a duplicate of `old`; what `new` was before has been told to [`Engine::closing`].
    pub fn duplicated(&self, old: RawFd, new: RawFd) {
        if self.is_foreign() || old == new {
            return;
        }
        let slot = self.table.get(old).and_then(|entry| entry.slot_of_epoll());
        if let Some(instance) = slot.and_then(|slot| self.instance_in(slot)) {
            instance.numbers.fetch_add(1, Ordering::SeqCst);
        }
        self.table.duplicated(old, new);
    }

    /// A read, write or the like of the program has shown something of a descriptor.
    pub fn sign(&self, fd: RawFd, signs: Signs) {
        evidence::notice(self, fd, signs, Of::Event);
    }

    /// The same, by a call whose beginning was told ([`Entry::call_begins`](crate::fdtable::Entry)) and that ends now.
    pub fn sign_of_call(&self, fd: RawFd, signs: Signs) {
        evidence::notice(self, fd, signs, Of::Call);
    }

    /// The program wrote to the other end of a watched descriptor, or to it itself: a call whose beginning was told.
    pub fn written(&self, fd: RawFd) {
        evidence::written(self, fd);
    }

    /// Ends all watchers, and starts none until what this gives is dropped. What was parked is hot.
    pub fn end_watchers(&'static self) -> NoWatchers {
        let none = self.watchers.hold_off();
        if self.watchers.any() {
            for instance in self.registered_instances() {
                instance.inner.lock().end_watchers(self);
            }
        }
        self.watchers.await_end();
        none
    }

    /// Whether this is a vfork child in its parent's memory.
    fn is_foreign(&self) -> bool {
        sys::getpid() != self.pid.load(Ordering::SeqCst)
    }

    pub(crate) fn new_set(&self, room: usize) -> Result<Box<dyn Set>> {
        Ok(Box::new(PollSet::new(self.table, room)?))
    }

    /// Whether something new may take memory. What is there already goes on with the heap's reserve.
    ///
    /// # Errors
    /// ENOMEM.
    pub(crate) fn check_memory(&self) -> Result<()> {
        if (self.is_exhausted)() { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    pub(crate) fn count_watch(&self) -> Result<()> {
        if self.watches.fetch_add(1, Ordering::SeqCst) >= self.max_watches {
            self.uncount_watch();
            return Err(Errno::ENOSPC);
        }
        Ok(())
    }

    pub(crate) fn uncount_watch(&self) {
        self.watches.fetch_sub(1, Ordering::SeqCst);
    }

    pub(crate) fn any_dup(&self) -> bool {
        self.table.any_dup()
    }

    /// Some number has come to be watched by several instances: each looks for such items anew.
    pub(crate) fn crowd(&self) {
        self.crowdings.fetch_add(1, Ordering::SeqCst);
        self.alert_all();
    }

    pub(crate) fn crowdings(&self) -> u32 {
        self.crowdings.load(Ordering::SeqCst)
    }

    /// All instances that slots were ever made for.
    pub(crate) fn registered_instances(&self) -> impl Iterator<Item = &Instance> {
        self.instances.iter().map_while(|place| place.get())
    }

    /// Every leader that sleeps is to look around.
    pub(crate) fn alert_all(&self) {
        for instance in self.registered_instances() {
            instance.attention.store(true, Ordering::SeqCst);
            instance.alert(self);
        }
    }

    /// Before fork: everything at rest.
    pub fn before_fork(&self) {
        hold_before_fork(&self.registry);
        hold_before_fork(&self.nesting);
        for instance in self.registered_instances() {
            // Not the letters of its watchers: in the child nobody reads or writes those.
            hold_before_fork(&instance.inner);
        }
        self.watchers.before_fork();
    }

    /// After fork, in the parent.
    pub fn after_fork_in_parent(&self) {
        self.table.share_private();
        self.watchers.release_after_fork();
        for instance in self.registered_instances() {
            release_after_fork(&instance.inner);
        }
        release_after_fork(&self.nesting);
        release_after_fork(&self.registry);
    }

    /// After fork, in the child: other threads, and what they had in hand, are not here. Safe as a fork handler: no
    /// allocation.
    pub fn after_fork_in_child(&self) {
        self.pid.store(sys::getpid(), Ordering::SeqCst);
        self.table.share_private();
        self.sleepers.after_fork();
        self.watchers.after_fork();
        release_in_child(&self.nesting);
        release_in_child(&self.registry);
        // A thread that is not here may have claimed a number's link, and not put it on its stack: it never will, nor may anybody
        // else. Such items are looked at with each wait.
        self.crowdings.fetch_add(1, Ordering::SeqCst);
        for instance in self.registered_instances() {
            let lent = release_in_child(&instance.inner);
            let mut inner = instance.inner.lock();
            if lent {
                // A handler was in the middle of a change, and is not here. What it left cannot be trusted, nor freed.
                std::mem::forget(std::mem::take(&mut *inner));
            }
            inner.after_fork(instance);
            instance.users.store(0, Ordering::SeqCst);
        }
    }
}

/// The kernel's limit on watches.
fn kernel_max_watches() -> Option<usize> {
    let mut text = [0u8; 32];
    let len = sys::read_file(c"/proc/sys/fs/epoll/max_user_watches", &mut text).ok()?;
    std::str::from_utf8(&text[..len]).ok()?.trim().parse().ok()
}
