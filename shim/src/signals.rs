//! sigaction(2): handlers of the program do not run while their thread is inside the engine (see the engine's
//! sys/quiet.rs). They run a moment later, with everything that came with the signal.
//!
//! Signals that tell of a fault of the thread itself cannot wait, and are left alone; so are handlers that are to run
//! once only (SA_RESETHAND).

use std::sync::atomic::{AtomicUsize, Ordering};

use libc::{c_int, c_void, sighandler_t, siginfo_t};
use uepoll::sys;
use uepoll::sys::quiet;

use crate::hook::{hooks, real};
use crate::{errno, is_foreign};

/// The kernel's signals, and one place that is not used.
const SIGNALS: usize = 65;

const FAULTS: [c_int; 6] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS];

/// The program's handler of each signal, and whether it takes one argument or three.
static HANDLERS: [Handler; SIGNALS] = [const { Handler::new() }; SIGNALS];

struct Handler {
    function: AtomicUsize,
    flags: AtomicUsize,
}

impl Handler {
    const fn new() -> Self {
        Self { function: AtomicUsize::new(libc::SIG_DFL), flags: AtomicUsize::new(0) }
    }
}

hooks! {
    /// sigaction(2)
    fn sigaction(signal: c_int, new: *const libc::sigaction, old: *mut libc::sigaction) -> c_int {
        change(signal, new, old)
    }

    /// signal(2), with BSD's meaning, as glibc has it.
    fn signal(signal: c_int, handler: sighandler_t) -> sighandler_t {
        if !(1..SIGNALS as c_int).contains(&signal) || handler == libc::SIG_ERR {
            return real!(signal(signal, handler) else libc::SIG_ERR);
        }
        // SAFETY: all zero is an action: no handler, no flags, an empty mask.
        let (mut new, mut old): (libc::sigaction, libc::sigaction) = unsafe { std::mem::zeroed() };
        new.sa_sigaction = handler;
        new.sa_flags = libc::SA_RESTART;
        // SAFETY: a set of our own, and a signal in range.
        unsafe { libc::sigaddset(&raw mut new.sa_mask, signal) };
        match change(signal, &raw const new, &raw mut old) {
            0 => old.sa_sigaction,
            _ => libc::SIG_ERR,
        }
    }
}

fn change(signal: c_int, new: *const libc::sigaction, old: *mut libc::sigaction) -> c_int {
    let Some(handler) = usize::try_from(signal).ok().and_then(|signal| HANDLERS.get(signal)) else {
        return real!(sigaction(signal, new, old));
    };
    if is_foreign() {
        return real!(sigaction(signal, new, old));
    }
    let before = (handler.function.load(Ordering::SeqCst), handler.flags.load(Ordering::SeqCst));
    let mut installed;
    let mut replacement = new;
    if !new.is_null() {
        // SAFETY: the program's own action, which libc would read too.
        installed = unsafe { new.read() };
        // Its own relatives inside libc (sigset and the like) may have shown the program the trampoline as the old handler.
        // Given back, it stands for what it stood for.
        let given_back = installed.sa_sigaction == trampoline as *const () as sighandler_t;
        if !given_back && is_held_off(signal, &installed) {
            // Before it is installed: a signal may come at once.
            handler.function.store(installed.sa_sigaction, Ordering::SeqCst);
            handler.flags.store(installed.sa_flags as usize, Ordering::SeqCst);
            installed.sa_sigaction = trampoline as *const () as sighandler_t;
            installed.sa_flags |= libc::SA_SIGINFO;
            replacement = &raw const installed;
        }
    }
    let result = real!(sigaction(signal, replacement, old));
    if result != 0 {
        handler.function.store(before.0, Ordering::SeqCst);
        handler.flags.store(before.1, Ordering::SeqCst);
    } else if !old.is_null() {
        // SAFETY: libc has just written it.
        let old = unsafe { &mut *old };
        if old.sa_sigaction == trampoline as *const () as sighandler_t {
            old.sa_sigaction = before.0;
            if before.1 & libc::SA_SIGINFO as usize == 0 {
                old.sa_flags &= !libc::SA_SIGINFO;
            }
        }
    }
    result
}

fn is_held_off(signal: c_int, action: &libc::sigaction) -> bool {
    let handles = action.sa_sigaction != libc::SIG_DFL && action.sa_sigaction != libc::SIG_IGN;
    handles && !FAULTS.contains(&signal) && action.sa_flags & libc::SA_RESETHAND == 0
}

/// Runs in place of the program's handler: calls it, or puts the signal off.
unsafe extern "C-unwind" fn trampoline(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    if quiet::is_quiet() && put_off(signal, info, context) {
        return;
    }
    let handler = &HANDLERS[signal as usize];
    let function = handler.function.load(Ordering::SeqCst);
    quiet::handler_begins();
    if handler.flags.load(Ordering::SeqCst) & libc::SA_SIGINFO as usize != 0 {
        // SAFETY: the program gave it as a handler of this form.
        let function: unsafe extern "C-unwind" fn(c_int, *mut siginfo_t, *mut c_void) =
            unsafe { std::mem::transmute(function) };
        // SAFETY: the arguments are the kernel's.
        unsafe { function(signal, info, context) };
    } else {
        // SAFETY: as above.
        let function: unsafe extern "C-unwind" fn(c_int) = unsafe { std::mem::transmute(function) };
        // SAFETY: as above.
        unsafe { function(signal) };
    }
    quiet::handler_ends();
}

/// Blocks the signal in what the handler returns to, and queues it again. False: it cannot be queued.
fn put_off(signal: c_int, info: *const siginfo_t, context: *mut c_void) -> bool {
    let before = errno::get();
    // SAFETY: the kernel's siginfo and ucontext, valid while the handler runs.
    let (info, context) = unsafe { (&*info, &mut *context.cast::<libc::ucontext_t>()) };
    // Blocked already while this handler runs (or it would come at once), unless the program asked for SA_NODEFER.
    let mask = sys::block_signals();
    if quiet::keep(signal, info) {
        sys::restore_signals(mask);
        errno::set(before);
        return true;
    }
    let queued = sys::queue_signal(signal, info).is_ok();
    if queued {
        // SAFETY: the context's mask, and a signal in range.
        unsafe { libc::sigaddset(&raw mut context.uc_sigmask, signal) };
        quiet::defer(signal);
    } else {
        sys::restore_signals(mask);
    }
    errno::set(before);
    queued
}
