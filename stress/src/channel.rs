//! One-way streams of numbered messages, and what is known of their registrations.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use fastrand::Rng;

use crate::sys::{self, Answer, Fd};

/// Bytes of a message: its number.
const LEN: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Pipe,
    Stream,
    Packets,
    /// A message adds one; they are counted, not numbered.
    Eventfd,
    Tcp,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Pipe, Self::Stream, Self::Packets, Self::Eventfd, Self::Tcp];

    pub fn any(dice: &mut Rng) -> Self {
        Self::ALL[dice.usize(..Self::ALL.len())]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Level,
    Edge,
    Once,
    EdgeOnce,
}

impl Mode {
    const ALL: [Self; 4] = [Self::Level, Self::Edge, Self::Once, Self::EdgeOnce];

    pub fn any(dice: &mut Rng) -> Self {
        Self::ALL[dice.usize(..Self::ALL.len())]
    }

    pub fn mask(self) -> u32 {
        sys::IN
            | match self {
                Self::Level => 0,
                Self::Edge => sys::ET | sys::RDHUP,
                Self::Once => sys::ONESHOT,
                Self::EdgeOnce => sys::ET | sys::ONESHOT,
            }
    }

    pub fn is_once(self) -> bool {
        matches!(self, Self::Once | Self::EdgeOnce)
    }

    /// Whoever is told must read until there is no more.
    fn is_edge(self) -> bool {
        matches!(self, Self::Edge)
    }
}

/// What one epoll_ctl ADD began. Kept in a ring: whoever is told of one that was written over finds another generation.
#[derive(Default)]
pub struct Registration {
    pub generation: AtomicU64,
    /// How often it was armed: by ADD, and by each MOD.
    pub arms: AtomicU64,
    /// How often it was told.
    pub told: AtomicU64,
    /// When it was gone for certain, in nanoseconds; 0: it is there.
    pub gone: AtomicU64,
    pub is_once: AtomicU64,
}

const RING: usize = 256;

/// The end that is written.
pub struct Sending {
    pub kind: Kind,
    pub fd: Fd,
    /// What is left of a message that was cut short.
    rest: Vec<u8>,
    next: u64,
}

/// The end that is read, and its registration.
pub struct Receiving {
    pub kind: Kind,
    /// The number that is read.
    pub fd: Fd,
    /// The number that was registered.
    pub watched: Fd,
    pub instance: usize,
    pub generation: u64,
    pub mode: Mode,
    /// The registered number is closed, and a duplicate keeps the item. It can be neither modified nor removed.
    pub is_ghost: bool,
    rest: Vec<u8>,
    next: u64,
}

impl fmt::Display for Receiving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, fd, watched, instance, generation, mode, .. } = self;
        let ghost = if self.is_ghost { ", closed meanwhile" } else { "" };
        write!(
            f,
            "{kind:?}, descriptor {fd}, registered {mode:?} as {watched}{ghost} in instance {instance}, \
             generation {generation}, poll says {:#x}",
            sys::state_of(*fd)
        )
    }
}

pub struct Channel {
    pub sending: Mutex<Sending>,
    pub receiving: Mutex<Receiving>,
    pub sent: AtomicU64,
    pub received: AtomicU64,
    ring: Vec<Registration>,
}

/// Two ends, and what accepts connections.
pub struct Maker {
    listener: Mutex<Fd>,
    port: u16,
}

impl Maker {
    pub fn new() -> Answer<Self> {
        let (listener, port) = sys::listener(0)?;
        Ok(Self { listener: Mutex::new(listener), port })
    }

    fn make(&self, kind: Kind) -> Answer<[Fd; 2]> {
        match kind {
            Kind::Pipe => sys::pipe(),
            Kind::Stream => sys::unix_pair(libc::SOCK_STREAM),
            Kind::Packets => sys::unix_pair(libc::SOCK_SEQPACKET),
            // Two numbers, so that each end is closed and duplicated by itself.
            Kind::Eventfd => sys::eventfd().and_then(|fd| Ok([fd, sys::dup(fd)?])),
            Kind::Tcp => {
                // One at a time: the connection that is accepted is the one that was made.
                let Ok(listener) = self.listener.lock() else { return Err(libc::EIO) };
                let write_end = sys::connect(self.port, 0)?;
                sys::set_nonblocking(write_end)?;
                sys::no_delay(write_end)?;
                let read_end = loop {
                    match sys::accept(*listener) {
                        Err(libc::EINTR) => {}
                        accepted => break accepted?,
                    }
                };
                Ok([read_end, write_end])
            }
        }
    }
}

impl Channel {
    /// Not registered yet.
    pub fn new(maker: &Maker, dice: &mut Rng) -> Answer<Self> {
        let kind = Kind::any(dice);
        let [fd, write_end] = maker.make(kind)?;
        Ok(Self {
            sending: Mutex::new(Sending { kind, fd: write_end, rest: Vec::new(), next: 0 }),
            receiving: Mutex::new(Receiving {
                kind,
                fd,
                watched: fd,
                instance: 0,
                generation: 0,
                mode: Mode::Level,
                is_ghost: false,
                rest: Vec::new(),
                next: 0,
            }),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            ring: (0..RING).map(|_| Registration::default()).collect(),
        })
    }

