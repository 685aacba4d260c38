//! The descriptors of a script, and what can be done to them. Every operation is done once, through libc, whoever
//! watches.

use std::ffi::CString;
use std::path::PathBuf;

use crate::script::{Amount, Errand, Half, Kind, Op, Target, Way, living};
use crate::sys::{self, Address, Answer, Fd};

/// Calls that `all` makes at most: datagrams to a full receiver are dropped without an error.
const CALLS: usize = 300;
const LARGEST: usize = 1 << 16;
/// What an unseen write writes, in bytes.
const FOREIGN: u32 = 100;

/// An open file, whatever numbers it has.
pub type FileId = u32;

/// Files that feel what is done to one of them: the ends of a pair, a listener with its connections, all signalfds.
pub type Group = u32;

/// Signals come to all signalfds at once.
const SIGNALS: Group = 0;

/// A descriptor that a script made.
#[derive(Clone, Debug)]
pub struct File {
    pub number: Fd,
    pub kind: Kind,
    pub open: bool,
    pub id: FileId,
    pub group: Group,
    /// The process of a pidfd.
    process: Option<i32>,
    /// The path of a FIFO, or the watched directory.
    path: Option<CString>,
}

/// All descriptors of a script, by label.
pub struct World {
    pub files: Vec<Option<File>>,
    children: Vec<i32>,
    directory: PathBuf,
    names: usize,
    buffer: Vec<u8>,
    /// The last number given to an open file or a group.
    last_id: u32,
    /// Files whose input changed by calls that hooks see, even where no sample can show it: bytes were read, a message
    /// or a connection came.
    stirred: Vec<FileId>,
}

impl World {
    /// An empty one, which puts its files into a directory of its own.
    pub fn new() -> std::io::Result<Self> {
        let directory = std::env::temp_dir().join(format!("uepoll-difftest.{}", sys::process()));
        std::fs::create_dir_all(&directory)?;
        let buffer = vec![b'x'; LARGEST];
        Ok(Self {
            files: Vec::new(),
            children: Vec::new(),
            directory,
            names: 0,
            buffer,
            last_id: SIGNALS,
            stirred: Vec::new(),
        })
    }

    /// The groups of what an operation with resolved labels is done to.
    pub fn groups(&self, op: Op) -> Vec<Group> {
        let mut groups = Vec::new();
        let note = |label| {
            groups.extend(self.file(label).map(|file| file.group));
            label
        };
        op.relabel(note, |label| label);
        if matches!(op, Op::Raise(_)) {
            groups.push(SIGNALS);
        }
        groups
    }

    /// Whether no hook sees an operation with resolved labels.
    pub fn is_unseen(&self, op: Op) -> bool {
        let (Op::Read { fd, way, .. } | Op::Write { fd, way, .. }) = op else { return false };
        let reads = matches!(op, Op::Read { .. });
        self.file(fd).is_some_and(|file| possible(way, file.kind, reads) == Way::Foreign)
    }

    /// Whether it wakes somebody that the hooks do not know of: splice does so for each whole buffer, a read of a UNIX
    /// connection at the other end, which is not known if it was made by name.
    pub fn wakes_unseen(&self, op: Op) -> bool {
        let by_name = |file: &File| file.kind == Kind::UnixStream && !self.has_mate(file);
        match op {
            // The files of a range are released together, in an order of the kernel's own.
            Op::Splice { .. } | Op::CloseRange { .. } => true,
            Op::Read { fd, .. } => self.file(fd).is_some_and(by_name),
            _ => self.is_unseen(op),
        }
    }

    /// Files whose input changed since the last question, see [`World::stirred`].
    pub fn take_stirred(&mut self) -> Vec<FileId> {
        std::mem::take(&mut self.stirred)
    }

    /// Whether the other end of a file is, or was, one of the script's, and known to be.
    pub fn has_mate(&self, file: &File) -> bool {
        self.files.iter().flatten().any(|mate| mate.group == file.group && mate.id != file.id)
    }

    /// An open descriptor by its number.
    pub fn by_number(&self, number: Fd) -> Option<&File> {
        self.files.iter().flatten().find(|file| file.open && file.number == number)
    }

    fn new_id(&mut self) -> u32 {
        self.last_id += 1;
        self.last_id
    }

    /// A new open file of a group.
    fn made(&mut self, number: Fd, kind: Kind, group: Group) -> File {
        File { number, kind, open: true, id: self.new_id(), group, process: None, path: None }
    }

