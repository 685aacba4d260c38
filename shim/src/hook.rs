//! How a function of libc is replaced: `hooks!` defines the symbol, and finds the next definition of it.
//!
//! redhook's own `hook!` does not serve here (docs/adr/0002): it calls the real function after a panic, which for epoll
//! would be the kernel's; it resolves lazily; and its frames may not be unwound, while most of these functions are
//! cancellation points, out of which pthread_cancel unwinds. So the frames here are `extern "C-unwind"` and have
//! nothing to drop while the real function runs.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Functions that older libcs do not have (glibc 2.28, 2.34, 2.35), or have in another library (those of
/// message queues, and of cleanup): programs for those do not call them, or have it loaded.
const YOUNG: [&str; 12] = [
    "_Fork\0",
    "fcntl64\0",
    "close_range\0",
    "closefrom\0",
    "epoll_pwait2\0",
    "mq_close\0",
    "mq_send\0",
    "mq_timedsend\0",
    "mq_receive\0",
    "mq_timedreceive\0",
    "_pthread_cleanup_push\0",
    "_pthread_cleanup_pop\0",
];

/// The next definition of a replaced function.
pub struct Real<F> {
    /// Its name, terminated.
    name: &'static str,
    address: AtomicPtr<c_void>,
    signature: PhantomData<F>,
}

// SAFETY: an address and a name.
unsafe impl<F> Sync for Real<F> {}

impl<F: Copy> Real<F> {
    /// The function of this (terminated) name; `F` is its signature.
    pub const fn new(name: &'static str) -> Self {
        assert!(size_of::<F>() == size_of::<*mut c_void>());
        Self { name, address: AtomicPtr::new(std::ptr::null_mut()), signature: PhantomData }
    }

    /// Finds it, at load.
    pub fn resolve(&self) {
        let address = if YOUNG.contains(&self.name) {
            // SAFETY: a terminated name.
            unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr().cast()) }
        } else {
            // SAFETY: a terminated name, which every libc served has.
            unsafe { redhook::ld_preload::dlsym_next(self.name) }.cast_mut().cast()
        };
        self.address.store(address, Ordering::Release);
    }

    /// The function, where the libc has it. Found now, if the constructor of another library comes before ours.
    #[inline]
    pub fn get(&self) -> Option<F> {
        let mut address = self.address.load(Ordering::Acquire);
        if address.is_null() {
            self.resolve();
            address = self.address.load(Ordering::Acquire);
        }
        if address.is_null() {
            return None;
        }
        // SAFETY: the symbol of that name has that signature, by the manual; pointers to functions have the size of
        // pointers (asserted above).
        Some(unsafe { std::mem::transmute_copy(&address) })
    }
}

/// Defines replaced functions, each with `REAL.name` beside it, and `resolve()` which finds all of them.
macro_rules! hooks {
    ($($(#[$attribute:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) -> $ret:ty $body:block)*) => {
        /// The replaced functions of this file, as libc has them.
        #[allow(non_upper_case_globals)]
        mod real {
            use super::*;
            $(pub static $name: crate::hook::Real<unsafe extern "C-unwind" fn($($type),*) -> $ret> =
                crate::hook::Real::new(concat!(stringify!($name), "\0"));)*
        }

        /// Finds the real functions of this file.
        pub fn resolve() {
            $(real::$name.resolve();)*
        }

        $(
            $(#[$attribute])*
            #[unsafe(no_mangle)]
            #[allow(clippy::missing_safety_doc, clippy::too_many_arguments)]
            pub unsafe extern "C-unwind" fn $name($($arg: $type),*) -> $ret $body
        )*
    };
}
pub(crate) use hooks;

/// Calls the real function; where the libc has none, fails with ENOSYS and gives -1, or what stands behind `else`.
macro_rules! real {
    ($name:ident($($arg:expr),* $(,)?) else $failed:expr) => {
        match real::$name.get() {
            // SAFETY: the arguments are the program's own, passed on as they came.
            Some(function) => unsafe { function($($arg),*) },
            None => {
                crate::errno::set(libc::ENOSYS);
                $failed
            }
        }
    };
    ($name:ident($($arg:expr),* $(,)?)) => {
        $crate::hook::real!($name($($arg),*) else -1)
    };
}
pub(crate) use real;
