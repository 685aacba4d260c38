//! A script: what is done to descriptors and instances, as plain data, and its text form.
//!
//! Labels count the objects that a script makes: `d3` is the fourth descriptor, `e0` the first instance. Who meets a
//! label that is closed, or beyond the end, takes the next living one, round and round. So every sub-sequence of a
//! script is a script, and shrinking is deleting. Each operation makes a fixed number of labels, whether it succeeds or
//! not.

use std::fmt;
use std::str::FromStr;

use crate::mask::Mask;

/// What [`Op::Open`] can make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Pipe,
    Fifo,
    UnixStream,
    UnixDatagram,
    UnixPackets,
    UnixListener,
    Tcp,
    TcpListener,
    TcpFresh,
    Udp,
    Eventfd,
    Semaphore,
    Timer,
    Signal,
    Child,
    Pty,
    Inotify,
    Regular,
    Null,
}

impl Kind {
    /// All of them, with their names in scripts and on the command line.
    pub const ALL: [(Kind, &str); 19] = [
        (Kind::Pipe, "pipe"),
        (Kind::Fifo, "fifo"),
        (Kind::UnixStream, "unix-stream"),
        (Kind::UnixDatagram, "unix-datagram"),
        (Kind::UnixPackets, "unix-packets"),
        (Kind::UnixListener, "unix-listener"),
        (Kind::Tcp, "tcp"),
        (Kind::TcpListener, "tcp-listener"),
        (Kind::TcpFresh, "tcp-fresh"),
        (Kind::Udp, "udp"),
        (Kind::Eventfd, "eventfd"),
        (Kind::Semaphore, "semaphore"),
        (Kind::Timer, "timer"),
        (Kind::Signal, "signal"),
        (Kind::Child, "child"),
        (Kind::Pty, "pty"),
        (Kind::Inotify, "inotify"),
        (Kind::Regular, "regular"),
        (Kind::Null, "null"),
    ];

    /// How many descriptors one of these is.
    pub fn ends(self) -> u8 {
        match self {
            Kind::Pipe | Kind::Fifo | Kind::Tcp | Kind::Udp | Kind::Pty => 2,
            Kind::UnixStream | Kind::UnixDatagram | Kind::UnixPackets => 2,
            _ => 1,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Kind::ALL.iter().find(|(kind, _)| kind == self).map_or("?", |(_, name)| name))
    }
}

impl FromStr for Kind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Kind::ALL.iter().find(|(_, name)| *name == text);
        found.map(|(kind, _)| *kind).ok_or_else(|| format!("no kind of descriptor: {text}"))
    }
}

/// The living one of `count` objects that a label means.
pub fn living(label: u8, count: usize, lives: impl Fn(usize) -> bool) -> Option<u8> {
    let start = usize::from(label) % count.max(1);
    let mut places = (0..count).map(|step| (start + step) % count);
    places.find(|&place| lives(place)).map(|place| place as u8)
}

/// By which call bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// read, write
    Plain,
    /// readv, writev
    Vector,
    /// recv, send; sockets only
    Message,
    /// An inline system call: what another process would do.
    Foreign,
}

/// How much goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// One call with so many bytes.
    Bytes(u32),
    /// Calls until EAGAIN, or the end.
    All,
}

/// Which half shutdown(2) ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    Read,
    Write,
    Both,
}

/// What another thread does to a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// One small read.
    Read,
    /// One small write.
    Write,
    Shutdown(Half),
}

/// What epoll_ctl is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Add,
    Mod,
    Del,
    /// An operation that does not exist.
    Bad,
}

/// What epoll_ctl is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A living descriptor.
    File(u8),
    /// The number of a descriptor that may be closed.
    Stale(u8),
    /// An instance, the own one too.
    Instance(u8),
    /// -1
    None,
}

