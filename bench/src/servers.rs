//! Servers on free ports of 127.0.0.1, each in a directory of its own: started, watched and stopped.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::load::{Generator, Talk};
use crate::pairs::{Better, Metric, Wanted};
use crate::processes::{self, EpollUse};
use crate::run;
use crate::setup::{LIBRARY, Setup, Side};

const START_LIMIT: Duration = Duration::from_secs(15);
const STOP_LIMIT: Duration = Duration::from_secs(10);
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
const CROWD_LIMIT: Duration = Duration::from_secs(60);
/// Every how many idle connections one is asked, at the end, whether it is still served.
const CROWD_SAMPLE: usize = 500;
/// Below the range that the kernel hands out to outgoing connections, of which there are thousands here.
const PORTS: std::ops::Range<u16> = 18_000..32_000;

/// How to speak to a server: one request, and when its answer is complete.
#[derive(Clone, Copy)]
pub struct Dialogue {
    pub request: &'static [u8],
    pub complete: fn(&[u8]) -> bool,
}

/// What distinguishes one kind of server.
pub struct Kind {
    pub program: &'static str,
    pub dialogue: Dialogue,
    /// Writes the files that the server wants into its directory and adds its arguments to the command.
    pub prepare: fn(&mut Command, &Path, u16) -> io::Result<()>,
}

/// A running server. Dropping it kills it; `stop` also judges how it ended.
pub struct Server {
    child: Child,
    port: u16,
    kind: &'static Kind,
    scratch: Scratch,
}

impl Server {
    /// Starts a server and waits until it answers. Fails too when it does not use the epoll that its side stands for.
    pub fn start(kind: &'static Kind, setup: &Setup, side: Side) -> Result<Server, String> {
        let scratch = Scratch::new()?;
        let port = free_port()?;
        let described = |error: io::Error| format!("{}: {error}", kind.program);
        let program = crate::setup::find(kind.program)
            .ok_or_else(|| format!("{} is not installed", kind.program))?;
        let mut command = setup.command(side, &program);
        (kind.prepare)(&mut command, scratch.path(), port).map_err(described)?;
        let log = File::create(scratch.path().join("log")).map_err(described)?;
        command.stdin(Stdio::null()).stdout(log.try_clone().map_err(described)?).stderr(log);
        let child = command.spawn().map_err(described)?;
        let mut server = Server { child, port, kind, scratch };
        server.wait_until_it_answers()?;
        server.check_epoll(setup.preloads(side))?;
        Ok(server)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// User and system time so far, of the server and its worker processes.
    pub fn processor_time(&self) -> Duration {
        processes::processor_time(self.child.id())
    }

    /// Runs a load and takes the server's processor time meanwhile. `load` returns how many requests were answered, and
    /// their rate if it knows better than the clock here (external programs take their time to start).
    pub fn timed(
        &self,
        load: impl FnOnce() -> Result<(f64, Option<f64>), String>,
    ) -> Result<Load, String> {
        let (begin, before) = (Instant::now(), self.processor_time());
        let (requests, rate) = load()?;
        let spent = self.processor_time().saturating_sub(before);
        let requests_per_second = rate.unwrap_or_else(|| requests / begin.elapsed().as_secs_f64());
        Ok(Load { requests, requests_per_second, spent })
    }

    /// A load generator with that many connections, each served once.
    pub fn generator(&self, connections: usize, talk: Talk) -> Result<Generator, String> {
        Generator::new(self.crowd(connections)?, talk).map_err(|error| error.to_string())
    }

    /// A connection that has been served once.
    pub fn connect(&self) -> io::Result<TcpStream> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let mut connection = TcpStream::connect_timeout(&address, ANSWER_LIMIT)?;
        ask(&mut connection, self.kind.dialogue)?;
        Ok(connection)
    }

    /// Opens connections that are served once each and then stay silent.
    pub fn idle_crowd(&self, size: usize) -> Result<IdleCrowd, String> {
        Ok(IdleCrowd { connections: self.crowd(size)?, dialogue: self.kind.dialogue })
    }

