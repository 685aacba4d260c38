//! epoll_ctl(2): its checks, in the kernel's order, and the operation.

use std::os::fd::RawFd;

use libc::c_int;
use syscalls::Errno;

use crate::engine::Engine;
use crate::events::{Event, Events};
use crate::fdtable::{Flags, Word};
use crate::files::{self, Kind};
use crate::instance::Instance;
use crate::sync::atomic::Ordering;
use crate::sys::{self, Result};

impl Engine {
    /// epoll_ctl(2). `event` is read from the program's memory already, for every `op` but EPOLL_CTL_DEL.
    ///
    /// # Errors
    /// EBADF, EPERM, EINVAL, ELOOP, EEXIST, ENOENT, ENOMEM, ENOSPC; checked in the kernel's order.
    pub fn ctl(
        &'static self,
        epfd: RawFd,
        op: c_int,
        fd: RawFd,
        event: Option<Event>,
    ) -> Result<()> {
        let Some(held) = self.instance(epfd) else {
            return Err(self.not_an_instance(epfd, Some(fd)));
        };
        let instance = held.instance();
        let word = self.table.word(fd);
        if word.is(Flags::EPOLL)
            && self.table.get(fd).and_then(|entry| entry.slot_of_epoll()) == Some(instance.slot)
        {
            return Err(Errno::EINVAL);
        }
        let known = !word.is(Flags::OURS)
            && (word.is(Flags::WATCHED | Flags::EPOLL) || word.kind() != Kind::Unknown);
        let kind = if known { word.kind() } else { self.target(fd, word)? };
        let event = event.unwrap_or(Event { events: Events::empty(), data: 0 });
        if matches!(op, libc::EPOLL_CTL_ADD | libc::EPOLL_CTL_MOD)
            && event.events.contains(Events::EXCLUSIVE)
        {
            let others = event.events - Events::WITH_EXCLUSIVE;
            if op == libc::EPOLL_CTL_MOD || kind == Kind::Epoll || !others.is_empty() {
                return Err(Errno::EINVAL);
            }
        }
        if op == libc::EPOLL_CTL_DEL && kind == Kind::Epoll && instance.numbers_watched() {
            self.see_child(instance, fd);
        }
        let change = || self.change(instance, op, fd, kind, event);
        let result = if op == libc::EPOLL_CTL_ADD {
            self.nest(instance, fd, kind, change)
        } else {
            change()
        };
        if result == Err(Errno::ENOSPC) {
            // Items of closed files count until somebody looks.
            self.sweep();
            return change();
        }
        result
    }

    /// The operation itself, all arguments checked.
    fn change(
        &self,
        instance: &Instance,
        op: c_int,
        fd: RawFd,
        kind: Kind,
        event: Event,
    ) -> Result<()> {
        let mut inner = instance.inner.lock();
        let file = self.table.word(fd).file();
        let mut found = inner.interest.find(fd, file);
        if found.is_none() {
            // An item of the number's last file, whose close was noticed but not yet looked at.
            inner.take_notices(self, instance);
            found = inner.interest.find(fd, file);
        }
        match (op, found) {
            (libc::EPOLL_CTL_ADD, Some(_)) => return Err(Errno::EEXIST),
            (libc::EPOLL_CTL_ADD, None) => {
                let index = inner.add(self, instance.slot, fd, kind, event)?;
                inner.give_turn(index);
                inner.stir_if_ready(instance, index);
            }
            (libc::EPOLL_CTL_DEL, Some(index)) => {
                if inner.is_nested {
                    // What woke it before counts in the outer instance.
                    inner.apply_signs(self.table, index);
                }
                inner.remove(self, instance.slot, index);
                // Who sleeps on it is not woken: it would find nothing. But who closes it now does not know of observers.
                drop(inner);
                self.sleepers.eject_observers();
                return Ok(());
            }
            (libc::EPOLL_CTL_MOD, Some(index)) => {
                if inner.interest.get(index).is_some_and(|item| item.exclusive) {
                    return Err(Errno::EINVAL);
                }
                inner.modify(self.table, index, event);
                inner.give_turn(index);
                inner.stir_if_ready(instance, index);
            }
            (libc::EPOLL_CTL_DEL | libc::EPOLL_CTL_MOD, None) => return Err(Errno::ENOENT),
            _ => return Err(Errno::EINVAL),
        }
        instance.attention.store(true, Ordering::SeqCst);
        drop(inner);
        instance.alert(self);
        Ok(())
    }

    /// Takes an ADD back.
    pub(crate) fn change_back(&self, instance: &Instance, fd: RawFd) {
        let event = Event { events: Events::empty(), data: 0 };
        let _ = self.change(instance, libc::EPOLL_CTL_DEL, fd, Kind::Other, event);
    }

    /// The kind of a descriptor that nothing is known of yet.
    fn target(&self, fd: RawFd, word: Word) -> Result<Kind> {
        if word.is(Flags::OURS) {
            return Err(Errno::EBADF);
        }
        if fd as usize >= crate::fdtable::CAPACITY {
            sys::check_open(fd)?;
            return Err(Errno::ENOSPC);
        }
        match files::classify(fd)? {
            // Not one of ours, or it would be known: it cannot be watched from here.
            Kind::Epoll => Err(Errno::EPERM),
            kind => Ok(kind),
        }
    }

    /// Why a call on something else than an instance fails.
    pub(crate) fn not_an_instance(&self, epfd: RawFd, target: Option<RawFd>) -> Errno {
        let check = |fd| {
            let hidden = self.table.word(fd).is(Flags::OURS);
            if hidden { Err(Errno::EBADF) } else { sys::check_open(fd) }
        };
        if check(epfd).is_err() {
            return Errno::EBADF;
        }
        match target {
            Some(fd) if check(fd).is_err() => Errno::EBADF,
            Some(fd) if matches!(files::classify(fd), Err(Errno::EPERM)) => Errno::EPERM,
            _ => Errno::EINVAL,
        }
    }
}
