//! What kinds of files there are, as far as their edges differ, and whether epoll takes them at all.

use std::os::fd::RawFd;

use syscalls::Errno;

use crate::events::Events;
use crate::sign::Signs;
use crate::sys::{self, Result};

/// A kind of file: which of the program's calls are evidence, and what the file counts by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Nobody looked yet.
    Unknown = 0,
    /// Reading sets it to 0.
    Eventfd = 1,
    /// Reading takes one (EFD_SEMAPHORE).
    EventfdSemaphore = 2,
    /// Reading takes all expirations.
    Timerfd = 3,
    /// A pipe or FIFO: a byte stream.
    Pipe = 4,
    /// A TCP connection.
    Tcp = 5,
    /// A UNIX stream connection.
    UnixStream = 6,
    /// A socket of datagrams, or raw, whose receive queue is charged to itself (UDP, netlink and others).
    Datagram = 7,
    /// A UNIX socket of datagrams or records.
    UnixPackets = 8,
    /// A listening TCP socket.
    TcpListener = 9,
    /// A listening socket of another family.
    Listener = 10,
    /// Counts what is queued (FIONREAD), but a short read does not mean that it is empty.
    Counted = 11,
    /// An epoll instance.
    Epoll = 12,
    /// Anything else that can be polled.
    Other = 13,
    /// A terminal, or one side of a pseudo terminal.
    Tty = 14,
    /// Signals that wait for the thread that asks.
    Signalfd = 15,
}

impl Kind {
    /// The kind that is kept as this nibble in a descriptor's word.
    pub fn from_nibble(nibble: u8) -> Self {
        const ALL: [Kind; 16] = [
            Kind::Unknown,
            Kind::Eventfd,
            Kind::EventfdSemaphore,
            Kind::Timerfd,
            Kind::Pipe,
            Kind::Tcp,
            Kind::UnixStream,
            Kind::Datagram,
            Kind::UnixPackets,
            Kind::TcpListener,
            Kind::Listener,
            Kind::Counted,
            Kind::Epoll,
            Kind::Other,
            Kind::Tty,
            Kind::Signalfd,
        ];
        ALL.get(usize::from(nibble)).copied().unwrap_or(Kind::Other)
    }

    /// Whether a read that gave fewer bytes than were asked for has emptied the file.
    pub fn short_read_drains(self) -> bool {
        matches!(self, Self::Pipe | Self::Tcp | Self::UnixStream)
    }

    /// Whether every successful read takes all there is.
    pub fn any_read_drains(self) -> bool {
        matches!(self, Self::Eventfd | Self::Timerfd)
    }

    /// Whether a successful write wakes its own writers: room is given back at once, on this machine.
    pub fn write_gives_room(self) -> bool {
        matches!(self, Self::Datagram | Self::Tty)
    }

    /// The signs of calls whose effect may be seen, and reported, before they are given.
    pub fn races(self) -> Signs {
        let set = if self == Self::Timerfd { Signs::DRAINED } else { Signs::empty() };
        Signs::WOKEN_IN | Signs::WOKEN_OUT | Signs::WOKEN | set
    }

    /// The signs of wake-ups that what the file counts of itself tells.
    pub fn counts_wake_ups(self) -> Signs {
        if self == Self::Signalfd { Signs::WOKEN } else { Signs::empty() }
    }

    /// Whether each successful read or write wakes who polls the same file for the other direction, whatever the level
    /// was (eventfd(2)'s own wake-ups).
    pub fn wakes_itself(self) -> bool {
        matches!(self, Self::Eventfd | Self::EventfdSemaphore)
    }

    /// Whether it is a socket.
    pub fn is_socket(self) -> bool {
        matches!(
            self,
            Self::Tcp
                | Self::UnixStream
                | Self::Datagram
                | Self::UnixPackets
                | Self::TcpListener
                | Self::Listener
        )
    }

    /// The bits that its wake-ups for input are for: who asked for none of them is not woken.
    pub fn wakes_for_input(self) -> Events {
        match self {
            Self::Eventfd | Self::EventfdSemaphore | Self::Timerfd | Self::Epoll => Events::IN,
            _ if self.is_socket() => Events::READ | Events::PRI,
            _ => Events::READ,
        }
    }

    /// The bits that its wake-ups for room are for.
    pub fn wakes_for_room(self) -> Events {
        match self {
            Self::Eventfd | Self::EventfdSemaphore | Self::Tty => Events::OUT,
            _ => Events::WRITE,
        }
    }

    /// The kind of a socket made with this family and type.
    pub fn of_socket(family: i32, socket_type: i32) -> Self {
        let socket_type = socket_type & !(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK);
        match (family, socket_type) {
            (libc::AF_UNIX, libc::SOCK_STREAM) => Self::UnixStream,
            (libc::AF_UNIX, _) => Self::UnixPackets,
            (libc::AF_INET | libc::AF_INET6, libc::SOCK_STREAM) => Self::Tcp,
            (_, libc::SOCK_DGRAM | libc::SOCK_RAW) => Self::Datagram,
            _ => Self::Other,
        }
    }

