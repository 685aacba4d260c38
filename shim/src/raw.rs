//! syscall(2): callers that go past the wrappers get what the wrappers give.

use libc::{c_int, c_long, c_uint};

use crate::errno::fail;
use crate::hook::{hooks, real};
use crate::{TABLE, descriptors, epoll, forks, io, namespaces, poll, queues};
use uepoll::fdtable::Word;

/// io_uring_setup. A ring could make epoll calls of its own (IORING_OP_EPOLL_CTL), which nobody would answer; those who
/// ask for one by syscall(2) fall back when there is none.
const IO_URING_SETUP: c_long = 425;

hooks! {
    /// syscall(2). Variadic in C; its arguments come in the same registers.
    fn syscall(
        number: c_long, a: usize, b: usize, c: usize, d: usize, e: usize, f: usize,
    ) -> c_long {
        served(number, a, b, c, d, e, f)
            .unwrap_or_else(|| real!(syscall(number, a, b, c, d, e, f)))
    }
}

/// The result of a system call that the library answers.
fn served(
    number: c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> Option<c_long> {
    let (fd, second) = (a as c_int, b as c_int);
    // SAFETY: each is the replaced function of that name, whose arguments the system call has in the same order; the
    // pointers are the program's own.
    let result = unsafe {
        match number {
            #[cfg(target_arch = "x86_64")]
            libc::SYS_epoll_create => epoll::epoll_create(fd),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_epoll_wait => epoll::epoll_wait(fd, b as _, c as c_int, d as c_int),
            libc::SYS_epoll_create1 => epoll::epoll_create1(fd),
            libc::SYS_epoll_ctl => epoll::ctl(fd, second, c as c_int, d as _),
            libc::SYS_epoll_pwait => epoll::pwait(fd, b as _, c as c_int, d as c_int, e as _, f),
            libc::SYS_epoll_pwait2 => epoll::pwait2(fd, b as _, c as c_int, d as _, e as _, f),
            libc::SYS_close => descriptors::close(fd),
            libc::SYS_close_range => descriptors::close_range(a as c_uint, b as c_uint, c as c_int),
            libc::SYS_dup => descriptors::dup(fd),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_dup2 => descriptors::dup2(fd, second),
            libc::SYS_dup3 => descriptors::dup3(fd, second, c as c_int),
            libc::SYS_fcntl => descriptors::fcntl(fd, second, c),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_poll if poll::has_instance(a as _, b as _) => {
                poll::poll(a as _, b as _, c as c_int)
            }
            libc::SYS_ppoll if poll::has_instance(a as _, b as _) => {
                poll::ppoll(a as _, b as _, c as _, d as _)
            }
            #[cfg(target_arch = "x86_64")]
            libc::SYS_fork => return Some(forked(number, a, b, c, d, e, f)),
            libc::SYS_clone if forks::is_fork(a, b) => {
                return Some(forked(number, a, b, c, d, e, f));
            }
            libc::SYS_clone3 if forks::is_fork_by(a as _) => {
                return Some(forked(number, a, b, c, d, e, f));
            }
            libc::SYS_unshare => namespaces::unshare(fd),
            libc::SYS_setns => namespaces::setns(fd, second),
            libc::SYS_mq_timedsend => queues::mq_timedsend(fd, b as _, c, d as c_uint, e as _),
            libc::SYS_mq_timedreceive => {
                return Some(queues::mq_timedreceive(fd, b as _, c, d as _, e as _) as c_long);
            }
            libc::SYS_read if TABLE.word(fd) != Word::EMPTY => {
                return Some(io::read(fd, b as _, c) as c_long);
            }
            libc::SYS_write if TABLE.word(fd) != Word::EMPTY => {
                return Some(io::write(fd, b as _, c) as c_long);
            }
            IO_URING_SETUP => fail(libc::ENOSYS),
            _ => return None,
        }
    };
    Some(c_long::from(result))
}

fn forked(number: c_long, a: usize, b: usize, c: usize, d: usize, e: usize, f: usize) -> c_long {
    forks::forking(|| real!(syscall(number, a, b, c, d, e, f)))
}
