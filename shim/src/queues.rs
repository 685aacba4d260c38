//! POSIX message queues: each message that is put in or taken out wakes whoever polls the queue, for input or for room, and
//! the level shows neither.

use libc::{c_char, c_int, c_uint, size_t, ssize_t, timespec};
use uepoll::fdtable::{Entry, Flags, Signs};

use crate::hook::{hooks, real};
use crate::{TABLE, evidence, left};

hooks! {
    /// mq_send(3)
    fn mq_send(queue: c_int, text: *const c_char, len: size_t, priority: c_uint) -> c_int {
        sending(queue, || real!(mq_send(queue, text, len, priority)))
    }

    /// mq_timedsend(2)
    fn mq_timedsend(
        queue: c_int, text: *const c_char, len: size_t, priority: c_uint, until: *const timespec,
    ) -> c_int {
        sending(queue, || {
            real!(mq_timedsend(queue, text, len, priority, until))
        })
    }

    /// mq_receive(3)
    fn mq_receive(queue: c_int, text: *mut c_char, len: size_t, priority: *mut c_uint) -> ssize_t {
        receiving(queue, || {
            real!(mq_receive(queue, text, len, priority))
        })
    }

    /// mq_timedreceive(2)
    fn mq_timedreceive(
        queue: c_int, text: *mut c_char, len: size_t, priority: *mut c_uint, until: *const timespec,
    ) -> ssize_t {
        receiving(queue, || {
            real!(mq_timedreceive(queue, text, len, priority, until))
        })
    }
}

fn sending(queue: c_int, send: impl FnOnce() -> c_int) -> c_int {
    evidence::waking(std::iter::once(queue), Signs::WOKEN, send, |result| result == 0)
}

fn receiving(queue: c_int, receive: impl FnOnce() -> ssize_t) -> ssize_t {
    let watched = TABLE.word(queue).is(Flags::EVIDENCE);
    let Some(home) = TABLE.home(queue).filter(|_| watched) else { return receive() };
    home.read_begins();
    let counted = |result| {
        if result >= 0 {
            // The queue counts messages, so that is what its reader counts.
            home.consume(1);
        }
        result >= 0
    };
    let receive = || evidence::waking(std::iter::once(queue), Signs::WOKEN, receive, counted);
    let result = left::within(Some(home), Entry::read_ends, receive);
    home.read_ends();
    result
}
