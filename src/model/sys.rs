//! In place of `sys/` with `--cfg shuttle`: the kernel, as far as the engine's races need it. Files are pipes and eventfds;
//! who is in poll(2) holds them, as in the kernel, and a close that leaves a file held is a panic. The lock is the real one.
//!
//! True to the kernel where it matters: poll takes hold of the files of its numbers, looks at the numbers anew with each
//! scan, and is woken only by the files that it holds. Whoever waits for ever and is not woken is a deadlock, which
//! shuttle reports. A time-out comes at any moment.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;
use std::os::fd::RawFd;

use libc::{c_int, pollfd, timespec};
use shuttle::current;
use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::{Condvar, Mutex, MutexGuard};
pub use syscalls::Errno;

use crate::sync::atomic::{AtomicU32, Ordering};

#[path = "../sys/lock.rs"]
pub mod lock;

/// What a call of the engine gives.
pub type Result<T> = std::result::Result<T, Errno>;

/// Longer sleeps never end by themselves.
const EVER: i64 = 1 << 20;

#[derive(Default)]
struct File {
    is_pipe: bool,
    /// Bytes queued, or the eventfd's counter.
    queued: u64,
    /// How often it woke who waits for it.
    wakes: u64,
    /// Numbers of it.
    numbers: u32,
    /// Calls that are inside with it.
    holders: u32,
}

impl File {
    fn levels(&self, events: i16) -> i16 {
        let room = if self.is_pipe { 0 } else { libc::POLLOUT };
        let input = if self.queued > 0 { libc::POLLIN | libc::POLLRDNORM } else { 0 };
        (room | input) & events
    }
}

#[derive(Default)]
struct State {
    files: Vec<File>,
    numbers: BTreeMap<RawFd, usize>,
    /// Who sleeps on which word.
    futexes: Vec<(usize, usize)>,
    /// Threads that have a signal pending.
    signals: BTreeSet<usize>,
    /// How many polls are refused from now on, of so many descriptors or more.
    refusals: (u32, usize),
    /// A handler that runs before a thread's next write to an eventfd.
    handler: Option<(usize, Box<dyn FnOnce() + Send>)>,
    clock: timespec_,
    closed_are_refused: bool,
}

#[allow(non_camel_case_types)]
type timespec_ = (i64, i64);

shuttle::lazy_static! {
    static ref STATE: Mutex<State> = Mutex::new(State::default());
    static ref CHANGED: Condvar = Condvar::new();
}

/// With MODEL_TRACE in the environment the calls are told as they come: for a model of which one schedule fails.
fn trace(what: impl FnOnce() -> String) {
    static IS_ON: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    if *IS_ON.get_or_init(|| std::env::var_os("MODEL_TRACE").is_some()) {
        println!("{}: {}", program::me(), what());
    }
}

type Locked = MutexGuard<'static, State>;

fn kernel() -> Locked {
    STATE.lock().unwrap()
}

fn sleep_in(state: Locked) -> Locked {
    CHANGED.wait(state).unwrap()
}

impl State {
    fn open(&mut self, is_pipe: bool, from: RawFd) -> RawFd {
        self.files.push(File { is_pipe, ..File::default() });
        self.number(self.files.len() - 1, from)
    }

    fn number(&mut self, file: usize, from: RawFd) -> RawFd {
        let fd = (from..).find(|fd| !self.numbers.contains_key(fd)).unwrap();
        self.numbers.insert(fd, file);
        self.files[file].numbers += 1;
        fd
    }

    fn file(&mut self, fd: RawFd) -> Option<&mut File> {
        self.numbers.get(&fd).map(|&file| &mut self.files[file])
    }

    fn shut(&mut self, fd: RawFd) -> Option<usize> {
        let file = self.numbers.remove(&fd)?;
        self.files[file].numbers -= 1;
        Some(file)
    }

    fn add(&mut self, file: usize, count: u64) {
        self.files[file].queued += count;
        self.files[file].wakes += 1;
        CHANGED.notify_all();
    }
}

/// A file that others can write to without its number.
#[derive(Clone, Copy, Debug)]
pub struct FileRef(usize);

/// What a program does, past every hook.
pub mod program {
    use super::*;

    /// The reading end of a new pipe: its number, and the pipe.
    pub fn pipe() -> (RawFd, FileRef) {
        let mut state = kernel();
        let fd = state.open(true, 3);
        (fd, FileRef(state.numbers[&fd]))
    }

    /// The same, with a number that was just closed.
    pub fn pipe_at(fd: RawFd) -> FileRef {
        loop {
            let mut state = kernel();
            if !state.numbers.contains_key(&fd) {
                state.open(true, fd);
                return FileRef(state.numbers[&fd]);
            }
            // The library makes a descriptor, which it moves away at once.
            drop(state);
            crate::sync::thread::yield_now();
        }
    }

