//! `uepoll-micro CASE`: one small measurement in one process, printed as one number.
//!
//! The number is nanoseconds an operation (bytes a descriptor for `memory-*`): all the time of the measurement divided
//! by all its operations, background work of the library included. `uepoll-bench` runs it natively and preloaded.

mod sys;

use std::fs::{self, OpenOptions};
use std::hint::black_box;
use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sys::{EPOLLIN, EPOLLONESHOT, Epoll, Events};

/// Operations between two looks at the clock, so that the clock costs nothing next to them.
const BATCH: u64 = 32;

struct Options {
    case: String,
    warm: Duration,
    measure: Duration,
    /// `none`, or the file name of the library that has to answer our epoll calls.
    library: Option<String>,
}

fn main() -> ExitCode {
    let printed = parse(std::env::args().skip(1)).and_then(|options| {
        sys::raise_descriptor_limit()?;
        if let Some(library) = &options.library {
            check_epoll(library)?;
        }
        run(&options)
    });
    match printed {
        Ok(number) => {
            println!("{number:.2}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("uepoll-micro: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> io::Result<Options> {
    let usage = || {
        io::Error::other(
            "usage: uepoll-micro CASE [--warm-ms N] [--measure-ms N] [--library NAME|none]",
        )
    };
    let mut options = Options {
        case: arguments.next().ok_or_else(usage)?,
        warm: Duration::from_millis(300),
        measure: Duration::from_millis(300),
        library: None,
    };
    while let Some(option) = arguments.next() {
        let value = arguments.next().ok_or_else(usage)?;
        let milliseconds = || value.parse().map(Duration::from_millis).map_err(|_| usage());
        match option.as_str() {
            "--warm-ms" => options.warm = milliseconds()?,
            "--measure-ms" => options.measure = milliseconds()?,
            "--library" => options.library = Some(value),
            _ => return Err(usage()),
        }
    }
    Ok(options)
}

/// Fails when it is not the expected side that answers: the kernel for `none`, else the library of that name.
fn check_epoll(library: &str) -> io::Result<()> {
    let epoll = Epoll::new()?;
    let link = fs::read_link(format!("/proc/self/fd/{}", epoll.number()))?;
    let of_kernel = link.as_os_str() == "anon_inode:[eventpoll]";
    let mapped = fs::read_to_string("/proc/self/maps")?.contains("libuepoll");
    let expected = library != "none";
    if of_kernel == expected || mapped != expected {
        let message = format!(
            "expected library: {library}; kernel's epoll: {of_kernel}, library mapped: {mapped}"
        );
        return Err(io::Error::other(message));
    }
    Ok(())
}

fn run(options: &Options) -> io::Result<f64> {
    let words: Vec<&str> = options.case.split('-').collect();
    let size = |word: &str| word.parse::<usize>().map_err(|_| unknown(options));
    match words.as_slice() {
        ["ctl", "add", "del"] => ctl_add_del(options),
        ["ctl", "mod"] => ctl_mod(options),
        ["wait", "empty", count] => wait_among(options, Kind::Eventfd, size(count)?, 0, 0),
        ["wait0", count] => wait_among(options, Kind::Eventfd, size(count)?, 1, 0),
        ["wait0", count, "sockets"] => wait_among(options, Kind::SocketPair, size(count)?, 1, 0),
        ["wait", count] => wait_among(options, Kind::Eventfd, size(count)?, 1, -1),
        ["wait", count, "sockets"] => wait_among(options, Kind::SocketPair, size(count)?, 1, -1),
        ["active", active, "of", count] => active_of(options, size(active)?, size(count)?),
        ["ping", "pong"] => ping_pong(options),
        ["oneshot", "2", "threads"] => oneshot_two_threads(options),
        ["io", "null", "unwatched"] => io_null(options),
        ["io", "eventfd", "unwatched"] => io_eventfd(options, false),
        ["io", "eventfd", "watched"] => io_eventfd(options, true),
        ["dup", "close", "unwatched"] => dup_close(options),
        ["memory", count] => memory(options, size(count)?),
        _ => Err(unknown(options)),
    }
}

fn unknown(options: &Options) -> io::Error {
    io::Error::other(format!("there is no case {:?}", options.case))
}

/// Nanoseconds an operation. The warm-up is the same work: caches, and time for the library to park what is silent.
fn nanoseconds(
    options: &Options,
    mut operation: impl FnMut() -> io::Result<()>,
) -> io::Result<f64> {
    repeat(options.warm, &mut operation)?;
    let begin = Instant::now();
    let count = repeat(options.measure, &mut operation)?;
    Ok(begin.elapsed().as_nanos() as f64 / count as f64)
}

fn repeat(time: Duration, operation: &mut impl FnMut() -> io::Result<()>) -> io::Result<u64> {
    let begin = Instant::now();
    let mut count = 0;
    while begin.elapsed() < time {
        for _ in 0..BATCH {
            operation()?;
        }
        count += BATCH;
    }
    Ok(count.max(1))
}

/// The measurement is void when the calls did not do what they are timed for.
fn expect(what: &str, found: usize, expected: usize) -> io::Result<()> {
    if found == expected {
        Ok(())
    } else {
        Err(io::Error::other(format!("{what}: {found} instead of {expected}")))
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Eventfd,
    SocketPair,
}

/// A descriptor to watch, and how to make it readable.
struct Watched {
    fd: OwnedFd,
    /// The other end, for socket pairs.
    peer: Option<OwnedFd>,
}

impl Watched {
    fn new(kind: Kind) -> io::Result<Watched> {
        Ok(match kind {
            Kind::Eventfd => Watched { fd: sys::eventfd(0)?, peer: None },
            Kind::SocketPair => {
                let (fd, peer) = sys::socket_pair()?;
                Watched { fd, peer: Some(peer) }
            }
        })
    }

    /// `count` of them, each registered under its index.
    fn crowd(epoll: &Epoll, kind: Kind, count: usize) -> io::Result<Vec<Watched>> {
        let mut crowd = Vec::with_capacity(count);
        for index in 0..count {
            let watched = Watched::new(kind)?;
            epoll.add(&watched.fd, EPOLLIN, index)?;
            crowd.push(watched);
        }
        Ok(crowd)
    }

    fn stir(&self) -> io::Result<()> {
        match &self.peer {
            Some(peer) => sys::write(peer, b"x"),
            None => sys::write(&self.fd, &1_u64.to_ne_bytes()),
        }
    }

    fn drain(&self) -> io::Result<()> {
        let expected = if self.peer.is_some() { 1 } else { 8 };
        expect("bytes read", sys::read(&self.fd, &mut [0; 8])?, expected)
    }
}

fn ctl_add_del(options: &Options) -> io::Result<f64> {
    let epoll = Epoll::new()?;
    let fd = sys::eventfd(0)?;
    nanoseconds(options, || {
        epoll.add(&fd, EPOLLIN, 1)?;
        epoll.delete(&fd)
    })
}

fn ctl_mod(options: &Options) -> io::Result<f64> {
    let epoll = Epoll::new()?;
    let fd = sys::eventfd(0)?;
    epoll.add(&fd, EPOLLIN, 1)?;
    let mut data = 0;
    nanoseconds(options, || {
        data += 1;
        epoll.modify(&fd, EPOLLIN, data)
    })
}

/// Level-triggered and never drained: every wait finds the same `ready` descriptors (none or one) among `size`.
fn wait_among(
    options: &Options,
    kind: Kind,
    size: usize,
    ready: usize,
    timeout: i32,
) -> io::Result<f64> {
    let epoll = Epoll::new()?;
    let crowd = Watched::crowd(&epoll, kind, size)?;
    for watched in crowd.iter().skip(size / 2).take(ready) {
        watched.stir()?;
    }
    let mut events = Events::with_room(64);
    nanoseconds(options, || expect("events", epoll.wait(&mut events, timeout)?, ready))
}

/// Nanoseconds an event: `active` of `size` become readable, all of them are reported and read.
fn active_of(options: &Options, active: usize, size: usize) -> io::Result<f64> {
    let epoll = Epoll::new()?;
    let crowd = Watched::crowd(&epoll, Kind::SocketPair, size)?;
    // Spread over the interest list, as busy connections are.
    let stride = size / active;
    let mut events = Events::with_room(active);
    let round = nanoseconds(options, || {
        for watched in crowd.iter().step_by(stride).take(active) {
            watched.stir()?;
        }
        let mut seen = 0;
        while seen < active {
            let count = epoll.wait(&mut events, -1)?;
            for index in 0..count {
                crowd[events.data(index)].drain()?;
            }
            seen += count;
        }
        Ok(())
    })?;
    Ok(round / active as f64)
}

/// One end of the game: waits for its pipe and reads the ball.
struct Player {
    epoll: Epoll,
    inlet: OwnedFd,
    outlet: OwnedFd,
    events: Events,
}

impl Player {
    fn new(inlet: OwnedFd, outlet: OwnedFd) -> io::Result<Player> {
        let epoll = Epoll::new()?;
        epoll.add(&inlet, EPOLLIN, 0)?;
        Ok(Player { epoll, inlet, outlet, events: Events::with_room(4) })
    }

    /// False at the end of the game: the other side has closed.
    fn receive(&mut self) -> io::Result<bool> {
        self.epoll.wait(&mut self.events, -1)?;
        Ok(sys::read(&self.inlet, &mut [0; 1])? == 1)
    }
}

/// Nanoseconds for a byte there and back between two threads that both sleep in epoll_wait.
fn ping_pong(options: &Options) -> io::Result<f64> {
    let (ping_in, ping_out) = sys::pipe()?;
    let (pong_in, pong_out) = sys::pipe()?;
    let mut near = Player::new(pong_in, ping_out)?;
    let mut far = Player::new(ping_in, pong_out)?;
    thread::scope(|scope| {
        let echo = scope.spawn(move || -> io::Result<()> {
            while far.receive()? {
                sys::write(&far.outlet, b"x")?;
            }
            Ok(())
        });
        let time = nanoseconds(options, || {
            sys::write(&near.outlet, b"x")?;
            expect("pongs", usize::from(near.receive()?), 1)
        });
        // Closes the pipe and so ends the other thread, also after an error.
        drop(near);
        echo.join().unwrap_or_else(|_| Err(io::Error::other("the other thread failed")))?;
        time
    })
}

/// Nanoseconds for one event and its re-arming, by two threads on one instance.
fn oneshot_two_threads(options: &Options) -> io::Result<f64> {
    const SIZE: usize = 16;
    let epoll = Epoll::new()?;
    let fds = (0..SIZE).map(|_| sys::eventfd(1)).collect::<io::Result<Vec<_>>>()?;
    for (index, fd) in fds.iter().enumerate() {
        epoll.add(fd, EPOLLIN | EPOLLONESHOT, index)?;
    }
    let (count, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let worker = || -> io::Result<()> {
        let mut events = Events::with_room(1);
        // The others are always ready and armed, so that no thread ever has to be woken at the end.
        while !stop.load(Ordering::Relaxed) {
            expect("events", epoll.wait(&mut events, -1)?, 1)?;
            let index = events.data(0);
            epoll.modify(&fds[index], EPOLLIN | EPOLLONESHOT, index)?;
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers = [scope.spawn(worker), scope.spawn(worker)];
        thread::sleep(options.warm);
        let (begin, before) = (Instant::now(), count.load(Ordering::Relaxed));
        thread::sleep(options.measure);
        let (time, done) = (begin.elapsed(), count.load(Ordering::Relaxed) - before);
        stop.store(true, Ordering::Relaxed);
        for worker in workers {
            worker.join().unwrap_or_else(|_| Err(io::Error::other("a thread failed")))?;
        }
        if done == 0 {
            return Err(io::Error::other("no events"));
        }
        Ok(time.as_nanos() as f64 / done as f64)
    })
}

/// An instance that watches something else: the library is at work in this process, but not on our descriptor.
fn elsewhere() -> io::Result<(Epoll, OwnedFd)> {
    let epoll = Epoll::new()?;
    let other = sys::eventfd(0)?;
    epoll.add(&other, EPOLLIN, 0)?;
    expect("events", epoll.wait(&mut Events::with_room(1), 0)?, 0)?;
    Ok((epoll, other))
}

fn io_null(options: &Options) -> io::Result<f64> {
    let _elsewhere = elsewhere()?;
    let null = OwnedFd::from(OpenOptions::new().write(true).open("/dev/null")?);
    nanoseconds(options, || sys::write(&null, black_box(b"x")))
}

fn io_eventfd(options: &Options, watch: bool) -> io::Result<f64> {
    let (epoll, _other) = elsewhere()?;
    let watched = Watched::new(Kind::Eventfd)?;
    if watch {
        epoll.add(&watched.fd, EPOLLIN, 1)?;
    }
    nanoseconds(options, || {
        watched.stir()?;
        watched.drain()
    })
}

fn dup_close(options: &Options) -> io::Result<f64> {
    let _elsewhere = elsewhere()?;
    let fd = sys::eventfd(0)?;
    nanoseconds(options, || sys::dup(&fd).map(drop))
}

/// Bytes of resident memory that each of `size` registered descriptors costs the process, after some waits.
fn memory(options: &Options, size: usize) -> io::Result<f64> {
    let epoll = Epoll::new()?;
    let fds = (0..size).map(|_| sys::eventfd(0)).collect::<io::Result<Vec<_>>>()?;
    let mut events = Events::with_room(64);
    let before = resident_bytes()?;
    for (index, fd) in fds.iter().enumerate() {
        epoll.add(fd, EPOLLIN, index)?;
    }
    // Waits that find nothing: time for whatever is built for silent descriptors.
    let begin = Instant::now();
    while begin.elapsed() < options.warm + options.measure {
        expect("events", epoll.wait(&mut events, 10)?, 0)?;
    }
    Ok((resident_bytes()? as f64 - before as f64) / size as f64)
}

/// VmRSS, from where it is counted exactly: the sum in /proc/self/status lags behind by some pages a processor.
fn resident_bytes() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/self/smaps_rollup")?;
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:")?.trim().strip_suffix(" kB"));
    let kilobytes: Option<u64> = line.and_then(|number| number.trim().parse().ok());
    kilobytes.map(|number| number * 1024).ok_or_else(|| io::Error::other("smaps_rollup has no Rss"))
}
