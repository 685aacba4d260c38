//! The engine, by arbitrary scripts of calls on real files, against a model of the kernel's rules:
//!
//! - level: every item that is ready is reported, with all bits that are high and asked for, and no other item;
//! - edge: what was low and is high is reported, and so is what was written since; a file on which nothing happens is not
//!   reported for ever;
//! - one-shot: once, then not until EPOLL_CTL_MOD;
//! - nothing of an item that was removed, or whose file is closed;
//! - the errors of epoll_ctl, and no more events than there is room for.
//!
//! poll(2) says what is high. The hooks' part - what the program's calls show - is played by `hooks.rs`, or left out, as
//! when another process makes the call.
#![no_main]

mod hooks;

use std::os::fd::RawFd;
use std::sync::OnceLock;

use libc::{EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD};
use libfuzzer_sys::{arbitrary, fuzz_target};
use uepoll::backend::Sleep;
use uepoll::files::Kind;
use uepoll::{Engine, Errno, Event, Events, FdTable};

use hooks::Hooks;

const MOST_NUMBERS: usize = 24;
const MOST_INSTANCES: usize = 3;
const MOST_STEPS: usize = 200;

#[derive(arbitrary::Arbitrary, Debug)]
enum Step {
    Open { make: Make, told: bool },
    Instance,
    Add { epoll: u8, number: u8, mask: u8 },
    Mod { epoll: u8, number: u8, mask: u8 },
    Del { epoll: u8, number: u8 },
    /// epoll_ctl with an operation that there is not, a number that is not open, or the instance itself.
    Bad { epoll: u8, number: u8, way: u8 },
    Wait { epoll: u8, max: u8 },
    Write { number: u8, amount: Amount, seen: bool },
    Read { number: u8, amount: Amount, seen: bool },
    Dup { number: u8 },
    Close { number: u8 },
    CloseInstance { epoll: u8 },
}

#[derive(arbitrary::Arbitrary, Clone, Copy, Debug)]
enum Make {
    Pipe,
    Eventfd,
    Semaphore,
    Unix,
}

#[derive(arbitrary::Arbitrary, Clone, Copy, Debug)]
enum Amount {
    Some(u8),
    All,
}

/// An open file; its number in the list of files is its name.
struct File {
    kind: Kind,
    /// The file that reads what is written here, and the other way round.
    other: usize,
    told: bool,
}

struct Item {
    epoll: usize,
    /// The number that it was registered by.
    fd: RawFd,
    file: usize,
    data: u64,
    asked: Events,
    /// What was low since its last report, or is new otherwise: high, it must be reported.
    fresh: Events,
    /// Something was written since its last report, in a way that the library must find.
    written: bool,
    /// A read that nobody saw makes the file's count say less.
    read_unseen: bool,
    fired: bool,
    /// Reports since anything happened to its file or the other end.
    idle_reports: u32,
}

impl Item {
    fn wanted(&self) -> Events {
        self.asked.intersection(Events::REPORTS) | Events::ALWAYS
    }

    fn is_edge(&self) -> bool {
        self.asked.contains(Events::ET)
    }

    fn must(&self, levels: Events) -> bool {
        let high = levels & self.wanted();
        let news = if self.is_edge() {
            high.intersects(self.fresh) || self.written && high.contains(Events::IN)
        } else {
            !high.is_empty()
        };
        news && !self.fired
    }
}

struct World {
    engine: &'static Engine,
    hooks: Hooks,
    files: Vec<File>,
    numbers: Vec<(RawFd, usize)>,
    instances: Vec<(usize, RawFd)>,
    made: usize,
    items: Vec<Item>,
    serial: u64,
}

static TABLE: FdTable = FdTable::new();
static ENGINE: OnceLock<Engine> = OnceLock::new();

fuzz_target!(|steps: Vec<Step>| {
    let engine = ENGINE.get_or_init(|| {
        // Nobody reads some of what is written.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
        Engine::new(&TABLE, None, || false).unwrap()
    });
    let mut world = World {
        engine,
        hooks: Hooks { engine, table: &TABLE },
        files: Vec::new(),
        numbers: Vec::new(),
        instances: Vec::new(),
        made: 0,
        items: Vec::new(),
        serial: 0,
    };
    for step in steps.iter().take(MOST_STEPS) {
        world.step(step);
    }
    for epoll in 0..world.instances.len() {
        world.wait(epoll, 64);
    }
    world.end();
});

fn mask(bits: u8) -> Events {
    const ALL: [Events; 8] = [
        Events::IN,
        Events::OUT,
        Events::RDHUP,
        Events::PRI,
        Events::ET,
        Events::ONESHOT,
        Events::EXCLUSIVE,
        Events::WAKEUP,
    ];
    let set = ALL.iter().enumerate().filter(|(index, _)| bits >> index & 1 != 0);
    set.fold(Events::empty(), |mask, (_, &bit)| mask | bit)
}

fn levels(fd: RawFd, wanted: Events) -> Events {
    Events::from_poll(uepoll::sys::levels_now(fd, wanted.to_poll()))
}

