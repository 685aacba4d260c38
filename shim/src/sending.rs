//! Signals that the program sends itself: a signalfd wakes for each one that is new, though it was readable before.

use libc::{c_int, pid_t, pthread_t, sigval};
use uepoll::fdtable::Signs;
use uepoll::files::Kind;
use uepoll::sys;

use crate::hook::{hooks, real};
use crate::{TABLE, evidence};

hooks! {
    /// raise(3)
    fn raise(signal: c_int) -> c_int {
        sending(signal, || real!(raise(signal)))
    }

    /// kill(2)
    fn kill(process: pid_t, signal: c_int) -> c_int {
        sending(signal, || real!(kill(process, signal)))
    }

    /// tgkill(2)
    fn tgkill(process: pid_t, thread: pid_t, signal: c_int) -> c_int {
        sending(signal, || real!(tgkill(process, thread, signal)))
    }

    /// sigqueue(3)
    fn sigqueue(process: pid_t, signal: c_int, value: sigval) -> c_int {
        sending(signal, || real!(sigqueue(process, signal, value)))
    }

    /// pthread_kill(3)
    fn pthread_kill(thread: pthread_t, signal: c_int) -> c_int {
        sending(signal, || real!(pthread_kill(thread, signal) else libc::ENOSYS))
    }

    /// pthread_sigqueue(3)
    fn pthread_sigqueue(thread: pthread_t, signal: c_int, value: sigval) -> c_int {
        sending(signal, || real!(pthread_sigqueue(thread, signal, value) else libc::ENOSYS))
    }
}

/// Real-time signals queue up; of the others a second one is lost, and wakes nobody.
const FIRST_REALTIME: c_int = 32;

fn sending(signal: c_int, send: impl FnOnce() -> c_int) -> c_int {
    if !TABLE.wants_evidence_of(Kind::Signalfd) || !(1..=64).contains(&signal) {
        return send();
    }
    let is_pending = || sys::pending_signals() & 1 << (signal - 1) != 0;
    let before = signal < FIRST_REALTIME && is_pending();
    // Not pending: it was another process' or thread's, or its handler has run.
    evidence::waking(TABLE.evident(Kind::Signalfd), Signs::WOKEN, send, |_| !before && is_pending())
}
