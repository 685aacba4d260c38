//! The library's own descriptors: out of the program's sight and reach.
//!
//! They stand at the top of the number range, where no program's "lowest free number" comes, and the table knows them
//! ([`Flags::OURS`]) so that the hooks keep the program's sweeps off them.

use std::os::fd::RawFd;

use syscalls::Errno;

use crate::fdtable::{FdTable, Flags, Word};
use crate::files::Kind;
use crate::sys::{self, Result};

/// Numbers above this would make the kernel's own descriptor table large, and with it every fork slow.
const HIGHEST: u64 = 1 << 16;
/// How many numbers below the top are tried for, where there are four times as many.
const RANGE: u64 = 1024;

/// A new non-blocking eventfd, hidden.
///
/// # Errors
/// EMFILE, ENFILE, ENOMEM.
pub fn eventfd(table: &FdTable) -> Result<RawFd> {
    hide(table, sys::eventfd(libc::EFD_CLOEXEC | libc::EFD_NONBLOCK)?)
}

/// Moves a fresh descriptor to the top of the range.
fn hide(table: &FdTable, fd: RawFd) -> Result<RawFd> {
    let (soft, hard) = sys::descriptor_limits();
    let top = hard.min(HIGHEST);
    let low = (top - RANGE.min(top / 4)) as RawFd;
    // Above the soft limit a number cannot be had, so the limit is raised for the moment of the call.
    let raised = soft < top && sys::set_descriptor_limit(top, hard).is_ok();
    let high = sys::dup_from(fd, low);
    if raised {
        let _ = sys::set_descriptor_limit(soft, hard);
    }
    let hidden = match high {
        Ok(high) => {
            sys::close(fd);
            high
        }
        // Where the range is full the low number has to do.
        Err(Errno::EMFILE | Errno::EINVAL) => fd,
        Err(error) => {
            sys::close(fd);
            return Err(error);
        }
    };
    let Some(entry) = table.get(hidden) else {
        sys::close(hidden);
        return Err(Errno::EMFILE);
    };
    table.touch_ours(hidden);
    entry.update(|_| Some(Word::EMPTY.with(Flags::OURS).with_kind(Kind::Eventfd)));
    Ok(hidden)
}

/// Another hidden number for a hidden descriptor.
///
/// # Errors
/// EBADF, EMFILE.
pub fn duplicate(table: &FdTable, fd: RawFd) -> Result<RawFd> {
    hide(table, sys::dup_from(fd, 0)?)
}

/// Closes a descriptor that [`eventfd`] gave.
pub fn close(table: &FdTable, fd: RawFd) {
    forget(table, fd);
    sys::close(fd);
}

/// The number is no longer the library's.
pub fn forget(table: &FdTable, fd: RawFd) {
    table.close(fd);
}