    fn crowd(&self, size: usize) -> Result<Vec<TcpStream>, String> {
        let begin = Instant::now();
        let mut connections = Vec::with_capacity(size);
        while connections.len() < size {
            let number = connections.len() + 1;
            if begin.elapsed() > CROWD_LIMIT {
                return Err(format!(
                    "only {number} of {size} connections after {} s",
                    CROWD_LIMIT.as_secs()
                ));
            }
            let opened = self.connect();
            connections
                .push(opened.map_err(|error| format!("connection {number} of {size}: {error}"))?);
        }
        Ok(connections)
    }

    /// Asks the server to end and fails when it does not, or ends badly.
    pub fn stop(mut self) -> Result<(), String> {
        let status =
            run::terminate(&mut self.child, STOP_LIMIT).map_err(|error| error.to_string())?;
        match status {
            // A signal of our own is an end like any other (a server without a handler for it).
            Some(status) if status.success() || status.signal() == Some(Signal::TERM.as_raw()) => {
                Ok(())
            }
            Some(status) => {
                Err(format!("{} ended with {status}{}", self.kind.program, self.last_words()))
            }
            None => Err(format!(
                "{} hung when it was told to end{}",
                self.kind.program,
                self.last_words()
            )),
        }
    }

    fn wait_until_it_answers(&mut self) -> Result<(), String> {
        let program = self.kind.program;
        let begin = Instant::now();
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("{program} did not start: {status}{}", self.last_words()));
            }
            match self.connect() {
                Ok(_) => return Ok(()),
                Err(error) if begin.elapsed() > START_LIMIT => {
                    return Err(format!("{program} does not answer: {error}{}", self.last_words()));
                }
                Err(_) => sleep(Duration::from_millis(5)),
            }
        }
    }

    /// A ratio of the kernel to itself would look splendid: make sure what answers the server's epoll calls.
    fn check_epoll(&self, preloaded: bool) -> Result<(), String> {
        let expected = EpollUse { kernel: !preloaded, library: preloaded };
        let found = processes::epoll_use(self.child.id(), LIBRARY);
        if found == expected {
            return Ok(());
        }
        Err(format!("{} should have {expected:?} but has {found:?}", self.kind.program))
    }

    fn last_words(&self) -> String {
        let mut words = String::new();
        for log in ["log", "error.log"] {
            words.push_str(&fs::read_to_string(self.scratch.path().join(log)).unwrap_or_default());
        }
        run::quoted_tail(&words)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // After `stop` there is nothing left to kill.
        if matches!(self.child.try_wait(), Ok(None)) {
            run::kill_tree(&mut self.child);
        }
    }
}

/// Connections that hang on a server and say nothing.
pub struct IdleCrowd {
    connections: Vec<TcpStream>,
    dialogue: Dialogue,
}

impl IdleCrowd {
    /// Asks some of them, the last included: a server that forgot its idle connections had an easy time.
    pub fn check(mut self) -> Result<(), String> {
        let size = self.connections.len();
        for (index, connection) in
            self.connections.iter_mut().enumerate().rev().step_by(CROWD_SAMPLE)
        {
            ask(connection, self.dialogue).map_err(|error| {
                format!("idle connection {} of {size} is lost: {error}", index + 1)
            })?;
        }
        Ok(())
    }
}

/// One request and its whole answer.
fn ask(connection: &mut TcpStream, dialogue: Dialogue) -> io::Result<()> {
    connection.set_read_timeout(Some(ANSWER_LIMIT))?;
    connection.write_all(dialogue.request)?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while !(dialogue.complete)(&answer) {
        let length = connection.read(&mut buffer)?;
        if length == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed by the server"));
        }
        answer.extend_from_slice(&buffer[..length]);
    }
    Ok(())
}

