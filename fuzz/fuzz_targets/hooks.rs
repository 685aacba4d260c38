//! What the library's hooks tell the engine of a program's calls (shim/src/evidence.rs, openers.rs, descriptors.rs), for pipes,
//! eventfds and UNIX pairs. A call that is not seen tells nothing.

use std::os::fd::RawFd;

use uepoll::fdtable::{Entry, Flags, Signs};
use uepoll::files::Kind;
use uepoll::{Engine, FdTable, sys};

use crate::Make;

pub struct Hooks {
    pub engine: &'static Engine,
    pub table: &'static FdTable,
}

impl Hooks {
    pub fn open(&self, make: Make, told: bool) -> (Kind, Vec<RawFd>) {
        let mut pair = [-1; 2];
        let kind = match make {
            Make::Pipe => {
                let flags = libc::O_NONBLOCK | libc::O_CLOEXEC;
                assert_eq!(unsafe { libc::pipe2(pair.as_mut_ptr(), flags) }, 0);
                Kind::Pipe
            }
            Make::Unix => {
                let flags = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
                let made = unsafe { libc::socketpair(libc::AF_UNIX, flags, 0, pair.as_mut_ptr()) };
                assert_eq!(made, 0);
                Kind::UnixStream
            }
            Make::Eventfd | Make::Semaphore => {
                let semaphore = matches!(make, Make::Semaphore);
                let flags = if semaphore { libc::EFD_SEMAPHORE } else { 0 };
                let fd = unsafe { libc::eventfd(0, flags | libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
                assert!(fd >= 0);
                let kind = if semaphore { Kind::EventfdSemaphore } else { Kind::Eventfd };
                if told {
                    self.table.opened_eventfd(fd, kind, false);
                }
                return (kind, vec![fd]);
            }
        };
        if told {
            self.table.opened_pair(pair[0], pair[1], kind);
        }
        (kind, pair.to_vec())
    }

    pub fn dup(&self, fd: RawFd) -> RawFd {
        let new = unsafe { libc::dup(fd) };
        assert!(new >= 0);
        self.engine.duplicated(fd, new);
        new
    }

    pub fn close(&self, fd: RawFd) {
        self.engine.closing(fd).unwrap();
        assert_eq!(unsafe { libc::close(fd) }, 0);
    }

    /// Writes; to an eventfd the number `len`. Gives the result, or the negative errno.
    pub fn write(&self, fd: RawFd, kind: Kind, len: usize, seen: bool) -> isize {
        static ZEROS: [u8; 1 << 18] = [0; 1 << 18];
        let word = self.table.word(fd);
        let peer = self.table.peer_of(fd).filter(|&peer| seen && self.table.word(peer).is(Flags::WATCHED));
        if let Some(home) = peer.and_then(|peer| self.table.home(peer)) {
            home.call_begins();
        }
        let number = len as u64;
        let result = if kind.wakes_itself() {
            unsafe { libc::write(fd, (&raw const number).cast(), 8) }
        } else {
            unsafe { libc::write(fd, ZEROS.as_ptr().cast(), len) }
        };
        let given = if result < 0 { -(errno() as isize) } else { result };
        let refused = given == -(libc::EAGAIN as isize);
        if !seen {
            return given;
        }
        if let Some(peer) = peer {
            if result > 0 || refused && kind == Kind::Pipe {
                self.engine.written(peer);
            } else {
                self.call_ends(Some(peer));
            }
        }
        if word.is(Flags::EVIDENCE) {
            let asked = if kind.wakes_itself() { 8 } else { len };
            let short = refused || result >= 0 && (result as usize) < asked;
            let full = kind == Kind::Pipe && !word.is(Flags::PEERED) && !short && !is_writable(fd);
            if full || short && !(kind.wakes_itself() && is_writable(fd)) {
                self.engine.sign(fd, Signs::FILLED);
            }
            if result > 0 && peer.is_none() && kind.wakes_itself() {
                self.engine.sign(fd, Signs::WOKEN_IN);
            }
        }
        given
    }

    /// Reads, and gives the result.
    pub fn read(&self, fd: RawFd, kind: Kind, len: usize, seen: bool) -> isize {
        let mut buffer = vec![0u8; len.max(8)];
        let word = self.table.word(fd);
        let evident = word.is(Flags::EVIDENCE);
        let len = if kind.wakes_itself() { 8 } else { len };
        let mut read = || unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), len) };
        if !seen {
            return read();
        }
        let counted = evident.then(|| self.table.home(fd)).flatten();
        if let Some(home) = counted {
            home.read_begins();
        }
        let other = self.table.peer_of(fd).filter(|&other| {
            !kind.wakes_itself() && self.table.word(other).is(Flags::EVIDENCE)
        });
        let before = other.map(|other| unsent(kind, other));
        let mut seen_by = if evident && kind.wakes_itself() { Some(fd) } else { other };
        if let Some(home) = seen_by.and_then(|number| self.table.home(number)) {
            home.call_begins();
        }
        let result = read();
        let error = errno();
        if let (Some(other), Some(before)) = (other, before)
            && match kind {
                Kind::Pipe => result > 0 && before != 0 && is_writable(other),
                _ => unsent(kind, other) < before && has_room(other),
            }
        {
            self.ends_with(&mut seen_by, other, Signs::WOKEN_OUT);
        }
        if evident && result < 0 && error == libc::EAGAIN {
            self.ends_with(&mut seen_by, fd, Signs::DRAINED);
        }
        if evident && result > 0 {
            let took = if kind == Kind::EventfdSemaphore { 1 } else { result as u32 };
            if let Some(home) = counted {
                home.consume(took);
            }
            let short = kind.short_read_drains() && (result as usize) < len;
            let mut signs = Signs::TOOK;
            signs.set(Signs::DRAINED, short || kind.any_read_drains());
            signs.set(Signs::WOKEN_OUT, kind.wakes_itself());
            self.ends_with(&mut seen_by, fd, signs);
        }
        self.call_ends(seen_by);
        counted.inspect(|home: &&Entry| home.read_ends());
        result
    }

    fn ends_with(&self, seen_by: &mut Option<RawFd>, fd: RawFd, signs: Signs) {
        if *seen_by == Some(fd) {
            *seen_by = None;
            self.engine.sign_of_call(fd, signs);
        } else {
            self.engine.sign(fd, signs);
        }
    }

    fn call_ends(&self, seen_by: Option<RawFd>) {
        if let Some(home) = seen_by.and_then(|number| self.table.home(number)) {
            home.call_ends(Signs::empty());
        }
    }
}

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

fn is_writable(fd: RawFd) -> bool {
    sys::levels_now(fd, libc::POLLOUT) & libc::POLLOUT != 0
}

fn unsent(kind: Kind, writer: RawFd) -> u32 {
    match kind {
        Kind::Pipe => u32::from(!is_writable(writer)),
        _ => sys::bytes_unsent(writer).unwrap_or(0),
    }
}

fn has_room(writer: RawFd) -> bool {
    let (Ok(unsent), Ok(limit)) =
        (sys::bytes_unsent(writer), sys::socket_option(writer, libc::SO_SNDBUF))
    else {
        return false;
    };
    (u64::from(unsent) + 1) * 4 <= limit as u64
}
