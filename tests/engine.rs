//! The engine as a plain library: no hooks, no preload. What the hooks would say of the program's calls, the tests say.

use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use libc::{EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, timespec};
use uepoll::backend::Sleep;
use uepoll::fdtable::Signs;
use uepoll::{Engine, Errno, Event, Events, FdTable};

/// An engine of its own for each test: they share the process' descriptors, but each knows only its own.
fn engine() -> &'static Engine {
    static TABLES: [FdTable; 12] = [const { FdTable::new() }; 12];
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let table = &TABLES[NEXT.fetch_add(1, std::sync::atomic::Ordering::SeqCst)];
    Box::leak(Box::new(Engine::new(table, None, || false).unwrap()))
}

fn event(events: Events, data: u64) -> Option<Event> {
    Some(Event { events, data })
}

fn milliseconds(timeout: i64) -> Sleep {
    let timeout = timespec { tv_sec: timeout / 1000, tv_nsec: timeout % 1000 * 1_000_000 };
    Sleep { timeout: Some(timeout), mask: None }
}

fn wait(engine: &'static Engine, epfd: RawFd, max: i32, timeout: i64) -> Result<Vec<Event>, Errno> {
    let mut events = Vec::new();
    let mut sink = |_: usize, event: Event| {
        events.push(event);
        true
    };
    let mut sleep = milliseconds(timeout);
    let count = engine.wait(epfd, max, &mut sleep, true, &mut sink, engine.cancels())?;
    assert_eq!(count, events.len());
    Ok(events)
}

fn registered(engine: &'static Engine, events: Events) -> (RawFd, PipeReader, PipeWriter) {
    let epfd = engine.create(libc::EPOLL_CLOEXEC).unwrap();
    let (reader, writer) = pipe().unwrap();
    engine.ctl(epfd, EPOLL_CTL_ADD, reader.as_raw_fd(), event(events, 42)).unwrap();
    (epfd, reader, writer)
}

const IN: Event = Event { events: Events::IN, data: 42 };

#[test]
fn a_level_is_reported_until_it_is_low() {
    let engine = engine();
    let (epfd, mut reader, mut writer) = registered(engine, Events::IN);
    assert_eq!(wait(engine, epfd, 8, 0), Ok(vec![]));
    writer.write_all(b"x").unwrap();
    assert_eq!(wait(engine, epfd, 8, 1000), Ok(vec![IN]));
    assert_eq!(wait(engine, epfd, 8, 0), Ok(vec![IN]));
    reader.read_exact(&mut [0]).unwrap();
    assert_eq!(wait(engine, epfd, 8, 0), Ok(vec![]));
}

#[test]
fn an_edge_is_reported_once_and_growth_is_the_next() {
    let engine = engine();
    let (epfd, mut reader, mut writer) = registered(engine, Events::IN | Events::ET);
    writer.write_all(b"abc").unwrap();
    assert_eq!(wait(engine, epfd, 8, 0), Ok(vec![IN]));
    assert_eq!(wait(engine, epfd, 8, 0), Ok(vec![]));
    // Nobody tells of this write: the file's own count does.
    writer.write_all(b"d").unwrap();
    assert_eq!(wait(engine, epfd, 8, 0), Ok(vec![IN]));
    // Nor of this one, which comes while the wait sleeps.
    let slept = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(30));
        writer.write_all(b"e").unwrap();
        writer
    });
    assert_eq!(wait(engine, epfd, 8, 5000), Ok(vec![IN]));
    let mut writer = slept.join().unwrap();
    reader.read_exact(&mut [0; 5]).unwrap();
    engine.sign(reader.as_raw_fd(), Signs::DRAINED);
    assert_eq!(wait(engine, epfd, 8, 0), Ok(vec![]));
    writer.write_all(b"f").unwrap();
    assert_eq!(wait(engine, epfd, 8, 0), Ok(vec![IN]));
}

#[test]
fn one_shot_fires_once_until_mod() {
    let engine = engine();
    let (epfd, reader, mut writer) = registered(engine, Events::IN | Events::ONESHOT);
    writer.write_all(b"x").unwrap();
    assert_eq!(wait(engine, epfd, 8, 0), Ok(vec![IN]));
    assert_eq!(wait(engine, epfd, 8, 0), Ok(vec![]));
    let again = event(Events::IN | Events::ONESHOT, 42);
    assert_eq!(engine.ctl(epfd, EPOLL_CTL_ADD, reader.as_raw_fd(), again), Err(Errno::EEXIST));
    engine.ctl(epfd, EPOLL_CTL_MOD, reader.as_raw_fd(), again).unwrap();
    assert_eq!(wait(engine, epfd, 8, 0), Ok(vec![IN]));
}