    /// dup(2).
    pub fn duplicate(fd: RawFd) -> RawFd {
        super::dup_from(fd, 3).unwrap()
    }

    /// Writes a byte.
    pub fn write(file: FileRef) {
        kernel().add(file.0, 1);
    }

    /// Reads all that is there, and counts it.
    pub fn read(fd: RawFd) -> u64 {
        kernel().file(fd).map_or(0, |file| std::mem::take(&mut file.queued))
    }

    /// Closes a number, and sees that nobody keeps its file.
    pub fn close(fd: RawFd) {
        let mut state = kernel();
        trace(|| format!("close of {fd}"));
        let Some(file) = state.shut(fd) else { return };
        let file = &state.files[file];
        assert!(file.numbers > 0 || file.holders == 0, "closed, and somebody still holds {fd}");
    }

    /// Sends a thread a signal that it has a handler for.
    pub fn signal(thread: usize) {
        kernel().signals.insert(thread);
        CHANGED.notify_all();
    }

    /// The calling thread, as [`signal`] knows it.
    pub fn me() -> usize {
        current::me().into()
    }

    /// The child of a fork: other threads, and what they hold, are not here from the moment of `vanish` on.
    pub fn fork(vanish: impl FnOnce()) {
        let mut state = kernel();
        vanish();
        state.files.iter_mut().for_each(|file| file.holders = 0);
        state.futexes.clear();
        state.signals.clear();
    }

    /// So many polls from now on find no memory, of those of so many descriptors.
    pub fn refuse_polls(count: u32, of: usize) {
        kernel().refusals = (count, of);
    }

    /// From now on nobody has a reason to poll a number that is closed.
    pub fn refuse_closed_numbers() {
        kernel().closed_are_refused = true;
    }

    /// A signal handler runs on the calling thread before its next write to an eventfd.
    pub fn interrupt(handler: impl FnOnce() + Send + 'static) {
        kernel().handler = Some((me(), Box::new(handler)));
    }
}

/// ppoll(2) for a caller that means to sleep.
///
/// # Errors
/// EINTR, ENOMEM.
pub fn sleep(
    fds: &mut [pollfd],
    timeout: Option<&mut timespec>,
    mask: Option<&u64>,
) -> Result<usize> {
    if quiet::let_in() {
        return Err(Errno::EINTR);
    }
    ppoll(fds, timeout, mask)
}

/// ppoll(2) without sleeping.
///
/// # Errors
/// ENOMEM.
pub fn look(fds: &mut [pollfd]) -> Result<usize> {
    ppoll(fds, Some(&mut timespec { tv_sec: 0, tv_nsec: 0 }), None)
}

/// ppoll(2).
///
/// # Errors
/// EINTR, ENOMEM.
pub fn ppoll(
    fds: &mut [pollfd],
    timeout: Option<&mut timespec>,
    _mask: Option<&u64>,
) -> Result<usize> {
    let mut state = kernel();
    if state.refusals.0 > 0 && fds.len() >= state.refusals.1 {
        state.refusals.0 -= 1;
        return Err(Errno::ENOMEM);
    }
    let mut held = Vec::new();
    for polled in fds.iter() {
        if let Some(&file) = state.numbers.get(&polled.fd) {
            state.files[file].holders += 1;
            held.push((file, state.files[file].wakes));
        }
    }
    trace(|| format!("poll of {:?}", fds.iter().map(|polled| polled.fd).collect::<Vec<_>>()));
    // Between taking hold and looking somebody else may run.
    drop(state);
    let mut state = kernel();
    let ends = timeout.as_ref().is_some_and(|left| left.tv_sec < EVER);
    let zero = timeout.as_ref().is_some_and(|left| left.tv_sec == 0 && left.tv_nsec == 0);
    let result = loop {
        let mut found = 0;
        for polled in fds.iter_mut().filter(|polled| polled.fd >= 0) {
            let events = polled.events;
            polled.revents =
                state.file(polled.fd).map_or(libc::POLLNVAL, |file| file.levels(events));
            found += usize::from(polled.revents != 0);
            let is_closed = polled.revents & libc::POLLNVAL != 0;
            assert!(
                !(is_closed && state.closed_are_refused),
                "a poll of {}, which is closed",
                polled.fd
            );
        }
        if found > 0 || zero {
            break Ok(found);
        }
        state = match asleep(state, ends, true, |state| {
            held.iter().any(|&(file, wakes)| state.files[file].wakes != wakes)
        }) {
            (state, Woken::Up) => state,
            (now, Woken::Signal) => {
                state = now;
                break Err(Errno::EINTR);
            }
            (now, Woken::Late) => {
                state = now;
                if let Some(left) = timeout {
                    state.clock.0 += left.tv_sec;
                    state.clock.1 += left.tv_nsec;
                    *left = timespec { tv_sec: 0, tv_nsec: 0 };
                }
                break Ok(0);
            }
        };
        for (file, wakes) in &mut held {
            *wakes = state.files[*file].wakes;
        }
    };
    drop(state);
    let mut state = kernel();
    for (file, _) in held {
        state.files[file].holders -= 1;
    }
    trace(|| format!("poll gives {result:?}"));
    result
}

