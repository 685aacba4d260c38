//! Runs a script: each operation on the shared descriptors once, each epoll call on both engines, and comparisons.

use std::time::{Duration, Instant};

use crate::compare::{self, Difference, Fault, ONCE, Told};
use crate::echo::{Echoes, Ledger, Watched};
use crate::mask::Mask;
use crate::script::{Action, Errand, Kind, Op, Target, living};
use crate::sys;
use crate::twin::{Instance, KERNEL_NUMBERS, Side, Twin};
use crate::world::{File, World};

/// `maxevents` that nothing reaches.
pub const ALL: usize = 256;

/// How long ours may sleep while the kernel's is ready: several of the library's own looks, and not the 40 ms after which
/// TCP acknowledges.
const NAP: i32 = 57;

/// What happens this shortly before the end of that time may be found by the next wait. Milliseconds: two looks.
const LATE: u64 = 20;

/// What running scripts has added up to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Statistics {
    pub scripts: u64,
    pub operations: u64,
    pub controls: u64,
    pub waits: u64,
    pub late: u64,
    /// By kind of file.
    pub echoes: [u64; Kind::ALL.len()],
    /// Events that came between the two sides' waits.
    pub between: u64,
}

/// What became of a script.
pub struct Outcome {
    /// Its first difference, and after which operation.
    pub difference: Option<(usize, Difference)>,
    /// The script as it was understood: labels of living objects only, up to the difference.
    pub resolved: Vec<Op>,
}

/// A script that runs.
pub struct Run<'s> {
    pub world: World,
    twins: Vec<Option<Twin>>,
    pub ledger: Ledger,
    pub echoes: Echoes,
    pub statistics: &'s mut Statistics,
}

/// Runs a script to its end, or to the first difference.
pub fn run(script: &[Op], echoes: Echoes, statistics: &mut Statistics) -> std::io::Result<Outcome> {
    let mut run = Run {
        world: World::new()?,
        twins: Vec::new(),
        ledger: Ledger::default(),
        echoes,
        statistics,
    };
    let mut outcome = Outcome { difference: None, resolved: Vec::new() };
    run.statistics.scripts += 1;
    for (step, op) in script.iter().enumerate() {
        let op = run.resolve(*op);
        outcome.resolved.push(op);
        run.statistics.operations += 1;
        if let Err(difference) = run.step(step, op) {
            outcome.difference = Some((step, difference));
            return Ok(outcome);
        }
    }
    let last = script.len();
    for label in 0..run.twins.len() as u8 {
        let op = Op::Wait { epoll: label, max: 16 };
        if run.twin(label).is_some() {
            outcome.resolved.push(op);
            if let Err(difference) = run.step(last, op) {
                outcome.difference = Some((last, difference));
                return Ok(outcome);
            }
        }
    }
    Ok(outcome)
}

