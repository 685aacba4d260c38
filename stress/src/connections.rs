//! Connections that come and go, and what the process holds between them.
//!
//! A server with four threads: two share an instance, with one-shot items; two have one each, edge-triggered. The
//! listener is in the shared one. Clients open and close connections, with some bytes echoed, half of them closed in
//! usual order, others reset or half-closed. In each round a crowd of idle connections comes, so that watchers are
//! started, and goes. Between rounds the process must hold what it held after the warm-up.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::faults::Faults;
use crate::process::{self, Footprint};
use crate::sys::{self, Answer, ET, Event, Fd, IN, NO_EVENT, ONESHOT, OUT, RDHUP};

#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seed: u64,
    pub seconds: u64,
    /// Connections a minute.
    pub rate: u64,
    pub idle: usize,
    /// Seconds of a round.
    pub round: u64,
}

/// Rounds after which the process is as large as it gets.
const WARM_UP: u32 = 2;
/// How much resident memory may be above what it was after the warm-up, in kB: what malloc keeps depends on which threads
/// ran when.
const MEMORY: u64 = 4096;
/// Threads of this program that may sleep at once: all, with the first and the one with the crowd.
const SLEEPERS: usize = SERVERS + CLIENTS + 2;
/// What must happen soon has this long, on the busiest machine.
const SOON: Duration = Duration::from_secs(60);
const SOON_MILLIS: i32 = 60_000;
/// The library's descriptors stand at the end of this, or of what the limit allows.
const RANGE: u64 = 65_536;
const CLIENTS: usize = 4;
const SERVERS: usize = 4;

const TAG_LISTENER: u64 = 1 << 32;
const TAG_STOP: u64 = 2 << 32;

struct Stage<'a> {
    port: u16,
    listener: Fd,
    /// The shared one, and the two of one thread each.
    instances: [Fd; 3],
    stopping: AtomicBool,
    /// Connections that the server has open.
    open: AtomicUsize,
    accepted: AtomicU64,
    made: AtomicU64,
    /// Connections that were begun: each has its time, so that what a pause between rounds delays is made up for.
    begun: AtomicU64,
    start: Instant,
    /// Of those made: how they were ended.
    ends: [AtomicU64; 3],
    echoed: AtomicU64,
    faults: &'a Faults,
}

pub fn run(plan: Plan, faults: &Faults) -> Answer<String> {
    let room = sys::raise_descriptor_limit()?;
    let top = room.min(RANGE) / 2;
    if top < 2 * plan.idle as u64 + 200 {
        faults.add(format!("{room} descriptors are not enough for {} idle connections", plan.idle));
        return Ok(String::new());
    }
    let (listener, port) = sys::listener(libc::SOCK_NONBLOCK)?;
    let instances = [sys::epoll()?, sys::epoll()?, sys::epoll()?];
    let stop = sys::eventfd()?;
    sys::add(instances[0], listener, IN | ET, TAG_LISTENER)?;
    for epoll in instances {
        sys::add(epoll, stop, IN, TAG_STOP)?;
    }
    let stage = Stage {
        port,
        listener,
        instances,
        stopping: AtomicBool::new(false),
        open: AtomicUsize::new(0),
        accepted: AtomicU64::new(0),
        made: AtomicU64::new(0),
        begun: AtomicU64::new(0),
        start: Instant::now(),
        ends: Default::default(),
        echoed: AtomicU64::new(0),
        faults,
    };
    let line = thread::scope(|scope| {
        for index in 0..SERVERS {
            let epoll = instances[index.saturating_sub(1)];
            let stage = &stage;
            scope.spawn(move || stage.serve(epoll));
        }
        let line = stage.rounds(plan, top);
        // A server that hangs could not be ended otherwise.
        if !faults.is_empty() {
            eprintln!("uepoll-stress: connections: {line}");
            faults.print();
            sys::exit_now(1);
        }
        stage.stopping.store(true, Ordering::SeqCst);
        let _ = sys::write(stop, &1u64.to_ne_bytes());
        line
    });
    Ok(line)
}