/// One operation. The first `u8` is the label of what it is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Open(Kind),
    Instance,
    DupInstance(u8),
    CloseInstance(u8),
    Ctl {
        epoll: u8,
        action: Action,
        target: Target,
        mask: Mask,
    },
    /// epoll_wait on both sides until all is told, with this `maxevents`.
    Wait {
        epoll: u8,
        max: u8,
    },
    /// The same, but ours sleeps for up to so many milliseconds if nothing is ready.
    Sleep {
        epoll: u8,
        millis: u8,
    },
    /// The same, while another thread has an errand after a moment.
    Beside {
        epoll: u8,
        fd: u8,
        errand: Errand,
    },
    /// Many waits with this `maxevents`, on both sides: does every ready item have its turn?
    Rounds {
        epoll: u8,
        max: u8,
    },
    /// poll(2) on the instance.
    Poll {
        epoll: u8,
    },
    /// select(2) on the instance.
    Select {
        epoll: u8,
    },
    Read {
        fd: u8,
        amount: Amount,
        way: Way,
    },
    Write {
        fd: u8,
        amount: Amount,
        way: Way,
    },
    /// One byte out of band.
    Urgent(u8),
    Splice {
        from: u8,
        to: u8,
        amount: u32,
    },
    Shutdown {
        fd: u8,
        half: Half,
    },
    /// A new client of a listener.
    Connect(u8),
    /// A socket of the script connects itself to a listener.
    ConnectTo {
        fd: u8,
        listener: u8,
    },
    Accept(u8),
    /// A TCP socket without connection becomes a listener.
    Listen(u8),
    Close(u8),
    /// Closes a connection by a reset.
    Reset(u8),
    Dup(u8),
    /// fcntl(F_DUPFD)
    DupFd(u8),
    Dup2 {
        from: u8,
        onto: u8,
    },
    Dup3 {
        from: u8,
        onto: u8,
    },
    CloseRange {
        fd: u8,
        count: u8,
    },
    /// Opens an end of a FIFO again.
    Reopen {
        fd: u8,
        write: bool,
    },
    /// Sets a timer.
    Arm {
        fd: u8,
        millis: u8,
    },
    /// Sends this process SIGUSR1 or SIGUSR2.
    Raise(bool),
    /// Ends a child.
    Kill(u8),
    /// Makes a file in a watched directory.
    Touch(u8),
    /// What a child of fork finds by a wait.
    Fork {
        epoll: u8,
    },
    Pause {
        millis: u8,
    },
}

impl Op {
    /// How many labels of descriptors it makes.
    pub fn descriptors(self) -> u8 {
        match self {
            Op::Open(kind) => kind.ends(),
            Op::Connect(_) | Op::Accept(_) | Op::Dup(_) | Op::DupFd(_) | Op::Reopen { .. } => 1,
            Op::Dup2 { .. } | Op::Dup3 { .. } => 1,
            _ => 0,
        }
    }

    /// Whether it closes a number.
    pub fn closes(self) -> bool {
        let onto = matches!(self, Op::Dup2 { .. } | Op::Dup3 { .. });
        onto || matches!(self, Op::Close(_) | Op::Reset(_) | Op::CloseRange { .. })
    }

    /// How many labels of instances it makes.
    pub fn instances(self) -> u8 {
        u8::from(matches!(self, Op::Instance | Op::DupInstance(_)))
    }

    /// This operation with other labels.
    pub fn relabel(
        mut self,
        mut file: impl FnMut(u8) -> u8,
        mut inst: impl FnMut(u8) -> u8,
    ) -> Self {
        match &mut self {
            Op::Ctl { epoll, target, .. } => {
                *epoll = inst(*epoll);
                match target {
                    Target::File(fd) | Target::Stale(fd) => *fd = file(*fd),
                    Target::Instance(inner) => *inner = inst(*inner),
                    Target::None => {}
                }
            }
            Op::Beside { epoll, fd, .. } => {
                *epoll = inst(*epoll);
                *fd = file(*fd);
            }
            Op::DupInstance(epoll) | Op::CloseInstance(epoll) => *epoll = inst(*epoll),
            Op::Wait { epoll, .. } | Op::Sleep { epoll, .. } | Op::Rounds { epoll, .. } => {
                *epoll = inst(*epoll)
            }
            Op::Poll { epoll } | Op::Select { epoll } | Op::Fork { epoll } => *epoll = inst(*epoll),
            Op::Read { fd, .. } | Op::Write { fd, .. } | Op::Shutdown { fd, .. } => *fd = file(*fd),
            Op::CloseRange { fd, .. } | Op::Reopen { fd, .. } | Op::Arm { fd, .. } => {
                *fd = file(*fd)
            }
            Op::Urgent(fd) | Op::Connect(fd) | Op::Accept(fd) | Op::Close(fd) => *fd = file(*fd),
            Op::Reset(fd) | Op::Dup(fd) | Op::DupFd(fd) | Op::Kill(fd) => *fd = file(*fd),
            Op::Touch(fd) | Op::Listen(fd) => *fd = file(*fd),
            Op::ConnectTo { fd: one, listener: other }
            | Op::Splice { from: one, to: other, .. }
            | Op::Dup2 { from: one, onto: other }
            | Op::Dup3 { from: one, onto: other } => {
                *one = file(*one);
                *other = file(*other);
            }
            Op::Open(_) | Op::Instance | Op::Raise(_) | Op::Pause { .. } => {}
        }
        self
    }
}