    /// Other files in both ends' place, of which the numbers are often those that were closed.
    pub fn make_anew(
        &self,
        sending: &mut Sending,
        receiving: &mut Receiving,
        maker: &Maker,
        dice: &mut Rng,
    ) -> Answer<()> {
        sys::close(receiving.fd)?;
        sys::close(sending.fd)?;
        let kind = Kind::any(dice);
        let [read_end, write_end] = maker.make(kind)?;
        *sending = Sending { kind, fd: write_end, rest: Vec::new(), next: sending.next };
        receiving.kind = kind;
        (receiving.fd, receiving.watched) = (read_end, read_end);
        receiving.is_ghost = false;
        receiving.next = sending.next;
        Ok(())
    }

    pub fn is_unread(&self) -> bool {
        self.received.load(Ordering::SeqCst) != self.sent.load(Ordering::SeqCst)
    }

    pub fn registration(&self, generation: u64) -> Option<&Registration> {
        let registration = &self.ring[generation as usize % RING];
        (registration.generation.load(Ordering::SeqCst) == generation).then_some(registration)
    }

    /// Before ADD.
    pub fn begin(&self, receiving: &mut Receiving, instance: usize, mode: Mode) {
        receiving.generation += 1;
        (receiving.instance, receiving.mode) = (instance, mode);
        let registration = &self.ring[receiving.generation as usize % RING];
        registration.generation.store(0, Ordering::SeqCst);
        registration.told.store(0, Ordering::SeqCst);
        registration.arms.store(1, Ordering::SeqCst);
        registration.gone.store(0, Ordering::SeqCst);
        registration.is_once.store(u64::from(mode.is_once()), Ordering::SeqCst);
        registration.generation.store(receiving.generation, Ordering::SeqCst);
    }
}

impl Sending {
    /// Up to `count` messages, as long as there is room.
    pub fn send(&mut self, count: u64, sent: &AtomicU64) -> Result<(), String> {
        for _ in 0..count {
            let message = match self.kind {
                Kind::Eventfd => 1u64.to_ne_bytes(),
                _ => self.next.to_ne_bytes(),
            };
            let is_rest = !self.rest.is_empty();
            let bytes = if is_rest { self.rest.clone() } else { message.to_vec() };
            // Counted first: a reader may be faster than the writer is back.
            if !is_rest {
                sent.fetch_add(1, Ordering::SeqCst);
                self.next += 1;
            }
            let went = match sys::write(self.fd, &bytes) {
                Ok(went) => went,
                Err(libc::EAGAIN) if is_rest => return Ok(()),
                Err(libc::EAGAIN) => {
                    sent.fetch_sub(1, Ordering::SeqCst);
                    self.next -= 1;
                    return Ok(());
                }
                Err(error) => {
                    return Err(format!("write to {:?} {}: error {error}", self.kind, self.fd));
                }
            };
            self.rest = bytes[went..].to_vec();
        }
        Ok(())
    }

    /// The rest of a message that was cut short.
    pub fn finish(&mut self) -> bool {
        if !self.rest.is_empty()
            && let Ok(went) = sys::write(self.fd, &self.rest)
        {
            self.rest.drain(..went);
        }
        self.rest.is_empty()
    }
}

impl Receiving {
    /// Reads: all that is there where edges are told, else sometimes a part only. Gives how many messages came.
    pub fn receive(&mut self, dice: &mut Rng) -> Result<u64, String> {
        let is_part = !self.mode.is_edge() && dice.u8(..4) == 0;
        let room = match self.kind {
            Kind::Eventfd => LEN,
            _ if is_part => LEN * dice.usize(1..4),
            _ => 4096,
        };
        let mut buffer = [0; 4096];
        let mut count = 0;
        loop {
            let got = match sys::read(self.fd, &mut buffer[..room]) {
                Ok(got) => got,
                Err(libc::EAGAIN) => return Ok(count),
                Err(error) => return Err(format!("read: error {error}: {self}")),
            };
            if got == 0 {
                return Err(format!("the end of a file that nobody closed: {self}"));
            }
            count += self.take(&buffer[..got])?;
            // A short read of a stream says as much as EAGAIN.
            let is_short = got < room && matches!(self.kind, Kind::Pipe | Kind::Stream | Kind::Tcp);
            if is_part || (is_short && dice.bool()) {
                return Ok(count);
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<u64, String> {
        if self.kind == Kind::Eventfd {
            let added = bytes.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes));
            self.next += added;
            return Ok(added);
        }
        self.rest.extend_from_slice(bytes);
        let mut count = 0;
        let (messages, rest) = self.rest.as_chunks::<LEN>();
        for message in messages {
            let number = u64::from_ne_bytes(*message);
            if number != self.next {
                let expected = self.next;
                return Err(format!("message {number} came instead of {expected}: {self}"));
            }
            self.next += 1;
            count += 1;
        }
        self.rest = rest.to_vec();
        Ok(count)
    }
}

/// Nanoseconds since the first call, by one clock for all threads.
pub fn now() -> u64 {
    use std::sync::OnceLock;
    static START: OnceLock<Instant> = OnceLock::new();
    1 + START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}
