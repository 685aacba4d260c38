//! The kernel's clocks, read without a system call where the kernel maps code for that (vdso(7)).
//!
//! Not by libc: a program may run under a libfaketime, whose time stands still or leaps. What the program asks for is its
//! own affair; how long the engine leaves something alone is not.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::mem::transmute;
use std::sync::OnceLock;

use libc::{c_int, timespec};
use syscalls::{Sysno, syscall};

type ClockGettime = unsafe extern "C" fn(c_int, *mut timespec) -> c_int;

/// What the kernel maps; `None` where there is nothing, as under valgrind.
static MAPPED: OnceLock<Option<ClockGettime>> = OnceLock::new();

const VDSO: &CStr = c"linux-vdso.so.1";
#[cfg(not(target_arch = "aarch64"))]
const NAME: (&CStr, &CStr) = (c"__vdso_clock_gettime", c"LINUX_2.6");
#[cfg(target_arch = "aarch64")]
const NAME: (&CStr, &CStr) = (c"__kernel_clock_gettime", c"LINUX_2.6.39");

/// Looks for what the kernel maps. Until then clocks are system calls.
pub fn learn_of_clock() {
    MAPPED.get_or_init(|| {
        // SAFETY: a lookup by constant names, in an object that is mapped as long as the process lives.
        unsafe {
            let object = libc::dlopen(VDSO.as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD);
            if object.is_null() {
                return None;
            }
            let place = libc::dlvsym(object, NAME.0.as_ptr(), NAME.1.as_ptr());
            // SAFETY: the kernel's function of that name has this type.
            (!place.is_null()).then(|| transmute::<*mut libc::c_void, ClockGettime>(place))
        }
    });
}

fn read(clock: c_int) -> timespec {
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    match MAPPED.get() {
        // SAFETY: one writable timespec.
        Some(Some(gettime)) => unsafe {
            gettime(clock, &raw mut now);
        },
        // SAFETY: the same.
        _ => unsafe {
            let _ = syscall!(Sysno::clock_gettime, clock, &raw mut now);
        },
    }
    now
}

/// The monotonic clock.
pub fn now() -> timespec {
    read(libc::CLOCK_MONOTONIC)
}

/// The same in milliseconds, modulo 2^32, as of the last tick of the kernel, some 4 ms late.
pub fn coarse_millis() -> u32 {
    let now = read(libc::CLOCK_MONOTONIC_COARSE);
    (now.tv_sec as u32).wrapping_mul(1000).wrapping_add((now.tv_nsec / 1_000_000) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mapped_clock_is_the_kernels() {
        let asked = now();
        learn_of_clock();
        let mapped = now();
        assert!((mapped.tv_sec, mapped.tv_nsec) >= (asked.tv_sec, asked.tv_nsec));
        assert!(mapped.tv_sec - asked.tv_sec < 60);
    }
}