impl Stage<'_> {
    fn expect<T>(&self, answer: Answer<T>, call: &str) -> Option<T> {
        answer.map_err(|error| self.faults.add(format!("{call}: error {error}"))).ok()
    }

    // The server.

    fn serve(&self, epoll: Fd) {
        let mut events = [NO_EVENT; 32];
        let mut next = 0;
        while !self.stopping.load(Ordering::SeqCst) {
            let Some(count) = self.expect(sys::wait(epoll, &mut events, -1), "epoll_wait") else {
                return;
            };
            for event in &events[..count] {
                match event.u64 {
                    TAG_LISTENER => self.accept_all(&mut next),
                    TAG_STOP => {}
                    _ => self.answer(epoll, *event),
                }
            }
        }
    }

    fn accept_all(&self, next: &mut usize) {
        loop {
            match sys::accept(self.listener) {
                Ok(fd) => {
                    self.open.fetch_add(1, Ordering::SeqCst);
                    self.accepted.fetch_add(1, Ordering::SeqCst);
                    *next += 1;
                    let epoll = self.instances[*next % self.instances.len()];
                    let _ = sys::no_delay(fd);
                    self.expect(sys::add(epoll, fd, self.mask(epoll), fd as u64), "ADD");
                }
                Err(libc::EAGAIN) => return,
                // Reset before it was accepted.
                Err(libc::ECONNABORTED) => {}
                Err(error) => return self.faults.add(format!("accept4: error {error}")),
            }
        }
    }

    fn mask(&self, epoll: Fd) -> u32 {
        IN | RDHUP | ET | if epoll == self.instances[0] { ONESHOT } else { 0 }
    }

    /// Echoes all that came; closes a connection that has ended.
    fn answer(&self, epoll: Fd, event: Event) {
        let fd = event.u64 as Fd;
        let mut buffer = [0; 2048];
        loop {
            match sys::read(fd, &mut buffer) {
                Ok(0) | Err(libc::ECONNRESET) => break,
                Ok(count) => match sys::send(fd, &buffer[..count]) {
                    Ok(sent) if sent == count => {
                        self.echoed.fetch_add(count as u64, Ordering::Relaxed);
                    }
                    Err(libc::ECONNRESET | libc::EPIPE) => break,
                    sent => {
                        self.faults.add(format!("{count} bytes are echoed as {sent:?}"));
                        break;
                    }
                },
                Err(libc::EAGAIN) => {
                    if epoll == self.instances[0] {
                        self.expect(sys::modify(epoll, fd, self.mask(epoll), event.u64), "MOD");
                    }
                    return;
                }
                Err(error) => {
                    self.faults.add(format!("read of connection {fd}: error {error}"));
                    break;
                }
            }
        }
        self.expect(sys::close(fd), "close");
        self.open.fetch_sub(1, Ordering::SeqCst);
    }

    // Clients.

    /// One connection, from its beginning to its end.
    fn visit(&self, epoll: Fd, dice: &mut Rng) {
        let Some(fd) = self.open_one(epoll) else { return };
        for _ in 0..dice.u8(..4) {
            self.exchange(epoll, fd, dice);
        }
        let way = dice.usize(..4);
        match way {
            // The server sees the end, and closes; the client has closed already.
            0 | 1 => {}
            2 => drop(self.expect(sys::linger_none(fd), "SO_LINGER")),
            _ => self.half_close(epoll, fd),
        }
        self.ends[way.saturating_sub(1)].fetch_add(1, Ordering::Relaxed);
        self.expect(sys::close(fd), "close");
        self.made.fetch_add(1, Ordering::SeqCst);
    }

    fn open_one(&self, epoll: Fd) -> Option<Fd> {
        let fd = self.expect(sys::connect(self.port, libc::SOCK_NONBLOCK), "connect")?;
        self.expect(sys::add(epoll, fd, OUT | IN | RDHUP | ET, fd as u64), "ADD");
        self.await_event(epoll, OUT, "a connection");
        self.expect(sys::error_of(fd), "connect");
        let _ = sys::no_delay(fd);
        Some(fd)
    }

    /// Waits until one of `bits` was told of the only connection of `epoll`.
    fn await_event(&self, epoll: Fd, bits: u32, what: &str) {
        let mut events = [NO_EVENT; 1];
        loop {
            match sys::wait(epoll, &mut events, SOON_MILLIS) {
                Ok(0) => return self.faults.add(format!("nobody was told of {what}")),
                Ok(_) if events[0].events & bits != 0 => return,
                Ok(_) => {}
                Err(error) => return self.faults.add(format!("epoll_wait: error {error}")),
            }
        }
    }

    fn exchange(&self, epoll: Fd, fd: Fd, dice: &mut Rng) {
        let bytes = vec![dice.u8(..); dice.usize(1..1000)];
        if self.expect(sys::send(fd, &bytes), "send") != Some(bytes.len()) {
            self.faults.add("a small message was not sent as a whole".into());
        }
        let mut back = Vec::new();
        let mut buffer = [0; 2048];
        while back.len() < bytes.len() {
            match sys::read(fd, &mut buffer) {
                Ok(0) => return self.faults.add("the server closed a connection".into()),
                Ok(count) => back.extend_from_slice(&buffer[..count]),
                Err(libc::EAGAIN) => {
                    self.await_event(epoll, IN, "an echo");
                    if !self.faults.is_empty() {
                        return;
                    }
                }
                Err(error) => return self.faults.add(format!("read: error {error}")),
            }
        }
        if back != bytes {
            self.faults.add("an echo has other bytes".into());
        }
    }

    /// The server closes when it has seen the end of what is sent.
    fn half_close(&self, epoll: Fd, fd: Fd) {
        self.expect(sys::shutdown_write(fd), "shutdown");
        loop {
            match sys::read(fd, &mut [0; 16]) {
                Ok(0) => return,
                Err(libc::EAGAIN) => {
                    self.await_event(epoll, RDHUP, "the end of a connection");
                    if !self.faults.is_empty() {
                        return;
                    }
                }
                other => {
                    return self.faults.add(format!("at the end of a connection: {other:?}"));
                }
            }
        }
    }

    // Rounds.

    fn rounds(&self, plan: Plan, top: u64) -> String {
        let mut dice = Rng::with_seed(plan.seed);
        let (mut number, mut before, mut most) = (0, None, process::footprint(top));
        let mut watchers = 0;
        // At least one round that is compared.
        while number <= WARM_UP || self.start.elapsed().as_secs() < plan.seconds {
            watchers = watchers.max(self.round(plan, &mut dice));
            // A scope waits for what its threads do, not for their ends.
            let is_quiet = || {
                self.open.load(Ordering::SeqCst) == 0
                    && process::watchers().is_empty()
                    && process::threads() <= SERVERS + 1
            };
            if !until(is_quiet) {
                self.faults.add(format!(
                    "a minute after the clients, the server has {} connections, the library {} watchers",
                    self.open.load(Ordering::SeqCst),
                    process::watchers().len()
                ));
            }
            let now = process::footprint(top);
            number += 1;
            if number == WARM_UP {
                (before, most) = (Some(now), now);
            } else if let Some(before) = before {
                self.compare(before, now, number);
                most.memory = most.memory.max(now.memory);
                most.hidden = most.hidden.max(now.hidden);
            }
            // A wake-up descriptor stays with the place of a sleeper, for the next one.
            if now.hidden > watchers + SLEEPERS {
                self.faults.add(format!(
                    "the library holds {} descriptors after {watchers} watchers at once",
                    now.hidden
                ));
            }
            if !self.faults.is_empty() {
                break;
            }
        }
        if process::is_preloaded() && watchers == 0 && plan.idle > 64 {
            self.faults.add("no watcher was started: what retires them was not tried".into());
        }
        let before = before.unwrap_or(most);
        let [usual, reset, half] = self.ends.each_ref().map(|end| end.load(Ordering::SeqCst));
        let (seconds, made) =
            (self.start.elapsed().as_secs_f64(), self.made.load(Ordering::SeqCst));
        format!(
            "{number} rounds in {seconds:.0} s, {made} connections, {:.0} a minute ({usual} closed, {reset} reset, {half} half-closed), {} \
             bytes echoed, {} idle in each round, up to {watchers} watchers; between rounds {} descriptors and at most {} \
             of the library's, {} threads, {} kB and at most {} kB",
            made as f64 * 60.0 / seconds,
            self.echoed.load(Ordering::SeqCst),
            plan.idle,
            before.descriptors,
            most.hidden,
            before.threads,
            before.memory,
            most.memory,
        )
    }

    fn compare(&self, before: Footprint, now: Footprint, round: u32) {
        let same = now.descriptors == before.descriptors && now.threads == before.threads;
        if !same || now.memory > before.memory + MEMORY {
            self.faults.add(format!(
                "after round {round} the process holds {now:?}; after the warm-up {before:?}"
            ));
        }
    }

    /// Gives how many watchers there were at most.
    fn round(&self, plan: Plan, dice: &mut Rng) -> usize {
        let end = Instant::now() + Duration::from_secs(plan.round);
        let pause = Duration::from_secs(60) / plan.rate.max(1) as u32;
        let watchers = Mutex::new(0);
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                let mut dice = Rng::with_seed(dice.u64(..));
                scope.spawn(move || {
                    let Some(epoll) = self.expect(sys::epoll(), "epoll_create1") else { return };
                    while Instant::now() < end && self.faults.is_empty() {
                        let number = self.begun.fetch_add(1, Ordering::Relaxed);
                        let due = self.start + pause * number as u32;
                        thread::sleep(due.saturating_duration_since(Instant::now()));
                        self.visit(epoll, &mut dice);
                    }
                    self.expect(sys::close(epoll), "close");
                });
            }
            let mut dice = Rng::with_seed(dice.u64(..));
            let watchers = &watchers;
            scope.spawn(move || {
                let found = self.crowd(plan.idle, end, &mut dice);
                *watchers.lock().unwrap_or_else(PoisonError::into_inner) = found;
            });
        });
        watchers.into_inner().unwrap_or(0)
    }

    /// Idle connections come, stay for most of the round, say something one by one, and go.
    fn crowd(&self, count: usize, end: Instant, dice: &mut Rng) -> usize {
        let Some(epoll) = self.expect(sys::epoll(), "epoll_create1") else { return 0 };
        let mut crowd = Vec::with_capacity(count);
        while crowd.len() < count {
            let Some(fd) = self.open_one(epoll) else { break };
            crowd.push(fd);
        }
        let mut watchers = 0;
        while Instant::now() < end && self.faults.is_empty() {
            watchers = watchers.max(process::watchers().len());
            let one = dice.usize(..crowd.len().max(1));
            if let Some(fd) = crowd.get(one) {
                self.exchange(epoll, *fd, dice);
            }
            thread::sleep(Duration::from_millis(5));
        }
        for (place, fd) in crowd.into_iter().enumerate() {
            // All of those that are parked must still be told.
            if place % 8 == 0 && self.faults.is_empty() {
                watchers = watchers.max(process::watchers().len());
                self.exchange(epoll, fd, dice);
            }
            if place % 16 == 0 {
                let _ = sys::linger_none(fd);
            }
            self.expect(sys::close(fd), "close");
        }
        self.expect(sys::close(epoll), "close");
        watchers
    }
}

/// Whether it is so within a minute.
fn until(is_so: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while !is_so() {
        if start.elapsed() > SOON {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
    true
}
