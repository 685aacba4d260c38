//! An echo server on mio alone: `mio-echo PORT`. One thread, edge-triggered: what mio gives. Beside the connections a
//! thread that wakes it, children's pipes, and signals: USR1 asks for a child, TERM ends it, with one line of counts.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream, UnixStream};
use mio::unix::pipe;
use mio::{Events, Interest, Poll, Token, Waker};
use signal_hook::consts::{SIGTERM, SIGUSR1};

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);
const TERM: Token = Token(2);
const USR1: Token = Token(3);
const FIRST: usize = 16;
/// So much that was not taken yet, and no more is read.
const ENOUGH: usize = 100_000;

struct Connection {
    stream: TcpStream,
    pending: Vec<u8>,
    ended: bool,
}

enum Progress {
    Goes,
    Whole,
    Broken,
}

impl Connection {
    /// Reads and writes until both sides would block, as edges demand.
    fn serve(&mut self, bytes: &mut u64) -> Progress {
        let mut buffer = [0; 16384];
        loop {
            let mut moved = false;
            if !self.ended && self.pending.len() < ENOUGH {
                match self.stream.read(&mut buffer) {
                    Ok(0) => self.ended = true,
                    Ok(count) => {
                        self.pending.extend_from_slice(&buffer[..count]);
                        *bytes += count as u64;
                        moved = true;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) if error.kind() == ErrorKind::Interrupted => moved = true,
                    Err(_) => return Progress::Broken,
                }
            }
            if !self.pending.is_empty() {
                match self.stream.write(&self.pending) {
                    Ok(count) => {
                        self.pending.drain(..count);
                        moved = true;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) if error.kind() == ErrorKind::Interrupted => moved = true,
                    Err(_) => return Progress::Broken,
                }
            }
            if self.ended && self.pending.is_empty() {
                return Progress::Whole;
            }
            if !moved {
                return Progress::Goes;
            }
        }
    }
}

/// A `cat` that is fed by one pipe and read by another.
struct Job {
    child: Child,
    to: Option<pipe::Sender>,
    from: pipe::Receiver,
    said: Vec<u8>,
    sent: usize,
    got: Vec<u8>,
}

impl Job {
    fn start(poll: &Poll, token: usize) -> io::Result<Self> {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut to = pipe::Sender::from(child.stdin.take().expect("piped"));
        let mut from = pipe::Receiver::from(child.stdout.take().expect("piped"));
        to.set_nonblocking(true)?;
        from.set_nonblocking(true)?;
        poll.registry().register(&mut to, Token(token), Interest::WRITABLE)?;
        poll.registry().register(&mut from, Token(token), Interest::READABLE)?;
        let said = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
        Ok(Self { child, to: Some(to), from, said, sent: 0, got: Vec::new() })
    }

    /// True when the child has given back everything, and has ended.
    fn go_on(&mut self, poll: &Poll) -> io::Result<bool> {
        while let Some(to) = &mut self.to {
            if self.sent == self.said.len() {
                poll.registry().deregister(to)?;
                self.to = None;
                break;
            }
            match to.write(&self.said[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        let mut buffer = [0; 10_000];
        loop {
            match self.from.read(&mut buffer) {
                Ok(0) => {
                    assert!(self.got == self.said, "what cat gave back");
                    poll.registry().deregister(&mut self.from)?;
                    assert!(self.child.wait()?.success());
                    return Ok(true);
                }
                Ok(count) => self.got.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }
}

fn signal_source(poll: &Poll, number: i32, token: Token) -> io::Result<UnixStream> {
    let (read, write) = StdUnixStream::pair()?;
    signal_hook::low_level::pipe::register(number, write)?;
    read.set_nonblocking(true)?;
    let mut read = UnixStream::from_std(read);
    poll.registry().register(&mut read, token, Interest::READABLE)?;
    Ok(read)
}

/// Reads a signal's source until it would block: how many came.
fn rings(source: &mut UnixStream) -> usize {
    let (mut buffer, mut all) = ([0; 64], 0);
    while let Ok(count @ 1..) = source.read(&mut buffer) {
        all += count;
    }
    all
}

fn main() -> io::Result<()> {
    let port: u16 = std::env::args().nth(1).and_then(|port| port.parse().ok()).expect("a port");
    let mut poll = Poll::new()?;
    let mut term = signal_source(&poll, SIGTERM, TERM)?;
    let mut usr1 = signal_source(&poll, SIGUSR1, USR1)?;
    let mut listener = TcpListener::bind(([127, 0, 0, 1], port).into())?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;

    // Rings only when the last ring was answered, so that a lost wake-up stops it, and the counts tell.
    let waker = Waker::new(poll.registry(), WAKER)?;
    let (rung, answered, stop) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let ringer = thread::spawn({
        let (rung, answered, stop) = (Arc::clone(&rung), Arc::clone(&answered), Arc::clone(&stop));
        move || {
            while !stop.load(SeqCst) {
                if rung.load(SeqCst) == answered.load(SeqCst) {
                    rung.fetch_add(1, SeqCst);
                    waker.wake().expect("a wake-up");
                }
                thread::sleep(Duration::from_millis(2));
            }
        }
    });

    let mut connections = HashMap::new();
    let mut jobs = HashMap::new();
    let (mut next, mut accepted, mut whole, mut broken, mut bytes, mut children) =
        (FIRST, 0, 0, 0, 0, 0);
    let mut events = Events::with_capacity(64);
    'serving: loop {
        match poll.poll(&mut events, Some(Duration::from_secs(1))) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        }
        for event in &events {
            match event.token() {
                LISTENER => loop {
                    let mut stream = match listener.accept() {
                        Ok((stream, _)) => stream,
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                        Err(error) => return Err(error),
                    };
                    accepted += 1;
                    next += 1;
                    poll.registry().register(
                        &mut stream,
                        Token(next),
                        Interest::READABLE | Interest::WRITABLE,
                    )?;
                    connections
                        .insert(next, Connection { stream, pending: Vec::new(), ended: false });
                },
                WAKER => answered.store(rung.load(SeqCst), SeqCst),
                TERM if rings(&mut term) > 0 => break 'serving,
                USR1 => {
                    for _ in 0..rings(&mut usr1) {
                        next += 1;
                        jobs.insert(next, Job::start(&poll, next)?);
                    }
                }
                Token(number) => {
                    if let Some(connection) = connections.get_mut(&number) {
                        match connection.serve(&mut bytes) {
                            Progress::Goes => continue,
                            Progress::Whole => whole += 1,
                            Progress::Broken => broken += 1,
                        }
                        let mut connection = connections.remove(&number).expect("it is there");
                        poll.registry().deregister(&mut connection.stream)?;
                    } else if let Some(job) = jobs.get_mut(&number)
                        && job.go_on(&poll)?
                    {
                        jobs.remove(&number);
                        children += 1;
                        println!("CHILD");
                    }
                }
            }
        }
    }
    stop.store(true, SeqCst);
    ringer.join().expect("the ringer ends");
    println!(
        "SERVED accepted={accepted} whole={whole} broken={broken} bytes={bytes} children={children} rung={} answered={} \
         open={}",
        rung.load(SeqCst),
        answered.load(SeqCst),
        connections.len() + jobs.len()
    );
    Ok(())
}
