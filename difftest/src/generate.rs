//! Random scripts, each from one number.
//!
//! An own generator and an own shrinker, not proptest's: a script is run against live descriptors, so a failing one is
//! worth keeping as text, which outlives changes to the generator, where proptest keeps the generator's seeds; and a
//! script shrinks by deleting operations with the labels of the others renumbered, which a strategy for vectors cannot
//! know.

use crate::mask::Mask;
use crate::script::{Action, Amount, Errand, Half, Kind, Op, Target, Way};

/// What scripts are to be made of.
#[derive(Clone, Debug)]
pub struct Wishes {
    /// Only these kinds.
    pub kinds: Vec<Kind>,
    /// Bits that are never asked for.
    pub without_bits: u32,
    /// Operations that are never done, by their first word.
    pub without_ops: Vec<String>,
}

impl Wishes {
    fn allow(&self, op: Op) -> bool {
        let text = op.to_string();
        let word = text.split(' ').next().unwrap_or_default();
        !self.without_ops.iter().any(|name| name == word)
    }
}

impl Default for Wishes {
    fn default() -> Self {
        let kinds = Kind::ALL.iter().map(|(kind, _)| *kind).collect();
        Self { kinds, without_bits: 0, without_ops: Vec::new() }
    }
}

/// Numbers that look random (splitmix64).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Another one, for another thread.
    pub fn split(&mut self) -> Self {
        Self(self.roll())
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn label(&mut self) -> u8 {
        self.below(24) as u8
    }

    pub fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    /// One of several things, by weight.
    fn weighed<T: Copy>(&mut self, all: &[(u64, T)]) -> T {
        let mut left = self.below(all.iter().map(|(weight, _)| weight).sum());
        for (weight, one) in all {
            if left < *weight {
                return *one;
            }
            left -= weight;
        }
        all[0].1
    }
}

/// The script of a seed.
pub fn script(seed: u64, len: usize, wishes: &Wishes) -> Vec<Op> {
    let mut dice = Dice(seed);
    let mut kinds: Vec<Kind> = (0..1 + dice.below(4)).map(|_| dice.of(&wishes.kinds)).collect();
    if kinds.contains(&Kind::TcpFresh) {
        kinds.push(Kind::TcpListener);
    }
    let mut script = vec![Op::Instance];
    script.extend((0..dice.below(3)).map(|_| Op::Instance));
    script.extend(kinds.iter().map(|&kind| Op::Open(kind)));
    let mut plan = Plan { dice, kinds, without_bits: wishes.without_bits };
    for _ in 0..3 {
        script.push(plan.control(Action::Add));
    }
    // How often somebody looks decides how many edges fall between two looks.
    let looks = 10 + plan.dice.below(70);
    while script.len() < len {
        let op = plan.op();
        let instances = script.iter().map(|op| op.instances()).sum();
        // To an outer instance an urgent byte is a wake-up without a level.
        let is_limited = instances > 1 && matches!(op, Op::Urgent(_));
        if wishes.allow(op) && !is_limited {
            let look = |epoll| Op::Wait { epoll, max: 16 };
            let looks = if plan.leaves_no_trace(op) { 0..instances } else { 0..0 };
            // To an outer instance a hang-up is one, too, if its file is closed before anybody has looked.
            let before = if instances > 1 && op.closes() { 0..instances } else { looks.clone() };
            script.extend(before.map(look));
            script.push(op);
            if plan.moves_by_itself(op) {
                script.push(Op::Pause { millis: 1 });
            }
            script.extend(looks.map(look));
        }
        if plan.dice.chance(looks) {
            script.push(plan.wait());
        }
    }
    script
}

struct Plan {
    dice: Dice,
    kinds: Vec<Kind>,
    without_bits: u32,
}

/// Groups of operations.
#[derive(Clone, Copy)]
enum Group {
    Open,
    Control,
    Read,
    Write,
    End,
    Connect,
    Duplicate,
    Special,
    Instance,
    Look,
}