impl World {
    fn step(&mut self, step: &Step) {
        match *step {
            Step::Open { make, told } => self.open(make, told),
            Step::Instance if self.instances.len() < MOST_INSTANCES => {
                self.made += 1;
                let epfd = self.engine.create(libc::EPOLL_CLOEXEC).unwrap();
                self.instances.push((self.made, epfd));
            }
            Step::Instance => {}
            Step::Add { epoll, number, mask: bits } => self.ctl(EPOLL_CTL_ADD, epoll, number, bits),
            Step::Mod { epoll, number, mask: bits } => self.ctl(EPOLL_CTL_MOD, epoll, number, bits),
            Step::Del { epoll, number } => self.ctl(EPOLL_CTL_DEL, epoll, number, 0),
            Step::Bad { epoll, number, way } => self.bad(epoll, number, way),
            Step::Wait { epoll, max } => {
                if !self.instances.is_empty() {
                    let max = if max < 8 { usize::from(max) + 1 } else { 64 };
                    self.wait(usize::from(epoll) % self.instances.len(), max);
                }
            }
            Step::Write { number, amount, seen } => self.write(number, amount, seen),
            Step::Read { number, amount, seen } => self.read(number, amount, seen),
            Step::Dup { number } => self.dup(number),
            Step::Close { number } => self.close(number),
            Step::CloseInstance { epoll } => self.close_instance(epoll),
        }
    }

    fn open(&mut self, make: Make, told: bool) {
        if self.numbers.len() + 2 > MOST_NUMBERS {
            return;
        }
        let first = self.files.len();
        let (kind, opened) = self.hooks.open(make, told);
        for (index, fd) in opened.iter().enumerate() {
            // Which of several has the other end of it: the other one; an eventfd is its own.
            let other = if opened.len() == 2 { first + 1 - index } else { first };
            self.files.push(File { kind, other, told });
            self.numbers.push((*fd, first + index));
        }
    }

    fn number(&self, number: u8) -> Option<(RawFd, usize)> {
        let count = self.numbers.len();
        (count > 0).then(|| self.numbers[usize::from(number) % count])
    }

    fn instance(&self, epoll: u8) -> Option<(usize, RawFd)> {
        let count = self.instances.len();
        (count > 0).then(|| self.instances[usize::from(epoll) % count])
    }

    fn ctl(&mut self, op: i32, epoll: u8, number: u8, bits: u8) {
        let (Some((epoll, epfd)), Some((fd, file))) = (self.instance(epoll), self.number(number))
        else {
            return;
        };
        let asked = mask(bits);
        self.serial += 1;
        let found = self
            .items
            .iter()
            .position(|item| item.epoll == epoll && item.fd == fd && item.file == file);
        let exclusive = asked.contains(Events::EXCLUSIVE);
        let too_much = !(asked - Events::WITH_EXCLUSIVE).is_empty();
        let expected = match (op, found) {
            (EPOLL_CTL_ADD, _) if exclusive && too_much => Err(Errno::EINVAL),
            (EPOLL_CTL_MOD, _) if exclusive => Err(Errno::EINVAL),
            (EPOLL_CTL_ADD, Some(_)) => Err(Errno::EEXIST),
            (EPOLL_CTL_ADD, None) | (EPOLL_CTL_DEL, Some(_)) => Ok(()),
            (EPOLL_CTL_MOD, Some(index))
                if self.items[index].asked.contains(Events::EXCLUSIVE) =>
            {
                Err(Errno::EINVAL)
            }
            (EPOLL_CTL_MOD, Some(_)) => Ok(()),
            _ => Err(Errno::ENOENT),
        };
        let event = (op != EPOLL_CTL_DEL).then_some(Event { events: asked, data: self.serial });
        assert_eq!(self.engine.ctl(epfd, op, fd, event), expected, "epoll_ctl {op} of {asked:?}");
        if expected.is_err() {
            return;
        }
        let item = Item {
            epoll,
            fd,
            file,
            data: self.serial,
            asked,
            fresh: Events::all(),
            written: false,
            read_unseen: false,
            fired: false,
            idle_reports: 0,
        };
        match (op, found) {
            (EPOLL_CTL_DEL, Some(index)) => drop(self.items.remove(index)),
            (_, Some(index)) => self.items[index] = item,
            (_, None) => self.items.push(item),
        }
    }

    fn bad(&mut self, epoll: u8, number: u8, way: u8) {
        let (Some((_, epfd)), Some((fd, _))) = (self.instance(epoll), self.number(number)) else {
            return;
        };
        let event = Some(Event { events: Events::IN, data: 0 });
        let (op, fd, expected) = match way % 5 {
            0 => (99, fd, Errno::EINVAL),
            1 => (EPOLL_CTL_ADD, -1, Errno::EBADF),
            2 => (EPOLL_CTL_DEL, 999, Errno::EBADF),
            3 => (EPOLL_CTL_MOD, i32::MAX, Errno::EBADF),
            _ => (EPOLL_CTL_ADD, epfd, Errno::EINVAL),
        };
        assert_eq!(self.engine.ctl(epfd, op, fd, event), Err(expected), "{op} of {fd}");
    }