    /// A hooked read or accept took something from a file. Where the file counts what comes, that tells more.
    pub fn took(&mut self, label: u8) {
        let counts = |file: &&File| {
            matches!(
                file.kind,
                Kind::Tcp | Kind::TcpFresh | Kind::Udp | Kind::Fifo | Kind::UnixStream | Kind::Pty
            )
        };
        let counted_not = self.file(label).filter(|file| !counts(file)).map(|file| file.id);
        self.stirred.extend(counted_not);
    }

    /// A hooked write or connect succeeded. Where messages and connections are not counted by the file, others of its
    /// group have one more.
    pub fn gave(&mut self, label: u8) {
        let Some(file) = self.file(label) else { return };
        let (id, group) = (file.id, file.group);
        let counts_none = |kind| {
            matches!(
                kind,
                Kind::UnixDatagram | Kind::UnixPackets | Kind::UnixListener | Kind::TcpListener
            )
        };
        let mates = self.files.iter().flatten().filter(|mate| {
            mate.open && mate.group == group && mate.id != id && counts_none(mate.kind)
        });
        self.stirred.extend(mates.map(|mate| mate.id));
    }

    /// The living descriptor that a label means.
    pub fn resolve(&self, label: u8) -> Option<u8> {
        living(label, self.files.len(), |place| {
            self.files[place].as_ref().is_some_and(|file| file.open)
        })
    }

    /// An operation with the labels of living objects. Stale numbers stay as they are.
    pub fn resolved(&self, op: Op, instance: impl Fn(u8) -> u8) -> Op {
        if let Op::Ctl { epoll, action, target: target @ Target::Stale(_), mask } = op {
            return Op::Ctl { epoll: instance(epoll), action, target, mask };
        }
        op.relabel(|label| self.resolve(label).unwrap_or(label), instance)
    }

    /// The living descriptor of a label that [`World::resolve`] gave.
    pub fn file(&self, label: u8) -> Option<&File> {
        self.files.get(usize::from(label))?.as_ref().filter(|file| file.open)
    }

    /// The number that a label had, whether it is open or not.
    pub fn stale_number(&self, label: u8) -> Option<Fd> {
        let label = usize::from(label) % self.files.len().max(1);
        self.files.get(label)?.as_ref().map(|file| file.number)
    }

    /// Whether a child of fork may find something else than its parent does: of a signalfd it depends on the process that
    /// asks, of a timer on the moment.
    pub fn has_own_views(&self) -> bool {
        let differs = |kind| matches!(kind, Kind::Signal | Kind::Timer);
        self.files.iter().flatten().any(|file| differs(file.kind))
    }

    /// Whether a nested instance may be woken by what cannot be seen.
    pub fn is_restless(&self) -> bool {
        self.files.iter().flatten().any(|file| {
            matches!(file.kind, Kind::Pty | Kind::Fifo | Kind::Inotify | Kind::Tcp | Kind::TcpFresh)
        })
    }

    /// Whether something happens by itself, so that it matters who looks first.
    pub fn has_timers(&self) -> bool {
        self.files.iter().flatten().any(|file| file.kind == Kind::Timer)
    }

    /// Does an operation whose labels are resolved. It may fail, as a program's may.
    pub fn perform(&mut self, op: Op) {
        let made = self.try_perform(op).unwrap_or_default();
        let labels = usize::from(op.descriptors());
        let mut made: Vec<Option<File>> = made.into_iter().map(Some).collect();
        made.resize(labels, None);
        self.files.append(&mut made);
    }

