//! Several threads on one instance, or one each.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use crate::activity::Random;
use crate::sys::{self, EPOLLET, EPOLLIN, EPOLLONESHOT, Epoll, Events};
use crate::timing::{Timing, expect, nanoseconds};
use crate::watched::{Kind, Watched};

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
pub fn ping_pong(timing: Timing) -> io::Result<f64> {
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
        let time = nanoseconds(timing, || {
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
pub fn oneshot_two_threads(timing: Timing) -> io::Result<f64> {
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
        thread::sleep(timing.warm);
        let (begin, before) = (Instant::now(), count.load(Ordering::Relaxed));
        thread::sleep(timing.measure);
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

/// Messages a second that `count` threads pass around on one shared instance. Sixteen messages wander over 64 socket
/// pairs: who is told of one reads it and sends it to a pair taken at random, where it is news for another thread.
pub fn workers(timing: Timing, count: usize, oneshot: bool) -> io::Result<f64> {
    const SIZE: usize = 64;
    const MESSAGES: usize = 16;
    /// Events that one wait may take: small, so that there is something left for the other threads.
    const ROOM: usize = 4;
    let mask = EPOLLIN | if oneshot { EPOLLONESHOT } else { EPOLLET };
    let epoll = Epoll::new()?;
    let crowd = Watched::crowd(&epoll, Kind::SocketPair, SIZE, mask)?;
    let (passed, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let (epoll, crowd, passed, stop) = (&epoll, &crowd, &passed, &stop);
    let worker = |number: usize| -> io::Result<()> {
        let mut random = Random(number as u64 + 1);
        let mut events = Events::with_room(ROOM);
        let mut buffer = [0; MESSAGES];
        while !stop.load(Ordering::Relaxed) {
            // The limit only serves the end, when all messages may be in other hands.
            for index in 0..epoll.wait(&mut events, 100)? {
                let place = events.data(index);
                loop {
                    let read = match sys::read(&crowd[place].fd, &mut buffer) {
                        // With edges two threads may have been told of two messages, and one took both.
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                        read => read?,
                    };
                    for _ in 0..read {
                        crowd[random.below(SIZE)].stir()?;
                    }
                    passed.fetch_add(read as u64, Ordering::Relaxed);
                    if oneshot {
                        break;
                    }
                }
                if oneshot {
                    epoll.modify(&crowd[place].fd, mask, place)?;
                }
            }
        }
        Ok(())
    };
    for watched in crowd.iter().take(MESSAGES) {
        watched.stir()?;
    }
    let rate = thread::scope(|scope| {
        let workers: Vec<_> =
            (0..count).map(|number| scope.spawn(move || worker(number))).collect();
        thread::sleep(timing.warm);
        let (begin, before) = (Instant::now(), passed.load(Ordering::Relaxed));
        thread::sleep(timing.measure);
        let (time, done) = (begin.elapsed(), passed.load(Ordering::Relaxed) - before);
        stop.store(true, Ordering::Relaxed);
        for worker in workers {
            worker.join().unwrap_or_else(|_| Err(io::Error::other("a thread failed")))?;
        }
        Ok::<f64, io::Error>(done as f64 / time.as_secs_f64())
    })?;
    // Whoever reads a message sends it on, so all are still there.
    let mut left = 0;
    for watched in crowd {
        left += sys::read(&watched.fd, &mut [0; MESSAGES]).unwrap_or(0);
    }
    expect("messages left", left, MESSAGES)?;
    Ok(rate)
}