enum Woken {
    Up,
    Signal,
    Late,
}

/// Sleeps until `is_up`, a signal, if it lets handlers in, or, if it ends by itself, at any moment.
fn asleep(
    mut state: Locked,
    ends: bool,
    handles: bool,
    is_up: impl Fn(&State) -> bool,
) -> (Locked, Woken) {
    loop {
        if is_up(&state) {
            return (state, Woken::Up);
        }
        if handles && state.signals.remove(&program::me()) {
            return (state, Woken::Signal);
        }
        if !ends {
            state = sleep_in(state);
            continue;
        }
        if thread_rng().gen_ratio(1, 4) {
            return (state, Woken::Late);
        }
        drop(state);
        crate::sync::thread::yield_now();
        state = kernel();
    }
}

/// What poll(2) reports of one descriptor at this moment.
pub fn levels_now(fd: RawFd, events: i16) -> i16 {
    let mut set = [pollfd { fd, events, revents: 0 }];
    look(&mut set).map_or(0, |_| set[0].revents)
}

/// eventfd2(2).
///
/// # Errors
/// None here.
pub fn eventfd(_flags: c_int) -> Result<RawFd> {
    Ok(kernel().open(false, 3))
}

/// Adds one to an eventfd. A handler that waits runs before.
pub fn eventfd_signal(fd: RawFd) {
    let mut state = kernel();
    if let Some((_, handler)) = state.handler.take_if(|(thread, _)| *thread == program::me()) {
        drop(state);
        handler();
        state = kernel();
    }
    trace(|| format!("signal to {fd}"));
    if let Some(&file) = state.numbers.get(&fd) {
        state.add(file, 1);
    }
}

/// Sets an eventfd back to 0.
pub fn eventfd_reset(fd: RawFd) {
    trace(|| format!("reset of {fd}"));
    if let Some(file) = kernel().file(fd) {
        file.queued = 0;
    }
}

/// close(2).
pub fn close(fd: RawFd) {
    kernel().shut(fd);
}

/// fcntl F_DUPFD.
///
/// # Errors
/// EBADF.
pub fn dup_from(fd: RawFd, from: RawFd) -> Result<RawFd> {
    let mut state = kernel();
    let file = *state.numbers.get(&fd).ok_or(Errno::EBADF)?;
    Ok(state.number(file, from))
}

/// Whether `fd` is open.
///
/// # Errors
/// EBADF.
pub fn check_open(fd: RawFd) -> Result<()> {
    kernel().file(fd).map(|_| ()).ok_or(Errno::EBADF)
}

/// Bytes queued for reading: asked in two steps, between which the file is held.
///
/// # Errors
/// EBADF.
pub fn bytes_readable(fd: RawFd) -> Result<u32> {
    let mut state = kernel();
    let file = *state.numbers.get(&fd).ok_or(Errno::EBADF)?;
    state.files[file].holders += 1;
    drop(state);
    let mut state = kernel();
    state.files[file].holders -= 1;
    Ok(state.files[file].queued as u32)
}

/// Sleeps until `word` is no longer `value`, or somebody wakes it.
pub fn futex_wait(word: &AtomicU32, value: u32) {
    let _ = futex(word, value, false, false);
}

/// The same; no model waits for a time.
pub fn futex_wait_for(word: &AtomicU32, value: u32, _millis: u32) {
    futex_wait(word, value);
}

/// No model has handlers that borrow locks.
pub fn is_in_handler() -> bool {
    false
}

fn futex(word: &AtomicU32, value: u32, ends: bool, handles: bool) -> Woken {
    let mut state = kernel();
    if word.load(Ordering::SeqCst) != value {
        return Woken::Up;
    }
    let me = (std::ptr::from_ref(word) as usize, program::me());
    trace(|| format!("futex wait on {:#x} while {value}", me.0));
    state.futexes.push(me);
    let (mut state, woken) = asleep(state, ends, handles, |state| !state.futexes.contains(&me));
    state.futexes.retain(|sleeper| *sleeper != me);
    woken
}

