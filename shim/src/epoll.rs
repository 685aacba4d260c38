//! The epoll functions themselves: arguments decoded and checked in the kernel's order.

use libc::{c_int, epoll_event, sigset_t, size_t, timespec};
use uepoll::backend::Sleep;
use uepoll::{Errno, Event, Events};

use crate::errno::{self, answer, fail};
use crate::hook::hooks;
use crate::{cancel, engine, make_engine, memory};

hooks! {
    /// epoll_create(2): the size says nothing, but must be positive.
    fn epoll_create(size: c_int) -> c_int {
        if size <= 0 { fail(libc::EINVAL) } else { create(0) }
    }

    /// epoll_create1(2)
    fn epoll_create1(flags: c_int) -> c_int {
        create(flags)
    }

    /// epoll_ctl(2)
    fn epoll_ctl(epfd: c_int, op: c_int, fd: c_int, event: *mut epoll_event) -> c_int {
        ctl(epfd, op, fd, event)
    }

    /// epoll_wait(2)
    fn epoll_wait(epfd: c_int, events: *mut epoll_event, max: c_int, timeout: c_int) -> c_int {
        wait(epfd, events, max, Sleep { timeout: milliseconds(timeout), mask: None })
    }

    /// epoll_pwait(2)
    fn epoll_pwait(
        epfd: c_int, events: *mut epoll_event, max: c_int, timeout: c_int, mask: *const sigset_t,
    ) -> c_int {
        pwait(epfd, events, max, timeout, mask, 8)
    }

    /// epoll_pwait2(2)
    fn epoll_pwait2(
        epfd: c_int, events: *mut epoll_event, max: c_int, timeout: *const timespec, mask: *const sigset_t,
    ) -> c_int {
        pwait2(epfd, events, max, timeout, mask, 8)
    }
}

fn create(flags: c_int) -> c_int {
    answer(|| make_engine()?.create(flags))
}

/// epoll_ctl(2); also for callers that go through syscall(2).
pub fn ctl(epfd: c_int, op: c_int, fd: c_int, event: *mut epoll_event) -> c_int {
    answer(|| {
        let event = if op == libc::EPOLL_CTL_DEL { None } else { Some(read_event(event)?) };
        make_engine()?.ctl(epfd, op, fd, event).map(|()| 0)
    })
}

/// epoll_pwait(2) with the mask's size, as the system call has it.
pub fn pwait(
    epfd: c_int,
    events: *mut epoll_event,
    max: c_int,
    timeout: c_int,
    mask: *const sigset_t,
    size: size_t,
) -> c_int {
    match read_mask(mask, size) {
        Ok(mask) => wait(epfd, events, max, Sleep { timeout: milliseconds(timeout), mask }),
        Err(error) => fail(error.into_raw()),
    }
}

/// epoll_pwait2(2) with the mask's size, as the system call has it.
pub fn pwait2(
    epfd: c_int,
    events: *mut epoll_event,
    max: c_int,
    timeout: *const timespec,
    mask: *const sigset_t,
    size: size_t,
) -> c_int {
    let sleep = read_timeout(timeout)
        .and_then(|timeout| Ok(Sleep { timeout, mask: read_mask(mask, size)? }));
    match sleep {
        Ok(sleep) => wait(epfd, events, max, sleep),
        Err(error) => fail(error.into_raw()),
    }
}

/// Waits. A cancelled thread leaves here: there is nothing in this frame to drop.
fn wait(epfd: c_int, events: *mut epoll_event, max: c_int, mut sleep: Sleep) -> c_int {
    let before = errno::get();
    loop {
        let cancels = engine().map_or(0, |engine| engine.cancels());
        cancel::point();
        let count = answer(|| {
            let len = size_of::<epoll_event>() * max.max(0) as usize;
            let in_reach = memory::in_reach(events, len);
            let mut good = 0;
            let mut sink = |index: usize, event: Event| {
                write_event(events.wrapping_add(index), event, &mut good)
            };
            make_engine()?.wait(epfd, max, &mut sleep, in_reach, &mut sink, cancels)
        });
        if count >= 0 || errno::get() != libc::ECANCELED {
            return count;
        }
        errno::set(before);
    }
}

fn read_event(event: *const epoll_event) -> Result<Event, Errno> {
    if !memory::readable(event, size_of::<epoll_event>()) {
        return Err(Errno::EFAULT);
    }
    // SAFETY: readable, as the kernel has just said or said before with the same mappings; of any alignment.
    let event = unsafe { event.read_unaligned() };
    Ok(Event { events: Events::from_bits_retain(event.events), data: event.u64 })
}

/// `good` is up to where the memory was found good, in this call.
fn write_event(place: *mut epoll_event, event: Event, good: &mut usize) -> bool {
    let end = (place as usize).wrapping_add(size_of::<epoll_event>());
    if end > *good {
        if !memory::writable(place, size_of::<epoll_event>()) {
            return false;
        }
        *good = memory::end_of_page(end - 1);
    }
    // SAFETY: writable, as the kernel has just said or said before with the same mappings; of any alignment.
    unsafe { place.write_unaligned(epoll_event { events: event.events.bits(), u64: event.data }) };
    true
}

/// The kernel's form of a signal mask. The size counts only where there is a mask.
pub fn read_mask(mask: *const sigset_t, size: size_t) -> Result<Option<u64>, Errno> {
    if mask.is_null() {
        return Ok(None);
    }
    if size != 8 {
        return Err(Errno::EINVAL);
    }
    if !memory::readable(mask, 8) {
        return Err(Errno::EFAULT);
    }
    // SAFETY: eight readable bytes, of any alignment.
    Ok(Some(unsafe { mask.cast::<u64>().read_unaligned() }))
}

/// A timeout; `None` waits for ever.
pub fn read_timeout(timeout: *const timespec) -> Result<Option<timespec>, Errno> {
    if timeout.is_null() {
        return Ok(None);
    }
    if !memory::readable(timeout, size_of::<timespec>()) {
        return Err(Errno::EFAULT);
    }
    // SAFETY: readable, of any alignment.
    let timeout = unsafe { timeout.read_unaligned() };
    if timeout.tv_sec < 0 || !(0..1_000_000_000).contains(&timeout.tv_nsec) {
        return Err(Errno::EINVAL);
    }
    Ok(Some(timeout))
}

/// epoll_wait's timeout: negative waits for ever.
pub fn milliseconds(timeout: c_int) -> Option<timespec> {
    (timeout >= 0).then(|| timespec {
        tv_sec: (timeout / 1000).into(),
        tv_nsec: (timeout % 1000 * 1_000_000).into(),
    })
}
