//! The witness: a process beside the program that says on standard error who makes epoll calls that no preloaded library
//! sees. `--deny-kernel-epoll` alone answers such a call, but a program that falls back to something else does so in
//! silence; with `--verbose` it is named.
//!
//! `uepoll run` becomes the program, so the witness is another process, started before: a child of a child, for the program
//! must not find a child that it never had. It must not be under the filter itself, whose end is its own, so it gets the
//! descriptor through a socket. It ends with the last process under the filter. Should it be killed, the kernel answers
//! the calls as it would have.

use std::collections::HashSet;
use std::fs;
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::deny;
use crate::failure::Failure;
use crate::listener::{self, Call};

/// So many calls are named; a program that starts thousands of others is not to flood its user.
const NAMED: usize = 1000;

/// The arguments of the hidden command `uepoll witness`.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// The library that programs should have loaded
    library: PathBuf,
    /// Be the witness; without it, start that and end
    #[arg(long)]
    stay: bool,
}

/// A witness that waits to be told what to watch.
pub struct Witness {
    socket: UnixStream,
}

impl Witness {
    /// Starts it.
    ///
    /// # Errors
    /// No more processes or descriptors, no /proc, a standard error that is closed.
    pub fn start(library: &Path) -> io::Result<Self> {
        rustix::io::fcntl_getfd(io::stderr())?;
        let (socket, its_own) = UnixStream::pair()?;
        let status = myself()
            .arg("witness")
            // As /proc/PID/maps has it.
            .arg(library.canonicalize()?)
            .stdin(OwnedFd::from(its_own))
            .stdout(Stdio::null())
            .status()?;
        if !status.success() {
            return Err(io::Error::other("it did not start"));
        }
        Ok(Self { socket })
    }

    /// Hands it the descriptor of [`listener::install`].
    ///
    /// # Errors
    /// EPIPE if it is gone.
    pub fn watch(self, listener: &OwnedFd) -> io::Result<()> {
        let descriptors = [listener.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        let byte = [IoSlice::new(&[0])];
        sendmsg(&self.socket, &byte, &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

/// The hidden command. Its standard input is the socket.
pub fn run(options: &Options) -> Result<(), Failure> {
    let done = if options.stay { stay(&options.library) } else { detach(&options.library) };
    done.map_err(|error| Failure::own(format!("raw epoll calls cannot be named: {error}")))
}

/// Starts the witness and leaves it behind. It holds nothing open that the program's user may wait for the end of, but
/// standard error.
fn detach(library: &Path) -> io::Result<()> {
    listener::keep_descriptors_back()?;
    myself().args(["witness", "--stay"]).arg(library).current_dir("/").spawn().map(drop)
}

/// This command once more, whatever became of its file meanwhile.
fn myself() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("uepoll");
    command
}

fn stay(library: &Path) -> io::Result<()> {
    // The terminal's signals are the program's.
    rustix::process::setsid()?;
    let Some(listener) = receive_listener()? else { return Ok(()) };
    let mut named = HashSet::new();
    loop {
        let mut ready = [PollFd::new(&listener, PollFlags::IN)];
        match poll(&mut ready, None) {
            Err(rustix::io::Errno::INTR) => continue,
            polled => polled?,
        };
        if !ready[0].revents().contains(PollFlags::IN) {
            return Ok(());
        }
        let call = match listener::receive(&listener) {
            // A signal ended it meanwhile; it may come anew.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => continue,
            received => received?,
        };
        name(call, library, &mut named);
        // If it waits no longer nobody misses the answer.
        let _ = listener::refuse(&listener, call, libc::ENOSYS);
    }
}

/// `None`: there will be none.
fn receive_listener() -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(io::stdin(), &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    Ok(control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    }))
}

/// Says who made a call, once for each process and call.
fn name(call: Call, library: &Path, named: &mut HashSet<(u32, u32)>) {
    // While it waits for its answer its entries in /proc cannot be another one's.
    let process = process_of(call.thread).unwrap_or(call.thread);
    if named.len() > NAMED || !named.insert((process, call.number)) {
        return;
    }
    let line = if named.len() > NAMED {
        format!("more than {NAMED} raw epoll calls: no more of them are named")
    } else {
        sentence(process, deny::name(call.arch, call.number), library)
    };
    // Who is not heard need not shout.
    let _ = writeln!(io::stderr(), "uepoll: {line}");
}

fn sentence(process: u32, call: &str, library: &Path) -> String {
    let program = fs::read(format!("/proc/{process}/comm")).unwrap_or_default();
    let program = String::from_utf8_lossy(program.trim_ascii_end()).escape_debug().to_string();
    let how = match has_loaded(process, library) {
        Some(true) => "by an inline system call, where no preloaded library sees it",
        Some(false) => "without the library, which is not loaded into it",
        None => "where the library does not see it",
    };
    format!("{program} ({process}) calls {call} {how}: answered ENOSYS")
}

/// The process of a thread.
fn process_of(thread: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    line.trim().parse().ok()
}

/// Whether the library is mapped there. `None`: that cannot be read.
fn has_loaded(process: u32, library: &Path) -> Option<bool> {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).ok()?;
    let library = library.to_str()?;
    Some(maps.lines().any(|line| line.ends_with(library)))
}