impl Run<'_> {
    /// The operation with the labels of living objects. Stale numbers stay as they are.
    fn resolve(&self, op: Op) -> Op {
        self.world.resolved(op, |label| self.resolve_twin(label))
    }

    fn resolve_twin(&self, label: u8) -> u8 {
        living(label, self.twins.len(), |place| self.twins[place].is_some()).unwrap_or(label)
    }

    fn twin(&self, label: u8) -> Option<Twin> {
        self.twins.get(usize::from(label)).copied().flatten()
    }

    /// A living number of an instance.
    pub fn twin_of(&self, id: Instance) -> Option<Twin> {
        self.twins.iter().flatten().find(|twin| twin.id == id).copied()
    }

    fn step(&mut self, step: usize, op: Op) -> Result<(), Difference> {
        match op {
            Op::Instance => self.twins.push(Twin::new(step as Instance).ok()),
            Op::DupInstance(epoll) => {
                let twin = self.twin(epoll).and_then(|twin| twin.dup().ok());
                self.twins.push(twin);
            }
            Op::CloseInstance(epoll) => {
                if let Some(twin) = self.twin(epoll) {
                    self.twins[usize::from(epoll)] = None;
                    twin.close();
                }
            }
            Op::Ctl { epoll, action, target, mask } => {
                return self.ctl(step, epoll, action, target, mask);
            }
            Op::Wait { epoll, max } => {
                if let Some(twin) = self.twin(epoll) {
                    return self.wait(twin, usize::from(max.max(1)), Told::default());
                }
            }
            Op::Sleep { epoll, millis } => {
                if let Some(twin) = self.twin(epoll) {
                    return self.sleep(twin, millis);
                }
            }
            Op::Beside { epoll, fd, errand } => {
                if let Some(twin) = self.twin(epoll) {
                    return self.beside(twin, fd, errand);
                }
            }
            Op::Rounds { epoll, max } => {
                if let Some(twin) = self.twin(epoll) {
                    self.wait(twin, ALL, Told::default())?;
                    let [ours, kernel] = compare::turns(twin, usize::from(max.max(1)))?;
                    return self.compared(twin, || compare::continued(twin, ours, kernel));
                }
            }
            Op::Poll { epoll } => {
                if let Some(twin) = self.twin(epoll) {
                    return self.answers(twin, "poll", || twin.poll());
                }
            }
            Op::Select { epoll } => {
                if let Some(twin) = self.twin(epoll) {
                    return self.answers(twin, "select", || twin.select());
                }
            }
            Op::Fork { epoll } => {
                if let Some(twin) = self.twin(epoll) {
                    return self.fork(twin);
                }
            }
            Op::Pause { millis } => std::thread::sleep(Duration::from_millis(u64::from(millis))),
            op => self.perform(op),
        }
        Ok(())
    }

    fn perform(&mut self, op: Op) {
        let groups = self.world.groups(op);
        let is_unseen = self.world.is_unseen(op);
        if is_unseen || self.world.wakes_unseen(op) {
            self.sample(None);
            self.ledger.goes_blind();
        } else {
            self.ledger.sees_again();
        }
        match op {
            Op::CloseRange { fd, count } => self.close_range(fd, count),
            op => self.world.perform(op),
        }
        if !is_unseen {
            self.sample(Some(&groups));
        }
    }

    fn ctl(
        &mut self,
        step: usize,
        epoll: u8,
        action: Action,
        target: Target,
        mask: Mask,
    ) -> Result<(), Difference> {
        let Some(twin) = self.twin(epoll) else { return Ok(()) };
        let both = Twin::of_file;
        let watched = match target {
            Target::Instance(label) => self.twin(label).map(|twin| Watched::Instance(twin.id)),
            _ => None,
        };
        let target = match target {
            Target::File(label) => self.world.file(label).map(|file| both(file.number)),
            Target::Stale(label) => {
                let number = self.world.stale_number(label);
                let taken = |number| self.twins.iter().flatten().any(|twin| twin.ours == number);
                number.filter(|&number| !taken(number)).map(both)
            }
            Target::Instance(label) => self.twin(label),
            Target::None => Some(both(-1)),
        };
        let Some(target) = target else { return Ok(()) };
        let mask = within_limits(&self.world, self.world.by_number(target.ours), mask);
        let data = step as u64 | if mask.is_once() { ONCE } else { 0 };
        self.statistics.controls += 1;
        let [ours, kernel] = twin.ctl(action, target, mask, data);
        if ours == kernel {
            let file = || self.world.by_number(target.ours);
            let watched = watched
                .or_else(|| file().map(|file| Watched::File { id: file.id, kind: file.kind }));
            if ours.is_ok()
                && action != Action::Del
                && let Some(watched) = watched
            {
                self.ledger.registered(data, watched, mask);
            }
            return Ok(());
        }
        let text = format!("epoll_ctl: ours gives {ours:?}, the kernel {kernel:?} (errno)");
        Err(Difference { fault: Fault::Control, text })
    }

    /// Waits on both sides, and compares.
    pub fn wait(&mut self, twin: Twin, max: usize, before: Told) -> Result<(), Difference> {
        self.compared(twin, || compare::waits(twin, max, before))
    }

    fn answers<T: PartialEq + std::fmt::Debug>(
        &mut self,
        twin: Twin,
        name: &str,
        ask: impl FnMut() -> [sys::Answer<T>; 2],
    ) -> Result<(), Difference> {
        self.statistics.waits += 1;
        let Err(difference) = compare::answers(Fault::Readable, name, ask) else { return Ok(()) };
        self.excused_by_waits(twin, difference)
    }

    /// Ours may sleep; it must not when the kernel's is ready.
    fn sleep(&mut self, twin: Twin, millis: u8) -> Result<(), Difference> {
        let ready = sys::kernel::poll(twin.kernel, libc::POLLIN).is_ok_and(|found| found != 0);
        let time = if ready { NAP } else { i32::from(millis) };
        let (before, slept) = sleep_on_ours(twin, time);
        let echoes = self.echoes_seen();
        self.wait(twin, ALL, before)?;
        // Sleeping through an echo is no difference either.
        let heard_echo = self.echoes_seen() > echoes;
        if ready && slept && !heard_echo { Err(overslept()) } else { Ok(()) }
    }

    /// Ours sleeps while another thread does something; what makes the kernel's ready must wake it.
    fn beside(&mut self, twin: Twin, fd: u8, what: Errand) -> Result<(), Difference> {
        if self.world.has_timers() {
            return Ok(());
        }
        let Some(errand) = self.world.errand(fd, what) else { return Ok(()) };
        self.wait(twin, ALL, Told::default())?;
        // A level that is high is told at once, before the errand or after it: nothing to compare.
        if sys::kernel::poll(twin.kernel, libc::POLLIN).is_ok_and(|found| found != 0) {
            let went = errand();
            self.after_errand(fd, what, went);
            return Ok(());
        }
        let other = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(2));
            let went = errand();
            let ready = sys::kernel::poll_for(twin.kernel, libc::POLLIN, NAP as u8);
            (went, ready.is_ok_and(|found| found != 0).then(Instant::now))
        });
        let (before, slept) = sleep_on_ours(twin, NAP);
        let woke = Instant::now();
        let (went, ready) = other.join().unwrap_or((false, None));
        // On a busy machine the other thread may come late, and over TCP what its errand brings about.
        let is_late = |ready| woke.saturating_duration_since(ready) > Duration::from_millis(LATE);
        let ready = ready.is_some_and(is_late);
        self.after_errand(fd, what, went);
        let echoes = self.echoes_seen();
        self.wait(twin, ALL, before)?;
        let heard_echo = self.echoes_seen() > echoes;
        if ready && slept && !heard_echo { Err(overslept()) } else { Ok(()) }
    }

    fn after_errand(&mut self, fd: u8, what: Errand, went: bool) {
        if went {
            self.world.after_errand(fd, what);
        }
        let group = self.world.file(fd).map(|file| file.group);
        self.sample(Some(group.as_slice()));
    }

    /// Closes numbers from that of a descriptor on, as far as they are the script's; instances among them too.
    fn close_range(&mut self, label: u8, count: u8) {
        let Some(first) = self.world.file(label).map(|file| file.number) else { return };
        let is_known = |number| {
            self.world.files.iter().flatten().any(|file| file.open && file.number == number)
                || self.twins.iter().flatten().any(|twin| twin.ours == number)
                || !sys::is_open(number)
        };
        let end = (first + 1..first + i32::from(count.max(1)))
            .find(|&number| number >= KERNEL_NUMBERS || !is_known(number))
            .unwrap_or(first + i32::from(count.max(1)));
        let _ = sys::close_range(first, end - 1);
        for number in first..end {
            self.world.forget(number);
            for place in &mut self.twins {
                if let Some(twin) = place.filter(|twin| twin.ours == number) {
                    let _ = sys::kernel::close(twin.kernel);
                    *place = None;
                }
            }
        }
    }

    /// A child has a copy of the instance: it must find what the parent finds. The kernel's child would take it away
    /// from the parent, so only ours is asked there.
    fn fork(&mut self, twin: Twin) -> Result<(), Difference> {
        if self.world.has_own_views() {
            return Ok(());
        }
        let told = std::env::temp_dir().join(format!("uepoll-difftest.{}.told", sys::process()));
        let child = sys::in_child(|| {
            sys::alarm(10, crate::hung);
            let mut ours = Told::default();
            let _ = ours.collect(twin, Side::Ours, ALL);
            let events = ours.events();
            let lines = events.iter().map(|(data, mask)| format!("{data} {}\n", mask.0));
            let _ = std::fs::write(&told, lines.collect::<String>());
        });
        if let Ok(child) = child {
            let _ = sys::reap(child);
        }
        let text = std::fs::read_to_string(&told).unwrap_or_default();
        let _ = std::fs::remove_file(&told);
        let mut in_child = Told::default();
        in_child.take(text.lines().filter_map(parse_event).collect());
        let mut kernel = Told::default();
        let events = twin.wait(Side::Kernel, ALL, 0).unwrap_or_default();
        kernel.take(events);
        let mut ours = Told::default();
        let events = twin.wait(Side::Ours, ALL, 0).unwrap_or_default();
        ours.take(events);
        if let Some(difference) = compare::judge(&in_child, &kernel)
            && compare::judge(&ours, &kernel).is_none()
        {
            return Err(Difference { fault: Fault::Child, text: difference.text });
        }
        self.compared(twin, || compare::continued(twin, ours, kernel))
    }
}

