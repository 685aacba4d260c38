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

    // Who disturbs.

    /// Half of the channels are left alone: what is modified or added is looked at, and that would heal them.
    fn disturb(&self, worker: &Worker, dice: &mut Rng) {
        let index = 2 * dice.usize(..self.channels.len() / 2);
        let channel = &self.channels[index];
        match dice.u8(..20) {
            0..7 => {
                let receiving = lock(&channel.receiving);
                if !receiving.is_ghost {
                    self.modify(index, &receiving, worker);
                }
            }
            7..14 => {
                let mut receiving = lock(&channel.receiving);
                if !receiving.is_ghost {
                    self.remove(index, &receiving, worker);
                    if dice.bool() {
                        self.change_number(index, &mut receiving, worker);
                        receiving.watched = receiving.fd;
                    }
                    self.register(index, &mut receiving, dice);
                }
            }
            14 => {
                let mut receiving = lock(&channel.receiving);
                if !receiving.mode.is_once() && !receiving.is_ghost {
                    self.change_number(index, &mut receiving, worker);
                    receiving.is_ghost = true;
                    self.counts.ghosts.fetch_add(1, Ordering::Relaxed);
                }
            }
            15..18 => self.make_anew(index, channel, worker, dice),
            _ => self.pass(worker, dice),
        }
        worker.does(Act::Nothing, 0, -1);
        thread::sleep(Duration::from_micros(dice.u64(..2000)));
    }

    fn expect<T>(&self, answer: Answer<T>, call: impl FnOnce() -> String) -> Option<T> {
        answer.map_err(|error| self.faults.add(format!("{}: error {error}", call()))).ok()
    }

    fn register(&self, index: usize, receiving: &mut Receiving, dice: &mut Rng) {
        let channel = &self.channels[index];
        let instance = dice.usize(..INSTANCES);
        channel.begin(receiving, instance, Mode::any(dice));
        let item = data(TAG_CHANNEL, index, receiving.generation);
        let mask = receiving.mode.mask();
        self.counts.controls.fetch_add(1, Ordering::Relaxed);
        let added = sys::add(self.instances[instance], receiving.watched, mask, item);
        self.expect(added, || format!("ADD of channel {index}: {receiving}"));
    }

    fn modify(&self, index: usize, receiving: &Receiving, worker: &Worker) {
        let channel = &self.channels[index];
        worker.does(Act::Control, receiving.instance as i64, index as i64);
        if let Some(registration) = channel.registration(receiving.generation) {
            registration.arms.fetch_add(1, Ordering::SeqCst);
        }
        self.counts.controls.fetch_add(1, Ordering::Relaxed);
        let item = data(TAG_CHANNEL, index, receiving.generation);
        let epoll = self.instances[receiving.instance];
        let modified = sys::modify(epoll, receiving.watched, receiving.mode.mask(), item);
        self.expect(modified, || format!("MOD of channel {index}: {receiving}"));
    }

    fn remove(&self, index: usize, receiving: &Receiving, worker: &Worker) {
        worker.does(Act::Control, receiving.instance as i64, index as i64);
        self.counts.controls.fetch_add(1, Ordering::Relaxed);
        let removed = sys::delete(self.instances[receiving.instance], receiving.watched);
        self.expect(removed, || format!("DEL of channel {index}: {receiving}"));
        self.is_gone(index, receiving.generation, now());
    }

    fn is_gone(&self, index: usize, generation: u64, when: u64) {
        if let Some(registration) = self.channels[index].registration(generation) {
            registration.gone.store(when, Ordering::SeqCst);
        }
    }

    /// The file is read by a duplicate from here on, and its old number closed.
    fn change_number(&self, index: usize, receiving: &mut Receiving, worker: &Worker) {
        worker.does(Act::Renew, receiving.fd.into(), index as i64);
        let Some(fd) = self.expect(sys::dup(receiving.fd), || "dup".into()) else { return };
        self.expect(sys::close(receiving.fd), || format!("close of {}", receiving.fd));
        receiving.fd = fd;
    }

    fn make_anew(&self, index: usize, channel: &Channel, worker: &Worker, dice: &mut Rng) {
        let mut sending = lock(&channel.sending);
        let mut receiving = lock(&channel.receiving);
        // Only when all was read, by receivers.
        if !sending.finish() || channel.is_unread() {
            return;
        }
        let generation = receiving.generation;
        let was_removed = !receiving.is_ghost && dice.bool();
        if was_removed {
            self.remove(index, &receiving, worker);
        }
        worker.does(Act::Renew, receiving.fd.into(), index as i64);
        let made = channel.make_anew(&mut sending, &mut receiving, &self.maker, dice);
        if self.expect(made, || format!("making channel {index} anew")).is_none() {
            return;
        }
        // A child of fork may have the file still, and natively its item.
        if !was_removed && self.plan.forkers == 0 {
            self.is_gone(index, generation, now() + AFTERWARDS);
        }
        self.counts.renewed.fetch_add(1, Ordering::Relaxed);
        self.register(index, &mut receiving, dice);
    }

    /// A file, or an instance with a file, that is registered and closed at once, ready or not. Edge-triggered, for
    /// who is told of it does not read it.
    fn pass(&self, worker: &Worker, dice: &mut Rng) {
        let instance = dice.usize(..INSTANCES);
        worker.does(Act::Control, instance as i64, -1);
        let epoll = self.instances[instance];
        let mut own = [NO_EVENT; 2];
        let passed = (|| {
            let [read_end, write_end] = sys::pipe()?;
            let inner = sys::epoll()?;
            let mask = sys::IN | sys::ET;
            sys::add(inner, read_end, mask, data(TAG_STOP, 0, 0))?;
            if dice.bool() {
                sys::add(epoll, inner, mask, data(TAG_STOP, 0, 0))?;
            } else {
                sys::add(epoll, read_end, mask, data(TAG_STOP, 0, 0))?;
            }
            sys::write(write_end, b"p")?;
            let found = loop {
                match sys::wait(inner, &mut own, 0) {
                    Err(libc::EINTR) => {}
                    found => break found?,
                }
            };
            if dice.bool() {
                sys::close(inner)?;
                sys::close(read_end)?;
            } else {
                sys::close(read_end)?;
                sys::close(inner)?;
            }
            sys::close(write_end)?;
            Ok(found)
        })();
        if let Some(found) = self.expect(passed, || "registering a pipe and closing it".into())
            && found != 1
        {
            self.faults.add(format!("a pipe that was written is told {found} times"));
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

    // The one who looks after the others.

    /// Senders rest until all was read. `is_still`: without signals that would wake who sleeps. Gives how long it took.
    fn quiet_point(&self, is_still: bool) -> Duration {
        self.is_still.store(is_still, Ordering::SeqCst);
        self.is_quiet.store(true, Ordering::SeqCst);
        let resting = |role: &Role| match role {
            Role::Sender | Role::Disturber => true,
            Role::Signaller | Role::Forker => is_still,
            Role::Receiver(_) | Role::Common => false,
        };
        let roles = roles(self.plan);
        let rest: Vec<usize> = (0..roles.len()).filter(|&index| resting(&roles[index])).collect();
        let is_paused = |index: &usize| self.workers[*index].is_paused.load(Ordering::SeqCst);
        self.until("a thread does not come to its end", || rest.iter().all(is_paused));
        let start = Instant::now();
        self.until("messages do not come", || {
            self.channels.iter().all(|channel| {
                // The rest of a message is sent when there is room.
                lock(&channel.sending).finish();
                !channel.is_unread()
            })
        });
        let took = start.elapsed();
        self.is_quiet.store(false, Ordering::SeqCst);
        self.is_still.store(false, Ordering::SeqCst);
        took
    }

    fn end(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        let _ = sys::write(self.stop, &1u64.to_ne_bytes());
        self.until("threads do not end", || {
            self.workers.iter().all(|worker| worker.act() == Act::Over)
        });
    }

    /// Waits for what must come; names what hangs if it does not, and ends the process: its threads cannot be ended.
    fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        for _ in 0..LIMIT * (BEAT.as_millis() as u64) {
            if is_so() || !self.faults.is_empty() && self.faults.is_old() {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        if is_so() {
            return;
        }
        eprintln!("uepoll-stress: {what}");
        self.faults.print();
        for (index, channel) in self.channels.iter().enumerate() {
            if channel.is_unread() {
                let order = Ordering::SeqCst;
                let (sent, received) = (channel.sent.load(order), channel.received.load(order));
                let receiving = channel.receiving.try_lock();
                let receiving = receiving.map_or("in somebody's hands".into(), |it| it.to_string());
                eprintln!("  channel {index}: {received} of {sent} messages came; {receiving}");
            }
        }
        let before: Vec<u64> = self.workers.iter().map(Worker::count).collect();
        thread::sleep(Duration::from_secs(1));
        for ((worker, role), before) in self.workers.iter().zip(roles(self.plan)).zip(before) {
            if worker.count() == before && worker.act() != Act::Over {
                let thread = worker.thread.load(Ordering::SeqCst);
                let role = match role {
                    Role::Receiver(instance) => format!("receiver of instance {instance}"),
                    Role::Sender => "sender".into(),
                    Role::Disturber => "disturber".into(),
                    Role::Signaller => "sender of signals".into(),
                    Role::Forker => "forker".into(),
                    Role::Common => "thread of the common instance".into(),
                };
                eprintln!("  thread {thread}, {role}: {}", worker.tell());
            }
        }
        sys::exit_now(1);
    }

    fn check_signals(&self) {
        self.read_signals();
        let order = Ordering::SeqCst;
        let (written, read) = (SIGNALS_WRITTEN.load(order), self.counts.signals_read.load(order));
        if written != read {
            self.faults.add(format!("handlers wrote {written} bytes, {read} were read"));
        }
        let failed = CONTROL_FAILED_IN_HANDLER.load(order);
        if failed != 0 {
            self.faults.add(format!("epoll_ctl failed {failed} times in handlers"));
        }
    }

    fn summary(&self, start: Instant, (points, slowest): (u64, Duration)) -> String {
        let sum = |of: fn(&Channel) -> &AtomicU64| -> u64 {
            self.channels.iter().map(|channel| of(channel).load(Ordering::SeqCst)).sum()
        };
        let (sent, received) = (sum(|it| &it.sent), sum(|it| &it.received));
        let get = |count: &AtomicU64| count.load(Ordering::SeqCst);
        let counts = &self.counts;
        format!(
            "{received} of {sent} messages in {:.1} s, {points} quiet points (slowest {} ms), {} waits, {} events, \
             {} interrupted, {} epoll_ctl, {} channels made anew, {} ghosts, {} signals, {} children",
            start.elapsed().as_secs_f64(),
            slowest.as_millis(),
            get(&counts.waits),
            get(&counts.events),
            get(&counts.interrupted),
            get(&counts.controls),
            get(&counts.renewed),
            get(&counts.ghosts),
            get(&counts.signals_sent),
            get(&counts.children),
        )
    }

    fn close(&self) {
        for fd in self.instances.iter().chain(&self.always).chain([&self.stop]) {
            let _ = sys::close(*fd);
        }
    }
}
