//! Messages from senders to receivers over pipes, sockets and eventfds, registered with some instances, of which some are
//! in others, while threads modify, remove, duplicate, close and make anew, signals come, and children are forked.
//!
//! Checked is what must hold of any epoll, the kernel's too:
//!
//! - each message comes, once, in order. Every quarter of a second senders rest until all was read, by the receivers
//!   alone: what is told to nobody is not healed by the next message;
//! - an item that was removed is not told in a wait that began afterwards;
//! - a one-shot item is told once for each time that it was armed;
//! - no call fails that has no reason to, and none hangs.

mod disturb;
mod overseer;

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Builder, Scope};
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::channel::{Channel, Maker, Mode, Receiving, now};
use crate::sys::{self, Answer, Event, Fd, NO_EVENT};
use crate::watchdog::{Act, BEAT, LIMIT, Worker};
use crate::{children, faults::Faults};

/// What is done, and how much of it.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seed: u64,
    pub seconds: u64,
    pub threads: usize,
    pub channels: usize,
    /// Signals a second.
    pub signals: u32,
    /// Threads that fork.
    pub forkers: usize,
}

pub const INSTANCES: usize = 8;
/// Inner, outer, and how the outer one watches.
const NESTED: [(usize, usize, u32); 3] = [(5, 0, 0), (6, 1, sys::ET), (7, 6, sys::ET)];
/// Where receivers wait: 6 and 7 are heard of through others alone.
const WAITED: [usize; 6] = [0, 1, 2, 3, 4, 5];
/// In these, waits have no time limit: none is healed by the next one.
const PATIENT: usize = 3;
/// Where the signal handler's pipe is registered.
const SIGNALLED: usize = 2;
/// One more, which children wait in: natively it is theirs as well, so it has level-triggered items only.
pub const COMMON: usize = INSTANCES;

const TAG_CHANNEL: u64 = 1;
const TAG_INNER: u64 = 2;
const TAG_STOP: u64 = 3;
const TAG_SIGNAL: u64 = 4;
const TAG_PASSING: u64 = 5;
pub const TAG_CHILD: u64 = 6;
pub const TAG_ALWAYS: u64 = 7;

const TAG_SHIFT: u32 = 56;
const INDEX_SHIFT: u32 = 40;

pub fn data(tag: u64, index: usize, rest: u64) -> u64 {
    tag << TAG_SHIFT | (index as u64) << INDEX_SHIFT | rest
}

/// How long after a close an item may be told natively: another thread may hold the file for a moment.
const AFTERWARDS: u64 = 5_000_000_000;

const SIGNAL: i32 = libc::SIGUSR1;

/// For the handler: the pipe that it writes to, where that is registered, and how often it wrote.
static SIGNAL_PIPE: [AtomicI32; 2] = [AtomicI32::new(-1), AtomicI32::new(-1)];
static SIGNAL_EPOLL: AtomicI32 = AtomicI32::new(-1);
static SIGNALS_HANDLED: AtomicU64 = AtomicU64::new(0);
static SIGNALS_WRITTEN: AtomicU64 = AtomicU64::new(0);
static CONTROL_FAILED_IN_HANDLER: AtomicU64 = AtomicU64::new(0);

extern "C" fn on_signal(_: i32) {
    sys::keeping_errno(|| {
        let order = Ordering::SeqCst;
        if SIGNALS_HANDLED.fetch_add(1, order).is_multiple_of(8) {
            let (epoll, fd) = (SIGNAL_EPOLL.load(order), SIGNAL_PIPE[0].load(order));
            if sys::modify(epoll, fd, sys::IN, data(TAG_SIGNAL, 0, 0)).is_err() {
                CONTROL_FAILED_IN_HANDLER.fetch_add(1, order);
            }
        }
        SIGNALS_WRITTEN.fetch_add(1, order);
        if sys::write(SIGNAL_PIPE[1].load(order), b"s").is_err() {
            SIGNALS_WRITTEN.fetch_sub(1, order);
        }
    });
}

/// What was done, for the last line.
#[derive(Default)]
struct Counts {
    waits: AtomicU64,
    events: AtomicU64,
    interrupted: AtomicU64,
    controls: AtomicU64,
    renewed: AtomicU64,
    ghosts: AtomicU64,
    signals_read: AtomicU64,
    signals_sent: AtomicU64,
    children: AtomicU64,
}