/// A wait of ours: what it told, and whether it slept to the end of its time.
fn sleep_on_ours(twin: Twin, time: i32) -> (Told, bool) {
    let start = Instant::now();
    let events = twin.wait(Side::Ours, ALL, time).unwrap_or_default();
    let slept = events.is_empty() && start.elapsed() >= Duration::from_millis(time as u64);
    let mut told = Told::default();
    told.take(events);
    (told, slept)
}

fn overslept() -> Difference {
    let text = format!("the kernel's was ready, ours slept for {NAP} ms");
    Difference { fault: Fault::Slept, text }
}

fn parse_event(line: &str) -> Option<(u64, Mask)> {
    let (data, mask) = line.split_once(' ')?;
    Some((data.parse().ok()?, Mask(mask.parse().ok()?)))
}

/// A mask without what docs/limits.md says that poll(2) sees otherwise. It calls a terminal writable when there is room,
/// the kernel's epoll when it next wakes a writer; an instance wakes for IN, not for RDNORM; and who fills and empties a
/// FIFO or a UNIX connection that was opened by name is not known. `None` is an instance.
fn within_limits(world: &World, file: Option<&File>, mask: Mask) -> Mask {
    const ROOM: u32 = (libc::POLLOUT | libc::POLLWRNORM | libc::POLLWRBAND) as u32;
    const IN: u32 = libc::POLLIN as u32;
    const RDNORM: u32 = libc::POLLRDNORM as u32;
    let Some(file) = file else {
        return if mask.0 & IN == 0 { Mask(mask.0 & !RDNORM) } else { mask };
    };
    let edge = mask.0 & Mask::ET != 0;
    let is_blind = match file.kind {
        Kind::Pty => true,
        Kind::Fifo => edge,
        Kind::UnixStream => edge && !world.has_mate(file),
        _ => false,
    };
    if is_blind { Mask(mask.0 & !ROOM) } else { mask }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        self.twins.drain(..).flatten().for_each(Twin::close);
    }
}