    /// Something happened to a file: its items, and those of its other end, may have more to say.
    fn stirred(&mut self, file: usize) {
        let other = self.files[file].other;
        let of_file = |item: &&mut Item| item.file == file || item.file == other;
        self.items.iter_mut().filter(of_file).for_each(|item| item.idle_reports = 0);
    }

    fn write(&mut self, number: u8, amount: Amount, seen: bool) {
        let Some((fd, file)) = self.number(number) else { return };
        let File { kind, other, told } = self.files[file];
        let len = match amount {
            Amount::Some(bytes) => usize::from(bytes) + 1,
            Amount::All => 1 << 17,
        };
        let wrote = self.hooks.write(fd, kind, len, seen);
        self.stirred(file);
        let is_eventfd = matches!(kind, Kind::Eventfd | Kind::EventfdSemaphore);
        for item in self.items.iter_mut().filter(|item| item.file == other) {
            // Of a told eventfd, every write goes by a hook.
            let found = if is_eventfd { seen } else { seen && told || !item.read_unseen };
            item.written |= wrote > 0 && found;
        }
        // Any other error than EAGAIN says nothing of room.
        let full = (0..len as isize).contains(&wrote) || wrote == -(libc::EAGAIN as isize);
        if seen && full && !is_eventfd {
            let items = self.items.iter_mut().filter(|item| item.file == file);
            items.for_each(|item| item.fresh |= Events::OUT);
        }
    }

    fn read(&mut self, number: u8, amount: Amount, seen: bool) {
        let Some((fd, file)) = self.number(number) else { return };
        let kind = self.files[file].kind;
        let len = match amount {
            Amount::Some(bytes) => usize::from(bytes) + 1,
            Amount::All => 1 << 18,
        };
        let got = self.hooks.read(fd, kind, len, seen);
        self.stirred(file);
        let low = !levels(fd, Events::IN).contains(Events::IN);
        for item in self.items.iter_mut().filter(|item| item.file == file) {
            item.read_unseen |= got > 0 && !seen;
            if seen && low {
                item.fresh |= Events::IN;
            }
        }
    }

    fn dup(&mut self, number: u8) {
        let Some((fd, file)) = self.number(number) else { return };
        if self.numbers.len() < MOST_NUMBERS {
            let new = self.hooks.dup(fd);
            self.numbers.push((new, file));
            self.stirred(file);
        }
    }

    fn close(&mut self, number: u8) {
        let Some((fd, file)) = self.number(number) else { return };
        self.stirred(file);
        self.hooks.close(fd);
        self.numbers.retain(|&(number, _)| number != fd);
        if !self.numbers.iter().any(|&(_, open)| open == file) {
            self.items.retain(|item| item.file != file);
        }
    }

    fn close_instance(&mut self, epoll: u8) {
        let Some((epoll, epfd)) = self.instance(epoll) else { return };
        self.hooks.close(epfd);
        self.instances.retain(|&(instance, _)| instance != epoll);
        self.items.retain(|item| item.epoll != epoll);
    }

    fn wait(&mut self, index: usize, max: usize) {
        let (epoll, epfd) = self.instances[index];
        let mut events: Vec<Event> = Vec::new();
        let mut sink = |index: usize, event: Event| {
            assert_eq!(index, events.len());
            events.push(event);
            true
        };
        let cancels = self.engine.cancels();
        let mut none = Sleep::NONE;
        let count = self.engine.wait(epfd, max as i32, &mut none, true, &mut sink, cancels);
        assert_eq!(count, Ok(events.len()));
        assert!(events.len() <= max);

        for (index, event) in events.iter().enumerate() {
            assert!(!events[..index].iter().any(|other| other.data == event.data), "twice");
            let item = self.items.iter().find(|item| item.data == event.data);
            let item = item.expect("an item that there is");
            assert_eq!(item.epoll, epoll, "of this instance");
        }
        for item in self.items.iter_mut().filter(|item| item.epoll == epoll) {
            let open = self.numbers.iter().find(|&&(_, file)| file == item.file);
            let &(fd, _) = open.expect("an item whose file is open");
            let levels = levels(fd, Events::REPORTS);
            let Some(event) = events.iter().find(|event| event.data == item.data) else {
                let left_out = events.len() == max;
                assert!(left_out || !item.must(levels), "lost: {:?}, {levels:?}", item.asked);
                if !left_out {
                    // It was looked at.
                    item.fresh |= Events::all() - levels;
                }
                continue;
            };
            assert_eq!(event.events, levels & item.wanted(), "what is high and asked for");
            assert!(!event.events.is_empty() && !item.fired, "once");
            if item.is_edge() {
                item.idle_reports += 1;
                // Two: docs/limits.md, "An extra edge".
                assert!(item.idle_reports <= 2, "the same edge again: {:?}, {levels:?}", item.asked);
                item.fresh = Events::all() - levels;
                item.written = false;
                item.read_unseen = false;
            }
            item.fired = item.asked.contains(Events::ONESHOT);
        }
    }

    fn end(&mut self) {
        while !self.instances.is_empty() {
            self.close_instance(0);
        }
        while !self.numbers.is_empty() {
            self.close(0);
        }
    }
}
