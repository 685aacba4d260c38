//! The system calls that the engine makes, and one word of libc's, and nothing else: with `sys/lock.rs` the only unsafe code of the engine.
//!
//! They are made directly, never through libc's symbols: those are the ones that the preload library interposes, and
//! the engine must not fall into its own hooks.
#![allow(unsafe_code)]

mod clock;
pub mod lock;
mod parts;
pub mod quiet;

use std::ffi::CStr;
use std::os::fd::RawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, Ordering};

use libc::{c_int, pollfd, timespec};
use syscalls::{Errno, Sysno, syscall};

pub use self::clock::{coarse_millis, learn_of_clock, now};
use crate::faults::{self, Resource};

/// What a call of the engine gives: a value, or the errno that the program will see.
pub type Result<T> = std::result::Result<T, Errno>;

/// A process-wide invariant of Linux on all architectures served: the kernel's sigset_t has 64 bits.
pub const SIGSET_BYTES: usize = 8;

/// ppoll(2) for a caller that means to sleep: signal handlers may run from here on. One that was held off before runs
/// now, and ends the sleep. Of any number of descriptors, of which the caller's wake-up descriptor is the last.
///
/// # Errors
/// EINTR when a signal handler ran, ENOMEM; EINVAL when RLIMIT_NOFILE is 0.
pub fn sleep(
    fds: &mut [pollfd],
    mut timeout: Option<&mut timespec>,
    mask: Option<&u64>,
) -> Result<usize> {
    match quiet::asleep(|| ppoll(fds, timeout.as_deref_mut(), mask)) {
        Some(Err(Errno::EINVAL)) => parts::sleep(fds, timeout, mask),
        slept => slept.unwrap_or(Err(Errno::EINTR)),
    }
}

/// ppoll(2) without sleeping, of any number of descriptors.
///
/// # Errors
/// ENOMEM; EINVAL when RLIMIT_NOFILE is 0.
pub fn look(fds: &mut [pollfd]) -> Result<usize> {
    let mut zero = timespec { tv_sec: 0, tv_nsec: 0 };
    match ppoll(fds, Some(&mut zero), None) {
        Err(Errno::EINVAL) => parts::look(fds),
        found => found,
    }
}

/// ppoll(2). `timeout` is updated to what is left of it, as the raw system call does; `None` sleeps for ever.
///
/// # Errors
/// EINTR when a signal handler ran, EINVAL when there are more descriptors than RLIMIT_NOFILE, ENOMEM.
pub fn ppoll(
    fds: &mut [pollfd],
    timeout: Option<&mut timespec>,
    mask: Option<&u64>,
) -> Result<usize> {
    // The kernel has room for some 30 on its stack.
    if fds.len() > 30 && faults::refuses(Resource::Poll) {
        return Err(Errno::ENOMEM);
    }
    let timeout = timeout.map_or(std::ptr::null_mut(), std::ptr::from_mut);
    let mask = mask.map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the slice, the timespec and the mask are exclusively borrowed or read-only for the whole call, and the
    // sizes given are theirs.
    unsafe { syscall!(Sysno::ppoll, fds.as_mut_ptr(), fds.len(), timeout, mask, SIGSET_BYTES) }
}

/// eventfd2(2) with the counter 0.
///
/// # Errors
/// EMFILE, ENFILE, ENODEV, ENOMEM.
pub fn eventfd(flags: c_int) -> Result<RawFd> {
    if faults::refuses(Resource::Descriptor) {
        return Err(Errno::EMFILE);
    }
    // SAFETY: no pointers.
    unsafe { syscall!(Sysno::eventfd2, 0, flags) }.map(as_fd)
}

/// Adds one to an eventfd. Errors are of no use to anybody: a full counter is readable all the same.
pub fn eventfd_signal(fd: RawFd) {
    let one = 1u64;
    // SAFETY: eight readable bytes.
    let _ = unsafe { syscall!(Sysno::write, fd, &raw const one, 8) };
}

/// Sets a non-blocking eventfd back to 0.
pub fn eventfd_reset(fd: RawFd) {
    let mut count = 0u64;
    // SAFETY: eight writable bytes.
    let _ = unsafe { syscall!(Sysno::read, fd, &raw mut count, 8) };
}

/// close(2), past every hook.
pub fn close(fd: RawFd) {
    // SAFETY: no pointers; the callers own the number.
    let _ = unsafe { syscall!(Sysno::close, fd) };
}