    fn try_perform(&mut self, op: Op) -> Answer<Vec<File>> {
        match op {
            Op::Open(kind) => return self.open(kind),
            Op::Read { fd, amount, way } => self.read(fd, amount, way)?,
            Op::Write { fd, amount, way } => self.write(fd, amount, way)?,
            // UNIX streams have something of that name, with rules of its own.
            Op::Urgent(fd) if self.file(fd).is_some_and(|file| file.kind != Kind::UnixStream) => {
                ignore(sys::send_urgent(self.number(fd)?));
            }
            Op::Splice { from, to, amount } => {
                let moved = sys::splice(self.number(from)?, self.number(to)?, amount as usize);
                if moved.is_ok_and(|count| count > 0) {
                    self.took(from);
                    self.gave(to);
                }
            }
            Op::Shutdown { fd, half } => {
                sys::shutdown(self.number(fd)?, half)?;
                self.was_shut(fd, half);
            }
            Op::Listen(fd) if self.file(fd).is_some_and(|file| file.kind == Kind::TcpFresh) => {
                let number = self.number(fd)?;
                // One that was a listener has its address still.
                ignore(sys::bind(number, &Address::loopback()));
                sys::listen(number)?;
                self.become_kind(fd, Kind::TcpFresh, Kind::TcpListener);
            }
            Op::Connect(listener) => return self.connect(listener),
            Op::ConnectTo { fd, listener } => {
                let address = sys::name_of(self.number(listener)?)?;
                self.join(fd, listener);
                if sys::connect(self.number(fd)?, &address).is_ok() {
                    self.gave(fd);
                }
            }
            Op::Accept(fd) => return self.accept(fd),
            Op::Close(fd) => self.close(fd)?,
            Op::Reset(fd) => {
                ignore(sys::linger_none(self.number(fd)?));
                self.close(fd)?;
            }
            Op::Dup(fd) => return self.another(fd, sys::dup(self.number(fd)?)?),
            Op::DupFd(fd) => return self.another(fd, sys::dup_fd(self.number(fd)?)?),
            Op::Dup2 { from, onto } => return self.dup_onto(from, onto, sys::dup2),
            Op::Dup3 { from, onto } => return self.dup_onto(from, onto, sys::dup3),
            Op::Reopen { fd, write } => return self.reopen(fd, write),
            Op::Arm { fd, millis } => ignore(sys::arm(self.number(fd)?, millis)),
            Op::Raise(second) => {
                let signal = if second { libc::SIGUSR2 } else { libc::SIGUSR1 };
                sys::kill(sys::process(), signal)?;
            }
            Op::Kill(fd) => {
                if let Some(process) = self.file(fd).and_then(|file| file.process) {
                    sys::kill(process, libc::SIGKILL)?;
                    // It takes a moment, and both sides must find the same.
                    sys::await_end(process);
                }
            }
            Op::Touch(fd) if self.file(fd).is_some_and(|file| file.kind == Kind::Inotify) => {
                let path = self.fresh_name();
                drop(std::fs::write(&path, "").and_then(|()| std::fs::remove_file(&path)));
            }
            _ => {}
        }
        Ok(Vec::new())
    }

    fn number(&self, label: u8) -> Answer<Fd> {
        self.file(label).map(|file| file.number).ok_or(libc::EBADF)
    }

    fn fresh_name(&mut self) -> PathBuf {
        self.names += 1;
        self.directory.join(format!("{}", self.names))
    }

    fn fresh_path(&mut self) -> Answer<CString> {
        let path = self.fresh_name();
        CString::new(path.into_os_string().into_encoded_bytes()).map_err(|_| libc::EINVAL)
    }

    fn open(&mut self, kind: Kind) -> Answer<Vec<File>> {
        let mut path = None;
        let mut process = None;
        let numbers = match kind {
            Kind::Pipe => sys::pipe()?.to_vec(),
            Kind::Fifo => {
                let name = path.insert(self.fresh_path()?);
                sys::make_fifo(name)?;
                vec![sys::open(name, libc::O_RDONLY)?, sys::open(name, libc::O_WRONLY)?]
            }
            Kind::UnixStream => sys::socket_pair(libc::SOCK_STREAM)?.to_vec(),
            Kind::UnixDatagram => sys::socket_pair(libc::SOCK_DGRAM)?.to_vec(),
            Kind::UnixPackets => sys::socket_pair(libc::SOCK_SEQPACKET)?.to_vec(),
            Kind::UnixListener => vec![listener(libc::AF_UNIX)?],
            Kind::TcpListener => vec![listener(libc::AF_INET)?],
            Kind::TcpFresh => vec![sys::socket(libc::AF_INET, libc::SOCK_STREAM)?],
            Kind::Tcp => {
                let door = listener(libc::AF_INET)?;
                let client = sys::socket(libc::AF_INET, libc::SOCK_STREAM)?;
                ignore(sys::connect(client, &sys::name_of(door)?));
                let server = sys::accept(door);
                sys::close(door)?;
                vec![client, server?]
            }
            Kind::Udp => {
                let one = udp()?;
                let other = udp()?;
                sys::connect(one, &sys::name_of(other)?)?;
                sys::connect(other, &sys::name_of(one)?)?;
                vec![one, other]
            }
            Kind::Eventfd => vec![sys::eventfd(0)?],
            Kind::Semaphore => vec![sys::eventfd(libc::EFD_SEMAPHORE)?],
            Kind::Timer => vec![sys::timer()?],
            Kind::Signal => vec![sys::signal_fd()?],
            Kind::Child => {
                let child = sys::sleeping_child()?;
                self.children.push(child);
                process = Some(child);
                vec![sys::pid_fd(child)?]
            }
            Kind::Pty => sys::terminal()?.to_vec(),
            Kind::Inotify => {
                let directory = self.directory.clone().into_os_string().into_encoded_bytes();
                vec![sys::inotify(&CString::new(directory).map_err(|_| libc::EINVAL)?)?]
            }
            Kind::Regular => {
                let name = self.fresh_path()?;
                vec![sys::open(&name, libc::O_RDWR | libc::O_CREAT)?]
            }
            Kind::Null => vec![sys::open(c"/dev/null", libc::O_RDWR)?],
        };
        let shared = if kind == Kind::Signal { SIGNALS } else { self.new_id() };
        let file = |number| {
            // The ends of a FIFO are opened by name: nobody knows which belong together.
            let group = if kind == Kind::Fifo { self.new_id() } else { shared };
            File { process, path: path.clone(), ..self.made(number, kind, group) }
        };
        Ok(numbers.into_iter().map(file).collect())
    }

