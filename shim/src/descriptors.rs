//! Descriptors that go, and numbers that get a second name: close and its kin, dup and its kin, fcntl.
//!
//! A descriptor of the library is one that the program does not have: closing or duplicating it gives EBADF, and sweeps
//! go around it.

use libc::{FILE, c_char, c_int, c_uint};
use uepoll::fdtable::{Flags, Word};
use uepoll::{Errno, sys};

use crate::errno::fail;
use crate::hook::{hooks, real};
use crate::{TABLE, engine, is_foreign};

hooks! {
    /// close(2): when it returns, nobody in the library holds the file.
    fn close(fd: c_int) -> c_int {
        match closing(fd) {
            Ok(()) => real!(close(fd)),
            Err(error) => fail(error.into_raw()),
        }
    }

    /// close_range(2), split around the library's own descriptors.
    fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int {
        // Others close nothing: they mark, or they fail.
        if flags as c_uint & !libc::CLOSE_RANGE_UNSHARE != 0 || first > last {
            return real!(close_range(first, last, flags));
        }
        sweep(first, last, |from, to| real!(close_range(from, to, flags)))
    }

    /// closefrom(3), as close_range(2).
    fn closefrom(low: c_int) -> () {
        let before = crate::errno::get();
        let done = sweep(low.max(0) as c_uint, c_uint::MAX, |from, to| {
            match sys::close_range(from, to) {
                Ok(()) => 0,
                Err(error) => fail(error.into_raw()),
            }
        });
        if done < 0 {
            // An old kernel: one after the other.
            let limit = sys::descriptor_limits().0.min(uepoll::fdtable::CAPACITY as u64);
            for fd in low.max(0)..limit as c_int {
                if closing(fd).is_ok() {
                    sys::close(fd);
                }
            }
        }
        crate::errno::set(before);
    }

    /// fclose(3) closes the stream's descriptor, by a call inside libc.
    fn fclose(stream: *mut FILE) -> c_int {
        closing_stream(stream);
        real!(fclose(stream))
    }

    /// pclose(3), the same; it then waits for the child, which may be waiting for that.
    fn pclose(stream: *mut FILE) -> c_int {
        closing_stream(stream);
        real!(pclose(stream))
    }

    /// mq_close(3) is close(2), by a call inside libc.
    fn mq_close(queue: c_int) -> c_int {
        match closing(queue) {
            Ok(()) => real!(mq_close(queue)),
            Err(error) => fail(error.into_raw()),
        }
    }

    /// daemon(3) forks, and has the child's standard descriptors replaced, by calls inside libc.
    fn daemon(no_chdir: c_int, no_close: c_int) -> c_int {
        let result = real!(daemon(no_chdir, no_close));
        if result == 0 && no_close == 0 {
            // Nobody sleeps on them: the child has one thread.
            for fd in libc::STDIN_FILENO..=libc::STDERR_FILENO {
                let _ = closing(fd);
            }
        }
        result
    }

    /// freopen(3) closes the stream's descriptor, by a call inside libc, and mostly opens the same number again.
    fn freopen(path: *const c_char, mode: *const c_char, stream: *mut FILE) -> *mut FILE {
        closing_stream(stream);
        real!(freopen(path, mode, stream) else std::ptr::null_mut())
    }

    /// freopen(3), for programs built with large files.
    fn freopen64(path: *const c_char, mode: *const c_char, stream: *mut FILE) -> *mut FILE {
        closing_stream(stream);
        real!(freopen64(path, mode, stream) else std::ptr::null_mut())
    }

    /// dup(2)
    fn dup(old: c_int) -> c_int {
        if is_ours(old) {
            return fail(libc::EBADF);
        }
        duplicated(old, real!(dup(old)))
    }

    /// dup2(2) closes the new number first.
    fn dup2(old: c_int, new: c_int) -> c_int {
        if is_ours(old) {
            return fail(libc::EBADF);
        }
        replacing(old, new);
        duplicated(old, real!(dup2(old, new)))
    }

    /// dup3(2) closes the new number first.
    fn dup3(old: c_int, new: c_int, flags: c_int) -> c_int {
        if is_ours(old) {
            return fail(libc::EBADF);
        }
        if flags & !libc::O_CLOEXEC == 0 {
            replacing(old, new);
        }
        duplicated(old, real!(dup3(old, new, flags)))
    }

    /// fcntl(2). Variadic in C; a third argument of any kind comes in the same register, and where there is none nobody
    /// looks at it.
    fn fcntl(fd: c_int, cmd: c_int, arg: usize) -> c_int {
        if is_ours(fd) {
            return fail(libc::EBADF);
        }
        let result = real!(fcntl(fd, cmd, arg));
        after_fcntl(fd, cmd, result)
    }

    /// fcntl(2), for programs built with large files.
    fn fcntl64(fd: c_int, cmd: c_int, arg: usize) -> c_int {
        if is_ours(fd) {
            return fail(libc::EBADF);
        }
        let result = real!(fcntl64(fd, cmd, arg));
        after_fcntl(fd, cmd, result)
    }
}