fn fcntl(fd: RawFd, cmd: c_int, arg: usize) -> Result<usize> {
    // SAFETY: only commands without a pointer are used in this file.
    unsafe { syscall!(Sysno::fcntl, fd, cmd, arg) }
}

/// A duplicate of `fd`, close-on-exec, with the lowest free number from `from` on.
///
/// # Errors
/// EBADF, EMFILE, EINVAL when `from` is past RLIMIT_NOFILE.
pub fn dup_from(fd: RawFd, from: RawFd) -> Result<RawFd> {
    if faults::refuses(Resource::Descriptor) {
        return Err(Errno::EMFILE);
    }
    fcntl(fd, libc::F_DUPFD_CLOEXEC, from as usize).map(as_fd)
}

/// Whether `fd` is open, and for more than its path: what epoll_ctl and epoll_wait answer EBADF to.
///
/// # Errors
/// EBADF.
pub fn check_open(fd: RawFd) -> Result<()> {
    if status_flags(fd)? & libc::O_PATH != 0 {
        return Err(Errno::EBADF);
    }
    Ok(())
}

/// The file status flags (fcntl F_GETFL).
///
/// # Errors
/// EBADF.
pub fn status_flags(fd: RawFd) -> Result<c_int> {
    fcntl(fd, libc::F_GETFL, 0).map(|flags| flags as c_int)
}

/// What poll(2) reports of one descriptor at this moment, of the bits asked for and those that cannot be masked.
pub fn levels_now(fd: RawFd, events: i16) -> i16 {
    let mut set = [pollfd { fd, events, revents: 0 }];
    let mut zero = timespec { tv_sec: 0, tv_nsec: 0 };
    match ppoll(&mut set, Some(&mut zero), None) {
        Ok(_) => set[0].revents,
        Err(_) => 0,
    }
}

/// fstat(2): the file's mode and, for a device, its number.
///
/// # Errors
/// EBADF.
pub fn fstat(fd: RawFd) -> Result<libc::stat> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: the kernel writes one struct stat, whose layout on this architecture is libc's.
    unsafe { syscall!(Sysno::fstat, fd, stat.as_mut_ptr())? };
    // SAFETY: written by the kernel, and all-zero before.
    Ok(unsafe { stat.assume_init() })
}

/// The magic number of the file system that holds `fd`.
///
/// # Errors
/// EBADF, EIO, ENOSYS.
pub fn fs_type(fd: RawFd) -> Result<i64> {
    let mut stat = std::mem::MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the kernel writes one struct statfs, whose layout on this architecture is libc's.
    unsafe { syscall!(Sysno::fstatfs, fd, stat.as_mut_ptr())? };
    // SAFETY: written by the kernel, and all-zero before.
    Ok(unsafe { stat.assume_init() }.f_type)
}

/// The text of a symbolic link, cut at 64 bytes.
///
/// # Errors
/// Those of readlink(2).
pub fn read_link(path: &CStr, text: &mut [u8; 64]) -> Result<usize> {
    // SAFETY: a terminated path, and 64 writable bytes.
    unsafe { syscall!(Sysno::readlinkat, libc::AT_FDCWD, path.as_ptr(), text.as_mut_ptr(), 64) }
}

/// The beginning of a file, cut at the length of `text`.
///
/// # Errors
/// Those of open(2) and read(2).
pub fn read_file(path: &CStr, text: &mut [u8]) -> Result<usize> {
    if faults::refuses(Resource::Descriptor) {
        return Err(Errno::EMFILE);
    }
    // SAFETY: a terminated path.
    let fd = unsafe {
        syscall!(Sysno::openat, libc::AT_FDCWD, path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC)
    }
    .map(as_fd)?;
    // SAFETY: writable bytes of that length.
    let got = unsafe { syscall!(Sysno::read, fd, text.as_mut_ptr(), text.len()) };
    close(fd);
    got
}

/// An option of a socket that is an int.
///
/// # Errors
/// EBADF, ENOTSOCK, ENOPROTOOPT.
pub fn socket_option(fd: RawFd, option: c_int) -> Result<c_int> {
    let mut value: c_int = 0;
    let mut len = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: one writable int, and its length.
    unsafe {
        syscall!(Sysno::getsockopt, fd, libc::SOL_SOCKET, option, &raw mut value, &raw mut len)?
    };
    Ok(value)
}

