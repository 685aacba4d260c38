//! The library's threads: one that is killed, and one that cannot be had.
//!
//! Natively there is none. What is killed then is a thread of this program, so that it is seen what the kernel does; and
//! messages over 500 descriptors come without threads as they do with them.

use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::faults::Faults;
use crate::process;
use crate::sys::{self, Answer, End, Fd, IN, NO_EVENT};

const CROWD: usize = 500;
/// Seconds for what takes one.
const LIMIT: u64 = 120;
/// Nobody's id, as far as is known: its threads are counted for it alone.
const USER: u32 = 54_321;

/// Status of a child: everything held.
const HELD: u8 = 0;
const MESSAGES_LOST: u8 = 2;
const NO_WATCHER: u8 = 3;
const SURVIVED: u8 = 4;
const THREAD_WAS_MADE: u8 = 5;
const WATCHER_WAS_MADE: u8 = 6;
const FAILED: u8 = 7;

pub fn run(faults: &Faults) -> Answer<String> {
    let killed = child(killed);
    if killed != Ok(End::Signal(libc::SIGKILL)) {
        faults.add(format!("a thread was killed, and the process ended by {}", tell(killed)));
    }
    let refused = if sys::is_root() {
        let refused = child(refused);
        if refused != Ok(End::Exit(HELD.into())) {
            faults.add(format!("without threads the process ended by {}", tell(refused)));
        }
        "held"
    } else {
        "SKIPPED, for only root can become a user with a limit of its own"
    };
    Ok(format!("SIGKILL to one thread: ended the process; threads refused: {refused}"))
}

fn child(work: fn() -> Answer<u8>) -> Answer<End> {
    let child = sys::fork(|| {
        let _ = sys::die_with_parent();
        sys::alarm(LIMIT as u32);
        work().unwrap_or(FAILED)
    })?;
    sys::wait_for_child(child)
}

fn tell(end: Answer<End>) -> String {
    let said = match end {
        Ok(End::Exit(status)) => match status as u8 {
            HELD => "nothing",
            MESSAGES_LOST => "a message that was not told",
            NO_WATCHER => "no watcher was started",
            SURVIVED => "going on without the thread",
            THREAD_WAS_MADE => "a thread, made in spite of the limit",
            WATCHER_WAS_MADE => "a watcher, made in spite of the limit",
            _ => "a call that failed",
        },
        Ok(End::Signal(libc::SIGALRM)) => "a hang",
        _ => "",
    };
    format!("{end:?} {said}")
}

/// Pipes in one instance.
struct Crowd {
    epoll: Fd,
    pipes: Vec<[Fd; 2]>,
}

impl Crowd {
    fn new() -> Answer<Self> {
        sys::raise_descriptor_limit()?;
        let epoll = sys::epoll()?;
        let pipes: Answer<Vec<[Fd; 2]>> = (0..CROWD).map(|_| sys::pipe()).collect();
        let pipes = pipes?;
        for (index, [read_end, _]) in pipes.iter().enumerate() {
            let mode = if index % 2 == 0 { sys::ET } else { 0 };
            sys::add(epoll, *read_end, IN | mode, index as u64)?;
        }
        Ok(Self { epoll, pipes })
    }

    /// One message is written to `which`, told once, and read.
    fn message(&self, which: usize) -> Answer<bool> {
        let [read_end, write_end] = self.pipes[which];
        sys::write(write_end, b"m")?;
        let mut events = [NO_EVENT; 8];
        let count = sys::wait(self.epoll, &mut events, LIMIT as i32 * 1000)?;
        let told = events[0].u64;
        let got = sys::read(read_end, &mut [0; 8])?;
        Ok(count == 1 && told == which as u64 && got == 1)
    }

    /// Messages over the first few, as watchers are started only for what others leave idle.
    fn until_watched(&self) -> Answer<bool> {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(LIMIT / 2) {
            for which in 0..64 {
                self.message(which % 4)?;
            }
            if !process::watchers().is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn killed() -> Answer<u8> {
    let crowd = Crowd::new()?;
    let victim = if process::is_preloaded() {
        if !crowd.until_watched()? {
            return Ok(NO_WATCHER);
        }
        process::watchers().first().copied()
    } else {
        thread::Builder::new()
            .name("victim".into())
            .spawn(|| thread::sleep(Duration::from_secs(LIMIT)))
            .map_err(|_| libc::EAGAIN)?;
        until_there("victim")
    };
    let Some(victim) = victim else { return Ok(NO_WATCHER) };
    sys::signal_thread(sys::process_id(), victim, libc::SIGKILL)?;
    // Not reached, but for the moment that the kernel needs.
    sys::sleep(Duration::from_secs(10));
    Ok(SURVIVED)
}

/// A thread has its name only after it has begun.
fn until_there(name: &str) -> Option<i32> {
    let start = Instant::now();
    loop {
        let found = process::threads_named(name).first().copied();
        if found.is_some() || start.elapsed() > Duration::from_secs(LIMIT / 2) {
            return found;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn refused() -> Answer<u8> {
    let crowd = Crowd::new()?;
    sys::become_user(USER)?;
    sys::refuse_threads()?;
    if thread::Builder::new().spawn(|| ()).is_ok() {
        return Ok(THREAD_WAS_MADE);
    }
    let mut dice = Rng::with_seed(1);
    for round in 0..40 {
        // First a few, so that the others are idle; then all.
        let all = round % 4 == 3;
        for step in 0..CROWD {
            let which = if all { step } else { dice.usize(..4) };
            if !crowd.message(which)? {
                return Ok(MESSAGES_LOST);
            }
        }
        if !process::watchers().is_empty() {
            return Ok(WATCHER_WAS_MADE);
        }
    }
    Ok(HELD)
}
