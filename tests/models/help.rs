//! What the models share: an engine on the modelled kernel, a program whose calls are seen by hooks, and the schedules.

use std::os::fd::RawFd;

use libc::{EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, timespec};
use shuttle::scheduler::{DfsScheduler, PctScheduler, RandomScheduler};
use shuttle::{Config, MaxSteps, Runner};
pub use uepoll::Events;
use uepoll::backend::Sleep;
use uepoll::fdtable::{Flags, Signs};
use uepoll::files::Kind;
pub use uepoll::sys::{FileRef, program};
use uepoll::{Engine, Errno, Event, FdTable};

/// How many schedules of each model: MODEL_SCHEDULES, or a few.
pub fn schedules() -> usize {
    std::env::var("MODEL_SCHEDULES").ok().and_then(|text| text.parse().ok()).unwrap_or(400)
}

/// No schedule of these models needs as many steps: one that does never ends.
const STEPS: usize = 200_000;

pub fn config() -> Config {
    let mut config = Config::new();
    config.stack_size = 512 * 1024;
    config.max_steps = MaxSteps::FailAfter(STEPS);
    config
}

/// Runs a model under random schedules, half of them with few preemptions (probabilistic concurrency testing).
pub fn check(model: impl Fn() + Send + Sync + Clone + 'static) {
    let each = schedules().div_ceil(2);
    Runner::new(RandomScheduler::new(each), config()).run(model.clone());
    Runner::new(PctScheduler::new(4, each), config()).run(model);
}

/// The most schedules of an exhaustive search. What a model makes is never freed: more would take all memory of a machine.
const MOST: usize = 20_000;

/// Runs a small model under all schedules, as far as a hundred times as many as others get, or [`MOST`].
pub fn check_all(model: impl Fn() + Send + Sync + Clone + 'static) {
    // Those that the bound leaves out are the ones that begin otherwise.
    check(model.clone());
    let all = (100 * schedules()).min(MOST);
    Runner::new(DfsScheduler::new(Some(all), false), config()).run(model);
}

/// A program with an engine.
#[derive(Clone, Copy)]
pub struct Program {
    pub table: &'static FdTable,
    pub engine: &'static Engine,
}

/// How long a wait is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Time {
    None,
    Some,
    Ever,
}

pub const LEVEL: Events = Events::IN;
pub const EDGE: Events = Events::IN.union(Events::ET);
pub const ONCE: Events = Events::IN.union(Events::ONESHOT);

impl Program {
    /// A fresh one. Never freed: the engine's statics never are.
    pub fn new() -> Self {
        let table: &'static FdTable = Box::leak(Box::new(FdTable::new()));
        let engine = Box::leak(Box::new(Engine::new(table, Some(100), || false).unwrap()));
        Self { table, engine }
    }

    pub fn epoll(self) -> RawFd {
        self.engine.create(libc::EPOLL_CLOEXEC).unwrap()
    }

    pub fn pipe(self) -> (RawFd, FileRef) {
        let (fd, file) = program::pipe();
        self.table.opened(fd, Kind::Pipe);
        (fd, file)
    }

    pub fn duplicate(self, fd: RawFd) -> RawFd {
        let new = program::duplicate(fd);
        self.engine.duplicated(fd, new);
        new
    }

    /// A pipe at a number that was just closed.
    pub fn pipe_at(self, fd: RawFd) -> FileRef {
        let file = program::pipe_at(fd);
        self.table.opened(fd, Kind::Pipe);
        file
    }

    /// A pipe that is watched, with its number as the program's word.
    pub fn watched(self, epfd: RawFd, events: Events) -> (RawFd, FileRef) {
        let (fd, file) = self.pipe();
        self.add(epfd, fd, events, fd as u64);
        (fd, file)
    }

    pub fn add(self, epfd: RawFd, fd: RawFd, events: Events, data: u64) {
        self.engine.ctl(epfd, EPOLL_CTL_ADD, fd, Some(Event { events, data })).unwrap();
    }

    pub fn modify(self, epfd: RawFd, fd: RawFd, events: Events) {
        let event = Event { events, data: fd as u64 };
        self.engine.ctl(epfd, EPOLL_CTL_MOD, fd, Some(event)).unwrap();
    }

    pub fn delete(self, epfd: RawFd, fd: RawFd) {
        self.engine.ctl(epfd, EPOLL_CTL_DEL, fd, None).unwrap();
    }

    /// The words of what is ready.
    pub fn wait(self, epfd: RawFd, max: i32, time: Time) -> Result<Vec<u64>, Errno> {
        let mut words = Vec::new();
        let mut sink = |_: usize, event: Event| {
            words.push(event.data);
            true
        };
        let seconds = |tv_sec| timespec { tv_sec, tv_nsec: 0 };
        let timeout = match time {
            Time::None => Some(seconds(0)),
            Time::Some => Some(seconds(1)),
            Time::Ever => None,
        };
        let mut sleep = Sleep { timeout, mask: None };
        let cancels = self.engine.cancels();
        self.engine.wait(epfd, max, &mut sleep, true, &mut sink, cancels)?;
        Ok(words)
    }

    /// A byte, by a write that the hooks see (shim/src/evidence.rs: `write_begins`, `after_write`).
    pub fn write(self, fd: RawFd, file: FileRef) {
        let watched = self.table.word(fd).is(Flags::WATCHED);
        if watched && let Some(home) = self.table.home(fd) {
            home.call_begins();
        }
        program::write(file);
        if watched {
            self.engine.written(fd);
        }
    }

    /// All that is there, by a read that the hooks see (`before_read`, `after_read`).
    pub fn read(self, fd: RawFd) -> u64 {
        let evidence = self.table.word(fd).is(Flags::EVIDENCE);
        let home = self.table.home(fd).filter(|_| evidence);
        if let Some(home) = home {
            home.read_begins();
        }
        let got = program::read(fd);
        if let Some(home) = home {
            home.consume(got as u32);
            let took = if got > 0 { Signs::TOOK } else { Signs::empty() };
            self.engine.sign(fd, took | Signs::DRAINED);
            home.read_ends();
        }
        got
    }

    /// close(2), as the hook does it. The kernel panics if somebody holds the file still.
    pub fn close(self, fd: RawFd) {
        self.engine.closing(fd).unwrap();
        program::close(fd);
    }

    /// Has the watchers end: nobody is left behind.
    pub fn end(self, epfd: RawFd) {
        self.close(epfd);
        // The slot is used again only when all have left; their box is read then.
        let _ = self.epoll();
    }
}