pub struct World<'a> {
    plan: Plan,
    instances: Vec<Fd>,
    channels: Vec<Channel>,
    maker: Maker,
    workers: Vec<Worker>,
    /// Senders and who disturbs rest.
    is_quiet: AtomicBool,
    /// Who sends signals and who forks rests as well.
    is_still: AtomicBool,
    stopping: AtomicBool,
    stop: Fd,
    always: [Fd; 2],
    counts: Counts,
    faults: &'a Faults,
}

#[derive(Clone, Copy)]
enum Role {
    Receiver(usize),
    Sender,
    Disturber,
    Signaller,
    Forker,
    /// Waits in the common instance, and lets items come and go there.
    Common,
}

/// Runs, and says in one line what was done.
pub fn run(plan: Plan, faults: &Faults) -> Answer<String> {
    let mut dice = Rng::with_seed(plan.seed);
    let roles = roles(plan);
    let world = World::new(plan, roles.len(), &mut dice, faults)?;
    let start = Instant::now();
    let mut quiet_points = (0, Duration::ZERO);
    thread::scope(|scope| {
        for (index, role) in roles.iter().enumerate() {
            world.start(scope, index, *role, Rng::with_seed(dice.u64(..)));
        }
        while start.elapsed().as_secs() < plan.seconds && faults.is_empty() {
            thread::sleep(Duration::from_millis(200));
            let slowest = world.quiet_point(dice.bool());
            quiet_points = (quiet_points.0 + 1, slowest.max(quiet_points.1));
        }
        let slowest = world.quiet_point(true);
        quiet_points = (quiet_points.0 + 1, slowest.max(quiet_points.1));
        world.end();
    });
    world.check_signals();
    let line = world.summary(start, quiet_points);
    world.close();
    Ok(line)
}

