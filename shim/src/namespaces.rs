//! unshare(2) and setns(2): the watcher threads end before, and are started anew when they are wanted (the engine's
//! watchers.rs).

use libc::c_int;
use uepoll::sys::quiet::Quiet;

use crate::hook::{hooks, real};
use crate::{engine, errno, is_foreign};

hooks! {
    /// unshare(2)
    fn unshare(flags: c_int) -> c_int {
        without_watchers(|| real!(unshare(flags)))
    }

    /// setns(2)
    fn setns(fd: c_int, kind: c_int) -> c_int {
        without_watchers(|| real!(setns(fd, kind)))
    }
}

fn without_watchers(call: impl FnOnce() -> c_int) -> c_int {
    let Some(engine) = engine().filter(|_| !is_foreign()) else { return call() };
    let before = errno::get();
    // No handler may find locks taken by the thread that it interrupts.
    let quiet = Quiet::enter();
    let none = engine.end_watchers();
    drop(quiet);
    errno::set(before);
    let result = call();
    drop(none);
    result
}
