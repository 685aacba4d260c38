//! seccomp_unotify(2): system calls that a filter hands to another process instead of answering them.
//!
//! The C library has no functions for these, so this file has the command's unsafe code. Linux 5.9 or newer: before, a
//! listener is not told that nobody is left who could call.
#![expect(
    unsafe_code,
    reason = "seccomp(2) and its ioctls have no safe wrapper without libseccomp"
)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use libc::{seccomp_notif, seccomp_notif_resp, sock_fprog};
use seccompiler::BpfProgram;

/// A call that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    id: u64,
    /// The thread that made it; 0 if it is in no PID namespace of ours.
    pub thread: u32,
    /// AUDIT_ARCH_* of its calling convention.
    pub arch: u32,
    /// The system call's number.
    pub number: u32,
}

/// Puts this thread and all that it starts under the filter, and gives the descriptor that its calls are received by.
/// It is close-on-exec.
///
/// # Errors
/// EBUSY if there is a filter with a listener already, EINVAL before Linux 5.0, EACCES without no_new_privs.
pub fn install(filter: &BpfProgram) -> io::Result<OwnedFd> {
    let program = sock_fprog {
        len: u16::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        // Not written to.
        filter: filter.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    // SAFETY: seccomp(2) reads `len` instructions, which have the layout of the kernel's `struct sock_filter`.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Takes a call that waits.
///
/// # Errors
/// ENOENT if it waits no longer, for a signal came or its process was killed.
pub fn receive(listener: &OwnedFd) -> io::Result<Call> {
    // SAFETY: integers only; the kernel wants zeros.
    let mut call: seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one `struct seccomp_notif`. A newer kernel's longer one would be another request.
    let result =
        unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut call) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Call {
        id: call.id,
        thread: call.pid,
        arch: call.data.arch,
        number: call.data.nr.cast_unsigned(),
    })
}

/// Answers a call with an error.
///
/// # Errors
/// ENOENT as [`receive`].
pub fn refuse(listener: &OwnedFd, call: Call, error: libc::c_int) -> io::Result<()> {
    let mut answer = seccomp_notif_resp { id: call.id, val: 0, error: -error, flags: 0 };
    // SAFETY: the kernel reads one `struct seccomp_notif_resp`.
    let result = unsafe {
        libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut answer)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sees that what this process starts gets none of its descriptors but the standard ones.
///
/// # Errors
/// ENOSYS before Linux 5.9, EINVAL before 5.11.
pub fn keep_descriptors_back() -> io::Result<()> {
    // SAFETY: changes flags of descriptors; none is closed here.
    let result = unsafe {
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