    fn read(&mut self, label: u8, amount: Amount, way: Way) -> Answer<()> {
        let Some(file) = self.file(label) else { return Ok(()) };
        let (number, kind) = (file.number, file.kind);
        let way = possible(way, kind, true);
        let counts = matches!(kind, Kind::Eventfd | Kind::Semaphore | Kind::Timer);
        let len = match amount {
            _ if counts => 8,
            Amount::Bytes(count) => (count as usize).clamp(1, LARGEST),
            Amount::All => LARGEST,
        };
        let calls = if amount == Amount::All { CALLS } else { 1 };
        for _ in 0..calls {
            if !sys::read(number, &mut self.buffer[..len], way).is_ok_and(|count| count > 0) {
                break;
            }
            self.took(label);
        }
        self.buffer[..len].fill(b'x');
        Ok(())
    }

    fn write(&mut self, label: u8, amount: Amount, way: Way) -> Answer<()> {
        let Some(file) = self.file(label) else { return Ok(()) };
        let (number, kind) = (file.number, file.kind);
        let way = possible(way, kind, false);
        if matches!(kind, Kind::Eventfd | Kind::Semaphore) {
            let value = match amount {
                Amount::Bytes(count) => u64::from(count),
                Amount::All => u64::MAX - 1,
            };
            ignore(sys::write(number, &value.to_ne_bytes(), way));
            return Ok(());
        }
        // One that fills the file takes room away that the hooks do not see going.
        let amount = if way == Way::Foreign { Amount::Bytes(FOREIGN) } else { amount };
        let len = match amount {
            Amount::Bytes(count) => (count as usize).clamp(1, LARGEST),
            Amount::All => LARGEST,
        };
        let calls = if amount == Amount::All { CALLS } else { 1 };
        for _ in 0..calls {
            if sys::write(number, &self.buffer[..len], way).is_err() {
                break;
            }
            self.gave(label);
        }
        Ok(())
    }

    /// What another thread is to do. It gives whether anything came of it.
    pub fn errand(&self, label: u8, what: Errand) -> Option<impl FnOnce() -> bool + Send + use<>> {
        let number = self.number(label).ok()?;
        Some(move || {
            let mut bytes = 1u64.to_ne_bytes();
            match what {
                Errand::Write => {
                    sys::write(number, &bytes, Way::Plain).is_ok_and(|count| count > 0)
                }
                Errand::Read => {
                    sys::read(number, &mut bytes, Way::Plain).is_ok_and(|count| count > 0)
                }
                Errand::Shutdown(half) => sys::shutdown(number, half).is_ok(),
            }
        })
    }

    /// Something came of it.
    pub fn after_errand(&mut self, label: u8, what: Errand) {
        match what {
            Errand::Write => self.gave(label),
            Errand::Read => self.took(label),
            Errand::Shutdown(half) => self.was_shut(label, half),
        }
    }

    fn was_shut(&mut self, label: u8, half: Half) {
        if half != Half::Write {
            self.become_kind(label, Kind::TcpListener, Kind::TcpFresh);
        }
    }

    fn connect(&mut self, label: u8) -> Answer<Vec<File>> {
        let door = self.file(label).ok_or(libc::EBADF)?.clone();
        let (family, kind) = match door.kind {
            Kind::TcpListener => (libc::AF_INET, Kind::Tcp),
            Kind::UnixListener => (libc::AF_UNIX, Kind::UnixStream),
            _ => return Err(libc::EINVAL),
        };
        let address = sys::name_of(door.number)?;
        let number = sys::socket(family, libc::SOCK_STREAM)?;
        if sys::connect(number, &address).is_ok() {
            self.stirred.push(door.id);
        }
        let group = self.group_by(&door);
        Ok(vec![self.made(number, kind, group)])
    }