/// Bytes queued for reading (ioctl FIONREAD).
///
/// # Errors
/// EBADF, ENOTTY or EINVAL when the file does not count them.
pub fn bytes_readable(fd: RawFd) -> Result<u32> {
    let mut count: c_int = 0;
    // SAFETY: one writable int.
    unsafe { syscall!(Sysno::ioctl, fd, libc::FIONREAD, &raw mut count)? };
    Ok(count as u32)
}

/// Memory that a socket's receive queue takes (SO_MEMINFO), which grows with each datagram that FIONREAD does not show.
///
/// # Errors
/// EBADF, ENOTSOCK, ENOPROTOOPT.
pub fn receive_memory(fd: RawFd) -> Result<u32> {
    const SO_MEMINFO: c_int = 55;
    let mut info = [0u32; 9];
    let mut len = size_of_val(&info) as libc::socklen_t;
    // SAFETY: nine writable words, and their length.
    unsafe {
        syscall!(
            Sysno::getsockopt,
            fd,
            libc::SOL_SOCKET,
            SO_MEMINFO,
            info.as_mut_ptr(),
            &raw mut len
        )?
    };
    Ok(info[0])
}

/// The state of a TCP socket that is neither connected nor connecting.
pub const TCP_CLOSE: u8 = 7;

/// What the kernel tells of a TCP socket (TCP_INFO).
#[derive(Clone, Copy, Debug)]
pub struct TcpInfo {
    /// Its state (tcpi_state).
    pub state: u8,
    /// Of a listener: the connections that wait to be accepted (tcpi_unacked).
    pub backlog: u32,
    /// Bytes that ever came (tcpi_bytes_received), modulo 2^32; the urgent ones too.
    pub arrivals: u32,
}

/// The same, for that socket.
///
/// # Errors
/// EBADF, ENOTSOCK, ENOPROTOOPT.
pub fn tcp_info(fd: RawFd) -> Result<TcpInfo> {
    // The words of struct tcp_info: eight bytes, 24 words, and the low ones of three long ones.
    const UNACKED: usize = 6;
    const BYTES_RECEIVED: usize = 32;
    let mut info = [0u32; 34];
    let mut len = size_of_val(&info) as libc::socklen_t;
    // SAFETY: 34 writable words, and their length.
    unsafe {
        syscall!(
            Sysno::getsockopt,
            fd,
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr(),
            &raw mut len
        )?
    };
    Ok(TcpInfo {
        state: info[0].to_ne_bytes()[0],
        backlog: info[UNACKED],
        arrivals: info[BYTES_RECEIVED],
    })
}

/// Whether a TCP socket is neither connected nor connecting.
pub fn is_tcp_closed(fd: RawFd) -> bool {
    tcp_info(fd).is_ok_and(|info| info.state == TCP_CLOSE)
}

/// Fresh pages, zero and writable (mmap).
///
/// # Errors
/// ENOMEM.
pub fn map(size: usize) -> Result<*mut u8> {
    if faults::is_scarce(Resource::Memory) {
        return Err(Errno::ENOMEM);
    }
    let (protection, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a fresh mapping is nobody's yet.
    let pages = unsafe { syscall!(Sysno::mmap, 0, size, protection, flags, usize::MAX, 0)? };
    Ok(pages as *mut u8)
}

/// Gives pages back (munmap). False: they are still there.
///
/// # Safety
/// They came from [`map`], and nobody uses them any more.
pub unsafe fn unmap(pages: *mut u8, size: usize) -> bool {
    // SAFETY: the caller's promise.
    unsafe { syscall!(Sysno::munmap, pages, size) }.is_ok()
}

/// Makes a mapping larger or smaller (mremap).
///
/// # Errors
/// ENOMEM.
///
/// # Safety
/// It came from [`map`]; where it may move, nobody uses the old address any more.
pub unsafe fn remap(
    pages: *mut u8,
    size: usize,
    new_size: usize,
    can_move: bool,
) -> Result<*mut u8> {
    let flags = if can_move { libc::MREMAP_MAYMOVE } else { 0 };
    // SAFETY: the caller's promise.
    let pages = unsafe { syscall!(Sysno::mremap, pages, size, new_size, flags)? };
    Ok(pages as *mut u8)
}

/// Sleeps until `word` is no longer `value`, or somebody wakes it, or for no reason.
pub fn futex_wait(word: &AtomicU32, value: u32) {
    // SAFETY: an aligned word that lives as long as the borrow; no timeout.
    let _ = unsafe {
        syscall!(Sysno::futex, word.as_ptr(), libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG, value, 0)
    };
}

/// Sleeps until `word` is no longer `value` or `timeout` is over, or for no reason; signal handlers may run, as in
/// [`sleep`].
///
/// # Errors
/// EINTR when a signal handler ran, whatever SA_RESTART says: there is a timeout.
pub fn sleep_on_futex(word: &AtomicU32, value: u32, timeout: timespec) -> Result<()> {
    let wait = || {
        let op = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
        // SAFETY: an aligned word and a timespec that live as long as the borrows.
        unsafe { syscall!(Sysno::futex, word.as_ptr(), op, value, &raw const timeout) }
    };
    match quiet::asleep(wait) {
        None | Some(Err(Errno::EINTR)) => Err(Errno::EINTR),
        Some(_) => Ok(()),
    }
}

/// Wakes up to `count` of those who sleep in [`futex_wait`] on `word`.
pub fn futex_wake(word: &AtomicU32, count: c_int) {
    // SAFETY: only the address is used.
    let _ = unsafe {
        syscall!(Sysno::futex, word.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, count)
    };
}

/// The process' id, asked of the kernel: a vfork child must not be told its parent's.
pub fn getpid() -> u32 {
    // SAFETY: no arguments; it cannot fail.
    unsafe { syscall!(Sysno::getpid) }.unwrap_or(0) as u32
}

/// glibc's word on whether the process has one thread, not 0 if so; null where it has none.
static SINGLE_THREADED: OnceLock<AtomicPtr<AtomicU8>> = OnceLock::new();

/// Looks for what [`is_single_threaded`] is told by. Until then, and where libc does not tell, there may be threads.
pub fn learn_of_threads() {
    SINGLE_THREADED.get_or_init(|| {
        // SAFETY: a lookup by a constant name.
        let place = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"__libc_single_threaded".as_ptr()) };
        AtomicPtr::new(place.cast())
    });
}

