//! select(2) and its kin on epoll descriptors: turned into poll(2) where the sets hold an instance.

use libc::{c_int, fd_set, sigset_t, timespec, timeval};
use uepoll::backend::Sleep;
use uepoll::faults::make_room;
use uepoll::fdtable::Flags;
use uepoll::{Engine, Errno, sys};

use crate::epoll::{read_mask, read_timeout};
use crate::errno::{self, answer, fail};
use crate::hook::{hooks, real};
use crate::{TABLE, cancel, engine, memory};

/// What select's three sets ask of poll, and what of its answer counts: the kernel's POLLIN_SET and so on.
const SETS: [(i16, i16); 3] = [
    (
        libc::POLLIN,
        libc::POLLIN | libc::POLLRDNORM | libc::POLLRDBAND | libc::POLLHUP | libc::POLLERR,
    ),
    (libc::POLLOUT, libc::POLLOUT | libc::POLLWRNORM | libc::POLLWRBAND | libc::POLLERR),
    (libc::POLLPRI, libc::POLLPRI),
];

const WORD: usize = usize::BITS as usize;

hooks! {
    /// select(2)
    fn select(
        count: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, timeout: *mut timeval,
    ) -> c_int {
        let sets = [read, write, except];
        let count = in_use(count);
        if !has_instance(count, sets) {
            return real!(select(count, read, write, except, timeout));
        }
        let left = match read_timeval(timeout) {
            Ok(left) => left,
            Err(error) => return fail(error.into_raw()),
        };
        let mut sleep = Sleep { timeout: left, mask: None };
        let result = observe(count, sets, &mut sleep);
        if let (false, Some(left)) = (timeout.is_null(), sleep.timeout) {
            let left = timeval { tv_sec: left.tv_sec, tv_usec: left.tv_nsec / 1000 };
            let _ = memory::copy_out(timeout, &[left]);
        }
        result
    }

    /// pselect(2)
    fn pselect(
        count: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, timeout: *const timespec,
        mask: *const sigset_t,
    ) -> c_int {
        let sets = [read, write, except];
        let count = in_use(count);
        if !has_instance(count, sets) {
            return real!(pselect(count, read, write, except, timeout, mask));
        }
        let sleep = read_timeout(timeout)
            .and_then(|timeout| Ok(Sleep { timeout, mask: read_mask(mask, 8)? }));
        match sleep {
            Ok(mut sleep) => observe(count, sets, &mut sleep),
            Err(error) => fail(error.into_raw()),
        }
    }
}

fn read_timeval(timeout: *const timeval) -> Result<Option<timespec>, Errno> {
    if timeout.is_null() {
        return Ok(None);
    }
    if !memory::readable(timeout, size_of::<timeval>()) {
        return Err(Errno::EFAULT);
    }
    // SAFETY: readable, of any alignment.
    let timeout = unsafe { timeout.read_unaligned() };
    if timeout.tv_sec < 0 || timeout.tv_usec < 0 {
        return Err(Errno::EINVAL);
    }
    let tv_sec = timeout.tv_sec.checked_add(timeout.tv_usec / 1_000_000).ok_or(Errno::EINVAL)?;
    Ok(Some(timespec { tv_sec, tv_nsec: timeout.tv_usec % 1_000_000 * 1000 }))
}

/// The count, but no more than the program has descriptors. The kernel looks at no more bits than its table of the process'
/// descriptors has places, and programs build on that: select(getdtablesize(), ...) with a set of FD_SETSIZE bits. The
/// library's own descriptors at the top of the range make the table large, and the kernel would read and write behind such
/// a set.
fn in_use(count: c_int) -> c_int {
    const PART: usize = 1024;
    if count <= libc::FD_SETSIZE as c_int || engine().is_none() {
        return count;
    }
    let none = libc::pollfd { fd: -1, events: 0, revents: 0 };
    let mut part = [none; PART];
    let mut end = (count as usize).min(places());
    while end > 0 {
        let begin = end.saturating_sub(PART);
        let part = &mut part[..end - begin];
        for (polled, fd) in part.iter_mut().zip(begin..) {
            *polled = libc::pollfd { fd: fd as c_int, ..none };
        }
        if sys::look(part).is_err() {
            break;
        }
        let is_open = |polled: &libc::pollfd| polled.revents & libc::POLLNVAL == 0;
        let is_ours = |polled: &libc::pollfd| TABLE.word(polled.fd).is(Flags::OURS);
        if let Some(last) = part.iter().rposition(|polled| is_open(polled) && !is_ours(polled)) {
            end = begin + last + 1;
            break;
        }
        end = begin;
    }
    count.min(end.next_multiple_of(WORD) as c_int)
}

