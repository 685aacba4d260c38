//! `libuepoll.so`: the functions that a program calls, answered by the engine (package `uepoll`).
//!
//! Thin: a hook decodes its arguments, enters the engine, and gives back what C expects. Everything that decides
//! something stands in the engine. This package may use unsafe code, for it deals with the program's pointers.
//!
//! The one global is [`ENGINE`]. It is made by the first epoll_create: a program that never calls epoll gets no engine.
//! The table of descriptors stands beside it: hooks read it before there is an engine.
#![allow(unsafe_code)]

mod aliases;
mod cancel;
mod descriptors;
mod epoll;
mod errno;
mod evidence;
#[cfg(feature = "faults")]
mod faults;
mod file;
mod forks;
mod heap;
mod hook;
mod io;
mod left;
mod log;
mod memory;
mod namespaces;
mod openers;
mod poll;
mod queues;
mod raw;
mod select;
mod sending;
mod signals;

use once_cell::sync::OnceCell;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use uepoll::{Engine, Errno, FdTable, sys};

/// What is known of each descriptor.
static TABLE: FdTable = FdTable::new();

/// All instances of the process.
static ENGINE: OnceCell<Engine> = OnceCell::new();

/// This process: a vfork child has another one, and our memory.
static PID: AtomicU32 = AtomicU32::new(0);

static AWAKE: AtomicBool = AtomicBool::new(false);

/// The engine, if the program ever created an instance.
#[inline]
fn engine() -> Option<&'static Engine> {
    ENGINE.get()
}

/// The engine, made now if need be.
fn make_engine() -> Result<&'static Engine, Errno> {
    wake();
    ENGINE.get_or_try_init(|| Engine::new(&TABLE, log::max_watches(), heap::is_exhausted))
}

/// Whether this is a vfork child, which must change nothing that it shares with its parent.
fn is_foreign() -> bool {
    sys::getpid() != PID.load(Ordering::SeqCst)
}

#[ctor::ctor(unsafe)]
fn loaded() {
    wake();
}

/// Everything that has to be there before the first call: once, in the constructor, or earlier when the constructor of
/// another library calls first.
#[inline]
fn wake() {
    // Each hook comes by here: a load is shared between processors, a swap is not.
    if !AWAKE.load(Ordering::SeqCst) && !AWAKE.swap(true, Ordering::SeqCst) {
        start();
    }
}

#[cold]
fn start() {
    PID.store(sys::getpid(), Ordering::SeqCst);
    for resolve in [
        cancel::resolve,
        descriptors::resolve,
        epoll::resolve,
        file::resolve,
        forks::resolve,
        io::resolve,
        left::resolve,
        memory::resolve,
        namespaces::resolve,
        openers::resolve,
        poll::resolve,
        queues::resolve,
        raw::resolve,
        select::resolve,
        sending::resolve,
        signals::resolve,
    ] {
        resolve();
    }
    log::start();
    forks::start();
}