impl Plan {
    /// What comes and goes by such an operation between two looks nobody can know (docs/limits.md): everybody looks right
    /// before and after it.
    fn leaves_no_trace(&self, op: Op) -> bool {
        let is_by_name = self.kinds.contains(&Kind::Fifo);
        match op {
            Op::Read { .. } if self.kinds.contains(&Kind::UnixListener) => true,
            Op::Read { way, .. } | Op::Write { way, .. } => {
                way == Way::Foreign || is_by_name || self.moves_by_itself(op)
            }
            // The byte is passed over by the next read, whoever makes it.
            Op::Urgent(_) => true,
            // The ends of a FIFO are opened by name: nobody knows which belong together.
            Op::Reopen { .. } | Op::Close(_) | Op::Reset(_) | Op::Dup2 { .. } | Op::Dup3 { .. } => {
                is_by_name
            }
            // It wakes writers for each whole buffer that it takes.
            Op::Splice { .. } => true,
            // The files of a range are released together, in an order of the kernel's own.
            Op::CloseRange { .. } => true,
            _ => false,
        }
    }

    /// What is written to a terminal, or makes room in it, a thread of the kernel carries on.
    fn moves_by_itself(&self, op: Op) -> bool {
        let moves = matches!(op, Op::Read { .. } | Op::Write { .. } | Op::Splice { .. });
        moves && self.kinds.contains(&Kind::Pty)
    }

    fn op(&mut self) -> Op {
        let group = self.dice.weighed(&[
            (6, Group::Open),
            (24, Group::Control),
            (24, Group::Read),
            (26, Group::Write),
            (6, Group::End),
            (8, Group::Connect),
            (5, Group::Duplicate),
            (14, Group::Special),
            (3, Group::Instance),
            (4, Group::Look),
        ]);
        match group {
            Group::Open => Op::Open(self.dice.of(&self.kinds)),
            Group::Control => {
                let action = self.dice.weighed(&[
                    (50, Action::Add),
                    (30, Action::Mod),
                    (18, Action::Del),
                    (2, Action::Bad),
                ]);
                self.control(action)
            }
            Group::Read => {
                let (fd, amount, way) = (self.dice.label(), self.amount(), self.way());
                Op::Read { fd, amount, way }
            }
            Group::Write => {
                let (fd, amount, way) = (self.dice.label(), self.amount(), self.way());
                Op::Write { fd, amount, way }
            }
            Group::End => self.end(),
            Group::Connect => self.connect(),
            Group::Duplicate => self.duplicate(),
            Group::Special => self.special(),
            Group::Instance => {
                let epoll = self.dice.label();
                self.dice.of(&[Op::Instance, Op::DupInstance(epoll), Op::CloseInstance(epoll)])
            }
            Group::Look => self.look(),
        }
    }

    fn wait(&mut self) -> Op {
        let epoll = self.dice.label();
        if self.dice.chance(5) {
            return Op::Sleep { epoll, millis: 1 + self.dice.below(4) as u8 };
        }
        let max = if self.dice.chance(70) { 16 } else { 1 + self.dice.below(16) as u8 };
        Op::Wait { epoll, max }
    }

    fn control(&mut self, action: Action) -> Op {
        let epoll = self.dice.label();
        let label = self.dice.label();
        let target = self.dice.weighed(&[
            (90, Target::File(label)),
            (3, Target::Stale(label)),
            (6, Target::Instance(label)),
            (1, Target::None),
        ]);
        Op::Ctl { epoll, action, target, mask: self.mask() }
    }