/// Whether the calling thread is the only one, and no other one can come up while it is in a system call. Threads that were
/// made without libc are not known.
pub fn is_single_threaded() -> bool {
    let place = SINGLE_THREADED.get().map_or(std::ptr::null_mut(), |it| it.load(Ordering::Relaxed));
    // SAFETY: null, or a char of libc's, which lives as long as the process and is written by libc alone.
    unsafe { place.as_ref() }.is_some_and(|it| it.load(Ordering::Relaxed) != 0)
}

/// The soft and hard limits of descriptors.
pub fn descriptor_limits() -> (u64, u64) {
    let mut old = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let none = std::ptr::null::<libc::rlimit>();
    // SAFETY: one writable struct rlimit.
    let _ = unsafe { syscall!(Sysno::prlimit64, 0, libc::RLIMIT_NOFILE, none, &raw mut old) };
    (old.rlim_cur, old.rlim_max)
}

/// Sets the soft limit of descriptors.
///
/// # Errors
/// EPERM above the hard limit, EINVAL.
pub fn set_descriptor_limit(soft: u64, hard: u64) -> Result<()> {
    let new = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: one readable struct rlimit.
    unsafe { syscall!(Sysno::prlimit64, 0, libc::RLIMIT_NOFILE, &raw const new, 0) }.map(|_| ())
}

/// A number that no other living thread has: the address of a thread-local. Costs no system call, and is safe in a
/// signal handler.
pub fn thread_token() -> usize {
    thread_local!(static TOKEN: u8 = const { 0 });
    TOKEN.with(|token| std::ptr::from_ref(token) as usize)
}

/// By this signal the C library has every thread of the process change its user and group ids (nptl(7)). A thread that
/// blocked it, as no call of the C library can, would keep setuid waiting for ever.
const SIGSETXID: u32 = 33;

/// Blocks every signal that may be blocked for the calling thread, and gives back the mask it had.
pub fn block_signals() -> u64 {
    let all = !(1u64 << (SIGSETXID - 1));
    let mut old = 0u64;
    // SAFETY: two words of the kernel's sigset_t.
    let _ = unsafe {
        syscall!(
            Sysno::rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const all,
            &raw mut old,
            SIGSET_BYTES
        )
    };
    old
}

/// Sets the calling thread's signal mask, to what [`block_signals`] gave.
pub fn restore_signals(mask: u64) {
    // SAFETY: one word of the kernel's sigset_t.
    let _ = unsafe {
        syscall!(Sysno::rt_sigprocmask, libc::SIG_SETMASK, &raw const mask, 0, SIGSET_BYTES)
    };
}

