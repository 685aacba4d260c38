//! Memory: pages of our own, and whether the program's can be used.
#![allow(unsafe_code)]

use syscalls::{Errno, Sysno, syscall};

use super::{Result, SIGSET_BYTES, getpid};
use crate::faults::{self, Resource};

/// Fresh pages, zero and writable (mmap).
///
/// # Errors
/// ENOMEM.
pub fn map(size: usize) -> Result<*mut u8> {
    if faults::is_scarce(Resource::Memory) {
        return Err(Errno::ENOMEM);
    }
    let (protection, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a fresh mapping is nobody's yet.
    let pages = unsafe { syscall!(Sysno::mmap, 0, size, protection, flags, usize::MAX, 0)? };
    Ok(pages as *mut u8)
}

/// Gives pages back (munmap). False: they are still there.
///
/// # Safety
/// They came from [`map`], and nobody uses them any more.
pub unsafe fn unmap(pages: *mut u8, size: usize) -> bool {
    // SAFETY: the caller's promise.
    unsafe { syscall!(Sysno::munmap, pages, size) }.is_ok()
}

/// Makes a mapping larger or smaller (mremap).
///
/// # Errors
/// ENOMEM.
///
/// # Safety
/// It came from [`map`]; where it may move, nobody uses the old address any more.
pub unsafe fn remap(
    pages: *mut u8,
    size: usize,
    new_size: usize,
    can_move: bool,
) -> Result<*mut u8> {
    let flags = if can_move { libc::MREMAP_MAYMOVE } else { 0 };
    // SAFETY: the caller's promise.
    let pages = unsafe { syscall!(Sysno::mremap, pages, size, new_size, flags)? };
    Ok(pages as *mut u8)
}

/// Whether a byte can be read, where the kernel may be asked (process_vm_readv(2)); else it is taken to be so.
pub fn byte_is_readable(address: usize) -> bool {
    let mut byte = 0u8;
    let local = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: 1 };
    // SAFETY: one writable byte of ours; the kernel checks the other address.
    let result = unsafe {
        syscall!(Sysno::process_vm_readv, getpid(), &raw const local, 1, &raw const remote, 1, 0)
    };
    result != Err(Errno::EFAULT)
}

/// Whether eight bytes can be written, which they are: the caller is about to overwrite them.
pub fn eight_bytes_are_writable(address: usize) -> bool {
    // SAFETY: the kernel checks the address; it writes the thread's signal mask there.
    let result =
        unsafe { syscall!(Sysno::rt_sigprocmask, libc::SIG_BLOCK, 0, address, SIGSET_BYTES) };
    result != Err(Errno::EFAULT)
}

/// Writes `from` to an address of this process, of which nothing is known.
///
/// # Errors
/// EFAULT.
pub fn copy_out<T>(address: usize, from: &[T]) -> Result<()> {
    let len = size_of_val(from);
    let local = libc::iovec { iov_base: from.as_ptr().cast_mut().cast(), iov_len: len };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: len };
    // SAFETY: the kernel reads the slice, and checks the address.
    let wrote = unsafe {
        syscall!(Sysno::process_vm_writev, getpid(), &raw const local, 1, &raw const remote, 1, 0)
    };
    if wrote == Ok(len) { Ok(()) } else { Err(Errno::EFAULT) }
}
