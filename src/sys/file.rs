//! Files by their paths, and what stat tells.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::RawFd;

use syscalls::{Errno, Sysno, syscall};

use super::{Result, as_fd, close};
use crate::faults::{self, Resource};

/// fstat(2): the file's mode and, for a device, its number.
///
/// # Errors
/// EBADF.
pub fn fstat(fd: RawFd) -> Result<libc::stat> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: the kernel writes one struct stat, whose layout on this architecture is libc's.
    unsafe { syscall!(Sysno::fstat, fd, stat.as_mut_ptr())? };
    // SAFETY: written by the kernel, and all-zero before.
    Ok(unsafe { stat.assume_init() })
}

/// The magic number of the file system that holds `fd`.
///
/// # Errors
/// EBADF, EIO, ENOSYS.
pub fn fs_type(fd: RawFd) -> Result<i64> {
    let mut stat = std::mem::MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the kernel writes one struct statfs, whose layout on this architecture is libc's.
    unsafe { syscall!(Sysno::fstatfs, fd, stat.as_mut_ptr())? };
    // SAFETY: written by the kernel, and all-zero before.
    Ok(unsafe { stat.assume_init() }.f_type)
}

/// Messages in a message queue (mq_getattr(3)).
///
/// # Errors
/// EBADF when it is no message queue; ENOSYS.
pub fn messages_queued(fd: RawFd) -> Result<u32> {
    let mut attributes = std::mem::MaybeUninit::<libc::mq_attr>::zeroed();
    let none = std::ptr::null::<libc::mq_attr>();
    // SAFETY: the kernel writes one struct mq_attr, and changes nothing.
    unsafe { syscall!(Sysno::mq_getsetattr, fd, none, attributes.as_mut_ptr())? };
    // SAFETY: written by the kernel, and all-zero before.
    Ok(unsafe { attributes.assume_init() }.mq_curmsgs as u32)
}

/// The text of a symbolic link, cut at 64 bytes.
///
/// # Errors
/// Those of readlink(2).
pub fn read_link(path: &CStr, text: &mut [u8; 64]) -> Result<usize> {
    // SAFETY: a terminated path, and 64 writable bytes.
    unsafe { syscall!(Sysno::readlinkat, libc::AT_FDCWD, path.as_ptr(), text.as_mut_ptr(), 64) }
}

/// The beginning of a file, cut at the length of `text`.
///
/// # Errors
/// Those of open(2) and read(2).
pub fn read_file(path: &CStr, text: &mut [u8]) -> Result<usize> {
    if faults::refuses(Resource::Descriptor) {
        return Err(Errno::EMFILE);
    }
    // SAFETY: a terminated path.
    let fd = unsafe {
        syscall!(Sysno::openat, libc::AT_FDCWD, path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC)
    }
    .map(as_fd)?;
    // SAFETY: writable bytes of that length.
    let got = unsafe { syscall!(Sysno::read, fd, text.as_mut_ptr(), text.len()) };
    close(fd);
    got
}

/// Appends to a file of the user's own, which is made if need be. In a directory where others may make files it may be
/// theirs: a link to a file that they want changed, or a FIFO that keeps whoever opens it. Those are left alone.
///
/// # Errors
/// Those of open(2) and write(2); EPERM where it is another user's, has a second name, or is no regular file.
pub fn append_file(path: &CStr, text: &[u8]) -> Result<()> {
    let append = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_CLOEXEC;
    let no_traps = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    // SAFETY: a terminated path.
    let fd =
        unsafe { syscall!(Sysno::openat, libc::AT_FDCWD, path.as_ptr(), append | no_traps, 0o600) }
            .map(as_fd)?;
    let wrote = match fstat(fd) {
        // SAFETY: readable bytes of that length.
        Ok(stat) if is_own_file(&stat) => unsafe {
            syscall!(Sysno::write, fd, text.as_ptr(), text.len())
        },
        Ok(_) => Err(Errno::EPERM),
        Err(error) => Err(error),
    };
    close(fd);
    wrote.map(|_| ())
}

fn is_own_file(stat: &libc::stat) -> bool {
    // SAFETY: no arguments; it cannot fail.
    let user = unsafe { syscall!(Sysno::geteuid) };
    let is_regular = stat.st_mode & libc::S_IFMT == libc::S_IFREG;
    is_regular && stat.st_nlink == 1 && user == Ok(stat.st_uid as usize)
}
