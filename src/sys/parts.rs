//! Polls of more descriptors than RLIMIT_NOFILE: ppoll(2) refuses them, but the limit may have been lowered below what is
//! open already, or the same files stand in several instances. The kernel's epoll minds neither.

use libc::{pollfd, timespec};
use syscalls::Errno;

use super::{Result, descriptor_limits, ppoll, quiet};

/// Between two looks at all parts only the last one is slept on, and no longer than this.
const TICK: timespec = timespec { tv_sec: 0, tv_nsec: 10_000_000 };

/// Looks at one part after the other.
///
/// # Errors
/// EINVAL when the limit is 0, ENOMEM.
#[cold]
pub fn look(fds: &mut [pollfd]) -> Result<usize> {
    let mut found = 0;
    for part in fds.chunks_mut(size()?) {
        let mut zero = timespec { tv_sec: 0, tv_nsec: 0 };
        found += ppoll(part, Some(&mut zero), None)?;
    }
    Ok(found)
}

/// Sleeps until something is found in any part. Who is to be woken at once has its wake-up descriptor behind the others.
///
/// # Errors
/// As [`look`], and EINTR when a signal handler ran.
#[cold]
pub fn sleep(
    fds: &mut [pollfd],
    mut timeout: Option<&mut timespec>,
    mask: Option<&u64>,
) -> Result<usize> {
    loop {
        let found = look(fds)?;
        let left = timeout.as_deref().copied();
        if found > 0 || left.is_some_and(|left| left.tv_sec == 0 && left.tv_nsec == 0) {
            return Ok(found);
        }
        let is_short = |left: &timespec| left.tv_sec == 0 && left.tv_nsec < TICK.tv_nsec;
        let given = left.filter(is_short).unwrap_or(TICK);
        let mut nap = given;
        let last = fds.len().saturating_sub(size()?);
        let slept = quiet::asleep(|| ppoll(&mut fds[last..], Some(&mut nap), mask));
        if let Some(left) = &mut timeout {
            left.tv_nsec -= given.tv_nsec - nap.tv_nsec;
            if left.tv_nsec < 0 {
                left.tv_sec -= 1;
                left.tv_nsec += 1_000_000_000;
            }
        }
        let found = slept.unwrap_or(Err(Errno::EINTR))?;
        if found > 0 {
            return Ok(found);
        }
    }
}

/// Descriptors of a part.
fn size() -> Result<usize> {
    match descriptor_limits() {
        (0, _) => Err(Errno::EINVAL),
        (soft, _) => Ok(usize::try_from(soft).unwrap_or(usize::MAX)),
    }
}