#[test]
fn a_fault_loses_nothing() {
    let engine = engine();
    let (epfd, _reader, mut writer) = registered(engine, Events::IN | Events::ET);
    writer.write_all(b"x").unwrap();
    let mut refuse = |_: usize, _: Event| false;
    let cancels = engine.cancels();
    let result = engine.wait(epfd, 8, &mut milliseconds(0), true, &mut refuse, cancels);
    assert_eq!(result, Err(Errno::EFAULT));
    assert_eq!(wait(engine, epfd, 8, 0), Ok(vec![IN]));
}

#[test]
fn waits_go_round_all_that_is_ready() {
    let engine = engine();
    let epfd = engine.create(0).unwrap();
    let pipes: Vec<_> = (0..5u64)
        .map(|data| {
            let (reader, mut writer) = pipe().unwrap();
            writer.write_all(b"x").unwrap();
            engine.ctl(epfd, EPOLL_CTL_ADD, reader.as_raw_fd(), event(Events::IN, data)).unwrap();
            (reader, writer)
        })
        .collect();
    let mut seen = vec![];
    for _ in 0..5 {
        seen.extend(wait(engine, epfd, 2, 0).unwrap().iter().map(|event| event.data));
    }
    assert_eq!(seen, [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]);
    drop(pipes);
}

#[test]
fn errors_come_in_the_kernels_order() {
    let engine = engine();
    let epfd = engine.create(0).unwrap();
    let any = event(Events::IN, 0);
    assert_eq!(engine.create(1), Err(Errno::EINVAL));
    assert_eq!(engine.ctl(-1, 99, -1, any), Err(Errno::EBADF));
    assert_eq!(engine.ctl(epfd, EPOLL_CTL_ADD, -1, any), Err(Errno::EBADF));
    let null = std::fs::File::open("/dev/null").unwrap();
    assert_eq!(engine.ctl(epfd, 99, null.as_raw_fd(), any), Err(Errno::EPERM));
    assert_eq!(engine.ctl(epfd, EPOLL_CTL_ADD, epfd, any), Err(Errno::EINVAL));
    let (reader, _writer) = pipe().unwrap();
    assert_eq!(engine.ctl(epfd, EPOLL_CTL_DEL, reader.as_raw_fd(), None), Err(Errno::ENOENT));
    assert_eq!(engine.ctl(epfd, 99, reader.as_raw_fd(), any), Err(Errno::EINVAL));
    assert_eq!(wait(engine, -1, 0, 0), Err(Errno::EBADF));
    assert_eq!(wait(engine, epfd, 0, 0), Err(Errno::EINVAL));
    assert_eq!(wait(engine, reader.as_raw_fd(), 1, 0), Err(Errno::EINVAL));
}

#[test]
fn closing_returns_when_no_sleeper_holds_the_file() {
    let engine = engine();
    let epfd = engine.create(0).unwrap();
    let (mut peer, watched) = UnixStream::pair().unwrap();
    let fd = watched.as_raw_fd();
    engine.ctl(epfd, EPOLL_CTL_ADD, fd, event(Events::IN, 1)).unwrap();
    let sleeper = std::thread::spawn(move || wait(engine, epfd, 8, 1500));
    std::thread::sleep(Duration::from_millis(100));
    engine.closing(fd).unwrap();
    drop(watched);
    peer.set_nonblocking(true).unwrap();
    assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0, "the end of the file, at once");
    assert_eq!(sleeper.join().unwrap(), Ok(vec![]), "and the sleeper slept on");
}

#[test]
fn one_event_wakes_one_of_many_and_leadership_goes_on() {
    let engine = engine();
    let (epfd, _reader, mut writer) = registered(engine, Events::IN | Events::ET);
    let threads: Vec<_> = (0..4)
        .map(|_| std::thread::spawn(move || wait(engine, epfd, 8, 700).unwrap().len()))
        .collect();
    std::thread::sleep(Duration::from_millis(100));
    writer.write_all(b"x").unwrap();
    let woken: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!(woken, 1);
}

#[test]
fn a_timeout_is_never_short() {
    let engine = engine();
    let (epfd, _reader, _writer) = registered(engine, Events::IN);
    let start = Instant::now();
    assert_eq!(wait(engine, epfd, 8, 50), Ok(vec![]));
    assert!(start.elapsed() >= Duration::from_millis(50));
}