/// The same, for a while, and signal handlers may run.
///
/// # Errors
/// EINTR.
pub fn sleep_on_futex(word: &AtomicU32, value: u32, timeout: timespec) -> Result<()> {
    if quiet::let_in() {
        return Err(Errno::EINTR);
    }
    match futex(word, value, timeout.tv_sec < EVER, true) {
        Woken::Up => Ok(()),
        Woken::Signal => Err(Errno::EINTR),
        Woken::Late => {
            let mut state = kernel();
            state.clock.0 += timeout.tv_sec;
            state.clock.1 += timeout.tv_nsec;
            Ok(())
        }
    }
}

/// Wakes up to `count` of those who sleep on `word`.
pub fn futex_wake(word: &AtomicU32, count: c_int) {
    let word = std::ptr::from_ref(word) as usize;
    let mut state = kernel();
    trace(|| format!("futex wake of {word:#x}"));
    for _ in 0..count {
        let Some(place) = state.futexes.iter().position(|sleeper| sleeper.0 == word) else { break };
        state.futexes.remove(place);
    }
    CHANGED.notify_all();
}

/// The monotonic clock: it moves when a sleep's time is over.
pub fn now() -> timespec {
    let clock = kernel().clock;
    timespec { tv_sec: clock.0, tv_nsec: clock.1 }
}

/// The same clock in milliseconds, modulo 2^32.
pub fn coarse_millis() -> u32 {
    let now = now();
    (now.tv_sec as u32).wrapping_mul(1000).wrapping_add((now.tv_nsec / 1_000_000) as u32)
}

/// Nothing to learn.
pub fn learn_of_clock() {}

/// A number that no other thread has.
pub fn thread_token() -> usize {
    program::me() + 1
}

/// Watchers are gone when they say so.
pub fn has_thread(_thread: u32) -> bool {
    false
}

/// No thread has one.
pub fn thread_id() -> u32 {
    0
}

/// Others go on.
pub fn pause(_time: timespec) {
    crate::sync::thread::yield_now();
}

/// One process.
pub fn getpid() -> u32 {
    1
}

/// Nothing to learn.
pub fn learn_of_threads() {}

/// There always are others.
pub fn is_single_threaded() -> bool {
    false
}

/// All that the small table has room for.
pub fn descriptor_limits() -> (u64, u64) {
    (crate::fdtable::CAPACITY as u64, crate::fdtable::CAPACITY as u64)
}

/// Not needed.
///
/// # Errors
/// None.
pub fn set_descriptor_limit(_soft: u64, _hard: u64) -> Result<()> {
    Ok(())
}

/// Watchers have no handlers here.
pub fn block_signals() -> u64 {
    0
}

/// The same.
pub fn restore_signals(_mask: u64) {}

/// No signalfds.
pub fn pending_signals() -> u64 {
    0
}

/// No socket is.
pub const TCP_CLOSE: u8 = 7;

/// What the kernel tells of a TCP socket.
#[derive(Clone, Copy, Debug)]
pub struct TcpInfo {
    /// Its state.
    pub state: u8,
    /// Connections that wait.
    pub backlog: u32,
    /// Bytes that ever came.
    pub arrivals: u32,
}

/// Calls about kinds of files that are not modelled: the models say by the table what their files are.
macro_rules! unknown {
    ($($name:ident($($argument:ty),*) -> $result:ty;)*) => {$(
        /// Not modelled.
        ///
        /// # Errors
        /// Always.
        pub fn $name($(_: $argument),*) -> Result<$result> {
            Err(Errno::EBADF)
        }
    )*};
}

unknown! {
    bytes_unsent(RawFd) -> u32;
    messages_queued(RawFd) -> u32;
    receive_memory(RawFd) -> u32;
    tcp_info(RawFd) -> TcpInfo;
    fstat(RawFd) -> libc::stat;
    read_file(&CStr, &mut [u8]) -> usize;
    read_link(&CStr, &mut [u8; 64]) -> usize;
    status_flags(RawFd) -> c_int;
    socket_option(RawFd, c_int) -> c_int;
    fs_type(RawFd) -> i64;
}

/// Not modelled.
pub fn unix_backlog(_fd: RawFd, _inode: u32) -> Option<u32> {
    None
}

/// Stretches without handlers: a signal waits for the next sleep, which is all that they do.
pub mod quiet {
    use super::{kernel, program};

    /// See the real one.
    pub struct Quiet(());

    impl Quiet {
        /// Begins one.
        pub fn enter() -> Self {
            Self(())
        }
    }

    pub(super) fn let_in() -> bool {
        kernel().signals.remove(&program::me())
    }
}