    /// What a socket of this kind becomes by listen(2).
    pub fn listening(self) -> Self {
        match self {
            Self::Unknown => Self::Unknown,
            Self::Tcp | Self::TcpListener => Self::TcpListener,
            _ => Self::Listener,
        }
    }
}

/// How much waits in a file to be read, by the file's own count. Only its growth means anything; `None` where the file
/// does not count. `peer` is the other end, where it is known.
pub fn queued(fd: RawFd, kind: Kind, peer: Option<RawFd>) -> Option<u32> {
    match kind {
        // Messages are not counted where they are, but their memory is with their sender.
        Kind::UnixPackets if let Some(peer) = peer => sys::bytes_unsent(peer).ok(),
        // Of datagrams FIONREAD tells the length of the first.
        Kind::UnixPackets => {
            let has_records = sys::socket_option(fd, libc::SO_TYPE) == Ok(libc::SOCK_SEQPACKET);
            has_records.then(|| sys::bytes_readable(fd).ok()).flatten()
        }
        Kind::Pipe | Kind::Tcp | Kind::UnixStream | Kind::Tty => sys::bytes_readable(fd).ok(),
        // Of a message queue FIONREAD tells the length of the text that read(2) gives.
        Kind::Counted => sys::messages_queued(fd).or_else(|_| sys::bytes_readable(fd)).ok(),
        Kind::Datagram => sys::receive_memory(fd).ok(),
        Kind::TcpListener => sys::tcp_info(fd).ok().map(|info| info.backlog),
        Kind::Eventfd | Kind::EventfdSemaphore => eventfd_count(fd),
        Kind::Listener => sys::unix_backlog(fd, sys::fstat(fd).ok()?.st_ino as u32),
        _ => None,
    }
}

/// An eventfd's counter, as far as it fits; by the only way that does not read it (3 us).
fn eventfd_count(fd: RawFd) -> Option<u32> {
    const NAME: &str = "eventfd-count:";
    let mut path = [0u8; 32];
    let mut text = [0u8; 256];
    let path = crate::decimal::proc_self("/proc/self/fdinfo/", fd, &mut path);
    let len = sys::read_file(path, &mut text).ok()?;
    let line =
        std::str::from_utf8(&text[..len]).ok()?.lines().find(|line| line.starts_with(NAME))?;
    u64::from_str_radix(line[NAME.len()..].trim(), 16).ok().map(|count| count as u32)
}

/// Looks at an open descriptor: what kind of file is it, and can it be polled?
///
/// # Errors
/// EBADF when it is not open (or for its path only), EPERM when it cannot be polled: what epoll_ctl(2) answers.
pub fn classify(fd: RawFd) -> Result<Kind> {
    let stat = sys::fstat(fd)?;
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFIFO => pipe(fd),
        libc::S_IFSOCK => socket(fd),
        libc::S_IFCHR => character_device(fd, stat.st_rdev),
        libc::S_IFREG => regular(fd, stat.st_ino),
        0 => anonymous(fd),
        _ => sys::check_open(fd).and(Err(Errno::EPERM)),
    }
}

fn pipe(fd: RawFd) -> Result<Kind> {
    let flags = sys::status_flags(fd)?;
    if flags & libc::O_PATH != 0 {
        return Err(Errno::EBADF);
    }
    // In packet mode a short read is the end of a packet, not of the pipe.
    Ok(if flags & libc::O_DIRECT != 0 { Kind::Counted } else { Kind::Pipe })
}

fn socket(fd: RawFd) -> Result<Kind> {
    let option = |option| sys::socket_option(fd, option);
    // Only a descriptor for the path of a UNIX socket is a socket without options.
    let family = option(libc::SO_DOMAIN).map_err(|_| Errno::EBADF)?;
    let kind = Kind::of_socket(family, option(libc::SO_TYPE)?);
    let listens = option(libc::SO_ACCEPTCONN).unwrap_or(0) != 0;
    Ok(if listens { kind.listening() } else { kind })
}

/// Poll cannot be asked whether a file has it: a file without it reports IN and OUT for ever, as a busy terminal does.
/// So the devices that have none are known by number, where they have one of their own.
fn character_device(fd: RawFd, device: libc::dev_t) -> Result<Kind> {
    const MEMORY: u32 = 1;
    const MISC: u32 = 10;
    let has_none: &[u32] = match libc::major(device) {
        // mem, null, port, zero, full, urandom
        MEMORY => &[1, 3, 4, 5, 7, 9],
        // watchdog, nvram, hwrng, snapshot, kvm, btrfs-control, autofs, loop-control
        MISC => &[130, 144, 183, 231, 232, 234, 235, 237],
        _ => &[],
    };
    sys::check_open(fd)?;
    if has_none.contains(&libc::minor(device)) {
        return Err(Errno::EPERM);
    }
    if TERMINALS.iter().any(|majors| majors.contains(&libc::major(device))) {
        return Ok(Kind::Tty);
    }
    let counts = sys::bytes_readable(fd).is_ok();
    Ok(if counts { Kind::Counted } else { Kind::Other })
}