    fn mask(&mut self) -> Mask {
        const IN: u32 = 0x001;
        const OUT: u32 = 0x004;
        const RDHUP: u32 = 0x2000;
        const RDBAND: u32 = 0x080;
        let mut bits = self.dice.weighed(&[
            (30, IN),
            (15, OUT),
            (30, IN | OUT),
            (15, IN | OUT | RDHUP),
            (5, 0),
            (5, RDHUP),
        ]);
        if self.dice.chance(12) {
            bits |= self.dice.of(&Mask::NAMES).0;
        }
        if self.dice.chance(5) {
            bits ^= self.dice.of(&Mask::NAMES).0;
        }
        if self.dice.chance(60) {
            bits |= Mask::ET;
        }
        if self.dice.chance(12) {
            bits |= Mask::ONESHOT;
        }
        // Nobody polls for input by RDBAND, which wakes and is not told.
        if bits & IN == 0 {
            bits &= !RDBAND;
        }
        Mask(bits & !self.without_bits)
    }

    fn amount(&mut self) -> Amount {
        self.dice.weighed(&[
            (35, Amount::Bytes(1)),
            (15, Amount::Bytes(100)),
            (10, Amount::Bytes(4096)),
            (15, Amount::Bytes(65536)),
            (25, Amount::All),
        ])
    }

    fn way(&mut self) -> Way {
        self.dice.weighed(&[
            (70, Way::Plain),
            (8, Way::Vector),
            (12, Way::Message),
            (10, Way::Foreign),
        ])
    }

    fn end(&mut self) -> Op {
        let fd = self.dice.label();
        let half = self.dice.of(&[Half::Read, Half::Write, Half::Both]);
        let count = 1 + self.dice.below(4) as u8;
        self.dice.weighed(&[
            (40, Op::Close(fd)),
            (10, Op::Reset(fd)),
            (10, Op::CloseRange { fd, count }),
            (40, Op::Shutdown { fd, half }),
        ])
    }

    fn connect(&mut self) -> Op {
        let (fd, listener) = (self.dice.label(), self.dice.label());
        self.dice.weighed(&[
            (40, Op::Connect(fd)),
            (40, Op::Accept(fd)),
            (20, Op::ConnectTo { fd, listener }),
        ])
    }

    fn duplicate(&mut self) -> Op {
        let (from, onto) = (self.dice.label(), self.dice.label());
        self.dice.of(&[
            Op::Dup(from),
            Op::DupFd(from),
            Op::Dup2 { from, onto },
            Op::Dup3 { from, onto },
        ])
    }

    fn special(&mut self) -> Op {
        let (fd, to) = (self.dice.label(), self.dice.label());
        let millis = self.dice.below(4) as u8;
        let mut all = vec![Op::Splice { from: fd, to, amount: 4096 }];
        for kind in &self.kinds {
            match kind {
                Kind::Timer => all.extend([Op::Arm { fd, millis }, Op::Pause { millis }]),
                Kind::Signal => all.push(Op::Raise(fd % 2 == 0)),
                Kind::Child => all.push(Op::Kill(fd)),
                Kind::Inotify => all.push(Op::Touch(fd)),
                Kind::Tcp => all.push(Op::Urgent(fd)),
                Kind::TcpFresh => all.extend([Op::Urgent(fd), Op::Listen(fd)]),
                Kind::Fifo => all.push(Op::Reopen { fd, write: to % 2 == 0 }),
                Kind::TcpListener | Kind::UnixListener => {
                    all.extend([Op::Connect(fd), Op::Accept(to)])
                }
                _ => {}
            }
        }
        self.dice.of(&all)
    }

    fn look(&mut self) -> Op {
        let epoll = self.dice.label();
        if self.dice.chance(4) {
            return Op::Fork { epoll };
        }
        let fd = self.dice.label();
        let half = self.dice.of(&[Half::Read, Half::Write, Half::Both]);
        let errand = self.dice.weighed(&[
            (54, Errand::Write),
            (36, Errand::Read),
            (10, Errand::Shutdown(half)),
        ]);
        let beside = Op::Beside { epoll, fd, errand };
        let rounds = Op::Rounds { epoll, max: 1 + self.dice.below(4) as u8 };
        self.dice.weighed(&[
            (3, Op::Poll { epoll }),
            (3, Op::Select { epoll }),
            (1, beside),
            (1, rounds),
        ])
    }
}