/// A port that was free a moment ago; no port is handed out twice in one run.
fn free_port() -> Result<u16, String> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let span = u32::from(PORTS.end - PORTS.start);
    for _ in 0..span {
        // Two benches at once begin at different places.
        let step =
            NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(std::process::id().wrapping_mul(97));
        let port = PORTS.start + u16::try_from(step % span).unwrap_or(0);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(format!("no port of {}..{} is free", PORTS.start, PORTS.end))
}

/// A directory that goes when its owner goes.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Result<Scratch, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("uepoll-bench-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Scratch(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed stays in the temporary directory; no measurement is worse for it.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a load on a server gives in every family.
pub struct Load {
    pub requests: f64,
    pub requests_per_second: f64,
    /// Processor time of the server meanwhile.
    pub spent: Duration,
}

/// Of every family: requests a second, and the server's processor time for each.
pub fn metrics(rate: Option<Wanted>, time: Option<Wanted>) -> Vec<Metric> {
    vec![
        Metric { name: "requests/s", better: Better::Higher, has_ratio: true, wanted: rate },
        Metric { name: "server us/req", better: Better::Lower, has_ratio: true, wanted: time },
    ]
}

/// The connections of a case.
#[derive(Clone, Copy)]
pub struct Crowd {
    /// Of the load generator.
    pub active: usize,
    /// Silent ones, of the bench itself.
    pub idle: usize,
}

impl fmt::Display for Crowd {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.active == 1 { "" } else { "s" };
        write!(out, "{} connection{plural}", self.active)?;
        if self.idle > 0 { write!(out, ", {} idle ones", self.idle) } else { Ok(()) }
    }
}

/// While it lives, we and what we start run on one processor. For loads of a single connection: there server and client
/// take turns anyway, and whether the scheduler puts them on one processor or makes each turn wake the other one up
/// changes the figure by a factor of four, at random.
pub struct OneProcessor {
    before: CpuSet,
}

impl OneProcessor {
    pub fn pin() -> Result<OneProcessor, String> {
        let described = |error| format!("processor affinity: {error}");
        let before = sched_getaffinity(None).map_err(described)?;
        let mut one = CpuSet::new();
        if let Some(last) = (0..CpuSet::MAX_CPU).rev().find(|processor| before.is_set(*processor)) {
            one.set(last);
        }
        sched_setaffinity(None, &one).map_err(described)?;
        Ok(OneProcessor { before })
    }
}

impl Drop for OneProcessor {
    fn drop(&mut self) {
        // It was ours before, so it is ours again.
        let _ = sched_setaffinity(None, &self.before);
    }
}

/// One measurement of a server: start it, surround it with an idle crowd, load it, and take its processor time.
/// Returns requests per second, and microseconds of processor time a request.
pub fn measure(
    kind: &'static Kind,
    setup: &Setup,
    side: Side,
    crowd: Crowd,
    load: impl FnOnce(&Server) -> Result<Load, String>,
) -> Result<Vec<f64>, String> {
    let _pinned = if crowd.active == 1 { Some(OneProcessor::pin()?) } else { None };
    let server = Server::start(kind, setup, side)?;
    let idle = server.idle_crowd(crowd.idle)?;
    if crowd.idle > 0 {
        // What a server does to settle (and the library, to park the silent) is paid once and not for each request.
        sleep(setup.either(Duration::from_millis(300), Duration::from_secs(1)));
    }
    let load = load(&server)?;
    idle.check()?;
    server.stop()?;
    if load.requests <= 0.0 {
        return Err(format!("{} served nothing", kind.program));
    }
    Ok(vec![load.requests_per_second, load.spent.as_secs_f64() * 1e6 / load.requests])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_differ_and_scratch_goes() {
        assert_ne!(free_port().unwrap(), free_port().unwrap());
        let scratch = Scratch::new().unwrap();
        let path = scratch.path().to_path_buf();
        assert!(path.is_dir());
        drop(scratch);
        assert!(!path.exists());
    }
}