    /// The group of a connection that is made by way of a listener. UNIX ones do not tell who is at the other end.
    fn group_by(&mut self, door: &File) -> Group {
        if door.kind == Kind::UnixListener { self.new_id() } else { door.group }
    }

    fn accept(&mut self, label: u8) -> Answer<Vec<File>> {
        let door = self.file(label).ok_or(libc::EBADF)?.clone();
        let kind = if door.kind == Kind::UnixListener { Kind::UnixStream } else { Kind::Tcp };
        let number = sys::accept(door.number)?;
        self.stirred.push(door.id);
        let group = self.group_by(&door);
        Ok(vec![self.made(number, kind, group)])
    }

    /// A socket of one kind is one of the other from now on.
    fn become_kind(&mut self, label: u8, before: Kind, after: Kind) {
        let Some(id) = self.file(label).map(|file| file.id) else { return };
        let is_same = |file: &&mut File| file.id == id && file.kind == before;
        self.files.iter_mut().flatten().filter(is_same).for_each(|file| file.kind = after);
    }

    /// A socket is about to be connected to a listener.
    fn join(&mut self, label: u8, listener: u8) {
        let found = self.file(label).zip(self.file(listener));
        let Some((id, door)) = found.map(|(one, door)| (one.id, door.clone())) else { return };
        // Nothing comes of any other.
        if !matches!(door.kind, Kind::TcpListener | Kind::UnixListener) {
            return;
        }
        let group = self.group_by(&door);
        for file in self.files.iter_mut().flatten().filter(|file| file.id == id) {
            file.group = group;
        }
    }

    fn close(&mut self, label: u8) -> Answer<()> {
        let number = self.number(label)?;
        self.forget(number);
        sys::close(number).map(drop)
    }

    /// A number is closed, or about to be.
    pub fn forget(&mut self, number: Fd) {
        for file in self.files.iter_mut().flatten().filter(|file| file.number == number) {
            file.open = false;
        }
    }

    fn another(&self, label: u8, number: Fd) -> Answer<Vec<File>> {
        let file = self.file(label).ok_or(libc::EBADF)?;
        Ok(vec![File { number, ..file.clone() }])
    }

    fn dup_onto(
        &mut self,
        from: u8,
        onto: u8,
        call: fn(Fd, Fd) -> Answer<Fd>,
    ) -> Answer<Vec<File>> {
        let source = self.file(from).ok_or(libc::EBADF)?.clone();
        let number = self.number(onto)?;
        if number == source.number {
            return Ok(Vec::new());
        }
        call(source.number, number)?;
        self.forget(number);
        Ok(vec![File { number, ..source }])
    }

    fn reopen(&mut self, label: u8, write: bool) -> Answer<Vec<File>> {
        let file = self.file(label).ok_or(libc::EBADF)?.clone();
        let path = file.path.as_ref().ok_or(libc::EINVAL)?;
        let flags = if write { libc::O_WRONLY } else { libc::O_RDONLY };
        let number = sys::open(path, flags)?;
        Ok(vec![File { number, id: self.new_id(), group: self.new_id(), ..file }])
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for file in std::mem::take(&mut self.files).iter().flatten().filter(|file| file.open) {
            let _ = sys::close(file.number);
        }
        for child in self.children.drain(..) {
            let _ = sys::kill(child, libc::SIGKILL);
            let _ = sys::reap(child);
        }
        sys::drain_user_signals();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn listener(family: i32) -> Answer<Fd> {
    let fd = sys::socket(family, libc::SOCK_STREAM)?;
    let address = if family == libc::AF_UNIX { Address::any(family) } else { Address::loopback() };
    sys::bind(fd, &address)?;
    sys::listen(fd)?;
    Ok(fd)
}

fn udp() -> Answer<Fd> {
    let fd = sys::socket(libc::AF_INET, libc::SOCK_DGRAM)?;
    sys::bind(fd, &Address::loopback())?;
    Ok(fd)
}

/// A way that this kind of file has. What both ends of in this process is known to be this process' alone is never
/// written to by another one, and no other process reads a file of ours.
fn possible(way: Way, kind: Kind, reads: bool) -> Way {
    use Kind::{Fifo, Pty, Tcp, Udp, UnixDatagram, UnixPackets, UnixStream};
    let is_socket = matches!(kind, Tcp | Udp | UnixDatagram | UnixPackets | UnixStream);
    let has_others = matches!(kind, Tcp | Udp | Fifo | Pty);
    match way {
        Way::Message if !is_socket => Way::Plain,
        Way::Foreign if reads || !has_others => Way::Plain,
        way => way,
    }
}

/// What a program may try in vain.
fn ignore<T>(_: Answer<T>) {}
