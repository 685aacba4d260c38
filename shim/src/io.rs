//! The program's reads and writes. What they show of a file evidence.rs makes of them.
//!
//! For a descriptor that no edge-triggered item watches a hook is one load and a jump. An epoll descriptor can be
//! neither read nor written (EINVAL); the library's own ones are not open (EBADF).

use libc::{
    c_int, c_uint, c_void, iovec, mmsghdr, msghdr, off_t, size_t, sockaddr, socklen_t, ssize_t,
    timespec,
};
use uepoll::fdtable::Flags;

use crate::evidence::{
    Before, Begun, OF_INTEREST, after_read, after_refusal, after_write, before_read, moving,
    write_begins,
};
use crate::hook::{hooks, real};
use crate::{TABLE, errno, left};

/// A read through `$call`, of at most `$len` bytes.
macro_rules! reading {
    ($fd:expr, $len:expr, $flags:expr, $call:expr) => {{
        let word = TABLE.word($fd);
        if !word.is(OF_INTEREST) {
            return $call;
        }
        let before = before_read($fd, word);
        let result = left::within(before.if_any(), Before::ends, move || $call);
        after_read($fd, word, $len as usize, result as isize, $flags, before);
        result
    }};
}

/// A write through `$call`, of `$len` bytes.
macro_rules! writing {
    ($fd:expr, $len:expr, $call:expr) => {{
        let word = TABLE.word($fd);
        if !word.is(OF_INTEREST) {
            let result = $call;
            if result < 0 {
                after_refusal($fd, word);
            }
            return result;
        }
        let begun = write_begins($fd, word);
        let result = left::within(begun.if_any(), Begun::ends, move || $call);
        after_write($fd, word, $len as usize, result as isize, begun);
        result
    }};
}

/// Fails where the descriptor can be neither read nor written.
macro_rules! refuse {
    ($fd:expr) => {
        let word = TABLE.word($fd);
        if word.is(Flags::EPOLL.union(Flags::OURS)) {
            let error = if word.is(Flags::EPOLL) { libc::EINVAL } else { libc::EBADF };
            return errno::fail(error) as _;
        }
    };
}

