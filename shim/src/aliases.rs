//! libc's other names for functions that are replaced: who calls `__close` gets what `close` gives.

use libc::{
    FILE, c_int, c_void, fd_set, iovec, nfds_t, off_t, pollfd, sighandler_t, size_t, sockaddr,
    socklen_t, ssize_t, timeval,
};

use crate::{descriptors, io, openers, poll, select, sending, signals};

macro_rules! aliases {
    ($($alias:ident = $file:ident::$name:ident($($arg:ident: $type:ty),*) -> $ret:ty;)*) => {$(
        #[doc = concat!("`", stringify!($name), "`, by another name.")]
        #[unsafe(no_mangle)]
        #[allow(clippy::missing_safety_doc)]
        pub unsafe extern "C-unwind" fn $alias($($arg: $type),*) -> $ret {
            // SAFETY: the same function, with the arguments as they came.
            unsafe { $file::$name($($arg),*) }
        }
    )*};
}

aliases! {
    __close = descriptors::close(fd: c_int) -> c_int;
    __dup2 = descriptors::dup2(old: c_int, new: c_int) -> c_int;
    __fcntl = descriptors::fcntl(fd: c_int, cmd: c_int, arg: usize) -> c_int;
    _IO_fclose = descriptors::fclose(stream: *mut FILE) -> c_int;
    __read = io::read(fd: c_int, buffer: *mut c_void, len: size_t) -> ssize_t;
    __write = io::write(fd: c_int, buffer: *const c_void, len: size_t) -> ssize_t;
    __send = io::send(fd: c_int, buffer: *const c_void, len: size_t, flags: c_int) -> ssize_t;
    preadv64v2 = io::preadv2(
        fd: c_int, parts: *const iovec, count: c_int, offset: off_t, flags: c_int
    ) -> ssize_t;
    pwritev64v2 = io::pwritev2(
        fd: c_int, parts: *const iovec, count: c_int, offset: off_t, flags: c_int
    ) -> ssize_t;
    __connect = openers::connect(fd: c_int, address: *const sockaddr, len: socklen_t) -> c_int;
    __pipe = openers::pipe(pair: *mut c_int) -> c_int;
    __poll = poll::poll(fds: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int;
    __select = select::select(
        count: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, timeout: *mut timeval
    ) -> c_int;
    gsignal = sending::raise(signal: c_int) -> c_int;
    __sigaction = signals::sigaction(
        signal: c_int, new: *const libc::sigaction, old: *mut libc::sigaction
    ) -> c_int;
    ssignal = signals::signal(signal: c_int, handler: sighandler_t) -> sighandler_t;
    bsd_signal = signals::signal(signal: c_int, handler: sighandler_t) -> sighandler_t;
}
