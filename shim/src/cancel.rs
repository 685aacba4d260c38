//! pthread_cancel: epoll_wait is a cancellation point.
//!
//! The real function makes the thread unwind out of whatever it is in, which must not be the engine. So those who wait
//! leave the engine first, and look in a frame that has nothing to lose.

use libc::{c_int, pthread_t};

use crate::engine;
use crate::hook::{hooks, real};

unsafe extern "C-unwind" {
    fn pthread_testcancel();
}

/// Unwinds, if the calling thread was cancelled and allows it. The caller's frame must have nothing to drop.
pub fn point() {
    // SAFETY: no arguments; the frames above are `C-unwind`, and have nothing to drop.
    unsafe { pthread_testcancel() };
}

hooks! {
    /// pthread_cancel(3).
    fn pthread_cancel(thread: pthread_t) -> c_int {
        let result = real!(pthread_cancel(thread));
        if let Some(engine) = engine() {
            engine.cancelled();
        }
        result
    }
}
