//! Threads: several at once write, wait, read, register anew and close, on one instance. What each wait tells depends
//! on the moment, so nothing is compared call by call; these hold of any epoll, and are checked:
//!
//! - every byte that was written is read by somebody who was told of it, soon after the last write: nothing is lost, and
//!   nobody sleeps on it;
//! - with EPOLLONESHOT a file is in one thread's hands at a time;
//! - an edge-triggered item that nobody reads is told after the last write to it;
//! - who sleeps wakes up when there is something for all;
//! - when all is quiet and all items are level-triggered again, both engines tell the same.
//!
//! The kernel's instance gets the same registrations, and is waited on by a thread of its own, which reads nothing.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{scope, sleep, yield_now};
use std::time::{Duration, Instant};

use crate::compare::{self, Told};
use crate::generate::Dice;
use crate::mask::Mask;
use crate::script::{Action, Way};
use crate::sys::{self, Answer, Fd};
use crate::twin::{Side, Twin};

/// All must be read so soon after the last write, on a busy machine too.
const SOON: Duration = Duration::from_secs(3);

/// How long a wait may sleep, in milliseconds: longer than [`SOON`], so that a lost wake-up is not healed by the next
/// wait in time.
const LONG: i32 = 5000;

/// Data of what is not a source: the word to stop, and files that come and go.
const STOP: u64 = 1000;
const PASSING: u64 = 1001;

const IN: u32 = 1;

/// How a source is registered, and what is done about an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Level,
    Edge,
    Once,
    EdgeOnce,
    /// Edge-triggered and never read.
    Unread,
}

impl Manner {
    const ALL: [Self; 5] = [Self::Level, Self::Edge, Self::Once, Self::EdgeOnce, Self::Unread];

    fn mask(self) -> Mask {
        Mask(match self {
            Self::Level => IN,
            Self::Edge | Self::Unread => IN | Mask::ET,
            Self::Once => IN | Mask::ONESHOT,
            Self::EdgeOnce => IN | Mask::ET | Mask::ONESHOT,
        })
    }

    fn is_once(self) -> bool {
        matches!(self, Self::Once | Self::EdgeOnce)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stuff {
    Pipe,
    Pair,
    Eventfd,
}

/// Something that is written at one end and watched at the other.
struct Source {
    stuff: Stuff,
    manner: Manner,
    read_end: Fd,
    write_end: Fd,
    /// One epoll_ctl at a time, so that both engines get them in the same order.
    control: Mutex<()>,
    /// Bytes, or what was added to a counter.
    written: AtomicU64,
    read: AtomicU64,
    /// When the last write began, and when it was told last.
    last_write: AtomicU64,
    last_told: AtomicU64,
    in_hands: AtomicBool,
}

impl Source {
    fn new(stuff: Stuff, manner: Manner) -> Answer<Self> {
        let [read_end, write_end] = match stuff {
            Stuff::Pipe => sys::pipe()?,
            Stuff::Pair => sys::socket_pair(libc::SOCK_STREAM)?,
            Stuff::Eventfd => {
                let fd = sys::eventfd(0)?;
                [fd, fd]
            }
        };
        let zero = || AtomicU64::new(0);
        Ok(Self {
            stuff,
            manner,
            read_end,
            write_end,
            control: Mutex::new(()),
            written: zero(),
            read: zero(),
            last_write: zero(),
            last_told: zero(),
            in_hands: AtomicBool::new(false),
        })
    }

    /// Reads until EAGAIN.
    fn drain(&self) {
        let mut buffer = [0u8; 256];
        let len = if self.stuff == Stuff::Eventfd { 8 } else { buffer.len() };
        while let Ok(count) = sys::read(self.read_end, &mut buffer[..len], Way::Plain) {
            let amount = match self.stuff {
                Stuff::Eventfd => {
                    buffer.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes))
                }
                _ => count as u64,
            };
            if amount == 0 {
                break;
            }
            self.read.fetch_add(amount, Ordering::SeqCst);
        }
    }

    /// Whether there was room for it.
    fn write(&self, amount: u64) -> bool {
        let went = match self.stuff {
            Stuff::Eventfd => sys::write(self.write_end, &amount.to_ne_bytes(), Way::Plain),
            _ => sys::write(self.write_end, &[0; 256][..amount as usize], Way::Plain),
        };
        if let Ok(count) = went {
            let went = if self.stuff == Stuff::Eventfd { amount } else { count as u64 };
            self.written.fetch_add(went, Ordering::SeqCst);
        }
        went.is_ok()
    }