/// Whether two descriptors of this process are the same open file (kcmp(2)), where the kernel would tell.
pub fn same_open_file(one: RawFd, other: RawFd) -> Option<bool> {
    const KCMP_FILE: c_int = 0;
    let pid = getpid();
    // SAFETY: no pointers.
    unsafe { syscall!(Sysno::kcmp, pid, pid, KCMP_FILE, one, other) }.ok().map(|order| order == 0)
}

fn as_fd(number: usize) -> RawFd {
    number as RawFd
}

/// Appends to a file of the user's own, which is made if need be. In a directory where others may make files it may be
/// theirs: a link to a file that they want changed, or a FIFO that keeps whoever opens it. Those are left alone.
///
/// # Errors
/// Those of open(2) and write(2); EPERM where it is another user's, has a second name, or is no regular file.
pub fn append_file(path: &CStr, text: &[u8]) -> Result<()> {
    let append = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_CLOEXEC;
    let no_traps = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    // SAFETY: a terminated path.
    let fd =
        unsafe { syscall!(Sysno::openat, libc::AT_FDCWD, path.as_ptr(), append | no_traps, 0o600) }
            .map(as_fd)?;
    let wrote = match fstat(fd) {
        // SAFETY: readable bytes of that length.
        Ok(stat) if is_own_file(&stat) => unsafe {
            syscall!(Sysno::write, fd, text.as_ptr(), text.len())
        },
        Ok(_) => Err(Errno::EPERM),
        Err(error) => Err(error),
    };
    close(fd);
    wrote.map(|_| ())
}

fn is_own_file(stat: &libc::stat) -> bool {
    // SAFETY: no arguments; it cannot fail.
    let user = unsafe { syscall!(Sysno::geteuid) };
    let is_regular = stat.st_mode & libc::S_IFMT == libc::S_IFREG;
    is_regular && stat.st_nlink == 1 && user == Ok(stat.st_uid as usize)
}

/// Whether a byte can be read, where the kernel may be asked (process_vm_readv(2)); else it is taken to be so.
pub fn byte_is_readable(address: usize) -> bool {
    let mut byte = 0u8;
    let local = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: 1 };
    // SAFETY: one writable byte of ours; the kernel checks the other address.
    let result = unsafe {
        syscall!(Sysno::process_vm_readv, getpid(), &raw const local, 1, &raw const remote, 1, 0)
    };
    result != Err(Errno::EFAULT)
}

/// Whether eight bytes can be written, which they are: the caller is about to overwrite them.
pub fn eight_bytes_are_writable(address: usize) -> bool {
    // SAFETY: the kernel checks the address; it writes the thread's signal mask there.
    let result =
        unsafe { syscall!(Sysno::rt_sigprocmask, libc::SIG_BLOCK, 0, address, SIGSET_BYTES) };
    result != Err(Errno::EFAULT)
}

/// Writes `from` to an address of this process, of which nothing is known.
///
/// # Errors
/// EFAULT.
pub fn copy_out<T>(address: usize, from: &[T]) -> Result<()> {
    let len = size_of_val(from);
    let local = libc::iovec { iov_base: from.as_ptr().cast_mut().cast(), iov_len: len };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: len };
    // SAFETY: the kernel reads the slice, and checks the address.
    let wrote = unsafe {
        syscall!(Sysno::process_vm_writev, getpid(), &raw const local, 1, &raw const remote, 1, 0)
    };
    if wrote == Ok(len) { Ok(()) } else { Err(Errno::EFAULT) }
}

/// close_range(2) without flags.
///
/// # Errors
/// EINVAL, ENOSYS on kernels before 5.9.
pub fn close_range(first: u32, last: u32) -> Result<()> {
    // SAFETY: no pointers; the callers own the numbers.
    unsafe { syscall!(Sysno::close_range, first, last, 0) }.map(|_| ())
}

/// Whether the calling thread has a capability (capget(2)).
pub fn has_capability(capability: u32) -> bool {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    let mut sets = [[0u32; 3]; 2];
    // SAFETY: a header, and the two triples that version 3 writes.
    let got = unsafe { syscall!(Sysno::capget, header.as_ptr(), sets.as_mut_ptr()) };
    let [effective, ..] = sets[(capability / 32) as usize % 2];
    got.is_ok() && effective >> (capability % 32) & 1 != 0
}

/// Signals that are pending for the calling thread or its process, and blocked.
pub fn pending_signals() -> u64 {
    let mut set = 0u64;
    // SAFETY: one word of the kernel's sigset_t.
    let _ = unsafe { syscall!(Sysno::rt_sigpending, &raw mut set, SIGSET_BYTES) };
    set
}

