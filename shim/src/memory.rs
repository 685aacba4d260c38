//! The program's memory: a bad pointer gives EFAULT, never a crash.
//!
//! The kernel is asked about a page before it is touched, by system calls that do nothing but read or write there. Pages that were found good are remembered by thread, until the program changes its mappings by one of the
//! functions that are hooked here.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

use libc::{c_int, c_void, off_t, size_t};
use uepoll::{Errno, sys};

use crate::hook::{hooks, real};

const PAGE: usize = 4096;
/// Pages remembered by each thread: the stack's, and a few buffers'.
const REMEMBERED: usize = 16;
/// No user address reaches this far.
const TOP: usize = 1 << 47;

/// Counts changes of the address space.
static MAPPINGS: AtomicUsize = AtomicUsize::new(1);

#[derive(Clone, Copy)]
struct Page {
    /// The page's address, with the lowest bit set when it may be written to.
    page: usize,
    /// The count of mappings when it was asked about.
    mappings: usize,
}

thread_local! {
    static GOOD: [Cell<Page>; REMEMBERED] =
        const { [const { Cell::new(Page { page: 0, mappings: 0 }) }; REMEMBERED] };
}

/// What a page is needed for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Read,
    Write,
}

/// Whether `len` bytes may be read.
pub fn readable<T>(address: *const T, len: usize) -> bool {
    good(address as usize, len, Need::Read)
}

/// Whether `len` bytes, eight or more, may be written, all of which are about to be: the question may change them.
pub fn writable<T>(address: *mut T, len: usize) -> bool {
    good(address as usize, len, Need::Write)
}

/// One past the page of an address: all of a page is as good as a part of it.
pub fn end_of_page(address: usize) -> usize {
    (address | (PAGE - 1)) + 1
}

/// Writes an array of the program's, by the kernel's hand.
///
/// # Errors
/// EFAULT.
pub fn copy_out<T>(to: *mut T, from: &[T]) -> Result<(), Errno> {
    sys::copy_out(to as usize, from)
}

/// Whether an array lies inside the address space, mapped or not: access_ok of the kernel.
pub fn in_reach<T>(address: *const T, len: usize) -> bool {
    (address as usize).checked_add(len).is_some_and(|end| end <= TOP - PAGE)
}

fn good(address: usize, len: usize, need: Need) -> bool {
    // Nothing can be mapped at the very beginning (vm.mmap_min_addr).
    if address < PAGE || !in_reach(address as *const u8, len) {
        return false;
    }
    let mappings = MAPPINGS.load(Ordering::SeqCst);
    let last = (address + len.max(1) - 1) & !(PAGE - 1);
    let mut page = address & !(PAGE - 1);
    loop {
        let bit = usize::from(need == Need::Write);
        let known = GOOD.with(|good| {
            let good = good[page / PAGE % REMEMBERED].get();
            good.mappings == mappings && (good.page == page | bit || good.page == page | 1)
        });
        if !known {
            let from = address.max(page);
            let to = (address + len).min(page + PAGE);
            let ok = match need {
                Need::Read => sys::byte_is_readable(from),
                // The last eight up to here, or the first of all: where a page has fewer of them, those of its
                // neighbour are among them, and none beside them.
                Need::Write => sys::eight_bytes_are_writable(address.max(to.saturating_sub(8))),
            };
            if !ok {
                return false;
            }
            let page = Page { page: page | bit, mappings };
            GOOD.with(|good| good[page.page / PAGE % REMEMBERED].set(page));
        }
        if page == last {
            return true;
        }
        page += PAGE;
    }
}

fn changed() {
    MAPPINGS.fetch_add(1, Ordering::SeqCst);
}

hooks! {
    /// munmap(2): pages may be gone.
    fn munmap(address: *mut c_void, len: size_t) -> c_int {
        let result = real!(munmap(address, len));
        changed();
        result
    }

    /// mprotect(2): pages may be read-only now.
    fn mprotect(address: *mut c_void, len: size_t, protection: c_int) -> c_int {
        let result = real!(mprotect(address, len, protection));
        changed();
        result
    }

    /// mmap(2): a fixed mapping replaces what was there.
    fn mmap(
        address: *mut c_void, len: size_t, protection: c_int, flags: c_int, fd: c_int, offset: off_t,
    ) -> *mut c_void {
        let result = real!(mmap(address, len, protection, flags, fd, offset) else libc::MAP_FAILED);
        if flags & libc::MAP_FIXED != 0 {
            changed();
        }
        result
    }

    /// mmap(2), for programs built with large files.
    fn mmap64(
        address: *mut c_void, len: size_t, protection: c_int, flags: c_int, fd: c_int, offset: off_t,
    ) -> *mut c_void {
        let result = real!(mmap64(address, len, protection, flags, fd, offset) else libc::MAP_FAILED);
        if flags & libc::MAP_FIXED != 0 {
            changed();
        }
        result
    }

    /// mremap(2): the old pages are gone. It is variadic; where the program gave four arguments, nobody looks at the
    /// fifth.
    fn mremap(
        old: *mut c_void, old_len: size_t, len: size_t, flags: c_int, new: *mut c_void,
    ) -> *mut c_void {
        let result = real!(mremap(old, old_len, len, flags, new) else libc::MAP_FAILED);
        changed();
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_wild_pointers_are_not_good() {
        let mut word = 0u64;
        assert!(readable(&raw const word, 8));
        assert!(writable(&raw mut word, 8));
        assert!(!readable(std::ptr::null::<u8>(), 1));
        assert!(!writable(8 as *mut u8, 8));
        assert!(!in_reach((TOP - 8) as *const u8, 64));
        let constant: &'static [u8] = b"read-only text of the program";
        assert!(readable(constant.as_ptr(), constant.len()));
        assert!(!writable(constant.as_ptr().cast_mut(), 12));
    }
}
