//! Descriptors that come: what kind of file each is, and which two belong together, told to the table at the moment of
//! their making. It saves a question to the kernel for each registration, and shows the other end's writes as edges.

use libc::{c_int, c_uint, itimerspec, sigset_t, sockaddr, socklen_t};
use uepoll::fdtable::{Flags, Signs};
use uepoll::files::Kind;
use uepoll::sys;

use crate::hook::{hooks, real};
use crate::{TABLE, engine, evidence, is_foreign};

hooks! {
    /// socket(2)
    fn socket(family: c_int, socket_type: c_int, protocol: c_int) -> c_int {
        let fd = real!(socket(family, socket_type, protocol));
        opened(fd, Kind::of_socket(family, socket_type))
    }

    /// socketpair(2)
    fn socketpair(family: c_int, socket_type: c_int, protocol: c_int, pair: *mut c_int) -> c_int {
        let result = real!(socketpair(family, socket_type, protocol, pair));
        opened_pair(result, pair, Kind::of_socket(family, socket_type))
    }

    /// accept(2)
    fn accept(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int {
        accepted(fd, real!(accept(fd, address, len)))
    }

    /// accept4(2)
    fn accept4(fd: c_int, address: *mut sockaddr, len: *mut socklen_t, flags: c_int) -> c_int {
        accepted(fd, real!(accept4(fd, address, len, flags)))
    }

    /// listen(2) makes another kind of file of a socket.
    fn listen(fd: c_int, backlog: c_int) -> c_int {
        let result = real!(listen(fd, backlog));
        if result == 0 && !is_foreign() {
            TABLE.update_file(fd, |word| word.with_kind(word.kind().listening()));
            // It wakes nobody; there is nothing in it yet.
            evidence::sign_evident(fd, Signs::DRAINED);
        }
        result
    }

    /// connect(2): a fresh socket that reported its hang-up begins anew, and one whose connection failed is told so and
    /// begins anew, too.
    fn connect(fd: c_int, address: *const sockaddr, len: socklen_t) -> c_int {
        let word = TABLE.word(fd);
        let watched = word.is(Flags::EVIDENCE) && matches!(word.kind(), Kind::Tcp | Kind::TcpListener);
        let fresh = watched
            && sys::levels_now(fd, libc::POLLOUT) & libc::POLLHUP != 0
            && sys::is_tcp_closed(fd);
        let wakes = |result| {
            let error = crate::errno::get();
            let begins = fresh && (result == 0 || error == libc::EINPROGRESS);
            let fails = watched
                && result < 0
                && (error == libc::EPIPE || evidence::FROM_AFAR.contains(&error));
            begins || fails
        };
        let files = watched.then_some(fd).into_iter();
        evidence::waking(files, Signs::WOKEN, || real!(connect(fd, address, len)), wakes)
    }

    /// shutdown(2) wakes all who wait for the socket, even one that is not connected, and those of the other end of a
    /// UNIX pair.
    fn shutdown(fd: c_int, how: c_int) -> c_int {
        // Whoever sends datagrams to it learns it by sending.
        let peer = TABLE.get(fd).and_then(|entry| entry.peer());
        let peer = peer.filter(|_| TABLE.word(fd).is(Flags::PEERED) && !is_datagram(fd));
        let files = [Some(fd), peer].into_iter().flatten();
        evidence::waking(files, Signs::WOKEN, || real!(shutdown(fd, how)), |result| was_shut(fd, how, result))
    }

    /// pipe(2)
    fn pipe(pair: *mut c_int) -> c_int {
        let result = real!(pipe(pair));
        opened_pair(result, pair, Kind::Pipe)
    }

    /// pipe2(2). In packet mode a short read does not mean that the pipe is empty.
    fn pipe2(pair: *mut c_int, flags: c_int) -> c_int {
        let result = real!(pipe2(pair, flags));
        let kind = if flags & libc::O_DIRECT != 0 { Kind::Counted } else { Kind::Pipe };
        opened_pair(result, pair, kind)
    }

    /// eventfd(2)
    fn eventfd(count: c_uint, flags: c_int) -> c_int {
        let fd = real!(eventfd(count, flags));
        let semaphore = flags & libc::EFD_SEMAPHORE != 0;
        let kind = if semaphore { Kind::EventfdSemaphore } else { Kind::Eventfd };
        if fd >= 0 && !is_foreign() {
            forget(fd);
            TABLE.opened_eventfd(fd, kind, flags & libc::EFD_CLOEXEC != 0);
        }
        fd
    }

    /// timerfd_create(2)
    fn timerfd_create(clock: c_int, flags: c_int) -> c_int {
        opened(real!(timerfd_create(clock, flags)), Kind::Timerfd)
    }

    /// signalfd(2), which also changes one that there is.
    fn signalfd(fd: c_int, mask: *const sigset_t, flags: c_int) -> c_int {
        let made = real!(signalfd(fd, mask, flags));
        if made == fd { made } else { opened(made, Kind::Signalfd) }
    }

    /// inotify_init(2)
    fn inotify_init() -> c_int {
        opened(real!(inotify_init()), Kind::Counted)
    }

    /// inotify_init1(2)
    fn inotify_init1(flags: c_int) -> c_int {
        opened(real!(inotify_init1(flags)), Kind::Counted)
    }

    /// timerfd_settime(2): what had expired is forgotten.
    fn timerfd_settime(
        fd: c_int, flags: c_int, new: *const itimerspec, old: *mut itimerspec,
    ) -> c_int {
        let set = || real!(timerfd_settime(fd, flags, new, old));
        evidence::waking([fd].into_iter(), Signs::DRAINED, set, |result| result == 0)
    }
}

/// What a shutdown made of a socket. False: nothing.
fn was_shut(fd: c_int, how: c_int, result: c_int) -> bool {
    if result != 0 && crate::errno::get() != libc::ENOTCONN {
        return false;
    }
    let reading = how != libc::SHUT_WR;
    TABLE.update_file(fd, |word| match word.kind() {
        // It begins anew as a socket without connection; and has no writing side.
        Kind::TcpListener if reading => word.with_kind(Kind::Tcp),
        Kind::TcpListener => word,
        kind => {
            // To a UNIX socket nothing comes after that.
            let deaf = reading && !matches!(kind, Kind::UnixStream | Kind::UnixPackets);
            let mute = how != libc::SHUT_RD;
            let deaf = if deaf { Flags::DEAF } else { Flags::empty() };
            word.with(deaf | if mute { Flags::MUTE } else { Flags::empty() })
        }
    });
    true
}

/// Whether a UNIX socket has no connection.
pub fn is_datagram(fd: c_int) -> bool {
    TABLE.word(fd).kind() == Kind::UnixPackets
        && sys::socket_option(fd, libc::SO_TYPE).is_ok_and(|kind| kind == libc::SOCK_DGRAM)
}

/// A number was opened, as this kind of file.
fn opened(fd: c_int, kind: Kind) -> c_int {
    if fd < 0 || is_foreign() {
        return fd;
    }
    forget(fd);
    TABLE.opened(fd, kind);
    fd
}

fn opened_pair(result: c_int, pair: *const c_int, kind: Kind) -> c_int {
    if result == 0 && !is_foreign() {
        // SAFETY: the call succeeded, so the kernel has written two numbers there.
        let (one, other) = unsafe { (pair.read(), pair.add(1).read()) };
        forget(one);
        forget(other);
        TABLE.opened_pair(one, other, kind);
    }
    result
}

/// The number was another file's, which was closed by a way that no hook sees.
fn forget(fd: c_int) {
    if TABLE.word(fd).is(Flags::WATCHED | Flags::EPOLL | Flags::HELD)
        && let Some(engine) = engine()
    {
        let _ = engine.closing(fd);
    }
}

fn accepted(listener: c_int, fd: c_int) -> c_int {
    let word = TABLE.word(listener);
    evidence::after_accept(listener, fd);
    if fd >= 0 && word.kind() == Kind::TcpListener {
        return opened(fd, Kind::Tcp);
    }
    if fd >= 0 && TABLE.word(fd).flags() != Flags::empty() {
        return opened(fd, Kind::Unknown);
    }
    fd
}
