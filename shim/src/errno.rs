//! errno: set on failure, untouched by success.

use libc::c_int;
use uepoll::Errno;
use uepoll::sys::quiet::Quiet;

/// The calling thread's errno.
pub fn get() -> c_int {
    // SAFETY: the address is the thread's own, and always valid.
    unsafe { *libc::__errno_location() }
}

/// Sets it.
pub fn set(value: c_int) {
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = value };
}

/// Sets it, and gives what a failed call returns.
pub fn fail(value: c_int) -> c_int {
    set(value);
    -1
}

/// Runs a call of the engine and turns its result into what C expects. Memory management and threads of the engine may
/// touch errno on the way; a successful call leaves it as it was. A panic is a defect of the engine: the call fails
/// with ENOMEM, and never falls through to the kernel's epoll.
pub fn answer<T: TryInto<c_int>>(call: impl FnOnce() -> Result<T, Errno>) -> c_int {
    let before = get();
    let quiet = Quiet::enter();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(call));
    drop(quiet);
    set(before);
    match result {
        Ok(Ok(value)) => value.try_into().unwrap_or(c_int::MAX),
        Ok(Err(error)) => fail(error.into_raw()),
        Err(_) => fail(libc::ENOMEM),
    }
}