/// What a socket has sent that the other end has not taken (ioctl TIOCOUTQ): for a UNIX socket, memory.
///
/// # Errors
/// EBADF, ENOTTY or EINVAL when the file does not count it.
pub fn bytes_unsent(fd: RawFd) -> Result<u32> {
    let mut count: c_int = 0;
    // SAFETY: one writable int.
    unsafe { syscall!(Sysno::ioctl, fd, libc::TIOCOUTQ, &raw mut count)? };
    Ok(count as u32)
}

/// Lets signals in that were blocked.
pub fn unblock_signals(set: u64) {
    // SAFETY: one word of the kernel's sigset_t.
    let _ = unsafe {
        syscall!(Sysno::rt_sigprocmask, libc::SIG_UNBLOCK, &raw const set, 0, SIGSET_BYTES)
    };
}

/// The calling thread's id.
pub fn thread_id() -> u32 {
    // SAFETY: no arguments; it cannot fail.
    unsafe { syscall!(Sysno::gettid) }.unwrap_or(0) as u32
}

/// Whether the process has this thread: by a signal that is none (tgkill(2)).
pub fn has_thread(thread: u32) -> bool {
    // SAFETY: no pointers.
    unsafe { syscall!(Sysno::tgkill, getpid(), thread, 0) }.is_ok()
}

/// Sleeps, or for less if a handler runs.
pub fn pause(time: timespec) {
    // SAFETY: a readable timespec; what is left is not asked for.
    let _ = unsafe { syscall!(Sysno::nanosleep, &raw const time, 0) };
}

/// Queues a signal for the calling thread, with all that came with it (rt_tgsigqueueinfo(2)).
///
/// # Errors
/// EAGAIN when RLIMIT_SIGPENDING is reached.
pub fn queue_signal(signal: c_int, info: &libc::siginfo_t) -> Result<()> {
    // SAFETY: a readable siginfo_t; a thread may send itself any.
    unsafe {
        syscall!(Sysno::rt_tgsigqueueinfo, getpid(), thread_id(), signal, std::ptr::from_ref(info))
    }
    .map(|_| ())
}

/// Connections that wait to be accepted on a UNIX listener, by its inode: asked of sock_diag(7). `None` where the
/// kernel does not tell, and for sockets of other families.
pub fn unix_backlog(fd: RawFd, inode: u32) -> Option<u32> {
    if faults::refuses(Resource::Descriptor) {
        return None;
    }
    const NETLINK_SOCK_DIAG: c_int = 4;
    const SOCK_DIAG_BY_FAMILY: u32 = 20;
    const NLM_F_REQUEST: u32 = 1;
    const SHOW_RQLEN: u32 = 0x10;
    const UNIX_DIAG_RQLEN: u32 = 4;
    if socket_option(fd, libc::SO_DOMAIN) != Ok(libc::AF_UNIX) {
        return None;
    }
    // struct nlmsghdr (16 bytes) and struct unix_diag_req (24), as words.
    let request: [u32; 10] = [
        40,
        SOCK_DIAG_BY_FAMILY | NLM_F_REQUEST << 16,
        1,
        0,
        libc::AF_UNIX as u32,
        u32::MAX,
        inode,
        SHOW_RQLEN,
        u32::MAX,
        u32::MAX,
    ];
    let mut answer = [0u32; 64];
    let flags = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers.
    let socket = unsafe { syscall!(Sysno::socket, libc::AF_NETLINK, flags, NETLINK_SOCK_DIAG) };
    let socket = socket.map(as_fd).ok()?;
    // SAFETY: 40 readable bytes.
    let sent = unsafe { syscall!(Sysno::write, socket, request.as_ptr(), 40) };
    let got = sent.and_then(|_| {
        // SAFETY: as many writable bytes. The kernel answers at once, if only by an error.
        unsafe { syscall!(Sysno::read, socket, answer.as_mut_ptr(), size_of_val(&answer)) }
    });
    close(socket);
    // struct nlmsghdr and struct unix_diag_msg, 16 bytes each, and attributes.
    let words = got.ok()? / 4;
    if words < 8 || answer[1] & 0xffff != SOCK_DIAG_BY_FAMILY {
        return None;
    }
    let mut at = 8;
    while at + 1 < words {
        let (len, kind) = (answer[at] & 0xffff, answer[at] >> 16);
        if kind == UNIX_DIAG_RQLEN {
            return Some(answer[at + 1]);
        }
        at += (len as usize).div_ceil(4).max(1);
    }
    None
}