/// Places in the kernel's table of the process' descriptors.
fn places() -> usize {
    const NAME: &str = "FDSize:";
    let mut text = [0; 1024];
    let len = sys::read_file(c"/proc/self/status", &mut text).unwrap_or(0);
    let lines = text[..len].split(|&byte| byte == b'\n');
    let mut fields = lines.filter_map(|line| std::str::from_utf8(line).ok()?.strip_prefix(NAME));
    fields.next().and_then(|places| places.trim().parse().ok()).unwrap_or(uepoll::fdtable::CAPACITY)
}

fn words(count: c_int) -> usize {
    (count.max(0) as usize).min(uepoll::fdtable::CAPACITY).div_ceil(WORD)
}

/// One word of a set, which is readable; of no set, 0.
fn word_of(set: *const fd_set, word: usize) -> usize {
    if set.is_null() {
        return 0;
    }
    // SAFETY: has_instance found as many words as the count covers readable.
    unsafe { set.cast::<usize>().add(word).read_unaligned() }
}

/// The descriptors in the sets, with the poll bits that they ask for.
fn asked(count: c_int, sets: [*mut fd_set; 3]) -> impl Iterator<Item = (c_int, i16)> {
    (0..words(count)).flat_map(move |word| {
        let bits = sets.map(|set| word_of(set, word));
        let in_word = (count.max(0) as usize - word * WORD).min(WORD);
        (0..in_word).filter_map(move |bit| {
            let asks = bits.iter().zip(SETS).filter(|(word, _)| **word >> bit & 1 != 0);
            let events = asks.fold(0, |events, (_, (ask, _))| events | ask);
            (events != 0).then_some(((word * WORD + bit) as c_int, events))
        })
    })
}

/// Whether the sets hold an instance. Without an engine there is none, and nothing is looked at.
fn has_instance(count: c_int, sets: [*mut fd_set; 3]) -> bool {
    let len = words(count) * size_of::<usize>();
    engine().is_some()
        && sets.iter().all(|set| set.is_null() || memory::readable(*set, len))
        && asked(count, sets).any(|(fd, _)| TABLE.word(fd).is(Flags::EPOLL))
}

/// select(2) by the engine.
fn observe(count: c_int, sets: [*mut fd_set; 3], sleep: &mut Sleep) -> c_int {
    let before = errno::get();
    loop {
        let cancels = engine().map_or(0, |engine| engine.cancels());
        // A cancelled thread leaves here: there is nothing in this frame to drop.
        cancel::point();
        let found = answer(|| {
            let engine = engine().ok_or(Errno::EINVAL)?;
            poll_sets(engine, count, sets, sleep, cancels)
        });
        if found >= 0 || errno::get() != libc::ECANCELED {
            return found;
        }
        errno::set(before);
    }
}

fn poll_sets(
    engine: &'static Engine,
    count: c_int,
    sets: [*mut fd_set; 3],
    sleep: &mut Sleep,
    cancels: u32,
) -> Result<c_int, Errno> {
    let mut fds: Vec<libc::pollfd> = Vec::new();
    make_room(|| fds.try_reserve_exact(asked(count, sets).count()))?;
    fds.extend(asked(count, sets).map(|(fd, events)| libc::pollfd { fd, events, revents: 0 }));
    engine.poll(&mut fds, sleep, cancels)?;
    // select(2) names no descriptor, so one that is not open fails the call.
    if fds.iter().any(|polled| polled.revents & libc::POLLNVAL != 0) {
        return Err(Errno::EBADF);
    }
    let mut found = 0;
    for (set, (ask, answers)) in sets.into_iter().zip(SETS) {
        if set.is_null() {
            continue;
        }
        let mut result = vec![0usize; words(count)];
        for polled in &fds {
            let fd = polled.fd as usize;
            if polled.events & ask != 0 && polled.revents & answers != 0 {
                result[fd / WORD] |= 1 << (fd % WORD);
                found += 1;
            }
        }
        memory::copy_out(set.cast::<usize>(), &result)?;
    }
    Ok(found)
}