    fn is_unread(&self) -> bool {
        self.read.load(Ordering::SeqCst) != self.written.load(Ordering::SeqCst)
    }

    fn close(&self) {
        let _ = sys::close(self.read_end);
        if self.write_end != self.read_end {
            let _ = sys::close(self.write_end);
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stuff, manner, .. } = self;
        let (written, read) =
            (self.written.load(Ordering::SeqCst), self.read.load(Ordering::SeqCst));
        write!(f, "{stuff:?} registered {manner:?}, {read} of {written} read")
    }
}

struct Stage {
    twin: Twin,
    sources: Vec<Source>,
    stop: Fd,
    stopping: AtomicBool,
    /// Counts what happens, to tell before from after.
    clock: AtomicU64,
    faults: Mutex<Vec<String>>,
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Amounts {
    pub runs: u64,
    pub writes: u64,
    pub threads: u64,
}

/// One run; its size and shape come from the seed. Gives what did not hold.
pub fn run(seed: u64, amounts: &mut Amounts) -> Result<Vec<String>, i32> {
    let mut dice = Dice::new(seed);
    let stage = Stage::new(&mut dice)?;
    let (writers, readers) = (1 + dice.below(2), 1 + dice.below(3));
    let disturbers = dice.below(2);
    let writes = 50 + dice.below(200);
    amounts.runs += 1;
    amounts.writes += writers * writes;
    amounts.threads += writers + readers + disturbers + 1;
    let written = AtomicBool::new(false);
    scope(|scope| {
        for _ in 0..readers {
            let dice = dice.split();
            scope.spawn(|| stage.read(dice));
        }
        for _ in 0..disturbers {
            let dice = dice.split();
            scope.spawn(|| stage.disturb(dice, &written));
        }
        scope.spawn(|| stage.watch_kernels());
        let writers: Vec<_> = (0..writers)
            .map(|_| {
                let dice = dice.split();
                scope.spawn(|| stage.write(dice, writes))
            })
            .collect();
        for writer in writers {
            drop(writer.join());
        }
        written.store(true, Ordering::SeqCst);
        stage.expect_all_read();
        stage.stop();
    });
    stage.expect_told();
    stage.expect_same();
    stage.close();
    Ok(stage.faults.into_inner().unwrap_or_default())
}

impl Stage {
    fn new(dice: &mut Dice) -> Result<Self, i32> {
        let twin = Twin::new(0)?;
        let count = 1 + dice.below(6);
        let sources: Result<Vec<Source>, i32> = (0..count)
            .map(|_| {
                let stuff = dice.of(&[Stuff::Pipe, Stuff::Pair, Stuff::Eventfd]);
                Source::new(stuff, dice.of(&Manner::ALL))
            })
            .collect();
        let stage = Self {
            twin,
            sources: sources?,
            stop: sys::eventfd(0)?,
            stopping: AtomicBool::new(false),
            clock: AtomicU64::new(1),
            faults: Mutex::new(Vec::new()),
        };
        for index in 0..stage.sources.len() {
            stage.control(Action::Add, index);
        }
        stage.control_by(Action::Add, stage.stop, Mask(IN), STOP);
        Ok(stage)
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    fn fault(&self, text: String) {
        if let Ok(mut faults) = self.faults.lock() {
            faults.push(text);
        }
    }

    fn control(&self, action: Action, index: usize) {
        let source = &self.sources[index];
        let _one = source.control.lock();
        self.control_by(action, source.read_end, source.manner.mask(), index as u64);
    }

    fn control_by(&self, action: Action, fd: Fd, mask: Mask, data: u64) {
        let [ours, kernel] = self.twin.ctl(action, Twin::of_file(fd), mask, data);
        if ours != kernel {
            self.fault(format!(
                "epoll_ctl {action} #{data}: ours gives {ours:?}, the kernel {kernel:?}"
            ));
        }
    }

    /// A thread that waits, and reads what it is told of.
    fn read(&self, mut dice: Dice) {
        while !self.stopping.load(Ordering::SeqCst) {
            let max = 1 + dice.below(4) as usize;
            for (data, _) in self.twin.wait(Side::Ours, max, LONG).unwrap_or_default() {
                let Some(source) = self.sources.get(data as usize) else { continue };
                source.last_told.store(self.tick(), Ordering::SeqCst);
                if source.manner == Manner::Unread {
                    continue;
                }
                if source.manner.is_once() && source.in_hands.swap(true, Ordering::SeqCst) {
                    self.fault(format!("two threads were told at once: {source}"));
                }
                source.drain();
                if source.manner.is_once() {
                    source.in_hands.store(false, Ordering::SeqCst);
                    self.control(Action::Mod, data as usize);
                }
            }
        }
    }

    fn write(&self, mut dice: Dice, count: u64) {
        for _ in 0..count {
            let source = &self.sources[dice.below(self.sources.len() as u64) as usize];
            let start = self.tick();
            if source.write(1 + dice.below(100)) {
                source.last_write.fetch_max(start, Ordering::SeqCst);
            }
            match dice.below(8) {
                0 => sleep(Duration::from_micros(dice.below(300))),
                1 => yield_now(),
                _ => {}
            }
        }
    }

    /// Registers anew, and lets files come and go. One-shot items are left alone: they are in somebody's hands.
    fn disturb(&self, mut dice: Dice, until: &AtomicBool) {
        while !until.load(Ordering::SeqCst) {
            let index = dice.below(self.sources.len() as u64) as usize;
            let once = self.sources[index].manner.is_once();
            match dice.below(4) {
                0 if !once => self.control(Action::Mod, index),
                1 if !once => {
                    self.control(Action::Del, index);
                    self.control(Action::Add, index);
                }
                2 => self.pass(),
                _ => sleep(Duration::from_micros(dice.below(200))),
            }
        }
    }

    /// A pipe is registered, written, and closed while others may sleep on it.
    fn pass(&self) {
        let Ok([read_end, write_end]) = sys::pipe() else { return };
        self.control_by(Action::Add, read_end, Mask(IN | Mask::ET), PASSING);
        let _ = sys::write(write_end, b"x", Way::Plain);
        let _ = sys::close(read_end);
        let _ = sys::close(write_end);
    }

    fn watch_kernels(&self) {
        while !self.stopping.load(Ordering::SeqCst) {
            let _ = self.twin.wait(Side::Kernel, 4, 1);
        }
    }

    fn expect_all_read(&self) {
        let start = Instant::now();
        let unread = || {
            let waited = self.sources.iter().filter(|source| source.manner != Manner::Unread);
            waited.filter(|source| source.is_unread())
        };
        while unread().next().is_some() {
            if start.elapsed() > SOON {
                for source in unread() {
                    self.fault(format!("lost: {source}"));
                }
                return;
            }
            sleep(Duration::from_micros(100));
        }
    }

    /// All wait for this one, and it is never read.
    fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        let _ = sys::write(self.stop, &1u64.to_ne_bytes(), Way::Plain);
    }