fn is_ours(fd: c_int) -> bool {
    TABLE.word(fd).is(Flags::OURS) && !is_foreign()
}

/// Tells the engine that libc is about to close a stream's number.
fn closing_stream(stream: *mut FILE) {
    // SAFETY: the program's own stream, which the function that was called follows too.
    let fd = unsafe { libc::fileno(stream) };
    if fd >= 0 {
        let _ = closing(fd);
    }
}

/// Tells the engine that a number is being closed. One load for a number of which nothing is known.
#[inline]
fn closing(fd: c_int) -> Result<(), Errno> {
    if TABLE.word(fd) == Word::EMPTY {
        return Ok(());
    }
    closing_known(fd)
}

#[cold]
fn closing_known(fd: c_int) -> Result<(), Errno> {
    if !is_foreign() {
        crate::evidence::before_close(fd, TABLE.word(fd));
    }
    match engine() {
        Some(engine) => engine.closing(fd),
        None => {
            if !is_foreign() {
                TABLE.close(fd);
            }
            Ok(())
        }
    }
}

/// A number that dup2 is about to close; if `old` is open, for else it stays.
fn replacing(old: c_int, new: c_int) {
    let known = new != old && TABLE.word(new) != Word::EMPTY;
    if !known || sys::status_flags(old).is_err() {
        return;
    }
    if TABLE.word(new).is(Flags::OURS) {
        if let Some(engine) = engine() {
            engine.give_up(new);
        }
        return;
    }
    let _ = closing(new);
}

fn duplicated(old: c_int, new: c_int) -> c_int {
    if new >= 0 && new != old {
        match engine() {
            Some(engine) => engine.duplicated(old, new),
            None if !is_foreign() => TABLE.duplicated(old, new),
            None => {}
        }
    }
    new
}

fn after_fcntl(fd: c_int, cmd: c_int, result: c_int) -> c_int {
    match cmd {
        libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => duplicated(fd, result),
        libc::F_SETFD => {
            TABLE.inheritable(fd);
            result
        }
        _ => result,
    }
}

/// Closes a range of numbers by `close`, in pieces around the library's own descriptors.
fn sweep(first: c_uint, last: c_uint, mut close: impl FnMut(c_uint, c_uint) -> c_int) -> c_int {
    if is_foreign() {
        return close(first, last);
    }
    let last_known = last.min(c_int::MAX as c_uint) as c_int;
    let in_range = |fd: &c_int| *fd as c_uint >= first && *fd <= last_known;
    for fd in (first.min(c_int::MAX as c_uint) as c_int..TABLE.high()).filter(in_range) {
        if !TABLE.word(fd).is(Flags::OURS) {
            let _ = closing(fd);
        }
    }
    let mut from = first;
    for fd in TABLE.ours().filter(in_range) {
        let number = fd as c_uint;
        if TABLE.word(fd).is(Flags::OURS) {
            if from < number && close(from, number - 1) < 0 {
                return -1;
            }
            from = number + 1;
        }
    }
    if from <= last { close(from, last) } else { 0 }
}
