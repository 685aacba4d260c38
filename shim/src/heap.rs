//! The library's own heap, apart from the program's (docs/adr/0010): dlmalloc over mmap, and a reserve.
//!
//! Where the kernel gives no more memory, calls that may say so do: they answer ENOMEM ([`is_exhausted`]). What must not
//! fail - a wait that looks at what is registered already, a close - goes on with the reserve.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use dlmalloc::Dlmalloc;
#[cfg(feature = "faults")]
use uepoll::faults;
use uepoll::sys;
use uepoll::sys::lock::Mutex;

/// Address space and nothing else until it is needed: enough for the lists of some 100,000 registered descriptors.
const RESERVE: usize = 4 << 20;

/// What is asked of the kernel to see whether it gives memory again.
const PROBE: usize = 1 << 16;

// AddressSanitizer and memcheck know of what malloc gave, and of nothing in pages that a library cuts up itself: for them
// (`make sanitize`) the program's malloc is the library's too, and this one is there and unused.
#[cfg(sanitized)]
#[global_allocator]
static MALLOC: std::alloc::System = std::alloc::System;

#[cfg_attr(not(sanitized), global_allocator)]
static HEAP: Heap = Heap(Mutex::new(Dlmalloc::new_with_allocator(Pages)));

static RESERVED: Reserve = Reserve {
    bytes: UnsafeCell::new([0; RESERVE]),
    used: AtomicUsize::new(0),
    touched: AtomicBool::new(false),
};

/// Whether memory has run out: the last that the kernel was asked for came out of the reserve, and it still gives none.
pub fn is_exhausted() -> bool {
    if !RESERVED.touched.load(Ordering::Relaxed) {
        return false;
    }
    match sys::map(PROBE) {
        Ok(pages) => {
            // SAFETY: mapped just now, and nobody knows of it.
            unsafe { sys::unmap(pages, PROBE) };
            RESERVED.touched.store(false, Ordering::Relaxed);
            false
        }
        Err(_) => true,
    }
}

/// Whether an allocation is to fail for a test. One that must not is granted, and memory has run out all the same.
fn is_refused() -> bool {
    #[cfg(feature = "faults")]
    if faults::refuses(faults::Resource::Memory) {
        RESERVED.touched.store(true, Ordering::Relaxed);
        return faults::is_asking();
    }
    false
}

/// Before fork: nobody is in the middle of an allocation. As [`release_after_fork`], for the fork handlers only.
pub fn hold_before_fork() {
    sys::lock::hold_before_fork(&HEAP.0);
}

/// After fork, in the parent.
pub fn release_after_fork() {
    sys::lock::release_after_fork(&HEAP.0);
}

/// After fork, in the child.
pub fn release_in_child() {
    sys::lock::release_in_child(&HEAP.0);
}

struct Heap(Mutex<Dlmalloc<Pages>>);

// SAFETY: each call goes to dlmalloc with the layout that it came with, under the lock.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_refused() {
            return ptr::null_mut();
        }
        // SAFETY: the caller's promise.
        unsafe { self.0.lock().malloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.0.lock().free(old, layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_refused() {
            return ptr::null_mut();
        }
        // SAFETY: the caller's promise.
        unsafe { self.0.lock().calloc(layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size > layout.size() && is_refused() {
            return ptr::null_mut();
        }
        // SAFETY: the caller's promise.
        unsafe { self.0.lock().realloc(old, layout.size(), layout.align(), size) }
    }
}

/// Where dlmalloc has its memory from.
struct Pages;

/// Says of memory out of the reserve that it is not dlmalloc's to give back.
const NOT_MAPPED: u32 = 1;

// SAFETY: what `alloc` gives is mapped, writable, zero, and nobody else's.
unsafe impl dlmalloc::Allocator for Pages {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        match sys::map(size) {
            Ok(pages) => (pages, size, 0),
            Err(_) => (RESERVED.take(size), size, NOT_MAPPED),
        }
    }

    fn remap(&self, old: *mut u8, size: usize, new_size: usize, can_move: bool) -> *mut u8 {
        if RESERVED.contains(old) {
            return ptr::null_mut();
        }
        // SAFETY: dlmalloc gives what `alloc` gave, whole.
        unsafe { sys::remap(old, size, new_size, can_move) }.unwrap_or(ptr::null_mut())
    }

    fn free_part(&self, old: *mut u8, size: usize, new_size: usize) -> bool {
        // SAFETY: the rest is dlmalloc's, and it wants it no more.
        !RESERVED.contains(old) && unsafe { sys::unmap(old.add(new_size), size - new_size) }
    }

    fn free(&self, old: *mut u8, size: usize) -> bool {
        // SAFETY: dlmalloc wants it no more.
        !RESERVED.contains(old) && unsafe { sys::unmap(old, size) }
    }

    fn can_release_part(&self, flags: u32) -> bool {
        flags & NOT_MAPPED == 0
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        4096
    }
}

/// Memory that is there from the start, given out once and from front to back.
#[repr(align(4096))]
struct Reserve {
    bytes: UnsafeCell<[u8; RESERVE]>,
    used: AtomicUsize,
    touched: AtomicBool,
}

// SAFETY: no byte is given out twice.
unsafe impl Sync for Reserve {}

impl Reserve {
    fn take(&self, size: usize) -> *mut u8 {
        let take = |used: usize| used.checked_add(size).filter(|end| *end <= RESERVE);
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Ok(start) => {
                self.touched.store(true, Ordering::Relaxed);
                self.bytes.get().cast::<u8>().wrapping_add(start)
            }
            Err(_) => ptr::null_mut(),
        }
    }

    fn contains(&self, pointer: *const u8) -> bool {
        let start = self.bytes.get() as usize;
        (start..start + RESERVE).contains(&(pointer as usize))
    }
}