/// Major numbers of terminals: of consoles and serial lines, and of both sides of pseudo terminals.
const TERMINALS: [std::ops::RangeInclusive<u32>; 3] = [4..=5, 128..=143, 204..=204];

/// Regular files have no poll, but on file systems that are no storage.
fn regular(fd: RawFd, inode: u64) -> Result<Kind> {
    const SYSFS: i64 = 0x6265_6572;
    const CGROUP: i64 = 0x27_e0eb;
    const CGROUP2: i64 = 0x6367_7270;
    const FUSE: i64 = 0x6573_5546;
    const MQUEUE: i64 = 0x1980_0202;
    const PROC: i64 = 0x9fa0;
    // From here on up /proc numbers what is neither a process's nor below /proc/sys. All of these have poll, most only to say
    // that they are ready.
    const OWN_FILES: u64 = 0xf000_0000;
    sys::check_open(fd)?;
    match sys::fs_type(fd)? {
        MQUEUE => Ok(Kind::Counted),
        SYSFS | CGROUP | CGROUP2 | FUSE => Ok(Kind::Other),
        PROC if inode >= OWN_FILES || name(fd, &mut [0; 64]).starts_with(b"/proc/sys/") => {
            Ok(Kind::Other)
        }
        // As /proc/PID/mounts.
        _ if shows_poll(fd) => Ok(Kind::Other),
        _ => Err(Errno::EPERM),
    }
}

/// Whether poll shows that a file has it: of one that has not it reports these bits, always and nothing else.
fn shows_poll(fd: RawFd) -> bool {
    let without = Events::IN | Events::OUT | Events::RDNORM | Events::WRNORM;
    sys::levels_now(fd, Events::REPORTS.to_poll()) != without.to_poll()
}

/// What /proc calls an open file: its path, or what sort of anonymous file it is. Cut at 64 bytes; empty without /proc.
fn name(fd: RawFd, text: &mut [u8; 64]) -> &[u8] {
    let mut path = [0u8; 32];
    let path = crate::decimal::proc_self("/proc/self/fd/", fd, &mut path);
    let len = sys::read_link(path, text).unwrap_or(0);
    &text[..len]
}

/// Whether polling the file takes away what it tells: files of /proc that tell of changes (proc(5)), pressure files, perf events.
/// What one thread sees of these another one, or a later look, will not.
pub fn tells_once(fd: RawFd, kind: Kind) -> bool {
    let mode = || sys::fstat(fd).map_or(0, |stat| stat.st_mode & libc::S_IFMT);
    kind == Kind::Other
        && match mode() {
            libc::S_IFREG => true,
            0 => name(fd, &mut [0; 64]) == b"anon_inode:[perf_event]",
            _ => false,
        }
}

fn anonymous(fd: RawFd) -> Result<Kind> {
    Ok(match name(fd, &mut [0; 64]) {
        b"anon_inode:[eventfd]" => Kind::Eventfd,
        b"anon_inode:[timerfd]" => Kind::Timerfd,
        b"anon_inode:inotify" => Kind::Counted,
        b"anon_inode:[eventpoll]" => Kind::Epoll,
        b"anon_inode:[signalfd]" => Kind::Signalfd,
        name if WITHOUT_POLL.iter().any(|other| name.starts_with(other)) => {
            return Err(Errno::EPERM);
        }
        _ => Kind::Other,
    })
}

/// Anonymous files that cannot be polled.
const WITHOUT_POLL: [&[u8]; 4] =
    [b"anon_inode:bpf-prog", b"anon_inode:bpf-map", b"anon_inode:btf", b"anon_inode:[fscontext]"];

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn nibbles_come_back() {
        for nibble in 0..16 {
            assert_eq!(Kind::from_nibble(nibble) as u8, nibble);
        }
    }

    #[test]
    fn files_are_told_apart() {
        let open = |path| std::fs::File::open(path).unwrap();
        assert_eq!(classify(open("/dev/null").as_raw_fd()), Err(Errno::EPERM));
        assert_eq!(classify(open("/").as_raw_fd()), Err(Errno::EPERM));
        assert_eq!(classify(open("/proc/self/exe").as_raw_fd()), Err(Errno::EPERM));
        assert_eq!(classify(open("/proc/self/mounts").as_raw_fd()), Ok(Kind::Other));
        assert_eq!(classify(open("/proc/self/status").as_raw_fd()), Err(Errno::EPERM));
        assert_eq!(classify(open("/proc/locks").as_raw_fd()), Ok(Kind::Other));
        assert_eq!(classify(open("/proc/sys/kernel/ostype").as_raw_fd()), Ok(Kind::Other));
        assert_eq!(classify(-1), Err(Errno::EBADF));
        let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(classify(one.as_raw_fd()), Ok(Kind::UnixStream));
        drop(other);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(classify(listener.as_raw_fd()), Ok(Kind::TcpListener));
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(classify(udp.as_raw_fd()), Ok(Kind::Datagram));
        let (reader, _writer) = std::io::pipe().unwrap();
        assert_eq!(classify(reader.as_raw_fd()), Ok(Kind::Pipe));
    }
}