    fn expect_told(&self) {
        let mut told = Told::default();
        let _ = told.collect(self.twin, Side::Ours, 64);
        // Where writes cannot be seen the library looks every 10 ms, and at each wait.
        sleep(Duration::from_millis(20));
        let _ = told.collect(self.twin, Side::Ours, 64);
        let at_last: Vec<u64> = told.events().iter().map(|(data, _)| *data).collect();
        for (index, source) in self.sources.iter().enumerate() {
            let order = Ordering::SeqCst;
            let was_told = source.last_told.load(order) > source.last_write.load(order);
            let is_due = source.manner == Manner::Unread && source.written.load(order) > 0;
            if is_due && !was_told && !at_last.contains(&(index as u64)) {
                self.fault(format!("not told after the last write: {source}"));
            }
        }
    }

    fn expect_same(&self) {
        for (index, source) in self.sources.iter().enumerate() {
            self.control_by(Action::Mod, source.read_end, Mask(IN), index as u64);
        }
        let compared = compare::waits(self.twin, 64, Told::default());
        if let Err(difference) = compared.result() {
            self.fault(format!("when all was quiet, {difference}"));
        }
    }

    fn close(&self) {
        self.sources.iter().for_each(Source::close);
        let _ = sys::close(self.stop);
        self.twin.close();
    }
}