fn roles(plan: Plan) -> Vec<Role> {
    let disturbers = plan.threads / 8;
    let senders = plan.threads * 3 / 8;
    let receivers = plan.threads - disturbers - senders;
    let mut roles: Vec<Role> =
        (0..receivers).map(|index| Role::Receiver(WAITED[index % WAITED.len()])).collect();
    roles.extend((0..senders).map(|_| Role::Sender));
    roles.extend((0..disturbers).map(|_| Role::Disturber));
    roles.extend((0..plan.forkers).map(|_| Role::Forker));
    if plan.signals > 0 {
        roles.push(Role::Signaller);
    }
    if plan.forkers > 0 {
        roles.push(Role::Common);
    }
    roles
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> World<'a> {
    fn new(plan: Plan, workers: usize, dice: &mut Rng, faults: &'a Faults) -> Answer<Self> {
        let instances: Answer<Vec<Fd>> = (0..=COMMON).map(|_| sys::epoll()).collect();
        let instances = instances?;
        let maker = Maker::new()?;
        let channels: Answer<Vec<Channel>> =
            (0..plan.channels).map(|_| Channel::new(&maker, dice)).collect();
        let (stop, always) = (sys::eventfd()?, sys::pipe()?);
        for (inner, outer, mask) in NESTED {
            let item = data(TAG_INNER, inner, 0);
            sys::add(instances[outer], instances[inner], sys::IN | mask, item)?;
        }
        for instance in WAITED.into_iter().chain([COMMON]) {
            sys::add(instances[instance], stop, sys::IN, data(TAG_STOP, 0, 0))?;
        }
        sys::add(instances[COMMON], always[0], sys::IN, data(TAG_ALWAYS, 0, 0))?;
        sys::write(always[1], b"a")?;
        let pipe = sys::pipe()?;
        sys::add(instances[SIGNALLED], pipe[0], sys::IN, data(TAG_SIGNAL, 0, 0))?;
        for (place, fd) in SIGNAL_PIPE.iter().zip(pipe) {
            place.store(fd, Ordering::SeqCst);
        }
        SIGNAL_EPOLL.store(instances[SIGNALLED], Ordering::SeqCst);
        sys::handle(SIGNAL, on_signal)?;
        let world = Self {
            plan,
            instances,
            channels: channels?,
            maker,
            workers: (0..workers).map(|_| Worker::default()).collect(),
            is_quiet: AtomicBool::new(false),
            is_still: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            stop,
            always,
            counts: Counts::default(),
            faults,
        };
        for (index, channel) in world.channels.iter().enumerate() {
            let mut receiving = lock(&channel.receiving);
            world.register(index, &mut receiving, dice);
        }
        Ok(world)
    }

    fn start<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        index: usize,
        role: Role,
        dice: Rng,
    ) {
        let worker = &self.workers[index];
        let started = Builder::new().spawn_scoped(scope, move || {
            worker.thread.store(sys::thread_id() as u64, Ordering::SeqCst);
            self.work(role, worker, dice);
            worker.does(Act::Over, 0, -1);
            worker.thread.store(0, Ordering::SeqCst);
        });
        if let Err(error) = started {
            self.faults.add(format!("no thread: {error}"));
            worker.does(Act::Over, 0, -1);
        }
    }

    fn work(&self, role: Role, worker: &Worker, mut dice: Rng) {
        while !self.stopping.load(Ordering::SeqCst) {
            match role {
                Role::Receiver(instance) => self.wait_once(instance, worker, &mut dice),
                Role::Sender => {
                    self.pausing(&self.is_quiet, worker, || self.send(worker, &mut dice))
                }
                Role::Disturber => {
                    self.pausing(&self.is_quiet, worker, || self.disturb(worker, &mut dice));
                }
                Role::Signaller => {
                    let pause = Duration::from_secs(1) / self.plan.signals;
                    thread::sleep(pause);
                    self.pausing(&self.is_still, worker, || self.signal(&mut dice));
                }
                Role::Forker => {
                    self.pausing(&self.is_still, worker, || self.fork(worker, &mut dice))
                }
                Role::Common => self.come_and_go(worker, &mut dice),
            }
        }
    }

    fn pausing(&self, pause: &AtomicBool, worker: &Worker, work: impl FnOnce()) {
        if pause.load(Ordering::SeqCst) {
            worker.is_paused.store(true, Ordering::SeqCst);
            worker.does(Act::Nothing, 0, -1);
            thread::sleep(Duration::from_micros(500));
        } else {
            worker.is_paused.store(false, Ordering::SeqCst);
            // Who looks at the mark after raising the flag must see this worker rest, or have it see the flag.
            if !pause.load(Ordering::SeqCst) {
                work();
            }
        }
    }

    // Receivers.

    fn wait_once(&self, instance: usize, worker: &Worker, dice: &mut Rng) {
        let millis = match instance {
            0..=PATIENT => -1,
            _ if dice.bool() => -1,
            _ => dice.i32(0..20),
        };
        let max = dice.usize(1..16);
        self.look(instance, millis, max, worker, dice);
    }

    /// One wait. Gives how many events it told.
    fn look(
        &self,
        instance: usize,
        millis: i32,
        max: usize,
        worker: &Worker,
        dice: &mut Rng,
    ) -> usize {
        let mut events = [NO_EVENT; 64];
        let room = &mut events[..max];
        let start = now();
        worker.does(Act::Wait, instance as i64, -1);
        let epoll = self.instances[instance];
        let found = match dice.u8(..4) {
            0 => sys::wait_without(epoll, room, millis, SIGNAL),
            _ => sys::wait(epoll, room, millis),
        };
        worker.does(Act::Nothing, 0, -1);
        self.counts.waits.fetch_add(1, Ordering::Relaxed);
        match found {
            Ok(count) => {
                self.counts.events.fetch_add(count as u64, Ordering::Relaxed);
                for event in &events[..count] {
                    self.told(instance, *event, start, worker, dice);
                }
                count
            }
            Err(libc::EINTR) => {
                self.counts.interrupted.fetch_add(1, Ordering::Relaxed);
                // An inner instance is looked at to the end.
                usize::from(millis == 0)
            }
            Err(error) => {
                self.faults.add(format!("epoll_wait of instance {instance}: error {error}"));
                0
            }
        }
    }

    fn told(&self, instance: usize, event: Event, start: u64, worker: &Worker, dice: &mut Rng) {
        let told = event.u64;
        let index = (told >> INDEX_SHIFT & 0xffff) as usize;
        match told >> TAG_SHIFT {
            TAG_CHANNEL => self.receive(index, told & 0xff_ffff_ffff, start, worker, dice),
            // An edge is told once: whoever was told looks until there is nothing. The word to stop is always there.
            TAG_INNER => {
                while self.look(index, 0, 8, worker, dice) > 0
                    && !self.stopping.load(Ordering::SeqCst)
                {}
            }
            TAG_SIGNAL => self.read_signals(),
            TAG_PASSING => {
                let expected = COMMON == instance;
                if !expected {
                    self.faults.add(format!("instance {instance} told of what is in another one"));
                }
            }
            TAG_STOP | TAG_CHILD | TAG_ALWAYS => {}
            _ => self.faults.add(format!("data that nobody registered: {told:#x}")),
        }
    }

    fn receive(&self, index: usize, generation: u64, start: u64, worker: &Worker, dice: &mut Rng) {
        let Some(channel) = self.channels.get(index) else {
            self.faults.add(format!("told of channel {index}, which is none"));
            return;
        };
        let order = Ordering::SeqCst;
        if let Some(registration) = channel.registration(generation) {
            let gone = registration.gone.load(order);
            let told = registration.told.fetch_add(1, order) + 1;
            let arms = registration.arms.load(order);
            let is_once = registration.is_once.load(order) != 0;
            // All of this was of that registration, and of no later one in its place.
            if registration.generation.load(order) == generation {
                if gone != 0 && gone < start {
                    self.faults.add(format!(
                        "told {} us after it was gone: channel {index}, generation {generation}",
                        (start - gone) / 1000
                    ));
                }
                if is_once && told > arms {
                    self.faults.add(format!(
                        "one-shot, armed {arms} times and told {told} times: channel {index}, \
                         generation {generation}"
                    ));
                }
            }
        }
        let mut receiving = lock(&channel.receiving);
        worker.does(Act::Read, receiving.fd.into(), index as i64);
        match receiving.receive(dice) {
            Ok(count) => {
                channel.received.fetch_add(count, order);
            }
            Err(fault) => self.faults.add(format!("channel {index}: {fault}")),
        }
        if receiving.mode.is_once() && receiving.generation == generation {
            self.modify(index, &receiving, worker);
        }
        worker.does(Act::Nothing, 0, -1);
    }

    fn read_signals(&self) {
        let mut buffer = [0; 256];
        while let Ok(count) = sys::read(SIGNAL_PIPE[0].load(Ordering::SeqCst), &mut buffer) {
            self.counts.signals_read.fetch_add(count as u64, Ordering::SeqCst);
        }
    }

    // Senders.

    fn send(&self, worker: &Worker, dice: &mut Rng) {
        let index = dice.usize(..self.channels.len());
        let channel = &self.channels[index];
        let mut sending = lock(&channel.sending);
        worker.does(Act::Write, sending.fd.into(), index as i64);
        let count = if dice.u8(..8) == 0 { dice.u64(1..100) } else { 1 };
        if let Err(fault) = sending.send(count, &channel.sent) {
            self.faults.add(format!("channel {index}: {fault}"));
        }
        drop(sending);
        worker.does(Act::Nothing, 0, -1);
        match dice.u8(..8) {
            0 => thread::sleep(Duration::from_micros(dice.u64(..3000))),
            1 => thread::yield_now(),
            _ => {}
        }
    }

    // Signals, and children.

    fn signal(&self, dice: &mut Rng) {
        let worker = &self.workers[dice.usize(..self.workers.len())];
        let thread = worker.thread.load(Ordering::SeqCst);
        // It may have ended since.
        if thread != 0 && sys::signal_thread(sys::process_id(), thread as i32, SIGNAL).is_ok() {
            self.counts.signals_sent.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn fork(&self, worker: &Worker, dice: &mut Rng) {
        worker.does(Act::Fork, 0, -1);
        let (common, busy) = (self.instances[COMMON], self.instances[dice.usize(..INSTANCES)]);
        let way = dice.u8(..);
        let Some(child) =
            self.expect(sys::fork(|| children::work(way, common, busy)), || "fork".into())
        else {
            return;
        };
        worker.does(Act::Child, child.into(), -1);
        match sys::wait_for_child(child) {
            Ok(sys::End::Exit(0)) => {}
            Ok(end) => self.faults.add(format!("a child ended by {}", children::tell(end, way))),
            Err(error) => self.faults.add(format!("waitpid: error {error}")),
        }
        self.counts.children.fetch_add(1, Ordering::Relaxed);
    }

    fn come_and_go(&self, worker: &Worker, dice: &mut Rng) {
        self.look(COMMON, 1, 8, worker, dice);
        worker.does(Act::Control, COMMON as i64, -1);
        let epoll = self.instances[COMMON];
        let passed = (|| {
            let [read_end, write_end] = sys::pipe()?;
            sys::add(epoll, read_end, sys::IN, data(TAG_PASSING, 0, 0))?;
            sys::write(write_end, b"p")?;
            if dice.bool() {
                sys::delete(epoll, read_end)?;
            }
            sys::close(read_end)?;
            sys::close(write_end)
        })();
        self.expect(passed, || "a pipe that comes and goes".into());
        thread::sleep(Duration::from_micros(dice.u64(..1000)));
    }

    fn expect<T>(&self, answer: Answer<T>, call: impl FnOnce() -> String) -> Option<T> {
        answer.map_err(|error| self.faults.add(format!("{}: error {error}", call()))).ok()
    }

    fn close(&self) {
        for fd in self.instances.iter().chain(&self.always).chain([&self.stop]) {
            let _ = sys::close(*fd);
        }
    }
}
