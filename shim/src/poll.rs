//! poll(2) and its kin on epoll descriptors: readable exactly when a wait would return something.

use libc::{c_int, nfds_t, pollfd, sigset_t, size_t, timespec};
use uepoll::Errno;
use uepoll::backend::Sleep;
use uepoll::faults::make_room;
use uepoll::fdtable::Flags;

use crate::epoll::{milliseconds, read_mask, read_timeout};
use crate::errno::{self, answer, fail};
use crate::hook::{hooks, real};
use crate::{TABLE, cancel, engine, memory};

hooks! {
    /// poll(2)
    fn poll(fds: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int {
        if !has_instance(fds, count) {
            return real!(poll(fds, count, timeout));
        }
        observe(fds, count, Sleep { timeout: milliseconds(timeout), mask: None })
    }

    /// poll(2), as fortified programs call it.
    fn __poll_chk(fds: *mut pollfd, count: nfds_t, timeout: c_int, room: size_t) -> c_int {
        if !has_instance(fds, count) {
            return real!(__poll_chk(fds, count, timeout, room));
        }
        observe(fds, count, Sleep { timeout: milliseconds(timeout), mask: None })
    }

    /// ppoll(2)
    fn ppoll(fds: *mut pollfd, count: nfds_t, timeout: *const timespec, mask: *const sigset_t) -> c_int {
        if !has_instance(fds, count) {
            return real!(ppoll(fds, count, timeout, mask));
        }
        ppoll_instances(fds, count, timeout, mask)
    }

    /// ppoll(2), as fortified programs call it.
    fn __ppoll_chk(
        fds: *mut pollfd, count: nfds_t, timeout: *const timespec, mask: *const sigset_t, room: size_t,
    ) -> c_int {
        if !has_instance(fds, count) {
            return real!(__ppoll_chk(fds, count, timeout, mask, room));
        }
        ppoll_instances(fds, count, timeout, mask)
    }
}

/// Whether one of the descriptors is an instance. Without an engine there is none, and nothing is looked at.
pub fn has_instance(fds: *const pollfd, count: nfds_t) -> bool {
    let count = count as usize;
    if engine().is_none() || count > uepoll::fdtable::CAPACITY {
        return false;
    }
    if !memory::readable(fds, count * size_of::<pollfd>()) {
        return false;
    }
    (0..count).any(|index| {
        // SAFETY: readable, of any alignment.
        let polled = unsafe { fds.add(index).read_unaligned() };
        TABLE.word(polled.fd).is(Flags::EPOLL)
    })
}

fn ppoll_instances(
    fds: *mut pollfd,
    count: nfds_t,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    let sleep =
        read_timeout(timeout).and_then(|timeout| Ok(Sleep { timeout, mask: read_mask(mask, 8)? }));
    match sleep {
        Ok(sleep) => observe(fds, count, sleep),
        Err(error) => fail(error.into_raw()),
    }
}

/// poll(2) by the engine, over the program's own array.
pub fn observe(fds: *mut pollfd, count: nfds_t, mut sleep: Sleep) -> c_int {
    if !memory::readable(fds, count as usize * size_of::<pollfd>()) {
        return fail(libc::EFAULT);
    }
    let before = errno::get();
    loop {
        let cancels = engine().map_or(0, |engine| engine.cancels());
        // A cancelled thread leaves here: there is nothing in this frame to drop.
        cancel::point();
        let found = answer(|| {
            let engine = engine().ok_or(Errno::EINVAL)?;
            let count = count as usize;
            let mut copy: Vec<pollfd> = Vec::new();
            make_room(|| copy.try_reserve_exact(count))?;
            // SAFETY: readable, of any alignment.
            copy.extend((0..count).map(|index| unsafe { fds.add(index).read_unaligned() }));
            let found = engine.poll(&mut copy, &mut sleep, cancels)?;
            memory::copy_out(fds, &copy).map(|()| found)
        });
        if found >= 0 || errno::get() != libc::ECANCELED {
            return found;
        }
        errno::set(before);
    }
}