hooks! {
    /// read(2)
    fn read(fd: c_int, buffer: *mut c_void, len: size_t) -> ssize_t {
        refuse!(fd);
        reading!(fd, len, 0, real!(read(fd, buffer, len)))
    }

    /// read(2), as fortified programs call it.
    fn __read_chk(fd: c_int, buffer: *mut c_void, len: size_t, room: size_t) -> ssize_t {
        refuse!(fd);
        reading!(fd, len, 0, real!(__read_chk(fd, buffer, len, room)))
    }

    /// readv(2)
    fn readv(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
        refuse!(fd);
        reading!(fd, total(parts, count as usize), 0, real!(readv(fd, parts, count)))
    }

    /// preadv2(2), which is readv(2) with flags where it has no offset.
    fn preadv2(fd: c_int, parts: *const iovec, count: c_int, offset: off_t, flags: c_int) -> ssize_t {
        if offset == -1 {
            refuse!(fd);
        }
        reading!(fd, total(parts, count as usize), 0, real!(preadv2(fd, parts, count, offset, flags)))
    }

    /// recv(2)
    fn recv(fd: c_int, buffer: *mut c_void, len: size_t, flags: c_int) -> ssize_t {
        reading!(fd, len, flags, real!(recv(fd, buffer, len, flags)))
    }

    /// recv(2), as fortified programs call it.
    fn __recv_chk(fd: c_int, buffer: *mut c_void, len: size_t, room: size_t, flags: c_int) -> ssize_t {
        reading!(fd, len, flags, real!(__recv_chk(fd, buffer, len, room, flags)))
    }

    /// recvfrom(2)
    fn recvfrom(
        fd: c_int, buffer: *mut c_void, len: size_t, flags: c_int, from: *mut sockaddr, from_len: *mut socklen_t,
    ) -> ssize_t {
        reading!(fd, len, flags, real!(recvfrom(fd, buffer, len, flags, from, from_len)))
    }

    /// recvfrom(2), as fortified programs call it.
    fn __recvfrom_chk(
        fd: c_int, buffer: *mut c_void, len: size_t, room: size_t, flags: c_int, from: *mut sockaddr,
        from_len: *mut socklen_t,
    ) -> ssize_t {
        reading!(fd, len, flags, real!(__recvfrom_chk(fd, buffer, len, room, flags, from, from_len)))
    }

    /// recvmsg(2). One that brought control data may have stopped at it: a short read is no evidence then.
    fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t {
        let word = TABLE.word(fd);
        if !word.is(OF_INTEREST) {
            return real!(recvmsg(fd, message, flags));
        }
        let before = before_read(fd, word);
        let result = left::within(before.if_any(), Before::ends, || real!(recvmsg(fd, message, flags)));
        let (len, controls) = if result >= 0 {
            // SAFETY: the kernel has just read and written it.
            unsafe { (total((*message).msg_iov, (*message).msg_iovlen), (*message).msg_controllen) }
        } else {
            (0, 0)
        };
        let len = if controls > 0 { result as usize } else { len };
        after_read(fd, word, len, result, flags, before);
        result
    }

    /// recvmmsg(2)
    fn recvmmsg(
        fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int, timeout: *mut timespec,
    ) -> c_int {
        reading!(fd, 0, flags, real!(recvmmsg(fd, messages, count, flags, timeout)))
    }

    /// write(2)
    fn write(fd: c_int, buffer: *const c_void, len: size_t) -> ssize_t {
        refuse!(fd);
        writing!(fd, len, real!(write(fd, buffer, len)))
    }

    /// writev(2)
    fn writev(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
        refuse!(fd);
        writing!(fd, total(parts, count as usize), real!(writev(fd, parts, count)))
    }

    /// pwritev2(2), which is writev(2) with flags where it has no offset.
    fn pwritev2(fd: c_int, parts: *const iovec, count: c_int, offset: off_t, flags: c_int) -> ssize_t {
        if offset == -1 {
            refuse!(fd);
        }
        writing!(fd, total(parts, count as usize), real!(pwritev2(fd, parts, count, offset, flags)))
    }

    /// send(2)
    fn send(fd: c_int, buffer: *const c_void, len: size_t, flags: c_int) -> ssize_t {
        writing!(fd, len, real!(send(fd, buffer, len, flags)))
    }

    /// sendto(2)
    fn sendto(
        fd: c_int, buffer: *const c_void, len: size_t, flags: c_int, to: *const sockaddr, to_len: socklen_t,
    ) -> ssize_t {
        writing!(fd, len, real!(sendto(fd, buffer, len, flags, to, to_len)))
    }

    /// sendmsg(2). Descriptors may travel with it: what was this process' alone is so no longer.
    fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t {
        let begun = write_begins(fd, TABLE.word(fd));
        let send = || real!(sendmsg(fd, message, flags));
        let result = left::within(begun.if_any(), Begun::ends, send);
        if result < 0 && errno::get() != libc::EAGAIN {
            begun.ends();
            return result;
        }
        // SAFETY: the kernel has just read it.
        let (len, controls) =
            unsafe { (total((*message).msg_iov, (*message).msg_iovlen), (*message).msg_controllen) };
        if controls > 0 {
            TABLE.share_private();
        }
        after_write(fd, TABLE.word(fd), len, result, begun);
        result
    }

    /// sendmmsg(2)
    fn sendmmsg(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int) -> c_int {
        TABLE.share_private();
        writing!(fd, count, real!(sendmmsg(fd, messages, count, flags)))
    }

    /// sendfile(2)
    fn sendfile(to: c_int, from: c_int, offset: *mut off_t, len: size_t) -> ssize_t {
        moving(from, to, len, || real!(sendfile(to, from, offset, len)))
    }

    /// sendfile(2), for programs built with large files.
    fn sendfile64(to: c_int, from: c_int, offset: *mut off_t, len: size_t) -> ssize_t {
        moving(from, to, len, || real!(sendfile64(to, from, offset, len)))
    }

    /// splice(2)
    fn splice(
        from: c_int, from_offset: *mut off_t, to: c_int, to_offset: *mut off_t, len: size_t, flags: c_uint,
    ) -> ssize_t {
        moving(from, to, len, || {
            real!(splice(from, from_offset, to, to_offset, len, flags))
        })
    }

    /// eventfd_read(3) reads inside libc.
    fn eventfd_read(fd: c_int, value: *mut u64) -> c_int {
        refuse!(fd);
        let result = real!(eventfd_read(fd, value));
        let word = TABLE.word(fd);
        if word.is(OF_INTEREST) {
            after_read(fd, word, 8, if result == 0 { 8 } else { -1 }, 0, Before::default());
        }
        result
    }

    /// eventfd_write(3) writes inside libc.
    fn eventfd_write(fd: c_int, value: u64) -> c_int {
        refuse!(fd);
        let word = TABLE.word(fd);
        let begun = write_begins(fd, word);
        let result = left::within(begun.if_any(), Begun::ends, || real!(eventfd_write(fd, value)));
        after_write(fd, word, 8, if result == 0 { 8 } else { -1 }, begun);
        result
    }
}

/// Bytes that an array of parts asks for. Looked at before the call, so that a bad pointer must not crash.
fn total(parts: *const iovec, count: usize) -> usize {
    if count > 1024 || !crate::memory::readable(parts, count * size_of::<iovec>()) {
        return 0;
    }
    // SAFETY: readable, of the program's making.
    let lens = (0..count).map(|index| unsafe { parts.add(index).read_unaligned() }.iov_len);
    // More than there can be: the call has failed.
    lens.fold(0, usize::saturating_add)
}
